//! What a route's status says, in a form that tests compare.

use std::fmt;

use kube::api::DynamicObject;
use serde_json::Value;

/// Who writes the entries that are Weft's.
const CONTROLLER: &str = "weft.mesh/controller";

/// One of Weft's entries of `status.parents`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// The parentRef as the entry has it.
    pub parent_ref: Value,
    /// Type, status, reason, message and observedGeneration of each condition.
    pub conditions: Vec<Condition>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// `Accepted`, say.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// `NoMatchingParent`, say.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The generation that it is about.
    pub observed_generation: i64,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} {}", self.kind, self.status, self.reason)
    }
}

/// Weft's entries in a route's status, in their order.
pub fn parents(route: &DynamicObject) -> Vec<Parent> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let condition = |value: Value| Condition {
        kind: text(&value["type"]),
        status: text(&value["status"]),
        reason: text(&value["reason"]),
        message: text(&value["message"]),
        observed_generation: value["observedGeneration"].as_i64().unwrap_or(0),
    };
    items(&route.data["status"]["parents"])
        .into_iter()
        .filter(|entry| entry["controllerName"] == CONTROLLER)
        .map(|entry| Parent {
            parent_ref: entry["parentRef"].clone(),
            conditions: items(&entry["conditions"]).into_iter().map(condition).collect(),
        })
        .collect()
}

/// The conditions for a route's only Service parent, as `Accepted=True Accepted, …`; something else
/// where they are not about its newest generation, or not for one parent.
pub fn verdict(route: &DynamicObject) -> String {
    let generation = route.metadata.generation.unwrap_or(0);
    match parents(route).as_slice() {
        [] => "no entry yet".to_owned(),
        [parent] if parent.conditions.iter().any(|it| it.observed_generation != generation) => {
            format!("of an older generation than {generation}")
        }
        [parent] => {
            let conditions: Vec<String> =
                parent.conditions.iter().map(ToString::to_string).collect();
            conditions.join(", ")
        }
        several => format!("{} entries", several.len()),
    }
}
