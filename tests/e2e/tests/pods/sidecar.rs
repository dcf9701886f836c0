//! The least that must work: a request through the sidecar, and the metrics of it.

use anyhow::ensure;
use weft_e2e::{Server, run};
use weft_tests::lab::metrics::{samples, sum};

#[test]
fn a_request_goes_through_the_sidecar() {
    run("sidecar", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        shop.server(&Server::new("reviews", "v1")).await?;
        let client = shop.client().await?;
        ensure!(client.is_injected().await?, "the pod has no sidecar");
        let answer = client.curl(&["http://reviews/"]).await?.success()?;
        ensure!(answer.contains("\"service\":\"reviews\""), "{answer}");
        let metrics = samples(&client.metrics().await?);
        let seen = sum(&metrics, "weft_route_requests_total", &[("parent_name", "reviews")]);
        ensure!(seen == 1.0, "the sidecar has counted {seen} requests");
        Ok(())
    });
}
