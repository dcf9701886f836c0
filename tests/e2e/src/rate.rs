//! Traffic at a constant rate from a pod of its own, and what became of every request.
//!
//! The pod's one program is `weft-client load`. It goes on whatever happens to the API server, and
//! what it has seen stands in the pod's log.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{AsyncBufReadExt, Stream, StreamExt, TryStreamExt};
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
    first: Option<String>,
}

impl Load {
    /// HTTP/1.1, `rate` requests a second in all, the same share to each of the URLs.
    pub fn new(name: &str, rate: u32, urls: &[&str]) -> Load {
        let mut arguments = vec!["--rate".to_owned(), rate.to_string()];
        arguments.extend(urls.iter().map(|url| (*url).to_owned()));
        Load { name: name.to_owned(), arguments, first: None }
    }

    /// With more arguments of `weft-client load`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Load {
        self.arguments.extend(arguments.iter().map(|one| (*one).to_owned()));
        self
    }

    /// Begins when this shell script has ended.
    #[must_use]
    pub fn once(mut self, script: &str) -> Load {
        self.first = Some(script.to_owned());
        self
    }

    /// The pod.
    pub fn pod(&self) -> Value {
        let mut pod = Client::named(&self.name).object();
        let spec = &mut pod["spec"];
        let mut command: Vec<String> = match &self.first {
            Some(script) => vec!["sh".into(), "-c".into(), format!("{script}; exec \"$0\" \"$@\"")],
            None => Vec::new(),
        };
        command.extend(["weft-client".to_owned(), "load".to_owned()]);
        command.extend(self.arguments.iter().cloned());
        spec["containers"][0]["command"] = json!(command);
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
    /// When the first report was made, in seconds since 1970; 0 when there is none.
    pub began: f64,
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

    /// Waits until so many requests have ended, as long as its rate may take for them and more.
    pub async fn has_done(&self, count: u64, rate: u32) -> Result<()> {
        // A busy machine may be so many times slower.
        let limit = PATIENCE + Duration::from_secs(4 * count / u64::from(rate));
        eventually(limit, &format!("{count} requests of {}", self.pod.name), async || {
            let report = self.report().await?;
            ensure!(report.done >= count, "{} of {count}", report.done);
            Ok(())
        })
        .await
    }

    /// Lets it end in order, and tells all that it has seen.
    pub async fn end(&self) -> Result<Seen> {
        // Its log goes with it.
        let (seen, deleted) = tokio::join!(self.to_the_end(), self.pod.delete());
        deleted?;
        seen
    }

    /// All that it has seen so far.
    pub async fn seen(&self) -> Result<Seen> {
        Seen::parse(&self.pod.logs().await?)
    }

    /// Reads along until the load has ended. To be called before somebody deletes the pod: its log
    /// goes with it.
    pub async fn to_the_end(&self) -> Result<Seen> {
        let mut lines = pin!(self.lines().await?);
        let mut seen = Seen::default();
        while let Some(line) = lines.try_next().await? {
            seen.add(line);
        }
        ensure!(seen.report.finished, "the log of {} breaks off: {seen:?}", self.pod.name);
        Ok(seen)
    }

    /// The lines of its log as they come, from the first one on.
    pub async fn lines(&self) -> Result<impl Stream<Item = Result<Line>> + use<>> {
        let parameters = LogParams { follow: true, ..LogParams::default() };
        let log = self.api.log_stream(&self.pod.name, &parameters).await?;
        Ok(log.lines().map(|line| parse(&line?)))
    }
}

impl Seen {
    fn parse(log: &str) -> Result<Seen> {
        let mut seen = Seen::default();
        for line in log.lines() {
            seen.add(parse(line)?);
        }
        Ok(seen)
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Report(report) => {
                if self.began == 0.0 {
                    self.began = report.at;
                }
                self.report = report;
            }
            Line::Change(change) => self.changes.push(change),
        }
    }
}

fn parse(line: &str) -> Result<Line> {
    serde_json::from_str(line).with_context(|| format!("no line of a load: {line}"))
}
