//! What pods themselves say: those that cannot have a sidecar, that have one, or ask for nonsense.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_e2e::{Admission, Client, Cluster, Namespace, admit, run};

async fn answer(cluster: &Cluster, namespace: &Namespace, pod: &Value) -> Result<Admission> {
    admit(&cluster.client, &namespace.name, pod).await
}

#[test]
fn a_pod_on_its_nodes_network_gets_none_and_is_told_why() {
    run("hostnet", async |cluster| {
        let namespace = cluster.namespace("any").await?;
        let mut pod = Client::default().object();
        pod["spec"]["hostNetwork"] = json!(true);
        let admission = answer(cluster, &namespace, &pod).await?;
        ensure!(admission.init_containers()?.is_empty(), "{admission:?}");
        ensure!(admission.warns("hostNetwork"), "{:?}", admission.warnings);
        Ok(())
    });
}

#[test]
fn annotations_that_mean_nothing_are_named() {
    run("unknown", async |cluster| {
        let namespace = cluster.namespace("any").await?;
        let pod = Client::default()
            .annotation("weft.mesh/exclude-outbound-port", "80")
            .annotation("weft.mesh/inject", "disabled")
            .annotation("weft.mesh/log-level", "loud")
            .annotation("example.org/other", "any");
        let admission = answer(cluster, &namespace, &pod.object()).await?;
        ensure!(admission.is_injected()?, "{admission:?}");
        for words in [
            "weft.mesh/exclude-outbound-port is unknown to Weft",
            "weft.mesh/inject is a label, not an annotation",
            "weft.mesh/log-level is set aside",
        ] {
            ensure!(admission.warns(words), "{words}: {:?}", admission.warnings);
        }
        ensure!(admission.warnings.len() == 3, "{:?}", admission.warnings);
        Ok(())
    });
}

#[test]
fn a_value_without_which_the_pod_would_be_another_is_refused() {
    run("value", async |cluster| {
        let namespace = cluster.namespace("any").await?;
        let pod = Client::default()
            .annotation("weft.mesh/exclude-outbound-ports", "80,http")
            .annotation("weft.mesh/include-outbound-cidrs", "10.0.0.0/33");
        let admission = answer(cluster, &namespace, &pod.object()).await?;
        let refusal = admission.pod.err().unwrap_or_default();
        for words in [
            "denied the request: weft-injector: annotation weft.mesh/exclude-outbound-ports",
            "annotation weft.mesh/include-outbound-cidrs",
        ] {
            ensure!(refusal.contains(words), "{refusal}");
        }
        Ok(())
    });
}

#[test]
fn a_pod_that_has_the_containers_is_left_alone() {
    run("again", async |cluster| {
        let namespace = cluster.namespace("any").await?;
        let first = answer(cluster, &namespace, &Client::default().object()).await?;
        let mut injected =
            serde_json::to_value(first.pod.map_err(|refusal| anyhow::anyhow!(refusal))?)?;
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            injected["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        injected["metadata"]["name"] = json!("copy");
        let again = answer(cluster, &namespace, &injected).await?;
        ensure!(again.init_containers()? == ["weft-init", "weft-proxy"], "{again:?}");
        ensure!(again.warnings.is_empty(), "{:?}", again.warnings);

        // With one of the two it would not work, and only its author can tell what was meant.
        let containers = injected["spec"]["initContainers"].as_array_mut();
        containers.map(|containers| containers.remove(0));
        let half = answer(cluster, &namespace, &injected).await?;
        ensure!(half.init_containers()? == ["weft-proxy"], "{half:?}");
        ensure!(half.warns("has one of the containers"), "{:?}", half.warnings);
        Ok(())
    });
}
