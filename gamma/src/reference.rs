//! References between objects: parents, backends, and the grants that backends in other namespaces
//! need.

use std::collections::BTreeSet;
use std::fmt;

use crate::condition::Reason;
use crate::object::{NamespacedName, Objects, Service, ServicePort};
use crate::resolve::BackendProblem;
use crate::route::{Filter, Route, RouteKind};

/// The API group of routes.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// A `parentRef`. Displayed as `Service default/reviews port 9080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// Its index in `spec.parentRefs`.
    pub index: usize,
    /// As written; the API's default is `gateway.networking.k8s.io`.
    pub group: Option<String>,
    /// As written; the API's default is `Gateway`.
    pub kind: Option<String>,
    /// As written; missing means the route's namespace.
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// Missing means all ports.
    pub port: Option<u16>,
    /// The port's name; missing means all ports.
    pub section_name: Option<String>,
}

/// A `backendRef`.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRef {
    /// Its path from the route's root, as in `spec.rules[0].backendRefs[1]`.
    pub field: String,
    /// `group`; empty (core) where missing.
    pub group: String,
    /// `kind`; `Service` where missing.
    pub kind: String,
    /// As written; missing means the route's namespace.
    pub namespace: Option<String>,
    /// The backend's name.
    pub name: String,
    /// `port`, which a Service needs.
    pub port: Option<u16>,
    /// `weight`, 1 where missing.
    pub weight: u32,
    /// `filters`, in the listed order, run only when this backend is chosen.
    pub filters: Vec<Filter>,
}

/// Which references across namespaces need a ReferenceGrant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CrossNamespace {
    /// All but those into the parent Service's own namespace.
    #[default]
    NeedsGrant,
    /// None: GEP-1294's general exemption for meshes.
    Exempt,
}

impl ParentRef {
    /// The Service that this refers to; None if the parent is of another kind and thus left to
    /// whoever owns it, status included.
    pub fn service(&self, route_namespace: &str) -> Option<NamespacedName> {
        // The API's default for a missing group is its own, in which there is no kind Service: who
        // writes the kind and no group means the core Service, and the API server fills in the
        // default. "core" is what the API's documentation site writes.
        let group = matches!(self.group.as_deref(), None | Some("" | "core" | GATEWAY_GROUP));
        let service = group && self.kind.as_deref() == Some("Service");
        service.then(|| named(self.namespace.as_deref(), route_namespace, &self.name))
    }

    /// Whether the two say the same, wherever they stand.
    pub(crate) fn says_as(&self, other: &ParentRef) -> bool {
        Self { index: other.index, ..self.clone() } == *other
    }
}

/// What a route refers to: what its verdicts and its traffic depend on besides the route itself and the
/// other routes of its parents.
impl Route {
    /// The Services that it names as its parents.
    pub fn parent_services(&self) -> impl Iterator<Item = NamespacedName> {
        self.parents.iter().filter_map(|parent| parent.service(&self.key.namespace))
    }

    /// The Services that it names as backends, of rules and of mirrors.
    pub fn backend_services(&self) -> BTreeSet<NamespacedName> {
        let backends = self.backend_refs().filter(|backend| backend.is_service());
        backends.map(|backend| backend.service(&self.key.namespace)).collect()
    }

    /// The namespaces whose ReferenceGrants may decide on its backends.
    pub fn grant_namespaces(&self) -> BTreeSet<String> {
        // A grant decides only where the namespace is not the route's own, nor that of all its parents.
        let parents: BTreeSet<NamespacedName> = self.parent_services().collect();
        let needs_grant = |name: &NamespacedName| {
            name.namespace != self.key.namespace
                && parents.iter().any(|parent| parent.namespace != name.namespace)
        };
        let backends = self.backend_services().into_iter().filter(needs_grant);
        backends.map(|name| name.namespace).collect()
    }

    fn backend_refs(&self) -> impl Iterator<Item = &BackendRef> {
        self.rules.iter().flat_map(|rule| {
            let backends = rule.backends.iter();
            let of_backends =
                backends.flat_map(|it| std::iter::once(it).chain(mirrors(&it.filters)));
            mirrors(&rule.filters).chain(of_backends)
        })
    }
}

fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &BackendRef> {
    filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(&mirror.backend),
        _ => None,
    })
}

impl BackendRef {
    /// "Support: Core for Kubernetes Service"
    fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }

    /// Namespace and name of the backend.
    pub fn service(&self, route_namespace: &str) -> NamespacedName {
        named(self.namespace.as_deref(), route_namespace, &self.name)
    }
}

/// Who refers to a backend.
#[derive(Clone, Copy)]
pub(crate) struct Referrer<'a> {
    /// The route's kind.
    pub(crate) kind: RouteKind,
    /// The route's namespace.
    pub(crate) namespace: &'a str,
    /// The namespace of the Service that the route is attached to.
    pub(crate) parent_namespace: &'a str,
}

