//! Labels of namespaces and pods, in all combinations.

use anyhow::{Result, ensure};
use weft_e2e::{Client, INJECT, admit, run};

/// Label of the namespace, label of the pod, whether the pod gets the sidecar.
const COMBINATIONS: &[(Option<&str>, Option<&str>, bool)] = &[
    (Some("enabled"), None, true),
    (Some("enabled"), Some("enabled"), true),
    (Some("enabled"), Some("disabled"), false),
    (Some("enabled"), Some("true"), true),
    (None, None, false),
    (None, Some("enabled"), true),
    (None, Some("disabled"), false),
    (None, Some("true"), false),
    (Some("disabled"), None, false),
    (Some("disabled"), Some("enabled"), true),
    (Some("disabled"), Some("disabled"), false),
    (Some("disabled"), Some("true"), false),
    (Some("true"), None, false),
    (Some("true"), Some("enabled"), true),
    (Some("true"), Some("disabled"), false),
    (Some("true"), Some("true"), false),
];

#[test]
fn the_pods_label_outweighs_the_namespaces() {
    run("labels", async |cluster| {
        for of_namespace in [Some("enabled"), None, Some("disabled"), Some("true")] {
            let labels: Vec<(&str, &str)> =
                of_namespace.map(|it| (INJECT, it)).into_iter().collect();
            let namespace = cluster.namespace_with("any", &labels).await?;
            for (_, of_pod, expected) in COMBINATIONS.iter().filter(|it| it.0 == of_namespace) {
                let client = match of_pod {
                    Some(value) => Client::default().label(INJECT, value),
                    None => Client::default(),
                };
                let admission = admit(&cluster.client, &namespace.name, &client.object()).await?;
                let what = format!("namespace {of_namespace:?}, pod {of_pod:?}");
                ensure!(admission.is_injected()? == *expected, "{what}: {admission:?}");
                let is_asked = of_namespace == Some("enabled");
                ensure!(
                    admission.warns("can be enabled or disabled")
                        == (is_asked && *of_pod == Some("true")),
                    "{what}: {:?}",
                    admission.warnings
                );
            }
            // A dry run changes nothing.
            ensure!(namespace.pods("").await?.is_empty(), "a pod was kept");
        }
        Ok(())
    });
}

/// As Deployments make them: what the API server admits for real is what it said in the dry run.
#[test]
fn real_pods_are_as_the_dry_run_said() {
    run("real", async |cluster| {
        let meshed = cluster.namespace("meshed").await?;
        let plain = cluster.namespace_with("plain", &[]).await?;
        let opted_in = Client::named("in").label(INJECT, "enabled");
        let opted_out = Client::named("out").label(INJECT, "disabled");
        for (namespace, client, expected) in [
            (&meshed, &Client::named("in"), true),
            (&meshed, &opted_out, false),
            (&plain, &opted_in, true),
            (&plain, &Client::named("out"), false),
        ] {
            namespace.create(client.object()).await?;
            let pod = namespace.pod(&client.name);
            ensure!(pod.is_injected().await? == expected, "{} in {}", pod.name, namespace.name);
        }
        for (namespace, name) in
            [(&meshed, "in"), (&meshed, "out"), (&plain, "in"), (&plain, "out")]
        {
            namespace.pod(name).ready().await?;
        }
        Ok(())
    });
}

#[test]
fn the_systems_namespaces_are_left_alone() {
    run("system", async |cluster| {
        for namespace in ["kube-system", "kube-public", "kube-node-lease", "weft-system"] {
            let pod = Client::named("weft-e2e").label(INJECT, "enabled").object();
            let admission = admit(&cluster.client, namespace, &pod).await?;
            ensure!(!admission.is_injected()?, "{namespace}: {admission:?}");
        }
        Result::<()>::Ok(())
    });
}
