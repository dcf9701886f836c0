//! Both address families, and what is not redirected.

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::core::v1::Service;
use kube::api::Api;
use weft_e2e::{Namespace, Pod, run};

use crate::reviews_to_v2;

/// How many of so many requests, each on a connection of its own, v1 and v2 answer.
async fn answers(client: &Pod, host: &str, count: usize) -> Result<[usize; 2]> {
    // --globoff: the brackets of an IPv6 address are no range of curl's.
    let ask =
        format!("curl -s --globoff -o /dev/null -w '%header{{x-version}}\\n' http://{host}/; ");
    let text = client.sh(&ask.repeat(count)).await?.success()?;
    ensure!(text.lines().count() == count, "{text}");
    Ok(["v1", "v2"].map(|version| text.lines().filter(|line| *line == version).count()))
}

async fn cluster_ips(namespace: &Namespace) -> Result<Vec<String>> {
    let services: Api<Service> = namespace.api();
    let spec = services.get("reviews").await?.spec.context("a spec")?;
    Ok(spec.cluster_ips.unwrap_or_default())
}

#[test]
fn every_family_that_the_cluster_has_is_redirected() {
    run("families", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let client = shop.client().await?;
        let addresses = cluster_ips(&shop).await?;
        println!("families: {addresses:?}");
        ensure!(addresses.len() == client.addresses().await?.len(), "the pod has another number");
        for address in addresses {
            let host = if address.contains(':') { format!("[{address}]") } else { address };
            let seen = answers(&client, &host, 8).await?;
            ensure!(seen == [0, 8], "{host}: {seen:?} of v1 and v2");
        }
        // By name, each family as the resolver gives it.
        let seen = answers(&client, "reviews", 8).await?;
        ensure!(seen == [0, 8], "by name: {seen:?}");
        Ok(())
    });
}

/// "the mesh is not there": pod addresses never meet the proxy.
#[test]
fn pod_addresses_are_not_redirected() {
    run("podaddress", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let client = shop.client().await?;
        let v1 = shop.pods("app=reviews,version=v1").await?.remove(0);
        let name = v1.metadata.name.context("a name")?;
        for address in shop.pod(&name).addresses().await? {
            let host = if address.contains(':') { format!("[{address}]") } else { address };
            let seen = answers(&client, &format!("{host}:8080"), 3).await?;
            ensure!(seen == [3, 0], "{host}: {seen:?} of v1 and v2");
        }
        let counted = client.metrics().await?;
        ensure!(!counted.contains("weft_route_requests_total{"), "{counted}");
        Ok(())
    });
}

#[test]
fn an_excluded_port_is_not_redirected() {
    run("excluded", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let client =
            weft_e2e::Client::default().annotation("weft.mesh/exclude-outbound-ports", "80");
        let client = shop.client_with(&client).await?;
        // kube-proxy chooses for each connection: 40 of them miss a version once in 10^12 runs.
        let seen = answers(&client, "reviews", 40).await?;
        ensure!(seen[0] > 0 && seen[1] > 0 && seen[0] + seen[1] == 40, "{seen:?}");
        Ok(())
    });
}
