//! The mesh's own object: an XMesh that says that Weft is here and what it supports.
//!
//! It is created where its kind is installed (the experimental channel), and its status is written.
//! Its spec belongs to whoever edits it: it is never changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi_kube::api::rbac::v1::ClusterRole;
use k8s_openapi_kube::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::kinds::MESH;
use crate::lease::Tenure;
use crate::metrics::{Metrics, WriteResult};
use crate::permission::{Need, Permissions};
use crate::request::{RequestError, bounded};
use crate::retry::Backoff;
use crate::status::{Stamp, Wanted, conditions};
use crate::watch::{Change, Update};
use crate::write::now;
use crate::{CONTROLLER_NAME, FIELD_MANAGER};

/// Keeps the XMesh, for as long as its replica leads.
pub struct MeshKeeper {
    pub client: Client,
    pub tenure: Tenure,
    pub permissions: Arc<Permissions>,
    pub metrics: Arc<Metrics>,
    /// The object's name.
    pub name: String,
    /// The ClusterRole that owns the object, so that it goes when Weft is uninstalled; a namespaced
    /// object cannot own one without a namespace.
    pub owner: Option<String>,
    /// Sorted names.
    pub features: Vec<&'static str>,
}

/// What was seen of the kind's objects.
#[derive(Default)]
struct Seen {
    objects: BTreeMap<String, DynamicObject>,
    version: &'static str,
    /// False where the kind is not installed.
    is_installed: bool,
}

/// Why the object is not as it should be.
#[derive(Debug)]
enum Failure {
    /// Its owner, of that name, cannot be read.
    Owner(String, RequestError),
    Request(RequestError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        Failure::Request(error)
    }
}

