//! The kinds that the controller watches: their names in the API, and what may be missing.

use kube::core::{ApiResource, GroupVersionKind};

/// The API group of routes and grants.
const GATEWAY: &str = "gateway.networking.k8s.io";

/// The API group of what is experimental as a whole.
const EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";

/// A watched kind. Every kind has one instance, so that it can be compared by its name.
#[derive(Debug, PartialEq, Eq)]
pub struct WatchedKind {
    /// API group; empty for core.
    pub group: &'static str,
    /// Kind, as in `HTTPRoute`.
    pub kind: &'static str,
    /// Plural, as in `httproutes`.
    pub plural: &'static str,
    /// Versions that can be read, the best first. A cluster may serve some or none of them.
    pub versions: &'static [&'static str],
    /// Whether verdicts can be told without it: a kind that may not be read then counts as one that
    /// has no objects.
    pub optional: bool,
}

/// core Service
pub static SERVICE: WatchedKind = WatchedKind {
    group: "",
    kind: "Service",
    plural: "services",
    versions: &["v1"],
    optional: false,
};

/// HTTPRoute
pub static HTTP_ROUTE: WatchedKind = WatchedKind {
    group: GATEWAY,
    kind: "HTTPRoute",
    plural: "httproutes",
    versions: &["v1", "v1beta1"],
    optional: false,
};

/// GRPCRoute
pub static GRPC_ROUTE: WatchedKind = WatchedKind {
    group: GATEWAY,
    kind: "GRPCRoute",
    plural: "grpcroutes",
    versions: &["v1", "v1alpha2"],
    optional: false,
};

/// TLSRoute, which clusters before v1.5 of the API's standard channel do not have.
pub static TLS_ROUTE: WatchedKind = WatchedKind {
    group: GATEWAY,
    kind: "TLSRoute",
    plural: "tlsroutes",
    versions: &["v1", "v1alpha3", "v1alpha2"],
    optional: true,
};

/// TCPRoute, which clusters before v1.6 of the API's standard channel do not have.
pub static TCP_ROUTE: WatchedKind = WatchedKind {
    group: GATEWAY,
    kind: "TCPRoute",
    plural: "tcproutes",
    versions: &["v1", "v1alpha2"],
    optional: true,
};

/// ReferenceGrant
pub static REFERENCE_GRANT: WatchedKind = WatchedKind {
    group: GATEWAY,
    kind: "ReferenceGrant",
    plural: "referencegrants",
    versions: &["v1", "v1beta1"],
    optional: false,
};

/// XBackendTrafficPolicy, of the experimental channel.
pub static BACKEND_TRAFFIC_POLICY: WatchedKind = WatchedKind {
    group: EXPERIMENTAL,
    kind: "XBackendTrafficPolicy",
    plural: "xbackendtrafficpolicies",
    versions: &["v1alpha1"],
    optional: true,
};

/// What verdicts are made of.
pub static ROUTING: [&WatchedKind; 7] = [
    &SERVICE,
    &HTTP_ROUTE,
    &GRPC_ROUTE,
    &TLS_ROUTE,
    &TCP_ROUTE,
    &REFERENCE_GRANT,
    &BACKEND_TRAFFIC_POLICY,
];

/// The mesh itself, cluster-scoped.
pub static MESH: WatchedKind = WatchedKind {
    group: EXPERIMENTAL,
    kind: "XMesh",
    plural: "xmeshes",
    versions: &["v1alpha1"],
    optional: true,
};

impl WatchedKind {
    /// How the client names the kind in one of its versions.
    pub fn resource(&self, version: &str) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }

    /// As RBAC and people name it: `httproutes.gateway.networking.k8s.io`.
    pub fn name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}
