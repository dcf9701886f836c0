//! A route by whose answers its edits can be told apart.

use anyhow::{Context, Result};
use weft_e2e::rate::Traffic;
use weft_e2e::{PATIENCE, eventually};

/// Of Service `name` to itself; each answer has the header `x-edit` with the edit's number.
pub(crate) fn marked_route(name: &str, edit: u32) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name} }}
spec:
  parentRefs: [{{ group: '', kind: Service, name: {name}, port: 80 }}]
  rules:
    - filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {{ set: [{{ name: x-edit, value: '{edit}' }}] }}
      backendRefs: [{{ name: {name}, port: 80 }}]
"
    )
}

/// When an edit was first in effect, in seconds since 1970.
pub(crate) async fn saw_edit(traffic: &Traffic, edit: u32) -> Result<f64> {
    saw(traffic, &edit.to_string()).await
}

/// When the header that a load watches first had this value, in seconds since 1970.
pub(crate) async fn saw(traffic: &Traffic, value: &str) -> Result<f64> {
    eventually(PATIENCE, &format!("{value:?} in {}", traffic.pod.name), async || {
        let changes = traffic.seen().await?.changes;
        let first = changes.iter().find(|change| change.value == value);
        first.map(|change| change.at).with_context(|| format!("{changes:?}"))
    })
    .await
}
