//! What people see: `kubectl get httproute -o yaml` of a good, a half-good and a bad route, kept as
//! `status-good.yaml` and so on in the run's folder.

use anyhow::ensure;
use weft_e2e::{PATIENCE, eventually, keep, kubectl, run, verdict};

/// A canary, a Service for each of its backends, and the same in two worse states.
const OBJECTS: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: reviews-v1}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: reviews-v2}, spec: {ports: [{name: http, port: 80}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: good}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 80}]
  rules:
    - backendRefs: [{name: reviews-v1, port: 80, weight: 90}, {name: reviews-v2, port: 80, weight: 10}]
---
# One of two backends does not exist, and the second rule has a filter that nobody knows.
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: half}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 80}]
  rules:
    - backendRefs: [{name: reviews-v1, port: 80, weight: 90}, {name: reviews-v3, port: 80, weight: 10}]
    - matches: [{path: {type: PathPrefix, value: /slow}}]
      filters:
        - type: ExtensionRef
          extensionRef: {group: example.org, kind: Delay, name: a-second}
      backendRefs: [{name: reviews-v1, port: 80}]
---
# The Service has no such port.
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 8080}]
  rules:
    - backendRefs: [{name: reviews-v1, port: 80}]
"#;

const STATES: [(&str, &str); 3] = [
    ("good", "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs"),
    (
        "half",
        "Accepted=True Accepted, ResolvedRefs=False BackendNotFound, PartiallyInvalid=True UnsupportedValue",
    ),
    ("bad", "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs"),
];

#[test]
fn a_good_a_half_good_and_a_bad_route_can_be_told_apart() {
    run("samples", async |cluster| {
        let shop = cluster.namespace_with("shop", &[]).await?;
        shop.apply(OBJECTS).await?;
        for (name, expected) in STATES {
            eventually(PATIENCE, &format!("the status of route {name}"), async || {
                let came = verdict(&shop.get("HTTPRoute", name).await?);
                ensure!(came == expected, "expected {expected}, came {came}");
                Ok(())
            })
            .await?;
            let get = ["get", "httproute", name, "--namespace", &shop.name, "--output", "yaml"];
            keep(&format!("status-{name}.yaml"), &kubectl(&get).await?)?;
        }
        Ok(())
    });
}
