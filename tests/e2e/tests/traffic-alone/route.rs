//! A route by whose answers its edits can be told apart.

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
