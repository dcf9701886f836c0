//! The watched kinds, and their lenient decoding from what the API server or a file holds.
//!
//! One broken object never hides the others, and within a route a broken or unknown part costs its
//! own rule only: it becomes a [`Refusal`](crate::route::Refusal) that carries the field's path.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::BackendTrafficPolicy;
use crate::route::Route;

/// The domain of Weft's own annotations: those of others are not read.
pub const ANNOTATION_PREFIX: &str = "weft.mesh/";

/// The kinds that Weft watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// core/v1 Service
    Service,
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlice,
    /// gateway.networking.k8s.io/v1 HTTPRoute
    HttpRoute,
    /// gateway.networking.k8s.io/v1 GRPCRoute
    GrpcRoute,
    /// gateway.networking.k8s.io/v1 (or v1alpha3, v1alpha2) TLSRoute
    TlsRoute,
    /// gateway.networking.k8s.io/v1 (or v1alpha2) TCPRoute
    TcpRoute,
    /// gateway.networking.k8s.io/v1 (or v1beta1) ReferenceGrant
    ReferenceGrant,
    /// gateway.networking.x-k8s.io/v1alpha1 XBackendTrafficPolicy
    BackendTrafficPolicy,
}

/// What names an object: kind, namespace, name. Displayed as `HTTPRoute default/reviews`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The object's kind.
    pub kind: Kind,
    /// The object's namespace; `default` where the manifest names none.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// A namespaced name, of a Service wherever nothing else is said. Displayed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// Something in an object that cannot be used, named so that its author finds it.
/// Displayed as `HTTPRoute default/reviews: spec.rules[0].filters[1].type: unknown variant …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The object, where that much could be read (its kind and name).
    pub object: Option<ObjectKey>,
    /// The path of the field, as in `spec.rules[0].matches[1].path.type`; empty for the whole object.
    pub field: String,
    /// What is wrong and, where it is not plain, what to do.
    pub message: String,
}

/// A decoded object.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// A slice of a Service's endpoints.
    EndpointSlice(EndpointSlice),
    /// A route of any kind.
    Route(Route),
    /// A grant for references across namespaces.
    ReferenceGrant(ReferenceGrant),
    /// A policy for the traffic to Services.
    BackendTrafficPolicy(BackendTrafficPolicy),
}

/// How a port carries its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, the only one that Weft redirects.
    Tcp,
    /// UDP, left alone.
    Udp,
    /// SCTP, left alone.
    Sctp,
}

/// What Weft needs to know of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: NamespacedName,
    /// The cluster addresses (`spec.clusterIPs`, else `spec.clusterIP`); empty for headless and
    /// ExternalName Services.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.type` is ExternalName: no endpoints, no cluster address.
    pub external_name: bool,
    /// `spec.clusterIP` is `None`.
    pub headless: bool,
    /// `metadata.uid`; None in a file by hand.
    pub uid: Option<String>,
    /// `spec.sessionAffinity` is ClientIP: how long a client that pauses is kept at its endpoint
    /// (`sessionAffinityConfig.clientIP.timeoutSeconds`).
    pub client_affinity: Option<Duration>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic: InternalTraffic,
}

/// Which endpoints of a Service the cluster's own traffic may go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InternalTraffic {
    /// All, but for what the endpoints' hints say.
    #[default]
    Cluster,
    /// Those on the client's node, and nowhere where there are none.
    Local,
}

/// One of a Service's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty where the only port has none, as EndpointSlices write it.
    pub name: String,
    /// `port`: what clients dial.
    pub port: u16,
    /// `protocol`, TCP where missing.
    pub transport: Transport,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// What Weft needs to know of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: NamespacedName,
    /// The label `kubernetes.io/service-name`; a slice without it belongs to nobody.
    pub service: Option<String>,
    /// `ports`.
    pub ports: Vec<SlicePort>,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of an EndpointSlice: the target port that its name maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service port's name; empty where that has none.
    pub name: String,
    /// The number that the endpoints listen on.
    pub port: u16,
    /// `protocol`, TCP where missing.
    pub transport: Transport,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// `addresses[0]`: the API says that consumers may ignore the others. An FQDN is a problem.
    pub address: IpAddr,
    /// `conditions.ready`; missing means true.
    pub ready: bool,
    /// `conditions.serving`; missing means as `ready`.
    pub serving: bool,
    /// `conditions.terminating`; missing means false.
    pub terminating: bool,
    /// `targetRef.uid` (else its namespace/name), so that an address that comes back under another
    /// pod is another endpoint.
    pub target: Option<Arc<str>>,
    /// `nodeName`.
    pub node: Option<String>,
    /// `zone`.
    pub zone: Option<String>,
    /// `hints`.
    pub hints: Hints,
}

