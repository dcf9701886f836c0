//! The cluster, and what one test has made in it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi_kube::api::core::v1 as core;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::manifest;
use crate::namespace::{INJECT, Namespace};
use crate::report;
use crate::wait::{PATIENCE, eventually};

/// The label of everything that the tests make in the cluster; its value is the test's name.
const TEST_LABEL: &str = "weft.mesh/e2e";

/// A way into the cluster that one test has.
pub struct Cluster {
    /// For whatever this library has no words for.
    pub client: Client,
    test: String,
    /// The namespaces to delete at the end.
    namespaces: Mutex<Vec<String>>,
    /// Cluster-scoped objects to delete at the end.
    objects: Mutex<Vec<Value>>,
}

impl Cluster {
    /// The cluster that KUBECONFIG names.
    pub async fn connect(test: &str) -> Result<Cluster> {
        let mut config = Config::infer().await.context("no cluster: run this by `make e2e`")?;
        // An API server that is away must not hold a test for minutes.
        config.connect_timeout = Some(Duration::from_secs(5));
        let client = Client::try_from(config)?;
        let (namespaces, objects) = (Mutex::default(), Mutex::default());
        Ok(Cluster { client, test: test.to_owned(), namespaces, objects })
    }

    /// A new namespace whose pods are injected.
    pub async fn namespace(&self, name: &str) -> Result<Namespace> {
        self.namespace_with(name, &[(INJECT, "enabled")]).await
    }

    /// A new namespace with these labels.
    pub async fn namespace_with(&self, name: &str, labels: &[(&str, &str)]) -> Result<Namespace> {
        let random = fastrand::u16(..);
        self.namespace_named(&format!("e2e-{}-{name}-{random:04x}", self.test), labels).await
    }

    /// A new namespace with exactly this name, for tests of names.
    pub async fn namespace_named(&self, name: &str, labels: &[(&str, &str)]) -> Result<Namespace> {
        let mut all: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        all.insert(TEST_LABEL.to_owned(), json!(self.test));
        let object =
            serde_json::from_value(json!({ "metadata": { "name": name, "labels": all } }))?;
        let api: Api<core::Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &object).await.context("the test's namespace")?;
        lock(&self.namespaces).push(name.to_owned());
        // No pod can be made before this exists.
        let accounts: Api<core::ServiceAccount> = Api::namespaced(self.client.clone(), name);
        eventually(PATIENCE, &format!("the ServiceAccount of {name}"), async || {
            Ok(accounts.get("default").await?)
        })
        .await?;
        Ok(Namespace::new(self.client.clone(), name.to_owned()))
    }

    /// A namespace that was there before the test, and stays.
    pub fn existing(&self, name: &str) -> Namespace {
        Namespace::new(self.client.clone(), name.to_owned())
    }

    /// Applies cluster-scoped objects, which go at the end of the test.
    pub async fn apply_cluster_scoped(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for object in manifest::documents(yaml)? {
            lock(&self.objects).push(object.clone());
            applied.push(manifest::apply(&self.client, None, object).await?);
        }
        Ok(applied)
    }

    /// Applies an object that names its namespace.
    pub async fn apply_value(&self, object: Value) -> Result<DynamicObject> {
        manifest::apply(&self.client, None, object).await
    }

    /// An object anywhere, as the API server has it now; `namespace` is empty for cluster-scoped ones.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<DynamicObject> {
        let api = manifest::api(&self.client, kind, Some(namespace).filter(|it| !it.is_empty()))?;
        Ok(api.get(name).await?)
    }

    /// What the namespaces' pods and events say, for a person who looks for the cause of a failure.
    pub(crate) async fn report(&self) -> String {
        let mut text = String::new();
        let namespaces = lock(&self.namespaces).clone();
        for namespace in namespaces {
            text += &report::namespace(&self.client, &namespace).await;
        }
        text
    }

    /// Deletes what the test has made, without waiting for the end of it.
    pub(crate) async fn clear(&self) {
        let objects = std::mem::take(&mut *lock(&self.objects));
        for object in objects.iter().rev() {
            if let Err(error) = manifest::delete(&self.client, None, object).await {
                eprintln!("cannot delete {}: {error:#}", manifest::title(object));
            }
        }
        let api: Api<core::Namespace> = Api::all(self.client.clone());
        let namespaces = std::mem::take(&mut *lock(&self.namespaces));
        for namespace in namespaces {
            match api.delete(&namespace, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => eprintln!("cannot delete namespace {namespace}: {error}"),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
