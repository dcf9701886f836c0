//! The API server stopped and started again.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use weft_e2e::node::component;
use weft_e2e::{Cluster, PATIENCE, eventually};

const KUBECTL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/kubectl");

/// The API server is away until this is dropped, and the controller-manager with it: without one it
/// would lose its leadership and end, and be started anew when there is one again. (The cluster's own
/// has none to lose. It would stay, find that the node has not been heard of for a minute, and take all
/// pods out of the endpoints.)
pub(crate) struct Outage;

impl Outage {
    pub(crate) fn begin() -> Result<Outage> {
        let outage = Outage;
        component("stop", "controller-manager")?;
        component("stop", "apiserver")?;
        Ok(outage)
    }

    fn end() -> Result<()> {
        component("start", "apiserver")?;
        let began = Instant::now();
        while !is_ready()? {
            ensure!(began.elapsed() < PATIENCE, "it is not ready");
            std::thread::sleep(Duration::from_millis(100));
        }
        component("start", "controller-manager")
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if let Err(error) = Outage::end() {
            eprintln!("the API server is not back: {error:#}");
        }
    }
}

/// The address by which pods reach the API server.
pub(crate) async fn service(cluster: &Cluster) -> Result<(String, u16)> {
    let kubernetes = cluster.get("Service", "default", "kubernetes").await?;
    let address = kubernetes.data["spec"]["clusterIP"].as_str().context("no address")?;
    Ok((address.to_owned(), 443))
}

/// Waits until pods can reach the API server that is back. The way to it is kube-proxy's, which takes its
/// time, a minute and a half at times, to hear that there is one again.
pub(crate) async fn reachable(service: &(String, u16)) -> Result<()> {
    let began = Instant::now();
    eventually(2 * PATIENCE, "the way from pods to the API server", async || {
        Ok(TcpStream::connect(service).await?)
    })
    .await?;
    println!("pods can reach the API server {:.1?} after it was ready", began.elapsed());
    Ok(())
}

fn is_ready() -> Result<bool> {
    let mut command = Command::new(KUBECTL);
    command.args(["get", "--raw", "/readyz"]);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(quiet.status().context(KUBECTL)?.success())
}
