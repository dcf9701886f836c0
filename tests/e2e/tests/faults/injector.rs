use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use weft_e2e::{
    Client, Cluster, INJECT, Namespace, PATIENCE, Server, admit, eventually, helm, run,
};

/// How the API server's refusal begins when nobody answers the webhook.
const UNANSWERED: &str = "failed calling webhook \"namespace.injector.weft.mesh\"";

/// Scales the injector to nothing, does the work, and scales it back whatever came of it.
async fn without_injector(cluster: &Cluster, work: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let system = cluster.existing("weft-system");
    let injector: Api<Deployment> = system.api();
    let spec = injector.get("weft-injector").await?.spec.context("a spec")?;
    let scale = async |replicas: i32| {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        injector.patch_scale("weft-injector", &PatchParams::default(), &patch).await
    };
    scale(0).await?;
    let worked = async {
        eventually(PATIENCE, "the end of the injector's pods", async || {
            let pods = system.pods("app.kubernetes.io/name=weft-injector").await?;
            ensure!(pods.is_empty(), "{} are left", pods.len());
            Ok(())
        })
        .await?;
        work().await
    };
    let worked = worked.await;
    scale(spec.replicas.unwrap_or(1)).await?;
    system.available("weft-injector").await?;
    worked
}

/// The events of the namespace's only ReplicaSet.
async fn replica_set_events(namespace: &Namespace) -> Result<Vec<String>> {
    let sets: Api<ReplicaSet> = namespace.api();
    let set = sets.list(&ListParams::default()).await?.items.into_iter().next();
    let name = set.and_then(|set| set.metadata.name).context("no ReplicaSet yet")?;
    namespace.events("ReplicaSet", &name).await
}

#[test]
fn without_the_injector_only_labelled_pods_wait() {
    run("down", async |cluster| {
        let meshed = cluster.namespace("meshed").await?;
        let plain = cluster.namespace_with("plain", &[]).await?;
        let server = Server::new("reviews", "v1");
        without_injector(cluster, async || {
            plain.client().await?;
            // In a labelled namespace, a pod that has opted out does not wait either.
            let opted_out = Client::named("out").label(INJECT, "disabled");
            meshed.client_with(&opted_out).await?;
            let system = Client::named("weft-e2e").object();
            admit(&cluster.client, "kube-system", &system).await?.init_containers()?;

            let refused = meshed.create(Client::default().object()).await;
            let refusal = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(refusal.contains(UNANSWERED), "{refusal:?}");
            for object in server.objects() {
                meshed.apply_value(object).await?;
            }
            eventually(PATIENCE, "the ReplicaSet's event", async || {
                let events = replica_set_events(&meshed).await?;
                ensure!(events.iter().any(|event| event.contains(UNANSWERED)), "{events:?}");
                Ok(())
            })
            .await
        })
        .await?;
        // The ReplicaSet tries again by itself.
        meshed.available(&server.deployment()).await?;
        let pod = meshed.pods("app=reviews").await?.remove(0);
        let pod = meshed.pod(&pod.metadata.name.context("a name")?);
        ensure!(pod.is_injected().await?, "it came without a sidecar");
        let client = meshed.client().await?;
        let answer = client.curl(&["http://reviews/"]).await?.success()?;
        ensure!(answer.contains("reviews"), "{answer}");
        Ok(())
    });
}

/// With `failurePolicy: Ignore` pods start without a sidecar, and the controller says so.
#[test]
fn with_ignore_pods_start_and_are_reported() {
    run("ignore", async |cluster| {
        let meshed = cluster.namespace("meshed").await?;
        helm(&["install"], "--set injector.failurePolicy=Ignore").await?;
        let worked = without_injector(cluster, async || {
            let client = meshed.client().await?;
            ensure!(!client.is_injected().await?, "there was somebody who injected it");
            eventually(PATIENCE, "the event of a pod without a sidecar", async || {
                let events = meshed.events("Pod", &client.name).await?;
                ensure!(events.iter().any(|it| it.starts_with("NotInjected: ")), "{events:?}");
                Ok(())
            })
            .await
        })
        .await;
        helm(&["install"], "").await?;
        worked
    });
}
