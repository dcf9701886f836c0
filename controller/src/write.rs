//! Brings verdicts into the status of a route or a policy: read, merge, write, and again on conflict.
//!
//! [`crate::reconcile`] calls it for objects whose status differs from their verdicts, one write per
//! object at a time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi_kube::jiff::Timestamp;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::Value;
use weft_gamma::object::ObjectKey;

use crate::FIELD_MANAGER;
use crate::lease::Tenure;
use crate::metrics::WriteResult;
use crate::permission::{Need, Permissions};
use crate::request::{RequestError, bounded};
use crate::status::{self, Report};
use crate::store::Reported;

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
    /// Whether [`Permissions`] has told it, once for all objects.
    pub fn is_refusal(&self) -> bool {
        matches!(self, WriteError::Request(error) if error.code() == Some(403))
    }
}

impl Writer {
    /// Writes `report` into the status of `reported`, which is as the watch told it.
    pub async fn write(
        &self,
        key: &ObjectKey,
        reported: &Reported,
        report: &Report,
    ) -> Result<WriteResult, WriteError> {
        let resource = reported.kind.resource(reported.version);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let need = Need {
            group: reported.kind.group,
            resource: format!("{}/status", reported.kind.plural),
            verbs: &["update"],
        };
        let mut object: DynamicObject = serde_json::from_str(&reported.json)?;
        let (uid, generation) = (object.metadata.uid.clone(), object.metadata.generation);
        for attempt in 0..CONFLICTS {
            let Some(list) = merged(&object, report)? else {
                return Ok(WriteResult::Unchanged);
            };
            set_list(&mut object, report.list().0, list);
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

/// Whether `reported` lacks what `report` says.
pub fn differs(reported: &Reported, report: &Report) -> bool {
    // What cannot be read is told where it is written.
    let value: Result<Value, _> = serde_json::from_str(&reported.json);
    value.map_or(true, |value| status::merge(&value, report, "").is_some())
}

/// Now, as the API writes times.
pub fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

fn merged(object: &DynamicObject, report: &Report) -> Result<Option<Value>, WriteError> {
    Ok(status::merge(&serde_json::to_value(object)?, report, &now()))
}

fn set_list(object: &mut DynamicObject, name: &str, list: Value) {
    // Whatever else the status holds stays.
    match object.data.get_mut("status") {
        Some(Value::Object(status)) => {
            status.insert(name.to_owned(), list);
        }
        _ => object.data["status"] = serde_json::json!({ name: list }),
    }
    object.metadata.managed_fields = None;
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
