//! A sidecar that dies: killed, crashed, out of memory. kubelet starts it again in its pod, and what it
//! knew it asks for anew.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join;
use serde_json::{Value, json};
use weft_e2e::rate::{Load, Traffic};
use weft_e2e::{Namespace, PATIENCE, Pod, eventually, figure, node, run, web};
use weft_tests::lab::metrics::{samples, sum};

use crate::reviews_to_v2;

/// From a sidecar's start until it is ready and serves again. A busy machine may be so many times
/// slower than what is asked; the exact figures are for people to read.
const ASKED: f64 = 1.0;
const TOLERANCE: f64 = 10.0;
/// Requests per second.
const RATE: u32 = 50;
/// Of the sidecar that is to run out of memory.
const MEMORY: &str = "16Mi";
/// Of whose requests a sidecar keeps the bodies for a while.
const KEEPS_BODIES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: keeps-bodies }
spec:
  parentRefs: [{ group: '', kind: Service, name: reviews-v1, port: 80 }]
  rules: [{ retry: { codes: [503], attempts: 1 }, backendRefs: [{ name: reviews-v1, port: 80 }] }]
";
/// Four hundred such requests at a time, of 60 kB each, until the sidecar has gone.
const FLOOD: &str = "
weft-client load --rate 400 --connections 400 --seconds 60 --method POST --body-bytes 60000 \\
  'http://reviews-v1/delay?ms=20000' >/dev/null & flood=$!
while curl --silent --max-time 10 --output /dev/null http://127.0.0.1:15020/livez; do sleep 0.1; done
kill -KILL $flood";

#[derive(Clone, Copy, Debug)]
enum Death {
    Killed,
    Crashed,
    OutOfMemory,
}

impl Death {
    fn words(self) -> &'static str {
        match self {
            Death::Killed => "a sidecar is killed",
            Death::Crashed => "a sidecar crashes",
            Death::OutOfMemory => "a sidecar is out of memory",
        }
    }
}

#[test]
fn a_killed_sidecar_is_back_within_a_second() {
    dies("killed", Death::Killed);
}

#[test]
fn a_crashed_sidecar_is_back_within_a_second() {
    dies("crashed", Death::Crashed);
}

#[test]
fn a_sidecar_out_of_memory_is_back_within_a_second() {
    dies("memory", Death::OutOfMemory);
}

fn dies(name: &str, death: Death) {
    run(name, async |cluster| {
        if !node::is_own() {
            println!("{name}: skipped, as the node of KUBECONFIG's cluster is not ours");
            return Ok(());
        }
        let shop = reviews_to_v2(cluster).await?;
        let traffic = start(&shop, death).await?;
        let address = traffic.pod.addresses().await?.swap_remove(0);
        let before = started(&address).await?;

        let (died, back) = try_join(die(&traffic.pod, death), back(&address, before)).await?;
        let status = eventually(PATIENCE, "kubelet's word for it", async || {
            let status = traffic.pod.container_status("weft-proxy").await?;
            ensure!(status.restart_count > 0 && status.ready, "{status:?}");
            Ok(status)
        })
        .await?;
        let last =
            status.last_state.and_then(|state| state.terminated).context("it did not end")?;
        let (code, reason) = (last.exit_code, last.reason.unwrap_or_default());
        match death {
            Death::Killed => ensure!(code == 137, "{code} {reason}"),
            Death::Crashed => ensure!(code == 139, "{code} {reason}"),
            Death::OutOfMemory => ensure!(code == 137 && reason == "OOMKilled", "{code} {reason}"),
        }
        ensure!(status.restart_count == 1, "it was started {} times", status.restart_count);

        let report = traffic.goes_on(2 * u64::from(RATE)).await?;
        // An answer of v1 would not have met the route, nor the proxy.
        let versions: Vec<_> = report.versions.keys().collect();
        ensure!(versions == ["v2"], "{versions:?}");
        let kubelet = died.map_or("?".to_owned(), |died| format!("{:.2}", back.started - died));
        let ready = back.ready - back.started;
        let serves = (report.last_failed - back.started).max(0.0);
        figure(
            &format!("{}: begun anew by kubelet after {kubelet} s, and then", death.words()),
            &format!("ready after {ready:.2} s, the last request failed after {serves:.2} s"),
            "1 s",
        )?;
        ensure!(ready < ASKED * TOLERANCE && serves < ASKED * TOLERANCE, "{ready} s, {serves} s");
        traffic.pod.ready().await?;
        // Nobody else's.
        let application = traffic.pod.container_status("client").await?;
        ensure!(application.restart_count == 0, "the application was started anew");
        Ok(())
    });
}

/// The application, in whose pod the sidecar will die.
async fn start(shop: &Namespace, death: Death) -> Result<Traffic> {
    // Kept connections, and new ones.
    let load = Load::new("client", RATE, &["http://reviews"]).with(&["--reuse", "10"]);
    let mut pod: Value = load.pod();
    match death {
        Death::Killed => {}
        // The first process of a namespace is not hurt by signals from without that it has no handler
        // for, so that it would not die as it does by its own fault.
        Death::Crashed => pod["spec"]["shareProcessNamespace"] = json!(true),
        Death::OutOfMemory => {
            pod["metadata"]["annotations"] = json!({ "weft.mesh/proxy-memory-limit": MEMORY });
            shop.apply(KEEPS_BODIES).await?;
        }
    }
    shop.create(pod).await?;
    let traffic = shop.traffic_of("client");
    traffic.pod.ready().await?;
    traffic.goes_on(u64::from(RATE)).await?;
    Ok(traffic)
}

/// Brings it about, and tells when, in seconds since 1970, where that is known.
async fn die(pod: &Pod, death: Death) -> Result<Option<f64>> {
    let id = pod.container_id("weft-proxy").await?;
    match death {
        Death::Killed => {
            let at = now();
            node::signal(&id, "SIGKILL")?;
            Ok(Some(at))
        }
        Death::Crashed => {
            // The first one only takes Rust's handler away, which asks for the default.
            let mut at = now();
            while node::signal(&id, "SIGSEGV").is_ok() {
                at = now();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(Some(at))
        }
        Death::OutOfMemory => {
            pod.sh(FLOOD).await?;
            Ok(None)
        }
    }
}

/// A sidecar's second life, in seconds since 1970.
struct Back {
    started: f64,
    ready: f64,
}

/// Asks again and again until another process than the one that began at `before` is ready.
async fn back(address: &str, before: f64) -> Result<Back> {
    let began = Instant::now();
    loop {
        // The time of the answer, not that after the next question.
        let ready = web::get(&format!("http://{address}:15020/readyz")).await;
        let at = now();
        if ready.is_ok_and(|(status, _)| status == 200)
            && let Ok(started) = started(address).await
            && started > before
        {
            return Ok(Back { started, ready: at });
        }
        ensure!(began.elapsed() < PATIENCE, "no other sidecar in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// When a sidecar's process began, in seconds since 1970.
async fn started(address: &str) -> Result<f64> {
    let (_, text) = web::get(&format!("http://{address}:15020/metrics")).await?;
    let started = sum(&samples(&text), "weft_process_start_time_seconds", &[]);
    ensure!(started > 0.0, "no start among its metrics");
    Ok(started)
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
