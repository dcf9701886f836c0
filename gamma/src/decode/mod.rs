//! Decodes documents into the watched kinds. [`crate::object::decode`] calls it.
//!
//! It guarantees that one broken part costs no more than itself: of a list its object, of a route its
//! rule, and that each such loss is told as a [`Problem`].

mod backend;
mod filter;
mod grant;
mod hostname;
mod matches;
mod part;
mod policy;
mod route;
mod rule;
mod service;
mod session;
mod value;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use self::part::{Faults, items, not_an_object, present, read_core, type_of};
use crate::object::{ANNOTATION_PREFIX, Decoded, Kind, NamespacedName, Object, ObjectKey, Problem};
use crate::route::RouteKind;

/// Decodes one document: an object, a list of them, or nothing.
pub(crate) fn decode(value: &Value) -> Decoded {
    let mut decoded = Decoded::default();
    document(value, None, &mut decoded);
    decoded
}

/// What is used of an object's metadata.
pub(crate) struct Metadata {
    name: NamespacedName,
    generation: i64,
    created: i64,
    uid: Option<String>,
    labels: BTreeMap<String, String>,
    /// Those of Weft's own domain.
    annotations: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

/// The API version and kind that a list's items have where they name none, as the API server's
/// typed lists have it.
#[derive(Clone, Copy)]
struct ItemType<'a> {
    api_version: &'a str,
    kind: &'a str,
}

fn document(value: &Value, item: Option<ItemType<'_>>, decoded: &mut Decoded) {
    if value.is_null() {
        return;
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let api_version = text("apiVersion").or(item.map(|item| item.api_version));
    let kind = text("kind").or(item.map(|item| item.kind));
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        let message = match value {
            Value::Object(_) => "not a Kubernetes object: apiVersion and kind must be set".into(),
            other => format!("not a Kubernetes object but {}", type_of(other)),
        };
        decoded.problems.push(Problem { object: None, field: String::new(), message });
        return;
    };
    let list = kind.strip_suffix("List").filter(|_| kind == "List" || value.get("items").is_some());
    if let Some(kind) = list {
        let item = (!kind.is_empty()).then_some(ItemType { api_version, kind });
        let mut faults = Faults::default();
        for value in items(value.get("items"), "items", &mut faults).unwrap_or_default() {
            document(value, item, decoded);
        }
        decoded.problems.extend(faults.0.into_iter().map(|fault| Problem {
            object: None,
            field: fault.field,
            message: fault.message,
        }));
        return;
    }
    match watched(api_version, kind) {
        Ok(Some(kind)) => object(value, kind, decoded),
        Ok(None) => {}
        Err((kind, message)) => {
            let object = metadata(value, kind).ok().map(|metadata| key(kind, &metadata.name));
            let field = "apiVersion".to_owned();
            decoded.problems.push(Problem { object, field, message });
        }
    }
}

/// The watched kind of an apiVersion and kind; None if it is another one, which is none of our
/// business, and Err if it is one in a version that Weft cannot read.
fn watched(api_version: &str, kind: &str) -> Result<Option<Kind>, (Kind, String)> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let (kind, versions): (Kind, &[&str]) = match (group, kind) {
        ("", "Service") => (Kind::Service, &["v1"]),
        ("discovery.k8s.io", "EndpointSlice") => (Kind::EndpointSlice, &["v1"]),
        ("gateway.networking.k8s.io", "HTTPRoute") => (Kind::HttpRoute, &["v1", "v1beta1"]),
        ("gateway.networking.k8s.io", "GRPCRoute") => (Kind::GrpcRoute, &["v1", "v1alpha2"]),
        ("gateway.networking.k8s.io", "TLSRoute") => {
            (Kind::TlsRoute, &["v1", "v1alpha3", "v1alpha2"])
        }
        ("gateway.networking.k8s.io", "TCPRoute") => (Kind::TcpRoute, &["v1", "v1alpha2"]),
        ("gateway.networking.k8s.io", "ReferenceGrant") => {
            (Kind::ReferenceGrant, &["v1", "v1beta1", "v1alpha2"])
        }
        ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => {
            (Kind::BackendTrafficPolicy, &["v1alpha1"])
        }
        _ => return Ok(None),
    };
    if versions.contains(&version) {
        return Ok(Some(kind));
    }
    let slash = if group.is_empty() { "" } else { "/" };
    let version = versions[0];
    Err((kind, format!("{kind} is not known in {api_version}; use {group}{slash}{version}")))
}

