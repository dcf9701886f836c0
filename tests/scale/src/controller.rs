//! The controller in the same cluster: what it needs, and how long it writes.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use weft_bench::process::Process;

use crate::Options;
use crate::cluster::{Cluster, WEFT_NAMESPACE};
use crate::sidecar::Client;

const PORT: u16 = 8081;
/// How long is waited for all routes' status.
const LIMIT: Duration = Duration::from_secs(180);
/// How long nothing more may be written until it is looked whether all is: what is written twice is
/// not counted twice.
const QUIET: Duration = Duration::from_secs(2);

/// What was seen of it.
pub(crate) struct Seen {
    /// How many routes have a status, at least.
    pub(crate) written: usize,
    /// From its start to the last one of them.
    pub(crate) seconds: f64,
    /// Once all is written.
    pub(crate) resident_mib: f64,
    pub(crate) peak_mib: f64,
    pub(crate) cpu_seconds: f64,
}

/// Runs it until every route has a status, or for as long as there is time.
pub(crate) async fn write_status(
    options: &Options,
    cluster: &Cluster,
    routes: usize,
    mut said: impl FnMut(usize),
) -> Result<Seen> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": WEFT_NAMESPACE, "name": "weft-controller"},
        "spec": {},
    });
    cluster.create(&lease).await?;
    let mut command = Command::new(options.programs.join("weft-controller"));
    command.args(["--metrics-port", &PORT.to_string()]).env("KUBECONFIG", &cluster.kubeconfig);
    let begun = Instant::now();
    let mut process = Process::start("weft-controller", command)?;
    let (mut written, mut last) = (0, begun);
    loop {
        process.check()?;
        let now = self::written().await.unwrap_or(0);
        if now > written {
            (written, last) = (now, Instant::now());
            said(written);
        }
        if written >= routes || begun.elapsed() > LIMIT {
            break;
        }
        if written > 0 && last.elapsed() > QUIET && all_have_one(cluster).await? {
            written = routes;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = (last - begun).as_secs_f64();
    Ok(Seen {
        written,
        seconds,
        resident_mib: process.resident_mib()?,
        peak_mib: process.peak_mib()?,
        cpu_seconds: process.cpu_seconds()?,
    })
}

/// How many routes' status it has written, as it says.
async fn written() -> Result<usize> {
    let (_, text) = Client::connect(([127, 0, 0, 1], PORT).into()).await?.get("/metrics").await?;
    let text = String::from_utf8_lossy(&text);
    let wanted = r#"weft_controller_status_writes_total{kind="HTTPRoute",result="written"} "#;
    let value = text.lines().find_map(|line| line.strip_prefix(wanted));
    Ok(value.map_or(Ok(0), |value| value.trim().parse())?)
}

/// Whether each route has a status, as the API server says.
async fn all_have_one(cluster: &Cluster) -> Result<bool> {
    let mut next = String::new();
    loop {
        let path =
            format!("/apis/gateway.networking.k8s.io/v1/httproutes?limit=500&continue={next}");
        let page: Value = serde_json::from_str(&cluster.text(&path).await?)?;
        for route in page["items"].as_array().into_iter().flatten() {
            if route["status"]["parents"][0]["conditions"][0]["status"] != "True" {
                return Ok(false);
            }
        }
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => next = token.to_owned(),
            _ => return Ok(true),
        }
    }
}
