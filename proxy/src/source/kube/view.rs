//! What is known of the cluster, and what follows from it: pure, without a client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_gamma::object::{
    self, EndpointSlice, Hints, InternalTraffic, NamespacedName, ObjectKey, Objects, Problem,
    Service, SliceEndpoint, SlicePort,
};
use weft_gamma::route::{Route, RouteKind};

use super::super::{Snapshot, SourceProblem};
use super::selection::{self, Content, Decoded, Selection};
use super::unread::Unread;
use super::watch::{Change, Unavailable};

/// What one watch has said.
#[derive(Debug, Default)]
struct Store {
    /// False until the first list is complete, or is known not to be had.
    listed: bool,
    unavailable: Option<Unavailable>,
    /// Without unread routes.
    objects: Objects,
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
    known: BTreeMap<ObjectKey, Known>,
}

/// What is kept of every object.
#[derive(Debug)]
struct Known {
    /// See [`Decoded::fingerprint`].
    fingerprint: u64,
    /// A route that no wanted Service has been the parent of.
    unread: Option<Unread>,
}

/// Everything that was listed, and the Services that it is for.
#[derive(Debug)]
pub(super) struct View {
    namespace: String,
    /// The Services that the pod uses, each with the address by which it was found.
    wanted: BTreeMap<NamespacedName, IpAddr>,
    stores: BTreeMap<Selection, Store>,
    lookups_forbidden: bool,
    /// Whether the cluster has XBackendTrafficPolicies.
    has_policies: bool,
    /// What was published last.
    in_force: Snapshot,
}

impl View {
    pub(super) fn new(namespace: String) -> Self {
        Self {
            namespace,
            wanted: BTreeMap::new(),
            stores: BTreeMap::new(),
            lookups_forbidden: false,
            has_policies: false,
            in_force: Snapshot { destinations: Some(BTreeSet::new()), ..Snapshot::default() },
        }
    }

    pub(super) fn want(&mut self, service: NamespacedName, ip: IpAddr) {
        for store in self.stores.values_mut() {
            store.read_routes_of(&service);
        }
        self.wanted.insert(service, ip);
    }

    pub(super) fn forget(&mut self, service: &NamespacedName) {
        self.wanted.remove(service);
    }

    pub(super) fn is_wanted(&self, service: &NamespacedName) -> bool {
        self.wanted.contains_key(service)
    }

    pub(super) fn is_published(&self, service: &NamespacedName) -> bool {
        self.in_force.destinations.as_ref().is_some_and(|known| known.contains(service))
    }

    /// The wanted Service with that address.
    pub(super) fn service_at(&self, ip: IpAddr) -> Option<&NamespacedName> {
        let has_address = |(name, found_by): &(&NamespacedName, &IpAddr)| {
            let selection = Selection::Service((*name).clone());
            match self.stores.get(&selection).filter(|store| store.listed) {
                Some(store) => {
                    store.objects.services.values().any(|service| service.cluster_ips.contains(&ip))
                }
                None => **found_by == ip,
            }
        };
        self.wanted.iter().find(has_address).map(|(name, _)| name)
    }

    /// Services may not be listed, so that none is found by its address.
    pub(super) fn set_lookups_forbidden(&mut self, forbidden: bool) {
        self.lookups_forbidden = forbidden;
    }

    /// XBackendTrafficPolicies are installed, or are not.
    pub(super) fn set_has_policies(&mut self, has_policies: bool) {
        self.has_policies = has_policies;
    }

    pub(super) fn change(&mut self, selection: &Selection, change: Change) {
        let store = self.stores.entry(selection.clone()).or_default();
        let is_wanted = |service: &NamespacedName| self.wanted.contains_key(service);
        match change {
            Change::Listed(objects) => {
                store.listed = true;
                store.unavailable = None;
                store.replace(objects, is_wanted);
            }
            Change::Applied(decoded) => store.apply(*decoded, is_wanted),
            Change::Deleted(key) => store.remove(&key),
            Change::Unavailable(why) => {
                store.listed = true;
                store.unavailable = Some(why);
                // What may not be read any more stays as it was; but endpoints come and go, and
                // without news the Service's address is the better choice.
                if why == Unavailable::NotInstalled || matches!(selection, Selection::Slices(_)) {
                    store.replace(Vec::new(), is_wanted);
                }
            }
            Change::Current | Change::Failed(_) => {}
        }
    }

    /// The watches that the wanted Services need, given what is known of their routes.
    pub(super) fn needed(&self) -> BTreeSet<Selection> {
        let mut needed: BTreeSet<_> =
            self.wanted.keys().flat_map(|service| self.needs_of_service(service)).collect();
        for route in self.attached(|service| self.is_wanted(service)) {
            needed.extend(needs_of_route(route));
            if let Some(earlier) = self.in_force.objects.routes.get(&route.key)
                && !self.is_ready(route)
            {
                needed.extend(needs_of_route(earlier));
            }
        }
        self.with_policies(needed)
    }

