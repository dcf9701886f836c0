//! Reports pods that should have a sidecar and have none: an event on the pod, once, and a metric.
//!
//! Such pods are older than their namespace's label, or were created past the webhook. They work, and
//! no route applies to their traffic, which is hard to see from anywhere else. The pods of labelled
//! namespaces are listed from time to time, from the API server's cache: no watch, and no memory
//! between two looks but the pods that were reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi_kube::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi_kube::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi_kube::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde::Deserialize;

use crate::FIELD_MANAGER;
use crate::lease::Tenure;
use crate::metrics::Metrics;
use crate::permission::{Need, Permissions};
use crate::request::{RequestError, bounded};

/// The label of namespaces and pods.
const INJECT: &str = "weft.mesh/inject";

/// The sidecar's container, as the injector names it.
const SIDECAR: &str = "weft-proxy";

/// Answers come from the API server's cache: what is a second old does here.
const FROM_CACHE: &str = "resourceVersion=0";

/// Looks for pods without a sidecar, for as long as its replica leads.
pub struct PodReporter {
    pub client: Client,
    pub tenure: Tenure,
    pub permissions: Arc<Permissions>,
    pub metrics: Arc<Metrics>,
    /// Namespaces that the webhook leaves alone whatever their labels say.
    pub ignored_namespaces: BTreeSet<String>,
    /// How long to wait between two looks.
    pub interval: Duration,
}

/// A list of which only so much is read as is needed.
#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

/// What tells whether a pod should have a sidecar, and has one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    metadata: Metadata,
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    os: Option<Named>,
    #[serde(default)]
    node_selector: BTreeMap<String, String>,
    #[serde(default)]
    init_containers: Vec<Named>,
    #[serde(default)]
    containers: Vec<Named>,
}

/// Something of which the name is all that counts.
#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: String,
}

impl PodReporter {
    /// Works until it is dropped.
    pub async fn run(self) {
        let mut reported = BTreeSet::new();
        loop {
            if let Err(error) = self.look(&mut reported).await {
                tracing::warn!(%error, "cannot look for pods without a sidecar");
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    /// Looks once. `reported` are the uids of pods that have an event.
    async fn look(&self, reported: &mut BTreeSet<String>) -> Result<(), RequestError> {
        let labelled = format!("/api/v1/namespaces?labelSelector={INJECT}%3Denabled&{FROM_CACHE}");
        let namespaces: List<Namespace> = self.list(labelled, "namespaces").await?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut still_there = BTreeSet::new();
        for namespace in namespaces.items {
            let namespace = namespace.metadata.name;
            if self.ignored_namespaces.contains(&namespace) {
                continue;
            }
            let pods = format!("/api/v1/namespaces/{namespace}/pods?{FROM_CACHE}");
            let pods: List<Pod> = self.list(pods, "pods").await?;
            let lacking: Vec<Pod> = pods.items.into_iter().filter(Pod::lacks_sidecar).collect();
            counts.insert(namespace.clone(), lacking.len());
            for pod in lacking {
                still_there.insert(pod.metadata.uid.clone());
                if !reported.contains(&pod.metadata.uid) && self.report(&namespace, &pod).await? {
                    reported.insert(pod.metadata.uid);
                }
            }
        }
        reported.retain(|uid| still_there.contains(uid));
        self.metrics.set_uninjected_pods(counts.iter().map(|(name, count)| (&**name, *count)));
        Ok(())
    }

    async fn list<T: for<'de> Deserialize<'de>>(
        &self,
        uri: String,
        resource: &str,
    ) -> Result<List<T>, RequestError> {
        let request = http::Request::get(uri).body(Vec::new());
        let request =
            request.map_err(|error| RequestError::Failed(kube::Error::HttpError(error)))?;
        let need = Need { group: "", resource: resource.to_owned(), verbs: &["list"] };
        let answer = bounded(self.client.request(request)).await;
        self.note(&need, &answer);
        answer
    }

    /// Makes the pod's event; whether it has one now.
    async fn report(&self, namespace: &str, pod: &Pod) -> Result<bool, RequestError> {
        if !self.tenure.holds() {
            return Ok(false);
        }
        let need = Need { group: "", resource: "events".to_owned(), verbs: &["create"] };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let answer = bounded(api.create(&post(), &event(namespace, pod))).await;
        self.note(&need, &answer);
        match answer {
            Ok(_) => {
                let name = &pod.metadata.name;
                tracing::warn!(namespace, pod = name, "runs without the sidecar");
                Ok(true)
            }
            // It has that name from an earlier leader.
            Err(error) if error.code() == Some(409) => Ok(true),
            // The namespace is being deleted, or events are not ours to write: the metric remains.
            Err(error) if matches!(error.code(), Some(403 | 404)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn note<T>(&self, need: &Need, answer: &Result<T, RequestError>) {
        match answer {
            Ok(_) => self.permissions.granted(need),
            Err(error) if error.code() == Some(403) => {
                self.permissions.refused(need, &error.to_string());
            }
            Err(_) => {}
        }
    }
}

impl Pod {
    fn lacks_sidecar(&self) -> bool {
        let Pod { metadata, spec, status } = self;
        let runs = metadata.deletion_timestamp.is_none()
            && !matches!(&*status.phase, "Succeeded" | "Failed");
        let opted_out = metadata.labels.get(INJECT).is_some_and(|value| value == "disabled");
        // A pod that the kubelet reads from a file is past every webhook.
        let is_static = metadata.annotations.contains_key("kubernetes.io/config.mirror");
        let os = spec.os.as_ref().map(|os| &os.name);
        let is_windows = [os, spec.node_selector.get("kubernetes.io/os")]
            .into_iter()
            .flatten()
            .any(|os| os == "windows");
        let mut containers = spec.init_containers.iter().chain(&spec.containers);
        let has_sidecar = containers.any(|container| container.name == SIDECAR);
        let can_have_one = !spec.host_network && !is_windows && !is_static;
        runs && can_have_one && !opted_out && !has_sidecar
    }
}

fn event(namespace: &str, pod: &Pod) -> Event {
    let now = Timestamp::now();
    Event {
        metadata: ObjectMeta {
            // One for each pod, whichever replica makes it, and however often.
            name: Some(format!("weft-not-injected-{}", pod.metadata.uid)),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.metadata.name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: Some(pod.metadata.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some("NotInjected".to_owned()),
        message: Some(
            "runs without Weft's sidecar, so no route applies to its traffic: it was created before \
             its namespace got the label weft.mesh/inject=enabled, or while the injector was away. \
             Create it anew (kubectl rollout restart), or label it weft.mesh/inject=disabled"
                .to_owned(),
        ),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource {
            component: Some(FIELD_MANAGER.to_owned()),
            ..EventSource::default()
        }),
        ..Event::default()
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
mod tests;
