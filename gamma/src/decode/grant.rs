//! Reads ReferenceGrants. [`crate::decode`] calls it.

use gateway_api::apis::experimental::referencegrants::{ReferenceGrantFrom, ReferenceGrantTo};
use serde_json::Value;

use super::part::{Faults, fields, items, read};
use crate::object::{GrantFrom, GrantTo, NamespacedName, ReferenceGrant};

/// Reads the ReferenceGrant whose `spec` is given. An entry that cannot be read grants nothing.
pub(super) fn grant(
    spec: &Value,
    name: NamespacedName,
    faults: &mut Faults,
) -> Option<ReferenceGrant> {
    let map = fields(spec, "spec", &["from", "to"], faults)?;
    for required in ["from", "to"] {
        if !map.contains_key(required) {
            faults.unsupported(format!("spec.{required}"), "must be set");
        }
    }
    let mut from = Vec::new();
    for (index, value) in
        items(map.get("from"), "spec.from", faults).unwrap_or_default().iter().enumerate()
    {
        let part: Option<ReferenceGrantFrom> = read(value, &format!("spec.from[{index}]"), faults);
        from.extend(part.map(|part| GrantFrom {
            group: part.group,
            kind: part.kind,
            namespace: part.namespace,
        }));
    }
    let mut to = Vec::new();
    for (index, value) in
        items(map.get("to"), "spec.to", faults).unwrap_or_default().iter().enumerate()
    {
        let part: Option<ReferenceGrantTo> = read(value, &format!("spec.to[{index}]"), faults);
        to.extend(part.map(|part| GrantTo {
            group: part.group,
            kind: part.kind,
            name: part.name.filter(|name| !name.is_empty()),
        }));
    }
    Some(ReferenceGrant { name, from, to })
}