    /// Drops what was listed for other watches.
    pub(super) fn keep_only(&mut self, needed: &BTreeSet<Selection>) {
        self.stores.retain(|selection, _| needed.contains(selection));
    }

    /// What is known now, for the Services whose dependencies are all listed and for those that are
    /// in force already; None where that is what was published last.
    pub(super) fn news(&mut self) -> Option<Snapshot> {
        let next = self.snapshot();
        if is_same(&next, &self.in_force) {
            return None;
        }
        self.in_force = next.clone();
        Some(next)
    }

    fn snapshot(&self) -> Snapshot {
        let destinations: BTreeSet<NamespacedName> = self
            .wanted
            .keys()
            .filter(|service| self.is_published(service) || self.is_complete(service))
            .cloned()
            .collect();
        let mut objects = Objects::default();
        let mut needed: BTreeSet<_> =
            destinations.iter().flat_map(|service| self.needs_of_service(service)).collect();
        for route in self.attached(|service| destinations.contains(service)) {
            // A route's new backend must not look like one that does not exist: until it is listed,
            // the route stays as it was.
            let earlier = self.in_force.objects.routes.get(&route.key);
            if let Some(route) = if self.is_ready(route) { Some(route) } else { earlier } {
                needed.extend(needs_of_route(route));
                objects.routes.insert(route.key.clone(), route.clone());
            }
        }
        let needed = self.with_policies(needed);
        let mut problems = Vec::new();
        for (selection, store) in self.stores.iter().filter(|(it, _)| needed.contains(it)) {
            objects.services.extend(store.objects.services.clone());
            objects.slices.extend(store.objects.slices.clone());
            objects.grants.extend(store.objects.grants.clone());
            objects.policies.extend(store.objects.policies.clone());
            for (key, found) in &store.problems {
                // A route that has nothing to do with the pod is none of its business.
                let unattached =
                    store.objects.routes.contains_key(key) && !objects.routes.contains_key(key);
                if !unattached {
                    problems.extend(found.iter().map(in_object));
                }
            }
            if let Some(why) = store.unavailable {
                problems.extend(selection.explain(why).map(in_cluster));
                if let Selection::Slices(name) = selection
                    && let Some(service) = self.service(name)
                {
                    let (service, slice) = by_cluster_ip(service);
                    objects.services.insert(service.name.clone(), Arc::new(service));
                    objects.slices.insert(slice.name.clone(), Arc::new(slice));
                }
            }
        }
        if self.lookups_forbidden {
            let rule = selection::rule("", "services");
            problems.push(in_cluster(format!("no Service is found by its address: {rule}")));
        }
        problems.sort_unstable();
        problems.dedup();
        Snapshot { objects, problems, destinations: Some(destinations) }
    }

    /// Whether all that the Service's traffic depends on is listed.
    fn is_complete(&self, service: &NamespacedName) -> bool {
        self.needs_of_service(service).iter().all(|need| self.is_listed(need))
            && self.attached(|parent| parent == service).all(|route| self.is_ready(route))
    }

    /// Whether all that the route refers to is listed.
    fn is_ready(&self, route: &Route) -> bool {
        needs_of_route(route).iter().all(|need| self.is_listed(need))
    }

    fn is_listed(&self, selection: &Selection) -> bool {
        self.stores.get(selection).is_some_and(|store| store.listed)
    }

    /// What a Service needs, without what its routes need.
    fn needs_of_service(&self, service: &NamespacedName) -> BTreeSet<Selection> {
        let mut needs = BTreeSet::from([
            Selection::Service(service.clone()),
            Selection::Slices(service.clone()),
        ]);
        for namespace in [&self.namespace, &service.namespace] {
            needs.extend(RouteKind::ALL.map(|kind| Selection::Routes(kind, namespace.clone())));
        }
        needs
    }

    /// Adds the policies that may apply to the needed Services. Nothing waits for them: until they are
    /// listed, what holds without a policy does.
    fn with_policies(&self, mut needed: BTreeSet<Selection>) -> BTreeSet<Selection> {
        if self.has_policies {
            let namespaces = needed.iter().filter_map(|selection| match selection {
                Selection::Service(name) => Some(Selection::Policies(name.namespace.clone())),
                _ => None,
            });
            needed.append(&mut namespaces.collect());
        }
        needed
    }

