//! Reads the backendRefs of a rule, and the one of a mirror. [`crate::decode::rule`] and
//! [`crate::decode::filter`] call it.

use gateway_api::apis::experimental::httproutes::HttpRouteRulesBackendRefs;
use serde_json::Value;

use super::filter::filters;
use super::part::{Faults, items, not_an_object, port, read};
use crate::reference::BackendRef;
use crate::route::RouteKind;

/// The API's limit on a weight.
const MAX_WEIGHT: i32 = 1_000_000;

/// What a backendRef says, whichever generated type it was read with.
pub(super) struct Fields {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) port: Option<i32>,
    pub(super) weight: Option<i32>,
}

/// Reads the backendRefs at `at`; those that cannot be read are missing and are faults.
pub(super) fn backends(
    value: Option<&Value>,
    at: &str,
    kind: RouteKind,
    faults: &mut Faults,
) -> Vec<BackendRef> {
    let values = items(value, at, faults).unwrap_or_default().iter().enumerate();
    values
        .filter_map(|(index, value)| backend(value, &format!("{at}[{index}]"), kind, faults))
        .collect()
}

/// A reference to a backend, without its filters.
pub(super) fn reference(part: Fields, at: &str, faults: &mut Faults) -> Option<BackendRef> {
    let before = faults.0.len();
    let group = part.group.unwrap_or_default();
    let kind = part.kind.unwrap_or_else(|| "Service".to_owned());
    if part.name.is_empty() {
        faults.unsupported(format!("{at}.name"), "must not be empty");
    }
    if group.is_empty() && kind == "Service" && part.port.is_none() {
        // "Port is required when the referent is a Kubernetes Service."
        faults.unsupported(format!("{at}.port"), "must be set for a Service");
    }
    let weight = part.weight.unwrap_or(1);
    if !(0..=MAX_WEIGHT).contains(&weight) {
        let message = format!("{weight} is not a weight; use 0 to {MAX_WEIGHT}");
        faults.unsupported(format!("{at}.weight"), message);
    }
    let reference = BackendRef {
        field: at.to_owned(),
        group,
        kind,
        // The API server does not let an empty namespace through; in a file it means the same.
        namespace: part.namespace.filter(|namespace| !namespace.is_empty()),
        name: part.name,
        port: part.port.and_then(|number| port(number, &format!("{at}.port"), faults)),
        weight: u32::try_from(weight).unwrap_or_default(),
        filters: Vec::new(),
    };
    // The one without a port is kept: its Service's name helps whoever reads the answer.
    let readable = faults.0[before..].iter().all(|fault| fault.field.ends_with(".port"));
    readable.then_some(reference)
}

fn backend(value: &Value, at: &str, kind: RouteKind, faults: &mut Faults) -> Option<BackendRef> {
    let Value::Object(map) = value else {
        faults.unsupported(at, not_an_object(Some(value)));
        return None;
    };
    // Read apart, so that a filter that cannot be read does not cost the reference.
    let mut rest = map.clone();
    let own = rest.remove("filters");
    let at_filters = format!("{at}.filters");
    let filters = if kind.is_of_streams() && own.is_some() {
        faults.unsupported(at_filters, format!("a {kind} has no filters; remove them"));
        Vec::new()
    } else {
        filters(own.as_ref(), &at_filters, kind, faults)
    };
    let part: HttpRouteRulesBackendRefs = read(&Value::Object(rest), at, faults)?;
    let fields = Fields {
        group: part.group,
        kind: part.kind,
        namespace: part.namespace,
        name: part.name,
        port: part.port,
        weight: part.weight,
    };
    reference(fields, at, faults).map(|reference| BackendRef { filters, ..reference })
}
