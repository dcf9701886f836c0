//! A namespace of a test, and what stands in it.

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::apps::v1::Deployment;
use k8s_openapi_kube::api::core::v1 as core;
use kube::Client as KubeClient;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

use crate::manifest;
use crate::pod::Pod;
use crate::template::{Client, Server};
use crate::wait::{PATIENCE, eventually};

/// The label by which namespaces and pods ask for the sidecar.
pub const INJECT: &str = "weft.mesh/inject";

/// A namespace that a test has made.
#[derive(Clone)]
pub struct Namespace {
    /// Its name, which is unique.
    pub name: String,
    client: KubeClient,
}

impl Namespace {
    pub(crate) fn new(client: KubeClient, name: String) -> Namespace {
        Namespace { name, client }
    }

    /// Applies objects, in this namespace where they do not name one.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for object in manifest::documents(yaml)? {
            applied.push(self.apply_value(object).await?);
        }
        Ok(applied)
    }

    /// Applies one object.
    pub async fn apply_value(&self, object: Value) -> Result<DynamicObject> {
        manifest::apply(&self.client, Some(&self.name), object).await
    }

    /// Creates an object that must not be there yet; the API server's refusal is the error.
    pub async fn create(&self, object: Value) -> Result<DynamicObject> {
        let kind = object["kind"].as_str().context("an object without a kind")?;
        let api = self.dynamic(kind)?;
        let parsed = serde_json::from_value(object).context("this is no object")?;
        Ok(api.create(&PostParams::default(), &parsed).await?)
    }

    /// Deletes an object, if it is there.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let object = json!({ "kind": kind, "metadata": { "name": name } });
        manifest::delete(&self.client, Some(&self.name), &object).await
    }

    /// An object as it is now.
    pub async fn get(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        Ok(self.dynamic(kind)?.get(name).await?)
    }

    /// This namespace's objects of a kind of which the tests have the type.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// This namespace's objects of a kind by its name.
    pub fn dynamic(&self, kind: &str) -> Result<Api<DynamicObject>> {
        manifest::api(&self.client, kind, Some(&self.name))
    }

    /// A pod by its name, there or not.
    pub fn pod(&self, name: &str) -> Pod {
        Pod::new(self.api(), name)
    }

    /// Starts servers behind a Service of the same name, and waits until they are ready.
    pub async fn server(&self, server: &Server) -> Result<()> {
        self.servers(std::slice::from_ref(server)).await
    }

    /// Starts several at a time.
    pub async fn servers(&self, servers: &[Server]) -> Result<()> {
        for server in servers {
            for object in server.objects() {
                self.apply_value(object).await?;
            }
        }
        for server in servers {
            self.available(&server.deployment()).await?;
        }
        Ok(())
    }

    /// A pod from which a test sends, ready.
    pub async fn client(&self) -> Result<Pod> {
        self.client_with(&Client::default()).await
    }

    /// The same in another form.
    pub async fn client_with(&self, client: &Client) -> Result<Pod> {
        self.create(client.object()).await?;
        let pod = self.pod(&client.name);
        pod.ready().await?;
        Ok(pod)
    }

    /// Waits until all replicas of a Deployment are of its newest template and available.
    pub async fn available(&self, deployment: &str) -> Result<()> {
        let what = format!("Deployment {}/{deployment} to be available", self.name);
        eventually(PATIENCE, &what, async || {
            let object = self.get("Deployment", deployment).await?;
            let count = |field: &str| object.data["status"][field].as_i64().unwrap_or(0);
            let wanted = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
            let seen = (count("observedGeneration"), count("replicas"));
            ensure!(
                seen == (object.metadata.generation.unwrap_or(0), wanted)
                    && count("updatedReplicas") == wanted
                    && count("availableReplicas") == wanted,
                "its status is {}",
                object.data["status"]
            );
            Ok(())
        })
        .await
    }

    /// Restarts a Deployment's pods as `kubectl rollout restart` does, without waiting for it.
    pub async fn restart(&self, deployment: &str) -> Result<()> {
        let api: Api<Deployment> = self.api();
        api.restart(deployment).await.with_context(|| format!("restart {deployment}"))?;
        Ok(())
    }

    /// The pods with these labels, as `app=reviews,version=v1`.
    pub async fn pods(&self, labels: &str) -> Result<Vec<core::Pod>> {
        let api: Api<core::Pod> = self.api();
        Ok(api.list(&ListParams::default().labels(labels)).await?.items)
    }

    /// The events about an object, as `reason: message`.
    pub async fn events(&self, kind: &str, name: &str) -> Result<Vec<String>> {
        let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let api: Api<core::Event> = self.api();
        let events = api.list(&ListParams::default().fields(&fields)).await?;
        let line = |event: core::Event| {
            let (reason, message) = (event.reason.unwrap_or_default(), event.message);
            format!("{reason}: {}", message.unwrap_or_default())
        };
        Ok(events.items.into_iter().map(line).collect())
    }
}
