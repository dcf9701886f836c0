//! A canary of which a share fails, as Prometheus tells it to whoever decides about it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_e2e::prometheus::{Prometheus, Sample};
use weft_e2e::rate::Load;
use weft_e2e::{Server, eventually, run};

/// Whose first block of PromQL is the query that is asked, word by word.
const README: &str = include_str!("../../../../README.md");
/// So many of a hundred requests to v2 fail.
const FAILING: f64 = 30.0;
/// The rates are taken over a minute, most of which must have passed.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn prometheus_tells_the_success_rate_of_a_canary() {
    run("canary", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        let v2 = Server::new("reviews", "v2").with(&["--fail-percent", &FAILING.to_string()]);
        shop.servers(&[Server::new("reviews", "v1"), v2]).await?;
        shop.apply(ROUTE).await?;
        let load = Load::new("http1", 100, &["http://reviews"]);
        let traffic = shop.load(&load).await?;
        let prometheus = Prometheus::start(&shop).await?;

        let query = readme_query()?;
        let rates = eventually(LIMIT, "the success rates", async || {
            let targets = prometheus.targets().await?;
            let mine = targets.iter().find(|one| one.labels.get("pod") == Some(&traffic.pod.name));
            let mine = mine.with_context(|| format!("the sidecar is not scraped: {targets:?}"))?;
            ensure!(mine.health == "up", "{}: {}", mine.health, mine.last_error);
            // Several rounds of the failing share, and several scrapes.
            let seen = traffic.report().await?;
            ensure!(seen.versions.get("v2").is_some_and(|v2| *v2 > 300), "{:?}", seen.versions);
            let rates = prometheus.query(&query).await?;
            ensure!(rates.len() == 2, "{rates:?}");
            Ok(rates)
        })
        .await?;
        println!("canary: {query}");
        for (backend, expected) in [("reviews-v1", 1.0), ("reviews-v2", 1.0 - FAILING / 100.0)] {
            let mine = |it: &&Sample| it.labels.get("backend_name").is_some_and(|it| it == backend);
            let rate =
                rates.iter().find(mine).with_context(|| format!("{backend}: {rates:?}"))?.value;
            println!("canary: {backend} {rate:.3}");
            ensure!((rate - expected).abs() < 0.03, "{backend}: {rate}");
        }
        Ok(())
    });
}

/// The first block of PromQL in README.
fn readme_query() -> Result<String> {
    let block = README.split("```promql\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.context("README has no PromQL")?.lines().map(str::trim);
    Ok(lines.collect::<Vec<_>>().join(" "))
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: reviews }
spec:
  parentRefs: [{ group: '', kind: Service, name: reviews, port: 80 }]
  rules:
    - backendRefs:
        - { name: reviews-v1, port: 80, weight: 50 }
        - { name: reviews-v2, port: 80, weight: 50 }
";