fn object(value: &Value, kind: Kind, decoded: &mut Decoded) {
    let metadata = match metadata(value, kind) {
        Ok(metadata) => metadata,
        Err(problem) => {
            decoded.problems.push(problem);
            return;
        }
    };
    let name = metadata.name.clone();
    let key = key(kind, &name);
    let spec = value.get("spec").filter(|spec| spec.is_object());
    let mut faults = Faults::default();
    let object = match (kind, spec) {
        (Kind::EndpointSlice, _) => {
            let slice = service::slice(value, name, &metadata.labels, &mut faults);
            Some(Object::EndpointSlice(slice))
        }
        (_, None) => {
            faults.unsupported("spec", not_an_object(value.get("spec")));
            None
        }
        (Kind::Service, Some(spec)) => {
            let uid = metadata.uid.clone();
            service::service(spec, name, uid, &mut faults).map(Object::Service)
        }
        (Kind::ReferenceGrant, Some(spec)) => {
            grant::grant(spec, name, &mut faults).map(Object::ReferenceGrant)
        }
        (Kind::BackendTrafficPolicy, Some(spec)) => {
            let policy = policy::policy(spec, &metadata);
            faults.0.extend(policy.refusals.iter().cloned());
            Some(Object::BackendTrafficPolicy(policy))
        }
        (Kind::HttpRoute, Some(spec)) => {
            return yield_route(spec, RouteKind::Http, key, metadata, decoded);
        }
        (Kind::GrpcRoute, Some(spec)) => {
            return yield_route(spec, RouteKind::Grpc, key, metadata, decoded);
        }
        (Kind::TlsRoute, Some(spec)) => {
            return yield_route(spec, RouteKind::Tls, key, metadata, decoded);
        }
        (Kind::TcpRoute, Some(spec)) => {
            return yield_route(spec, RouteKind::Tcp, key, metadata, decoded);
        }
    };
    decoded.problems.extend(metadata.problems);
    decoded.problems.extend(faults.into_problems(&key));
    decoded.objects.extend(object);
}

fn yield_route(
    spec: &Value,
    kind: RouteKind,
    key: ObjectKey,
    metadata: Metadata,
    decoded: &mut Decoded,
) {
    let route = route::route(spec, kind, key, metadata);
    decoded.problems.extend(route::problems(&route));
    decoded.objects.push(Object::Route(route));
}

fn metadata(value: &Value, kind: Kind) -> Result<Metadata, Problem> {
    let unusable = |field: &str, message: String| Problem {
        object: None,
        field: field.to_owned(),
        message: format!("{kind}: {message}"),
    };
    let Some(Value::Object(map)) = value.get("metadata") else {
        return Err(unusable("metadata", not_an_object(value.get("metadata"))));
    };
    let name = match present(map, "name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        None => return Err(unusable("metadata.name", "must be set".to_owned())),
        Some(_) => {
            let message = "must be a string that is not empty".to_owned();
            return Err(unusable("metadata.name", message));
        }
    };
    let namespace = match present(map, "namespace") {
        None => "default".to_owned(),
        Some(Value::String(namespace)) if namespace.is_empty() => "default".to_owned(),
        Some(Value::String(namespace)) => namespace.clone(),
        Some(_) => return Err(unusable("metadata.namespace", "must be a string".to_owned())),
    };
    let name = NamespacedName { namespace, name };
    let mut faults = Faults::default();
    // An object without age counts as the newest.
    let created = present(map, "creationTimestamp")
        .and_then(|value| read_core::<Time>(value, "metadata.creationTimestamp", &mut faults))
        .map_or(i64::MAX, |time| time.0.as_second());
    let generation = present(map, "generation").and_then(Value::as_i64).unwrap_or_default();
    let labels = present(map, "labels")
        .and_then(|value| read_core(value, "metadata.labels", &mut faults))
        .unwrap_or_default();
    let uid = present(map, "uid").and_then(Value::as_str).map(str::to_owned);
    let annotations = present(map, "annotations")
        .map(|value| annotations(value, &mut faults))
        .unwrap_or_default();
    let problems = faults.into_problems(&key(kind, &name));
    Ok(Metadata { name, generation, created, uid, labels, annotations, problems })
}

/// The annotations of Weft's own domain; what others write there is none of its business.
fn annotations(value: &Value, faults: &mut Faults) -> BTreeMap<String, String> {
    let at = "metadata.annotations";
    let Value::Object(map) = value else {
        faults.unsupported(at, not_an_object(Some(value)));
        return BTreeMap::new();
    };
    let mut annotations = BTreeMap::new();
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with(ANNOTATION_PREFIX)) {
        match value {
            Value::String(text) => {
                annotations.insert(name.clone(), text.clone());
            }
            other => {
                let message = format!("must be a string, not {}", type_of(other));
                faults.unsupported(format!("{at}[{name}]"), message);
            }
        }
    }
    annotations
}

fn key(kind: Kind, name: &NamespacedName) -> ObjectKey {
    ObjectKey { kind, namespace: name.namespace.clone(), name: name.name.clone() }
}

#[cfg(test)]
mod tests;