impl MeshKeeper {
    /// Works until nobody sends updates any more.
    pub async fn run(self, mut updates: mpsc::Receiver<Update>) {
        let mut seen = Seen::default();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut again = None;
        let mut told_foreign = false;
        loop {
            tokio::select! {
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    seen.apply(update);
                }
                () = wait(again), if again.is_some() => {}
            }
            if !seen.is_installed {
                continue;
            }
            if seen.is_foreign(&self.name) && !std::mem::replace(&mut told_foreign, true) {
                tracing::warn!(
                    xmesh = self.name,
                    "belongs to another controller; choose another name with --mesh-name",
                );
            }
            again = match self.keep(&seen).await {
                Ok(()) => {
                    backoff.reset();
                    None
                }
                Err(failure) => {
                    self.tell(&failure);
                    Some(backoff.wait())
                }
            };
        }
    }

    /// Creates the object where there is none, and writes the status of those of this controller.
    async fn keep(&self, seen: &Seen) -> Result<(), Failure> {
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &MESH.resource(seen.version));
        if !seen.objects.contains_key(&self.name) {
            // What the API server makes of it comes with its event, and gets its status then.
            return self.create(&api, seen.version).await;
        }
        for object in seen.objects.values().filter(|object| is_own(object)) {
            self.write_status(&api, object.clone()).await?;
        }
        Ok(())
    }

    async fn create(&self, api: &Api<DynamicObject>, version: &'static str) -> Result<(), Failure> {
        let mut object = DynamicObject::new(&self.name, &MESH.resource(version))
            .data(json!({ "spec": { "controllerName": CONTROLLER_NAME } }));
        object.metadata.owner_references = self.owner().await?.map(|owner| vec![owner]);
        if !self.tenure.holds() {
            return Ok(());
        }
        match bounded(api.create(&post(), &object)).await {
            Ok(_) => {
                tracing::info!(xmesh = self.name, "created");
                Ok(())
            }
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The owner of what is created, where it is to have one. Without it nothing is: while Weft is being
    /// uninstalled the object goes with its owner, and one that a replica makes then would stay.
    async fn owner(&self) -> Result<Option<OwnerReference>, Failure> {
        let Some(name) = self.owner.as_deref() else { return Ok(None) };
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let role = bounded(api.get(name)).await;
        let role = role.map_err(|error| Failure::Owner(name.to_owned(), error))?;
        Ok(Some(OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: name.to_owned(),
            uid: role.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        }))
    }

    async fn write_status(
        &self,
        api: &Api<DynamicObject>,
        mut object: DynamicObject,
    ) -> Result<(), RequestError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        loop {
            let Some(status) = self.status(&object) else { return Ok(()) };
            object.data["status"] = status;
            object.metadata.managed_fields = None;
            if !self.tenure.holds() {
                return Ok(());
            }
            let error = match bounded(api.replace_status(&name, &post(), &object)).await {
                Ok(_) => {
                    self.metrics.status_write(MESH.kind, WriteResult::Written);
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.code() != Some(409) {
                self.metrics.status_write(MESH.kind, WriteResult::Failed);
                return Err(error);
            }
            // Written by somebody else meanwhile.
            match bounded(api.get_opt(&name)).await? {
                Some(now) => object = now,
                None => return Ok(()),
            }
        }
    }

    /// The status that the object should have; None if it has it.
    fn status(&self, object: &DynamicObject) -> Option<Value> {
        let generation = object.metadata.generation.unwrap_or_default();
        let old = &object.data["status"];
        // "If the referent cannot be found, refers to an unsupported kind, […] the Mesh MUST be
        // rejected with the "Accepted" status condition set to "False" and an "InvalidParameters"
        // reason."
        let accepted = match object.data["spec"]["parametersRef"] {
            Value::Null => Wanted {
                kind: "Accepted",
                status: true,
                reason: "Accepted",
                message: "Weft applies routes whose parent is a Service",
            },
            _ => Wanted {
                kind: "Accepted",
                status: false,
                reason: "InvalidParameters",
                message: "spec.parametersRef: Weft has no parameters; remove it",
            },
        };
        let now = now();
        let stamp = Stamp { generation, now: &now };
        let features: Vec<Value> = self.features.iter().map(|it| json!({ "name": it })).collect();
        let mut new = old.clone();
        if !new.is_object() {
            new = json!({});
        }
        new["conditions"] = conditions(&old["conditions"], &["Accepted"], &[accepted], stamp);
        new["supportedFeatures"] = Value::Array(features);
        (new != *old).then_some(new)
    }

    fn tell(&self, failure: &Failure) {
        let error = match failure {
            Failure::Owner(cluster_role, error) => {
                let what = "its owner cannot be read, with which it goes when Weft is uninstalled";
                tracing::warn!(xmesh = self.name, cluster_role, %error, "not created: {what}");
                return;
            }
            Failure::Request(error) => error,
        };
        if error.code() != Some(403) {
            tracing::warn!(xmesh = self.name, %error, "not written; trying again");
            return;
        }
        for (resource, verbs) in
            [("xmeshes", &["create"] as &[&str]), ("xmeshes/status", &["update"])]
        {
            let need = Need { group: MESH.group, resource: resource.to_owned(), verbs };
            self.permissions.refused(&need, &error.to_string());
        }
    }
}

impl Seen {
    fn apply(&mut self, update: Update) {
        let name = |object: &DynamicObject| object.metadata.name.clone().unwrap_or_default();
        match update.change {
            Change::Listed(objects) => {
                self.is_installed = true;
                self.version = update.version;
                self.objects = objects.into_iter().map(|it| (name(&it), it)).collect();
            }
            Change::Applied(object) => {
                self.objects.insert(name(&object), *object);
            }
            Change::Deleted(object) => {
                self.objects.remove(&name(&object));
            }
            Change::Absent => *self = Seen::default(),
        }
    }

    fn is_foreign(&self, name: &str) -> bool {
        self.objects.get(name).is_some_and(|object| !is_own(object))
    }
}

fn is_own(object: &DynamicObject) -> bool {
    object.data["spec"]["controllerName"] == CONTROLLER_NAME
}

async fn wait(duration: Option<Duration>) {
    tokio::time::sleep(duration.unwrap_or_default()).await;
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
mod tests;
