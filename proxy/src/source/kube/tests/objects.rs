//! Objects as the API server has them.

use serde_json::{Value, json};
use weft_gamma::object::NamespacedName;

/// From `namespace/name`.
pub(super) fn name(name: &str) -> NamespacedName {
    let (namespace, name) = name.split_once('/').unwrap();
    NamespacedName { namespace: namespace.into(), name: name.into() }
}

/// A Service with port 80, named http.
pub(super) fn service(of: &str, ips: &[&str]) -> Value {
    let NamespacedName { namespace, name } = name(of);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "clusterIP": ips[0], "clusterIPs": ips,
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    })
}

/// A Service's slice, with its endpoints on port 8080.
pub(super) fn slice(of: &str, addresses: &[&str]) -> Value {
    let NamespacedName { namespace, name } = name(of);
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace, "name": format!("{name}-1"),
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

/// An HTTPRoute of one rule, for a parent and to backends, all `namespace/name`.
pub(super) fn route(of: &str, parent: &str, backends: &[&str]) -> Value {
    let NamespacedName { namespace, name: route } = name(of);
    let parent = name(parent);
    let backends: Vec<Value> = backends.iter().map(|backend| backend_ref(backend)).collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": route},
        "spec": {
            "parentRefs": [
                {"group": "", "kind": "Service", "namespace": parent.namespace, "name": parent.name},
            ],
            "rules": [{"backendRefs": backends}],
        },
    })
}

/// A route of another kind, as [`route`].
pub(super) fn route_of(kind: &str, of: &str, parent: &str, backends: &[&str]) -> Value {
    let mut route = route(of, parent, backends);
    route["kind"] = kind.into();
    route
}

pub(super) fn backend_ref(of: &str) -> Value {
    let NamespacedName { namespace, name } = name(of);
    json!({"namespace": namespace, "name": name, "port": 80})
}

/// Lets HTTPRoutes of a namespace refer to Services of the grant's own.
pub(super) fn grant(of: &str, from: &str, version: &str) -> Value {
    let NamespacedName { namespace, name } = name(of);
    json!({
        "apiVersion": format!("gateway.networking.k8s.io/{version}"), "kind": "ReferenceGrant",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "from": [
                {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from},
            ],
            "to": [{"group": "", "kind": "Service"}],
        },
    })
}

/// A policy that lets a Service of its namespace have that share of retries.
pub(super) fn policy(of: &str, service: &str, percent: u32) -> Value {
    let NamespacedName { namespace, name } = name(of);
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": service}],
            "retryConstraint": {"budget": {"percent": percent}},
        },
    })
}
