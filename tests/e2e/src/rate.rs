//! Traffic at a constant rate from a pod of its own, and what became of every request.
//!
//! The pod's one program is `weft-client load`. It goes on whatever happens to the API server, and
//! what it has seen stands in the pod's log.

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::core::v1 as core;
use kube::api::{Api, LogParams};
use serde_json::{Value, json};
use weft_tests::load::{Change, Line, Report};

use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::template::Client;
use crate::wait::{PATIENCE, eventually};

/// What to send, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    /// Of the pod or Deployment.
    pub name: String,
    arguments: Vec<String>,
}

impl Load {
    /// HTTP/1.1, `rate` requests a second in all, the same share to each of the URLs.
    pub fn new(name: &str, rate: u32, urls: &[&str]) -> Load {
        let mut arguments = vec!["--rate".to_owned(), rate.to_string()];
        arguments.extend(urls.iter().map(|url| (*url).to_owned()));
        Load { name: name.to_owned(), arguments }
    }

    /// With more arguments of `weft-client load`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Load {
        self.arguments.extend(arguments.iter().map(|one| (*one).to_owned()));
        self
    }

    /// The pod.
    pub fn pod(&self) -> Value {
        let mut pod = Client::named(&self.name).object();
        let spec = &mut pod["spec"];
        let command = ["weft-client".to_owned(), "load".to_owned()];
        spec["containers"][0]["command"] =
            json!(command.iter().chain(&self.arguments).collect::<Vec<_>>());
        // For the requests that are under way.
        spec["terminationGracePeriodSeconds"] = json!(15);
        pod
    }

    /// A Deployment of such pods.
    pub fn deployment(&self, replicas: u32) -> Value {
        let labels = json!({ "app": self.name });
        let mut spec = self.pod()["spec"].take();
        spec["restartPolicy"] = json!("Always");
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": spec },
            },
        })
    }
}

/// A load that is under way, in one pod.
#[derive(Clone)]
pub struct Traffic {
    /// Where it comes from.
    pub pod: Pod,
    api: Api<core::Pod>,
}

/// All that the log of a load has.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The last report.
    pub report: Report,
    /// All changes of the watched header.
    pub changes: Vec<Change>,
}

impl Namespace {
    /// Starts a load and waits for its first answers.
    pub async fn load(&self, load: &Load) -> Result<Traffic> {
        self.create(load.pod()).await?;
        let traffic = self.traffic_of(&load.name);
        traffic.pod.ready().await?;
        traffic.goes_on(1).await?;
        Ok(traffic)
    }

    /// What a pod of a load sends that is there already.
    pub fn traffic_of(&self, pod: &str) -> Traffic {
        Traffic { pod: self.pod(pod), api: self.api() }
    }
}

impl Traffic {
    /// The newest report, at most a second old.
    pub async fn report(&self) -> Result<Report> {
        let parameters = LogParams { tail_lines: Some(50), ..LogParams::default() };
        Ok(Seen::parse(&self.api.logs(&self.pod.name, &parameters).await?)?.report)
    }

    /// Waits until so many more requests have ended than the last report says.
    pub async fn goes_on(&self, more: u64) -> Result<Report> {
        let before = self.report().await.map(|report| report.done).unwrap_or_default();
        eventually(PATIENCE, &format!("{more} more requests of {}", self.pod.name), async || {
            let report = self.report().await?;
            ensure!(report.done >= before + more, "{} of {}", report.done, before + more);
            Ok(report)
        })
        .await
    }

    /// All that it has seen so far.
    pub async fn seen(&self) -> Result<Seen> {
        Seen::parse(&self.pod.logs().await?)
    }

    /// Reads along until the load has ended. To be called before somebody deletes the pod: its log
    /// goes with it.
    pub async fn to_the_end(&self) -> Result<Seen> {
        let parameters = LogParams { follow: true, ..LogParams::default() };
        let text = self.api.logs(&self.pod.name, &parameters).await?;
        let seen = Seen::parse(&text)?;
        ensure!(seen.report.finished, "the log of {} breaks off:\n{text}", self.pod.name);
        Ok(seen)
    }
}

impl Seen {
    fn parse(log: &str) -> Result<Seen> {
        let mut seen = Seen::default();
        for line in log.lines() {
            let parsed = serde_json::from_str(line);
            match parsed.with_context(|| format!("no line of a load: {line}"))? {
                Line::Report(report) => seen.report = report,
                Line::Change(change) => seen.changes.push(change),
            }
        }
        Ok(seen)
    }
}
