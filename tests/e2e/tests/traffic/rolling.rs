//! Rolling restarts under traffic.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_e2e::rate::{Load, Seen, Traffic};
use weft_e2e::{Namespace, PATIENCE, Server, eventually, run};
use weft_tests::load::Report;

/// Restarts of the backend one after the other; the default keeps the run short.
const RESTARTS: &str = "WEFT_E2E_RESTARTS";

#[test]
fn a_backend_restarts_without_one_failed_request() {
    run("backend", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        shop.apply_value(service()).await?;
        shop.apply_value(backend()).await?;
        shop.available("reviews").await?;

        let url = "http://reviews";
        let post = ["--method", "POST", "--body-bytes", "100"];
        let loads = [
            Load::new("http1", 200, &[url]),
            // Which must not be sent again once a part of it is on its way.
            Load::new("http1-post", 200, &[url]).with(&post),
            Load::new("http1-fresh", 50, &[url]).with(&["--reuse", "1"]),
            Load::new("http2", 200, &[url]).with(&["--protocol", "http2"]).with(&post),
            Load::new("grpc", 200, &["http://reviews:81"]).with(&["--protocol", "grpc"]),
        ];
        let mut traffic = Vec::new();
        for load in &loads {
            shop.create(load.pod()).await?;
        }
        for load in &loads {
            let one = shop.traffic_of(&load.name);
            one.pod.ready().await?;
            traffic.push(one);
        }
        let restarts = std::env::var(RESTARTS).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
        for _ in 0..restarts {
            let before = names(&shop, "app=reviews").await?;
            shop.restart("reviews").await?;
            shop.available("reviews").await?;
            eventually(PATIENCE, "the end of the old pods", async || {
                let left = names(&shop, "app=reviews").await?;
                ensure!(left.iter().all(|name| !before.contains(name)), "{left:?}");
                Ok(())
            })
            .await?;
        }
        for one in &traffic {
            let report = one.goes_on(200).await?;
            println!("{}: {}", one.pod.name, summary(&report));
        }
        for one in &traffic {
            let report = one.report().await?;
            ensure!(report.failed == 0, "{}: {:#?}", one.pod.name, report.failures);
            // Of all generations, or nothing was restarted.
            let pods = report.pods.len();
            ensure!(pods >= 3 * (restarts + 1), "{}: only {pods} pods answered", one.pod.name);
        }
        Ok(())
    });
}

fn summary(report: &Report) -> String {
    let latency = report.latency;
    format!(
        "{} requests, {} failed, {} pods; ms: p50 {:.1}, p99 {:.1}, max {:.1}",
        report.done,
        report.failed,
        report.pods.len(),
        latency.p50,
        latency.p99,
        latency.max
    )
}

async fn names(namespace: &Namespace, labels: &str) -> Result<Vec<String>> {
    let pods = namespace.pods(labels).await?;
    Ok(pods.into_iter().filter_map(|pod| pod.metadata.name).collect())
}

/// Three replicas that end as README says.
fn backend() -> Value {
    let mut backend = Server::new("reviews", "v1").replicas(3).workload();
    backend["metadata"]["name"] = json!("reviews");
    let spec = &mut backend["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = json!(30);
    let container = &mut spec["containers"][0];
    let sleep: u32 = std::env::var("X_SLEEP").ok().and_then(|t| t.parse().ok()).unwrap_or(3);
    if sleep > 0 {
        container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": sleep } } });
    }
    if let Some(command) = container["command"].as_array_mut() {
        let drain = std::env::var("X_DRAIN").unwrap_or("10".into());
        command.extend([json!("--drain-seconds"), json!(drain)]);
    }
    backend
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