/// Whose traffic an endpoint is meant for; both are empty where nobody says. A Service's
/// `trafficDistribution` reaches the endpoints as these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones`
    pub zones: Vec<String>,
    /// `forNodes`
    pub nodes: Vec<String>,
}

/// A ReferenceGrant: who may refer from where to what in the grant's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Namespace and name.
    pub name: NamespacedName,
    /// `spec.from`.
    pub from: Vec<GrantFrom>,
    /// `spec.to`.
    pub to: Vec<GrantTo>,
}

/// An entry of a ReferenceGrant's `spec.from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFrom {
    /// API group of the referent.
    pub group: String,
    /// Kind of the referent.
    pub kind: String,
    /// Namespace of the referent.
    pub namespace: String,
}

/// An entry of a ReferenceGrant's `spec.to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTo {
    /// API group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// One object, or all of that kind in the namespace. An empty string counts as missing.
    pub name: Option<String>,
}

/// All objects that are known at one moment, by kind and name. Cloning is cheap: objects are shared.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Services by name.
    pub services: BTreeMap<NamespacedName, Arc<Service>>,
    /// EndpointSlices by their own name.
    pub slices: BTreeMap<NamespacedName, Arc<EndpointSlice>>,
    /// Routes of all kinds by kind and name.
    pub routes: BTreeMap<ObjectKey, Arc<Route>>,
    /// ReferenceGrants by name.
    pub grants: BTreeMap<NamespacedName, Arc<ReferenceGrant>>,
    /// XBackendTrafficPolicies by name.
    pub policies: BTreeMap<NamespacedName, Arc<BackendTrafficPolicy>>,
}

/// What a document yields.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The objects that Weft watches, in the document's order.
    pub objects: Vec<Object>,
    /// What could not be read of them, and what a route's author should know.
    pub problems: Vec<Problem>,
}

/// Decodes one document, as the API server or a YAML file has it: an object, or a list of objects
/// (`kind: List`, or any typed list).
///
/// Kinds that Weft does not watch yield nothing. What cannot be read is a [`Problem`]; a route whose
/// part cannot be read is yielded nevertheless, with a rule that is refused.
pub fn decode(value: serde_json::Value) -> Decoded {
    crate::decode::decode(&value)
}

impl Object {
    /// What names the object.
    pub fn key(&self) -> ObjectKey {
        let (kind, name) = match self {
            Object::Service(service) => (Kind::Service, &service.name),
            Object::EndpointSlice(slice) => (Kind::EndpointSlice, &slice.name),
            Object::Route(route) => return route.key.clone(),
            Object::ReferenceGrant(grant) => (Kind::ReferenceGrant, &grant.name),
            Object::BackendTrafficPolicy(policy) => return policy.key(),
        };
        ObjectKey { kind, namespace: name.namespace.clone(), name: name.name.clone() }
    }
}

impl Service {
    /// The TCP port of that number.
    pub fn tcp_port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number && port.transport == Transport::Tcp)
    }
}

impl Objects {
    /// Adds an object; true when it replaced one of the same key.
    pub fn insert(&mut self, object: Object) -> bool {
        match object {
            Object::Service(service) => {
                self.services.insert(service.name.clone(), Arc::new(service)).is_some()
            }
            Object::EndpointSlice(slice) => {
                self.slices.insert(slice.name.clone(), Arc::new(slice)).is_some()
            }
            Object::Route(route) => {
                self.routes.insert(route.key.clone(), Arc::new(route)).is_some()
            }
            Object::ReferenceGrant(grant) => {
                self.grants.insert(grant.name.clone(), Arc::new(grant)).is_some()
            }
            Object::BackendTrafficPolicy(policy) => {
                self.policies.insert(policy.name.clone(), Arc::new(policy)).is_some()
            }
        }
    }

    /// Removes an object; true when there was one.
    pub fn remove(&mut self, key: &ObjectKey) -> bool {
        let name = NamespacedName { namespace: key.namespace.clone(), name: key.name.clone() };
        match key.kind {
            Kind::Service => self.services.remove(&name).is_some(),
            Kind::EndpointSlice => self.slices.remove(&name).is_some(),
            Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute => {
                self.routes.remove(key).is_some()
            }
            Kind::ReferenceGrant => self.grants.remove(&name).is_some(),
            Kind::BackendTrafficPolicy => self.policies.remove(&name).is_some(),
        }
    }
}

impl Kind {
    /// The kind's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::TlsRoute => "TLSRoute",
            Kind::TcpRoute => "TCPRoute",
            Kind::ReferenceGrant => "ReferenceGrant",
            Kind::BackendTrafficPolicy => "XBackendTrafficPolicy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
