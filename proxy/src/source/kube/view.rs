//! What is known of the cluster, and what follows from it: pure, without a client.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use weft_gamma::object::{
    EndpointSlice, NamespacedName, Object, ObjectKey, Objects, Problem, Service, SliceEndpoint,
    SlicePort,
};
use weft_gamma::reference::BackendRef;
use weft_gamma::route::{Filter, Route};

use super::super::{Snapshot, SourceProblem};
use super::watch::{Change, Unavailable};

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

/// What one watch has said.
#[derive(Debug, Default)]
struct Store {
    /// False until the first list is complete, or is known not to be had.
    listed: bool,
    unavailable: Option<Unavailable>,
    objects: BTreeMap<ObjectKey, Object>,
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
}

/// Everything that was listed, and the Services that it is for.
#[derive(Debug)]
pub(super) struct View {
    namespace: String,
    wanted: BTreeSet<NamespacedName>,
    /// The Services of the last snapshot.
    published: BTreeSet<NamespacedName>,
    stores: BTreeMap<Selection, Store>,
}

impl View {
    pub(super) fn new(namespace: String) -> Self {
        Self {
            namespace,
            wanted: BTreeSet::new(),
            published: BTreeSet::new(),
            stores: BTreeMap::new(),
        }
    }

    pub(super) fn want(&mut self, service: NamespacedName) {
        self.wanted.insert(service);
    }

    pub(super) fn forget(&mut self, service: &NamespacedName) {
        self.wanted.remove(service);
    }

    pub(super) fn is_published(&self, service: &NamespacedName) -> bool {
        self.published.contains(service)
    }

    /// The wanted Service with that address.
    pub(super) fn service_at(&self, ip: IpAddr) -> Option<NamespacedName> {
        let has_address = |name: &&NamespacedName| {
            self.service(name).is_some_and(|s| s.cluster_ips.contains(&ip))
        };
        self.wanted.iter().find(has_address).cloned()
    }

    pub(super) fn change(&mut self, selection: &Selection, change: Change) {
        let store = self.stores.entry(selection.clone()).or_default();
        match change {
            Change::Listed(objects) => {
                // Swapped whole: at no moment is anything missing that the list has.
                store.listed = true;
                store.unavailable = None;
                store.objects.clear();
                store.problems.clear();
                for decoded in objects {
                    store.apply(decoded.object, decoded.problems);
                }
            }
            Change::Applied(decoded) => store.apply(decoded.object, decoded.problems),
            Change::Deleted(key) => {
                store.objects.remove(&key);
                store.problems.remove(&key);
            }
            Change::Unavailable(why) => {
                store.listed = true;
                store.unavailable = Some(why);
            }
            Change::Failed(_) => {}
        }
    }

    /// The watches that the wanted Services need, given what is known of their routes.
    pub(super) fn needed(&self) -> BTreeSet<Selection> {
        self.wanted.iter().flat_map(|service| self.needs_of(service)).collect()
    }

    /// Drops what was listed for other watches.
    pub(super) fn keep_only(&mut self, needed: &BTreeSet<Selection>) {
        self.stores.retain(|selection, _| needed.contains(selection));
    }

    /// Whether a Service that is in force waits for the list of something.
    pub(super) fn is_incomplete(&self) -> bool {
        self.published
            .iter()
            .any(|service| self.wanted.contains(service) && !self.is_complete(service))
    }

    /// Whether there is anything to publish: something in force, or something complete.
    pub(super) fn has_news(&self) -> bool {
        !self.published.is_empty() || self.wanted.iter().any(|service| self.is_complete(service))
    }

