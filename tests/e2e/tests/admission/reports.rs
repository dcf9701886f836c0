//! Pods that should have a sidecar and have none: the controller says so, once, and counts them.

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use weft_e2e::{Client, Cluster, INJECT, PATIENCE, eventually, run};
use weft_tests::lab::metrics::{samples, sum};

/// What the controller's leader counts; the others count nothing.
async fn counted(cluster: &Cluster, namespace: &str) -> Result<f64> {
    let system = cluster.existing("weft-system");
    let mut total = 0.0;
    for pod in system.pods("app.kubernetes.io/name=weft-controller").await? {
        let name = pod.metadata.name.context("a name")?;
        let uri = format!("/api/v1/namespaces/weft-system/pods/{name}:8080/proxy/metrics");
        let request = http::Request::get(uri).body(Vec::new())?;
        let text = cluster.client.request_text(request).await?;
        let labels = [("namespace", namespace)];
        total += sum(&samples(&text), "weft_controller_uninjected_pods", &labels);
    }
    Ok(total)
}

#[test]
fn a_pod_that_is_older_than_the_label_is_reported() {
    run("reports", async |cluster| {
        let shop = cluster.namespace_with("shop", &[]).await?;
        for name in ["one", "two"] {
            shop.create(Client::named(name).object()).await?;
        }
        shop.create(Client::named("out").label(INJECT, "disabled").object()).await?;
        let namespaces: kube::Api<k8s_openapi_kube::api::core::v1::Namespace> =
            kube::Api::all(cluster.client.clone());
        let label = async |value: &str| {
            let patch = Patch::Merge(json!({ "metadata": { "labels": { INJECT: value } } }));
            namespaces.patch(&shop.name, &PatchParams::default(), &patch).await
        };
        label("enabled").await?;
        for name in ["one", "two"] {
            eventually(PATIENCE, &format!("the event of {name}"), async || {
                let events = shop.events("Pod", name).await?;
                let ours = events.iter().find(|event| event.starts_with("NotInjected: "));
                let ours = ours.with_context(|| format!("only {events:?}"))?;
                ensure!(ours.contains("kubectl rollout restart"), "{ours}");
                Ok(())
            })
            .await?;
        }
        let events = shop.events("Pod", "out").await?;
        ensure!(!events.iter().any(|event| event.starts_with("NotInjected")), "{events:?}");
        eventually(PATIENCE, "the metric", async || {
            let count = counted(cluster, &shop.name).await?;
            ensure!(count == 2.0, "{count}");
            Ok(())
        })
        .await?;

        // Remedied: by a pod created anew, and by taking the label off.
        shop.pod("one").delete().await?;
        shop.pod("one").gone().await?;
        shop.create(Client::named("one").object()).await?;
        eventually(PATIENCE, "one pod less", async || {
            let count = counted(cluster, &shop.name).await?;
            ensure!(count == 1.0, "{count}");
            Ok(())
        })
        .await?;
        label("disabled").await?;
        eventually(PATIENCE, "no pod", async || {
            let count = counted(cluster, &shop.name).await?;
            ensure!(count == 0.0, "{count}");
            Ok(())
        })
        .await
    });
}
