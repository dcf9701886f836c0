//! Rolling restarts under traffic: of the backends, and of the callers.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use weft_e2e::rate::{Load, Seen, Traffic};
use weft_e2e::{Namespace, PATIENCE, Server, eventually, figure, run, times};
use weft_tests::load::Report;

/// How often the backends and the callers are restarted.
const RESTARTS: (&str, u64) = ("WEFT_E2E_RESTARTS", 2);
/// Requests per second of each kind.
const RATE: u32 = 200;

#[test]
fn a_backend_restarts_without_one_failed_request() {
    run("backend", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        backend(&shop).await?;
        // Told to end it closes its connections in order, but does not wait before: what may be sent
        // again is.
        let ratings = Server::new("ratings", "v1").replicas(2).with(&["--drain-seconds", "5"]);
        shop.server(&ratings).await?;
        let mut loads = loads();
        loads.push(Load::new("get", RATE, &["http://ratings"]));
        for load in &loads {
            shop.create(load.pod()).await?;
        }
        let traffic: Vec<Traffic> = loads.iter().map(|it| shop.traffic_of(&it.name)).collect();
        for one in &traffic {
            one.pod.ready().await?;
            one.goes_on(100).await?;
        }
        let restarts = times(RESTARTS.0, RESTARTS.1)?;
        for _ in 0..restarts {
            let both = ["reviews", "ratings-v1"].map(|deployment| restart(&shop, deployment));
            try_join_all(both).await?;
        }
        for one in &traffic {
            let report = one.goes_on(100).await?;
            println!("backend: {restarts} restarts: {}: {}", one.pod.name, summary(&report));
        }
        let mut reports = Vec::new();
        for one in &traffic {
            let report = one.report().await?;
            ensure!(report.failed == 0, "{}: {:#?}", one.pod.name, report.failures);
            // Of all generations, or nothing was restarted.
            let pods = report.pods.len() as u64;
            ensure!(pods >= 2 * (restarts + 1), "{}: only {pods} pods answered", one.pod.name);
            reports.push(report);
        }
        tell(&format!("while backends restart {restarts} times"), &reports)
    });
}

#[test]
fn callers_restart_without_one_failed_request() {
    run("callers", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        backend(&shop).await?;
        let mut loads = loads();
        // Whose pod never ends without a dozen requests under way.
        let slow = Load::new("http1-slow", 10, &["http://reviews/delay?ms=1500"]);
        loads.push(slow.with(&["--connections", "20"]));
        for load in &loads {
            shop.apply_value(load.deployment(1)).await?;
        }
        for load in &loads {
            shop.available(&load.name).await?;
        }
        let restarts = times(RESTARTS.0, RESTARTS.1)?;
        let mut reports = Vec::new();
        for round in 1..=restarts {
            let mut followed = Vec::new();
            for load in &loads {
                followed.extend(follow(&shop, load).await?);
            }
            ensure!(followed.len() == loads.len(), "{} callers", followed.len());
            // From its first request to its last, which it sends while its pod ends.
            let to_the_end = try_join_all(followed.iter().map(Traffic::to_the_end));
            let restart = try_join_all(loads.iter().map(|load| restart(&shop, &load.name)));
            let (ended, _) = tokio::try_join!(to_the_end, restart)?;
            for (traffic, Seen { report, .. }) in followed.iter().zip(ended) {
                println!("callers: restart {round}: {}: {}", traffic.pod.name, summary(&report));
                ensure!(report.failed == 0, "{}: {:#?}", traffic.pod.name, report.failures);
                reports.push(report);
            }
        }
        for load in &loads {
            for traffic in follow(&shop, load).await? {
                let report = traffic.goes_on(10).await?;
                println!("callers: from its start, {}: {}", traffic.pod.name, summary(&report));
                ensure!(report.failed == 0, "{}: {:#?}", traffic.pod.name, report.failures);
                reports.push(report);
            }
        }
        tell(&format!("while callers restart {restarts} times"), &reports)
    });
}

fn loads() -> Vec<Load> {
    let (url, grpc) = ("http://reviews", "http://reviews:81");
    let post = ["--method", "POST", "--body-bytes", "100"];
    vec![
        Load::new("http1", RATE, &[url]),
        // What must not be sent again once a part of it is on its way.
        Load::new("http1-post", RATE, &[url]).with(&post),
        // Each request over a connection of its own.
        Load::new("http1-fresh", RATE / 4, &[url]).with(&["--reuse", "1"]),
        Load::new("http2", RATE, &[url]).with(&["--protocol", "http2"]).with(&post),
        Load::new("grpc", RATE, &[grpc]).with(&["--protocol", "grpc"]),
    ]
}

/// Three that wait before they end, as README says, and then break off whatever is under way.
async fn backend(shop: &Namespace) -> Result<()> {
    let mut workload = Server::new("reviews", "v1").replicas(3).pre_stop(3).workload();
    workload["metadata"]["name"] = json!("reviews");
    shop.apply_value(workload).await?;
    shop.apply_value(service()).await?;
    shop.available("reviews").await
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "reviews" },
        "spec": {
            "selector": { "app": "reviews" },
            "ports": [
                { "name": "http", "port": 80, "targetPort": 8080 },
                { "name": "grpc", "port": 81, "targetPort": 8080, "appProtocol": "grpc" },
            ],
        },
    })
}

/// Restarts a Deployment and waits for the end of it, and of all its earlier pods.
async fn restart(shop: &Namespace, deployment: &str) -> Result<()> {
    let labels = format!("app={}", deployment.trim_end_matches("-v1"));
    let before = names(shop, &labels).await?;
    shop.restart(deployment).await?;
    shop.available(deployment).await?;
    eventually(PATIENCE, &format!("the end of the earlier pods of {deployment}"), async || {
        let left = names(shop, &labels).await?;
        ensure!(left.iter().all(|name| !before.contains(name)), "{left:?}");
        Ok(())
    })
    .await
}

async fn follow(shop: &Namespace, load: &Load) -> Result<Vec<Traffic>> {
    let pods = names(shop, &format!("app={}", load.name)).await?;
    Ok(pods.iter().map(|pod| shop.traffic_of(pod)).collect())
}

async fn names(shop: &Namespace, labels: &str) -> Result<Vec<String>> {
    let pods = shop.pods(labels).await?.into_iter();
    pods.map(|pod| pod.metadata.name.context("a pod without a name")).collect()
}

/// For the table at the end of the run.
fn tell(what: &str, reports: &[Report]) -> Result<()> {
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let (done, failed) = (sum(|it| it.done), sum(|it| it.failed));
    figure(what, &format!("{done} requests, {failed} failed"), "0 failed")
}

fn summary(report: &Report) -> String {
    let (latency, pods) = (report.latency, report.pods.len());
    format!(
        "{} requests, {} failed, {pods} backends; ms: p50 {:.1}, p99 {:.1}, max {:.1}",
        report.done, report.failed, latency.p50, latency.p99, latency.max
    )
}