    /// The routes that are attached to one of certain Services.
    fn attached(&self, to: impl Fn(&NamespacedName) -> bool) -> impl Iterator<Item = &Arc<Route>> {
        let routes = self.stores.values().flat_map(|store| store.objects.routes.values());
        routes.filter(move |route| {
            route.parent_services().any(|service| to(&service) && self.applies(route, &service))
        })
    }

    /// Whether a route that names the Service holds for this pod: it is the Service's own (a
    /// producer route) or the pod's (a consumer route).
    fn applies(&self, route: &Route, service: &NamespacedName) -> bool {
        route.key.namespace == service.namespace || route.key.namespace == self.namespace
    }

    fn service(&self, name: &NamespacedName) -> Option<&Service> {
        let store = self.stores.get(&Selection::Service(name.clone()))?;
        store.objects.services.get(name).map(AsRef::as_ref)
    }
}

impl Store {
    /// Swapped whole: at no moment is anything missing that the list has.
    fn replace(&mut self, objects: Vec<Decoded>, is_wanted: impl Fn(&NamespacedName) -> bool) {
        let listed: BTreeSet<&ObjectKey> = objects.iter().map(|decoded| &decoded.key).collect();
        let gone: Vec<ObjectKey> =
            self.known.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        for decoded in objects {
            self.apply(decoded, &is_wanted);
        }
    }

    /// Of routes only those are read that name a wanted Service.
    fn apply(&mut self, decoded: Decoded, is_wanted: impl Fn(&NamespacedName) -> bool) {
        let Decoded { key, content, problems, fingerprint } = decoded;
        if self.known.get(&key).is_some_and(|known| known.fingerprint == fingerprint) {
            return;
        }
        // An edit that cannot be read at all does not leave the earlier one in force.
        self.remove(&key);
        let mut unread = None;
        match content {
            Content::Unreadable => {}
            Content::Route(route) if route.names(is_wanted) => self.read(&key, &route),
            Content::Route(route) => unread = Some(route),
            Content::Other(object) => _ = self.objects.insert(object),
        }
        self.note(&key, problems);
        self.known.insert(key, Known { fingerprint, unread });
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        self.problems.remove(key);
        self.known.remove(key);
    }

    /// Reads what has been left unread and names the Service as its parent.
    fn read_routes_of(&mut self, service: &NamespacedName) {
        let names = |known: &mut Known| {
            known.unread.take_if(|route| route.names(|parent| parent == service))
        };
        let due: Vec<_> = self
            .known
            .iter_mut()
            .filter_map(|(key, known)| Some((key.clone(), names(known)?)))
            .collect();
        for (key, route) in due {
            self.read(&key, &route);
        }
    }

    fn read(&mut self, key: &ObjectKey, route: &Unread) {
        let object::Decoded { objects, problems } = route.read();
        for object in objects {
            self.objects.insert(object);
        }
        self.note(key, problems);
    }

    fn note(&mut self, key: &ObjectKey, problems: Vec<Problem>) {
        if !problems.is_empty() {
            self.problems.insert(key.clone(), problems);
        }
    }
}

/// What has not changed is shared by both.
fn is_same(one: &Snapshot, other: &Snapshot) -> bool {
    let (routes, others) = (&one.objects.routes, &other.objects.routes);
    one.destinations == other.destinations
        && one.problems == other.problems
        && one.objects.services == other.objects.services
        && one.objects.slices == other.objects.slices
        && one.objects.grants == other.objects.grants
        && one.objects.policies == other.objects.policies
        && routes.len() == others.len()
        && routes.values().zip(others.values()).all(|(one, other)| Arc::ptr_eq(one, other))
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

/// What must be known before a route can be in force: its backends, and who may refer to them.
fn needs_of_route(route: &Route) -> BTreeSet<Selection> {
    let grants = route.grant_namespaces().into_iter().map(Selection::Grants);
    let backends = route.backend_services().into_iter();
    let of_backends =
        backends.flat_map(|name| [Selection::Service(name.clone()), Selection::Slices(name)]);
    grants.chain(of_backends).collect()
}

/// Where the slices may not be read, the Service's own address stands for its endpoints: the choice
/// among them is then kube-proxy's, and by which rules it chooses too.
fn by_cluster_ip(service: &Service) -> (Service, EndpointSlice) {
    let NamespacedName { namespace, name } = service.name.clone();
    let slice = EndpointSlice {
        // No slice of the cluster can have this name.
        name: NamespacedName { namespace, name: format!("{name} (cluster address)") },
        service: Some(name),
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
                node: None,
                zone: None,
                hints: Hints::default(),
            })
            .collect(),
    };
    let internal_traffic = InternalTraffic::Cluster;
    (Service { client_affinity: None, internal_traffic, ..service.clone() }, slice)
}
