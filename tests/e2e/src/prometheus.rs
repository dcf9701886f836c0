//! A real Prometheus that scrapes the pods which their annotations say are to be scraped.
//!
//! It runs beside the test, on the cluster's network, and ends with it. It must reach the pods, so
//! this works in Weft's own cluster only. Debian builds it without a client of Kubernetes; so the test
//! finds the pods for it, by the rules that everybody writes into their own configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::core::v1 as core;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::namespace::Namespace;
use crate::web;

/// Between two scrapes.
const INTERVAL: Duration = Duration::from_secs(1);

/// A Prometheus that runs; it ends when this is dropped.
pub struct Prometheus {
    address: String,
    folder: PathBuf,
    process: Child,
}

/// A sample of an instant query: its labels and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// <https://prometheus.io/docs/prometheus/latest/querying/api/>, the part that is read.
#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<Target>,
}

/// Something that is scraped.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub labels: BTreeMap<String, String>,
    pub health: String,
    pub last_error: String,
}

impl Prometheus {
    /// Starts one that scrapes the pods that a namespace has now.
    pub async fn start(namespace: &Namespace) -> Result<Prometheus> {
        let targets: Vec<Value> = namespace.pods("").await?.iter().filter_map(target).collect();
        let configuration = json!({
            "global": { "scrape_interval": format!("{}s", INTERVAL.as_secs()) },
            "scrape_configs": [{ "job_name": "pods", "static_configs": targets }],
        });
        let folder =
            std::env::temp_dir().join(format!("weft-prometheus-{:08x}", fastrand::u32(..)));
        std::fs::create_dir(&folder)?;
        let file = folder.join("prometheus.yml");
        // JSON is YAML as well.
        std::fs::write(&file, configuration.to_string())?;
        // It takes no port 0: the kernel chooses one here, and nobody takes it in between.
        let address = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
        let log = std::fs::File::create(folder.join("log"))?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("prometheus: run this by `make e2e`, which fetches it")?;
        let mut prometheus = Prometheus { address, folder, process };
        prometheus.is_ready().await?;
        Ok(prometheus)
    }

    /// What is scraped at the moment.
    pub async fn targets(&self) -> Result<Vec<Target>> {
        let targets: Answer<Targets> = self.get("/api/v1/targets?state=active").await?;
        Ok(targets.data.active_targets)
    }

    /// The answer of an instant query that yields a vector.
    pub async fn query(&self, query: &str) -> Result<Vec<Sample>> {
        let path = format!("/api/v1/query?query={}", escaped(query));
        let answer: Answer<Vector> = self.get(&path).await?;
        let sample = |item: Item| {
            Ok(Sample { labels: item.metric, value: item.value.1.parse().context("a value")? })
        };
        answer.data.result.into_iter().map(sample).collect()
    }

    async fn is_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/-/ready", self.address);
        let what = "Prometheus to be ready";
        let ready = crate::eventually(Duration::from_secs(60), what, async || {
            let (status, text) = web::get(&url).await?;
            ensure!(status == 200, "{status} {text}");
            Ok(())
        });
        tokio::select! {
            ready = ready => ready,
            ended = self.process.wait() => {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                anyhow::bail!("prometheus has ended ({}):\n{log}", ended?)
            }
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (status, text) = web::get(&format!("http://{}{path}", self.address)).await?;
        ensure!(status == 200, "Prometheus answers {status} to {path}: {text}");
        serde_json::from_str(&text).with_context(|| format!("Prometheus answers {text}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Best effort: a folder that is left over is a temporary one.
        let _ = self.process.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What is scraped of a pod, by its annotations.
fn target(pod: &core::Pod) -> Option<Value> {
    let annotation = |name: &str| {
        pod.metadata.annotations.as_ref()?.get(&format!("prometheus.io/{name}")).map(String::as_str)
    };
    let address = pod.status.as_ref()?.pod_ip.as_ref()?;
    (annotation("scrape") == Some("true")).then(|| {
        json!({
            "targets": [format!("{address}:{}", annotation("port").unwrap_or("80"))],
            "labels": {
                "__metrics_path__": annotation("path").unwrap_or("/metrics"),
                "namespace": pod.metadata.namespace,
                "pod": pod.metadata.name,
            },
        })
    })
}

/// For a URL's query.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
