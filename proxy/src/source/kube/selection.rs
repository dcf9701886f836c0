//! What a watch selects, where the API server has it, and how its objects are read.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use kube::api::{Api, ApiResource, GroupVersionKind};
use serde_json::Value;
use weft_gamma::object::{self, Kind, NamespacedName, Object, ObjectKey, Problem};
use weft_gamma::route::RouteKind;

use super::lean::LeanObject;
use super::unread::Unread;
use super::watch::Unavailable;

const GATEWAY: &str = "gateway.networking.k8s.io";
const EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";

/// What one watch selects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selection {
    Service(NamespacedName),
    /// The EndpointSlices of a Service.
    Slices(NamespacedName),
    /// The routes of a kind in a namespace.
    Routes(RouteKind, String),
    /// The ReferenceGrants of a namespace.
    Grants(String),
    /// The XBackendTrafficPolicies of a namespace.
    Policies(String),
}

/// An object with what could not be read of it.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    pub(super) key: ObjectKey,
    pub(super) content: Content,
    /// Without those of an unread route.
    pub(super) problems: Vec<Problem>,
    /// The same as long as nothing has changed that means anything to traffic.
    pub(super) fingerprint: u64,
}

/// What an object says.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing could be read: as if there were no object, with a problem that says so.
    Unreadable,
    Route(Unread),
    Other(Object),
}

impl Selection {
    /// In how many versions the kind may be served.
    pub(super) fn versions(&self) -> usize {
        self.version_names().len()
    }

    /// Of the versions that can be read, the one first that most clusters serve.
    fn version_names(&self) -> &'static [&'static str] {
        match self {
            Self::Grants(_) => &["v1beta1", "v1"],
            // The experimental channel had them before the standard one.
            Self::Routes(RouteKind::Tls, _) => &["v1", "v1alpha3", "v1alpha2"],
            Self::Routes(RouteKind::Tcp, _) => &["v1", "v1alpha2"],
            Self::Service(_) | Self::Slices(_) | Self::Routes(..) => &["v1"],
            Self::Policies(_) => &["v1alpha1"],
        }
    }

    /// Where the objects are, in one of the kind's versions.
    pub(super) fn api(&self, client: &kube::Client, version: usize) -> Api<LeanObject> {
        let namespace = match self {
            Self::Service(name) | Self::Slices(name) => &name.namespace,
            Self::Routes(_, namespace) | Self::Grants(namespace) | Self::Policies(namespace) => {
                namespace
            }
        };
        Api::namespaced_with(client.clone(), namespace, &self.resource(version))
    }

    pub(super) fn key(&self, object: &LeanObject) -> ObjectKey {
        ObjectKey {
            kind: match self {
                Self::Service(_) => Kind::Service,
                Self::Slices(_) => Kind::EndpointSlice,
                Self::Routes(kind, _) => (*kind).into(),
                Self::Grants(_) => Kind::ReferenceGrant,
                Self::Policies(_) => Kind::BackendTrafficPolicy,
            },
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// An object of the selection, as it is kept.
    pub(super) fn decode(&self, object: LeanObject, version: usize) -> Decoded {
        let key = self.key(&object);
        let (object::Decoded { objects, mut problems }, text) = self.read(object, version);
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let content = match objects.first() {
            Some(Object::Route(route)) => {
                problems.clear();
                Content::Route(Unread::new(route, text))
            }
            // A copy has room for what it holds, and not for what reading it took.
            Some(object) => Content::Other(object.clone()),
            None => Content::Unreadable,
        };
        Decoded { key, content, problems, fingerprint: hasher.finish() }
    }

    /// Reads an object of the selection; with the text that it was read from.
    pub(super) fn read(&self, mut object: LeanObject, version: usize) -> (object::Decoded, String) {
        // Says only that something has changed.
        object.metadata.resource_version = None;
        match serde_json::to_value(&object.metadata) {
            Ok(metadata) => {
                let resource = self.resource(version);
                let mut fields = object.fields;
                fields.insert("metadata".to_owned(), metadata);
                fields.insert("apiVersion".to_owned(), resource.api_version.into());
                fields.insert("kind".to_owned(), resource.kind.into());
                let value = Value::Object(fields);
                let text = value.to_string();
                (object::decode(value), text)
            }
            Err(error) => {
                let problem = Problem {
                    object: Some(self.key(&object)),
                    field: String::new(),
                    message: format!("cannot be read: {error}"),
                };
                let decoded = object::Decoded { objects: Vec::new(), problems: vec![problem] };
                (decoded, error.to_string())
            }
        }
    }

    /// For people: what is missing, by name, and what to do; None where it is not missed.
    pub(super) fn explain(&self, why: Unavailable) -> Option<String> {
        let resource = self.resource(0);
        match why {
            Unavailable::Forbidden => {
                let rule = rule(&resource.group, &resource.plural);
                Some(format!("the {self} may not be read: {rule}"))
            }
            Unavailable::NotInstalled if self.is_optional() => None,
            Unavailable::NotInstalled => {
                let kind = resource.kind;
                Some(format!("the cluster has no {kind}: none apply until it is installed"))
            }
        }
    }

    /// Whether many clusters do without the kind.
    pub(super) fn is_optional(&self) -> bool {
        matches!(self, Self::Routes(kind, _) if kind.is_of_streams())
    }

    fn resource(&self, version: usize) -> ApiResource {
        let (group, kind) = match self {
            Self::Service(_) => ("", "Service"),
            Self::Slices(_) => ("discovery.k8s.io", "EndpointSlice"),
            Self::Routes(kind, _) => (GATEWAY, kind.as_str()),
            Self::Grants(_) => (GATEWAY, "ReferenceGrant"),
            Self::Policies(_) => (EXPERIMENTAL, "XBackendTrafficPolicy"),
        };
        let versions = self.version_names();
        let version = versions[version.min(versions.len() - 1)];
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
            Self::Routes(kind, namespace) => write!(f, "{kind}s of namespace {namespace}"),
            Self::Grants(namespace) => write!(f, "ReferenceGrants of namespace {namespace}"),
            Self::Policies(namespace) => {
                write!(f, "XBackendTrafficPolicies of namespace {namespace}")
            }
        }
    }
}
