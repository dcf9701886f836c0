//! Upgrade, uninstall, install.

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::core::v1::Secret;
use kube::Discovery;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Scope, verbs};
use weft_e2e::{Client, Cluster, PATIENCE, Server, admit, eventually, helm, run};

const SYSTEM: &str = "weft-system";

/// An environment variable of the sidecar that a pod would get now.
async fn variable(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<String>> {
    let admission = admit(&cluster.client, namespace, &Client::default().object()).await?;
    ensure!(admission.is_injected()?, "{admission:?}");
    let pod = admission.pod.map_err(|refusal| anyhow::anyhow!(refusal))?;
    let containers = pod.spec.into_iter().flat_map(|spec| spec.init_containers.unwrap_or_default());
    let sidecar =
        containers.into_iter().find(|one| one.name == "weft-proxy").context("no sidecar")?;
    let variables = sidecar.env.unwrap_or_default();
    Ok(variables.into_iter().find(|one| one.name == name).and_then(|one| one.value))
}

/// The certificate that the injector's replicas share.
async fn certificate(cluster: &Cluster) -> Result<Secret> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), SYSTEM);
    Ok(secrets.get("weft-injector-certificate").await?)
}

#[test]
fn an_upgrade_changes_what_it_says_and_nothing_else() {
    run("upgrade", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        let before = certificate(cluster).await?.data;
        ensure!(before.as_ref().is_some_and(|data| !data.is_empty()), "there is no certificate");
        let normally = variable(cluster, &shop.name, "WEFT_LOG_LEVEL").await?;
        helm(&["install"], "--set proxy.logLevel=warn").await?;
        // Until the last pod of the old version has gone, it may still answer.
        let changed = eventually(PATIENCE, "the new value in new pods", async || {
            let now = variable(cluster, &shop.name, "WEFT_LOG_LEVEL").await?;
            ensure!(now.as_deref() == Some("warn"), "{now:?}");
            Ok(())
        })
        .await;
        helm(&["install"], "").await?;
        changed?;
        eventually(PATIENCE, "the old value in new pods", async || {
            let now = variable(cluster, &shop.name, "WEFT_LOG_LEVEL").await?;
            ensure!(now == normally, "{now:?}");
            Ok(())
        })
        .await?;
        ensure!(certificate(cluster).await?.data == before, "the certificate was replaced");
        Ok(())
    });
}

/// Every object in the cluster that has one of the chart's labels, or is named as its objects are.
async fn left_over(cluster: &Cluster) -> Result<Vec<String>> {
    let discovery = Discovery::new(cluster.client.clone()).run().await?;
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
            for object in api.list(&ListParams::default()).await?.items {
                let name = object.metadata.name.clone().unwrap_or_default();
                let labels = object.metadata.labels.clone().unwrap_or_default();
                let of_chart =
                    labels.get("app.kubernetes.io/part-of").is_some_and(|it| it == "weft");
                let in_system = object.metadata.namespace.as_deref() == Some(SYSTEM);
                let named = name == "weft" || name.starts_with("weft-");
                let release = name.starts_with("sh.helm.release.v1.weft.");
                let cluster_scoped = capabilities.scope == Scope::Cluster;
                // The namespace was not the chart's to make, and events go by themselves.
                let stays = resource.kind == "Namespace" || resource.kind == "Event";
                if !stays && (of_chart || release || (named && (in_system || cluster_scoped))) {
                    found.push(format!("{} {name}", resource.kind));
                }
            }
        }
    }
    Ok(found)
}

#[test]
fn uninstalling_leaves_nothing_and_installing_brings_everything_back() {
    run("uninstall", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        shop.server(&Server::new("reviews", "v1")).await?;
        let client = shop.client().await?;
        client.curl(&["--fail", "http://reviews/"]).await?.success()?;
        let there = left_over(cluster).await?;
        for object in [
            "MutatingWebhookConfiguration weft-injector",
            "XMesh weft",
            "Lease weft-controller",
            "Secret weft-injector-certificate",
            "ClusterRole weft-proxy",
        ] {
            ensure!(there.iter().any(|it| it == object), "no {object} among {there:?}");
        }

        helm(&["uninstall"], "").await?;
        let gone = eventually(PATIENCE, "nothing of Weft", async || {
            let left = left_over(cluster).await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await;
        let without = async {
            // Pods that have a sidecar go on by what it knows; new ones start without.
            client.curl(&["--fail", "http://reviews/"]).await?.success()?;
            let fresh = shop.client_with(&Client::named("fresh")).await?;
            ensure!(!fresh.is_injected().await?, "somebody injects");
            fresh.curl(&["--fail", "http://reviews/"]).await?.success()
        };
        let without = without.await;
        helm(&["install"], "").await?;
        gone?;
        without?;

        let back = shop.client_with(&Client::named("back")).await?;
        ensure!(back.is_injected().await?, "nobody injects");
        back.curl(&["--fail", "http://reviews/"]).await?.success()?;
        eventually(PATIENCE, "the XMesh", async || {
            let mesh = cluster.get("XMesh", "", "weft").await?;
            ensure!(mesh.data["status"]["conditions"][0]["status"] == "True", "{}", mesh.data);
            Ok(())
        })
        .await
    });
}