/// The Service port behind a reference, or why there is none.
pub(crate) fn backend_port(
    backend: &BackendRef,
    referrer: Referrer<'_>,
    objects: &Objects,
    cross_namespace: CrossNamespace,
) -> Result<ServicePort, BackendProblem> {
    let problem = |reason: Reason, field: &str, message: String| BackendProblem {
        reason,
        message: format!("{}{field}: {message}", backend.field),
    };
    if !backend.is_service() {
        let group = if backend.group.is_empty() { "core" } else { &backend.group };
        let message = format!(
            "{} of group {group} cannot be a backend; use a Service (group \"\")",
            backend.kind
        );
        return Err(problem(Reason::InvalidKind, ".kind", message));
    }
    let name = backend.service(referrer.namespace);
    // Before anything is said about the Service: whether it exists is not for everyone to know.
    if !permitted(&name, referrer, objects, cross_namespace) {
        let message = format!(
            "a ReferenceGrant in namespace {} must permit {} in namespace {} to refer to Service {}",
            name.namespace, referrer.kind, referrer.namespace, name.name
        );
        return Err(problem(Reason::RefNotPermitted, ".namespace", message));
    }
    let Some(service) = objects.services.get(&name) else {
        let message = format!("Service {name} does not exist; create it or correct the name");
        return Err(problem(Reason::BackendNotFound, ".name", message));
    };
    if service.external_name {
        let message = format!("Service {name} is of type ExternalName, which cannot be a backend");
        return Err(problem(Reason::InvalidKind, ".name", message));
    }
    let Some(number) = backend.port else {
        let message = format!("must be set for a Service; {name} has {}", port_list(service));
        return Err(problem(Reason::BackendNotFound, ".port", message));
    };
    let Some(port) = service.tcp_port(number) else {
        return Err(if service.ports.iter().any(|port| port.port == number) {
            let message = format!("port {number} of Service {name} is not TCP");
            problem(Reason::UnsupportedProtocol, ".port", message)
        } else {
            let ports = port_list(service);
            let message = format!("Service {name} has no port {number}; it has {ports}");
            problem(Reason::BackendNotFound, ".port", message)
        });
    };
    // "If a Route is not able to send traffic to the backend using the specified protocol then the
    // backend is considered invalid." (GEP-1911) What HTTP and gRPC are read, and would be sent on, in
    // the clear; the streams of the other kinds may carry TLS.
    let in_clear = !referrer.kind.is_of_streams();
    if let Some(protocol) = port.app_protocol.as_deref().filter(|it| in_clear && needs_tls(it)) {
        let message = format!(
            "port {number} of Service {name} has appProtocol {protocol}, which needs TLS; {} is sent \
             in the clear",
            referrer.kind
        );
        return Err(problem(Reason::UnsupportedProtocol, ".port", message));
    }
    Ok(port.clone())
}

/// Values of `appProtocol` that mean HTTP or another protocol over TLS.
fn needs_tls(app_protocol: &str) -> bool {
    let protocols = ["https", "tls", "kubernetes.io/wss"];
    protocols.iter().any(|it| app_protocol.eq_ignore_ascii_case(it))
}

/// The ports of a Service, for messages.
pub(crate) fn port_list(service: &Service) -> String {
    if service.ports.is_empty() {
        return "no ports".to_owned();
    }
    let port = |port: &ServicePort| match port.name.as_str() {
        "" => port.port.to_string(),
        name => format!("{} ({name})", port.port),
    };
    service.ports.iter().map(port).collect::<Vec<_>>().join(", ")
}

fn permitted(
    to: &NamespacedName,
    referrer: Referrer<'_>,
    objects: &Objects,
    cross_namespace: CrossNamespace,
) -> bool {
    // A reference within a namespace needs no grant, and one into the parent's namespace widens
    // nothing: the route's clients address that namespace already.
    if to.namespace == referrer.namespace || to.namespace == referrer.parent_namespace {
        return true;
    }
    if cross_namespace == CrossNamespace::Exempt {
        return true;
    }
    // Grants are sorted by namespace, then name.
    let first = NamespacedName { namespace: to.namespace.clone(), name: String::new() };
    let mut grants =
        objects.grants.range(first..).take_while(|(name, _)| name.namespace == to.namespace);
    grants.any(|(_, grant)| {
        let from = grant.from.iter().any(|from| {
            from.group == GATEWAY_GROUP
                && from.kind == referrer.kind.as_str()
                && from.namespace == referrer.namespace
        });
        // An entry without a name "refers to all resources of the specified Group and Kind in the
        // local namespace."
        let to = grant.to.iter().any(|entry| {
            entry.group.is_empty()
                && entry.kind == "Service"
                && entry.name.as_ref().is_none_or(|name| *name == to.name)
        });
        from && to
    })
}

fn named(namespace: Option<&str>, default: &str, name: &str) -> NamespacedName {
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(default);
    NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() }
}

impl fmt::Display for ParentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_deref().unwrap_or("Gateway"))?;
        f.write_str(" ")?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        if let Some(section) = &self.section_name {
            write!(f, " section {section}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
