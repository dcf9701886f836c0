//! What a watch selects, where the API server has it, and how its objects are read.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use weft_gamma::object::{self, Kind, NamespacedName, Object, ObjectKey, Problem};

use super::watch::Unavailable;

const GATEWAY: &str = "gateway.networking.k8s.io";

/// What one watch selects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selection {
    Service(NamespacedName),
    /// The EndpointSlices of a Service.
    Slices(NamespacedName),
    /// The HTTPRoutes of a namespace.
    HttpRoutes(String),
    /// The GRPCRoutes of a namespace.
    GrpcRoutes(String),
    /// The ReferenceGrants of a namespace.
    Grants(String),
}

/// An object with what could not be read of it.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    pub(super) key: ObjectKey,
    /// None where nothing could be read: as if there were none, with a problem that says so.
    pub(super) object: Option<Object>,
    pub(super) problems: Vec<Problem>,
    /// The same as long as nothing has changed that means anything to traffic.
    pub(super) fingerprint: u64,
}

impl Selection {
    /// In how many versions the kind may be served.
    pub(super) fn versions(&self) -> usize {
        match self {
            Self::Grants(_) => 2,
            _ => 1,
        }
    }

    /// Where the objects are, in one of the kind's versions.
    pub(super) fn api(&self, client: &kube::Client, version: usize) -> Api<DynamicObject> {
        let namespace = match self {
            Self::Service(name) | Self::Slices(name) => &name.namespace,
            Self::HttpRoutes(namespace) | Self::GrpcRoutes(namespace) | Self::Grants(namespace) => {
                namespace
            }
        };
        Api::namespaced_with(client.clone(), namespace, &self.resource(version))
    }

    pub(super) fn key(&self, object: &DynamicObject) -> ObjectKey {
        ObjectKey {
            kind: match self {
                Self::Service(_) => Kind::Service,
                Self::Slices(_) => Kind::EndpointSlice,
                Self::HttpRoutes(_) => Kind::HttpRoute,
                Self::GrpcRoutes(_) => Kind::GrpcRoute,
                Self::Grants(_) => Kind::ReferenceGrant,
            },
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Reads an object of the selection.
    pub(super) fn decode(&self, mut object: DynamicObject, version: usize) -> Decoded {
        let key = self.key(&object);
        // Who wrote the object when, and what others say of it, means nothing to traffic; and it
        // changes more often than the rest.
        object.metadata = ObjectMeta {
            name: object.metadata.name,
            namespace: object.metadata.namespace,
            labels: object.metadata.labels,
            creation_timestamp: object.metadata.creation_timestamp,
            generation: object.metadata.generation,
            ..ObjectMeta::default()
        };
        if let Some(fields) = object.data.as_object_mut() {
            fields.remove("status");
        }
        let (decoded, text) = match serde_json::to_value(object) {
            Ok(mut value) => {
                // The items of a list do not say what they are.
                let resource = self.resource(version);
                value["apiVersion"] = resource.api_version.into();
                value["kind"] = resource.kind.into();
                let text = value.to_string();
                (object::decode(value), text)
            }
            Err(error) => {
                let problem = Problem {
                    object: Some(key.clone()),
                    field: String::new(),
                    message: format!("cannot be read: {error}"),
                };
                let decoded = object::Decoded { objects: Vec::new(), problems: vec![problem] };
                (decoded, error.to_string())
            }
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Decoded {
            key,
            object: decoded.objects.into_iter().next(),
            problems: decoded.problems,
            fingerprint: hasher.finish(),
        }
    }

    /// For people: what is missing, by name, and what to do.
    pub(super) fn explain(&self, why: Unavailable) -> String {
        let resource = self.resource(0);
        match why {
            Unavailable::Forbidden => {
                format!("the {self} may not be read: {}", rule(&resource.group, &resource.plural))
            }
            Unavailable::NotInstalled => {
                format!("the cluster has no {}: none apply until it is installed", resource.kind)
            }
        }
    }

    fn resource(&self, version: usize) -> ApiResource {
        let (group, version, kind) = match self {
            Self::Service(_) => ("", "v1", "Service"),
            Self::Slices(_) => ("discovery.k8s.io", "v1", "EndpointSlice"),
            Self::HttpRoutes(_) => (GATEWAY, "v1", "HTTPRoute"),
            Self::GrpcRoutes(_) => (GATEWAY, "v1", "GRPCRoute"),
            Self::Grants(_) => (GATEWAY, ["v1beta1", "v1"][version.min(1)], "ReferenceGrant"),
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }
}

/// The rule that is missing in the RBAC of the pod's ServiceAccount.
pub(super) fn rule(group: &str, plural: &str) -> String {
    format!(
        "the pod's ServiceAccount needs get, list and watch on {plural} of the API group \"{group}\""
    )
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Slices(name) => write!(f, "EndpointSlices of Service {name}"),
            Self::HttpRoutes(namespace) => write!(f, "HTTPRoutes of namespace {namespace}"),
            Self::GrpcRoutes(namespace) => write!(f, "GRPCRoutes of namespace {namespace}"),
            Self::Grants(namespace) => write!(f, "ReferenceGrants of namespace {namespace}"),
        }
    }
}
