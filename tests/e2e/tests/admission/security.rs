//! Namespaces that enforce a pod security standard: `baseline` and `restricted` forbid what weft-init
//! needs, and whoever meets that must be told what to do.

use anyhow::{Result, ensure};
use k8s_openapi_kube::api::apps::v1::ReplicaSet;
use kube::api::{Api, ListParams};
use weft_e2e::{Client, INJECT, Namespace, PATIENCE, Server, admit, eventually, run};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What a refusal must say: which label forbids, what, and both ways out.
const TOLD: [&str; 4] = [
    "pod-security.kubernetes.io/enforce",
    "NET_ADMIN",
    "pod-security.kubernetes.io/enforce=privileged",
    "weft.mesh/inject=disabled",
];

fn tells(message: &str) -> Result<()> {
    for words in TOLD {
        ensure!(message.contains(words), "no {words:?} in: {message}");
    }
    Ok(())
}

/// The events of the namespace's only ReplicaSet.
async fn replica_set_events(namespace: &Namespace) -> Result<Vec<String>> {
    let sets: Api<ReplicaSet> = namespace.api();
    let set = sets.list(&ListParams::default()).await?.items.into_iter().next();
    let name = set.and_then(|set| set.metadata.name).unwrap_or_default();
    namespace.events("ReplicaSet", &name).await
}

#[test]
fn a_standard_that_forbids_weft_init_is_named_with_the_way_out() {
    run("standards", async |cluster| {
        for standard in ["baseline", "restricted"] {
            let labels = [(INJECT, "enabled"), (ENFORCE, standard)];
            let namespace = cluster.namespace_with(standard, &labels).await?;
            let pod = Client::default().object();
            let admission = admit(&cluster.client, &namespace.name, &pod).await?;
            let refusal = admission.pod.err().unwrap_or_else(|| "it was admitted".to_owned());
            tells(&refusal)?;

            // A Deployment's author sees the event of its ReplicaSet.
            let server = Server::new("reviews", "v1");
            namespace.apply_value(server.workload()).await?;
            eventually(PATIENCE, "the ReplicaSet's event", async || {
                let events = replica_set_events(&namespace).await?;
                let Some(event) = events.iter().find(|event| event.starts_with("FailedCreate: "))
                else {
                    anyhow::bail!("no FailedCreate among {events:?}");
                };
                tells(event)
            })
            .await?;

            // Both ways out work.
            let opted_out = Client::default().label(INJECT, "disabled").object();
            let admission = admit(&cluster.client, &namespace.name, &opted_out).await?;
            ensure!(!admission.is_injected()?, "{admission:?}");
            let relaxed = format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: {{{ENFORCE}: privileged}}}}}}",
                namespace.name
            );
            cluster.apply_cluster_scoped(&relaxed).await?;
            // The API server takes a moment to select by the new label.
            eventually(PATIENCE, "the relaxed standard", async || {
                let admission = admit(&cluster.client, &namespace.name, &pod).await?;
                ensure!(admission.is_injected()?, "{admission:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_pods_own_label_does_not_get_it_past_a_standard() {
    run("podlabel", async |cluster| {
        let namespace = cluster.namespace_with("any", &[(ENFORCE, "restricted")]).await?;
        let pod = Client::default().label(INJECT, "enabled").object();
        let admission = admit(&cluster.client, &namespace.name, &pod).await?;
        tells(&admission.pod.err().unwrap_or_else(|| "it was admitted".to_owned()))
    });
}

/// Warnings and audit at `restricted`, while `privileged` is enforced, are what a meshed namespace
/// can have.
#[test]
fn a_standard_that_only_warns_forbids_nothing() {
    run("warns", async |cluster| {
        let labels = [
            (INJECT, "enabled"),
            (ENFORCE, "privileged"),
            ("pod-security.kubernetes.io/warn", "restricted"),
            ("pod-security.kubernetes.io/audit", "restricted"),
        ];
        let namespace = cluster.namespace_with("any", &labels).await?;
        let admission =
            admit(&cluster.client, &namespace.name, &Client::default().object()).await?;
        ensure!(admission.is_injected()?, "{admission:?}");
        // Kubernetes' own words: nothing but weft-init is to be warned about.
        let about: Vec<&String> = admission.warnings.iter().collect();
        ensure!(
            about.iter().all(|it| it.contains("weft-init") && !it.contains("weft-proxy")),
            "{about:?}"
        );
        Ok(())
    });
}