    /// What is known, for the Services whose dependencies are all listed and for those that are in
    /// force already.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let complete: BTreeSet<NamespacedName> = self
            .wanted
            .iter()
            .filter(|service| self.published.contains(*service) || self.is_complete(service))
            .cloned()
            .collect();
        let mut objects = Objects::default();
        let mut problems = Vec::new();
        for (selection, store) in &self.stores {
            for object in store.objects.values() {
                objects.insert(object.clone());
            }
            problems.extend(store.problems.values().flatten().map(in_object));
            if let Some(why) = &store.unavailable {
                problems.push(in_cluster(why.message(selection)));
                if let (Selection::Slices(name), Some(service)) =
                    (selection, self.service_of_slices(selection))
                {
                    objects.insert(Object::EndpointSlice(by_cluster_ip(name, service)));
                }
            }
        }
        self.published.clone_from(&complete);
        Snapshot { objects, problems, destinations: Some(complete) }
    }

    fn is_complete(&self, service: &NamespacedName) -> bool {
        self.needs_of(service)
            .iter()
            .all(|need| self.stores.get(need).is_some_and(|store| store.listed))
    }

    fn needs_of(&self, service: &NamespacedName) -> BTreeSet<Selection> {
        let mut needs = BTreeSet::from([
            Selection::Service(service.clone()),
            Selection::Slices(service.clone()),
        ]);
        for namespace in [&self.namespace, &service.namespace] {
            needs.insert(Selection::HttpRoutes(namespace.clone()));
            needs.insert(Selection::GrpcRoutes(namespace.clone()));
        }
        for route in self.routes_of(service) {
            for backend in backends(route) {
                let name = backend.service(&route.key.namespace);
                if name.namespace != route.key.namespace {
                    needs.insert(Selection::Grants(name.namespace.clone()));
                }
                needs.insert(Selection::Service(name.clone()));
                needs.insert(Selection::Slices(name));
            }
        }
        needs
    }

    /// The routes that name the Service as a parent, of the namespaces whose routes can apply.
    fn routes_of<'a>(&'a self, service: &'a NamespacedName) -> impl Iterator<Item = &'a Route> {
        self.stores
            .iter()
            .filter(|(selection, _)| match selection {
                Selection::HttpRoutes(namespace) | Selection::GrpcRoutes(namespace) => {
                    *namespace == self.namespace || *namespace == service.namespace
                }
                _ => false,
            })
            .flat_map(|(_, store)| store.objects.values())
            .filter_map(|object| match object {
                Object::Route(route) => Some(route),
                _ => None,
            })
            .filter(move |route| {
                route
                    .parents
                    .iter()
                    .any(|parent| parent.service(&route.key.namespace).as_ref() == Some(service))
            })
    }

    fn service(&self, name: &NamespacedName) -> Option<&Service> {
        let store = self.stores.get(&Selection::Service(name.clone()))?;
        store.objects.values().find_map(|object| match object {
            Object::Service(service) => Some(service),
            _ => None,
        })
    }

    fn service_of_slices(&self, selection: &Selection) -> Option<&Service> {
        match selection {
            Selection::Slices(name) => self.service(name),
            _ => None,
        }
    }
}

impl Store {
    fn apply(&mut self, object: Object, problems: Vec<Problem>) {
        let key = object.key();
        self.problems.remove(&key);
        if !problems.is_empty() {
            self.problems.insert(key.clone(), problems);
        }
        self.objects.insert(key, object);
    }
}

fn in_object(problem: &Problem) -> SourceProblem {
    SourceProblem {
        file: None,
        line: None,
        object: problem.object.clone(),
        field: problem.field.clone(),
        message: problem.message.clone(),
    }
}

fn in_cluster(message: String) -> SourceProblem {
    SourceProblem { file: None, line: None, object: None, field: String::new(), message }
}

/// Where a route's requests can go: backends of kind Service, those of mirrors among them.
fn backends(route: &Route) -> impl Iterator<Item = &BackendRef> {
    route
        .rules
        .iter()
        .flat_map(|rule| {
            let of_backends = rule
                .backends
                .iter()
                .flat_map(|backend| std::iter::once(backend).chain(mirrors(&backend.filters)));
            mirrors(&rule.filters).chain(of_backends)
        })
        .filter(|backend| backend.group.is_empty() && backend.kind == "Service")
}

fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &BackendRef> {
    filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(&mirror.backend),
        _ => None,
    })
}

/// Where the slices may not be read, the Service's own address stands for its endpoints: the choice
/// among them is then kube-proxy's.
fn by_cluster_ip(name: &NamespacedName, service: &Service) -> EndpointSlice {
    EndpointSlice {
        name: name.clone(),
        service: Some(name.name.clone()),
        ports: service
            .ports
            .iter()
            .map(|port| SlicePort {
                name: port.name.clone(),
                port: port.port,
                transport: port.transport,
                app_protocol: port.app_protocol.clone(),
            })
            .collect(),
        endpoints: service
            .cluster_ips
            .iter()
            .take(1)
            .map(|address| SliceEndpoint {
                address: *address,
                ready: true,
                serving: true,
                terminating: false,
                target: None,
                zone: None,
            })
            .collect(),
    }
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
