//! Brings a route's verdicts into its status: read, merge, write, and again on conflict.
//!
//! [`crate::reconcile`] calls it for routes whose status differs from their verdicts, one write per
//! route at a time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi_kube::jiff::Timestamp;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::Value;
use weft_gamma::condition::Verdict;
use weft_gamma::object::ObjectKey;

use crate::FIELD_MANAGER;
use crate::lease::Tenure;
use crate::metrics::WriteResult;
use crate::permission::{Need, Permissions};
use crate::request::{RequestError, bounded};
use crate::status;
use crate::store::RouteObject;

/// How often a write is repeated that meets another one.
const CONFLICTS: u32 = 6;

/// Writes statuses, for as long as its replica leads.
#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    pub tenure: Tenure,
    pub permissions: Arc<Permissions>,
}

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Others write the object all the time.
    #[error("the object changed before each of {CONFLICTS} writes")]
    Conflicts,
    /// This replica does not lead any more.
    #[error("this replica does not lead any more")]
    NotLeading,
    /// Not an object.
    #[error("the object cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl WriteError {
    /// Whether [`Permissions`] has told it, once for all routes.
    pub fn is_refusal(&self) -> bool {
        matches!(self, WriteError::Request(error) if error.code() == Some(403))
    }
}

impl Writer {
    /// Writes `verdicts` into the status of `route`, which is as the watch told it.
    pub async fn write(
        &self,
        key: &ObjectKey,
        route: &RouteObject,
        verdicts: &[Verdict],
    ) -> Result<WriteResult, WriteError> {
        let resource = route.kind.resource(route.version);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let need = Need {
            group: route.kind.group,
            resource: format!("{}/status", route.kind.plural),
            verbs: &["update"],
        };
        let mut object: DynamicObject = serde_json::from_str(&route.json)?;
        let (uid, generation) = (object.metadata.uid.clone(), object.metadata.generation);
        for attempt in 0..CONFLICTS {
            let Some(parents) = merged(&object, verdicts)? else {
                return Ok(WriteResult::Unchanged);
            };
            set_parents(&mut object, parents);
            if !self.tenure.holds() {
                return Err(WriteError::NotLeading);
            }
            match bounded(api.replace_status(&key.name, &post(), &object)).await {
                Ok(_) => {
                    self.permissions.granted(&need);
                    return Ok(WriteResult::Written);
                }
                Err(error) => match error.code() {
                    Some(409) => {}
                    Some(404) => return Ok(WriteResult::Superseded),
                    code => {
                        if code == Some(403) {
                            self.permissions.refused(&need, &error.to_string());
                        }
                        return Err(error.into());
                    }
                },
            }
            // The first time at once: more often than not, the watch was a moment behind.
            let pause = Duration::from_millis(20).saturating_mul(attempt);
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            match bounded(api.get_opt(&key.name)).await? {
                // The verdicts are about another spec: the watch tells it, and it gets its own.
                Some(now) if now.metadata.uid != uid || now.metadata.generation != generation => {
                    return Ok(WriteResult::Superseded);
                }
                Some(now) => object = now,
                None => return Ok(WriteResult::Superseded),
            }
        }
        Err(WriteError::Conflicts)
    }
}

/// Whether `route` lacks what its `verdicts` say.
pub fn differs(route: &RouteObject, verdicts: &[Verdict]) -> bool {
    // What cannot be read is told where it is written.
    let value: Result<Value, _> = serde_json::from_str(&route.json);
    value.map_or(true, |value| status::merge(&value, verdicts, "").is_some())
}

/// Now, as the API writes times.
pub fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

fn merged(object: &DynamicObject, verdicts: &[Verdict]) -> Result<Option<Value>, WriteError> {
    Ok(status::merge(&serde_json::to_value(object)?, verdicts, &now()))
}

fn set_parents(object: &mut DynamicObject, parents: Value) {
    // Whatever else the status holds stays.
    match object.data.get_mut("status") {
        Some(Value::Object(status)) => {
            status.insert("parents".to_owned(), parents);
        }
        _ => object.data["status"] = serde_json::json!({ "parents": parents }),
    }
    object.metadata.managed_fields = None;
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
