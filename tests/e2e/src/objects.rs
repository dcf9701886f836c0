//! Objects by the thousand: what a large cluster has, of which a pod uses next to nothing.

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::namespace::Namespace;

/// Objects that are applied at a time.
const AT_ONCE: usize = 24;

impl Namespace {
    /// Applies many objects.
    pub async fn apply_all(&self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        let applied = objects.into_iter().map(|object| self.apply_value(object));
        // In any order: they do not depend on each other.
        stream::iter(applied).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
    }
}

/// The Service `crowd-N` with one endpoint, which nobody is behind, and a route of its own that is as
/// long as people write them.
pub fn service_with_route(number: usize) -> [Value; 3] {
    let name = format!("crowd-{number}");
    // In the range of the pods, far above those that kubelet hands out.
    let address = format!("10.244.{}.{}", 128 + number / 250 % 100, 1 + number % 250);
    let header = |name: &str, value: &str| json!({ "name": name, "value": value });
    let backend = |weight: u32| json!({ "name": name, "port": 80, "weight": weight });
    [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": name },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": name, "port": 80 }],
                "rules": [
                    {
                        "matches": [
                            { "headers": [header("end-user", "jason")] },
                            { "path": { "type": "PathPrefix", "value": "/v2" } },
                        ],
                        "filters": [{
                            "type": "RequestHeaderModifier",
                            "requestHeaderModifier": { "set": [header("x-canary", "yes")] },
                        }],
                        "backendRefs": [backend(1)],
                    },
                    { "backendRefs": [backend(90), backend(10)] },
                ],
            },
        }),
    ]
}
