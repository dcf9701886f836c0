//! What is known of the cluster, and which routes and policies a change concerns.
//!
//! [`crate::reconcile`] feeds it with what [`crate::watch`] tells, and asks for verdicts. A route's
//! verdicts depend on its own spec, on the Services that it names, on the other routes of its
//! parents, and on the grants in its backends' namespaces; so only those routes are resolved anew
//! that a change can concern, and an edit costs the same in a cluster of ten thousand routes as in
//! one of ten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::DynamicObject;
use kube::core::TypeMeta;
use weft_gamma::condition::Verdict;
use weft_gamma::object::{Kind, NamespacedName, Object, ObjectKey, Objects, decode};
use weft_gamma::policy;
use weft_gamma::resolve::{Settings, resolve};
use weft_gamma::route::Route;

use crate::kinds::{ROUTING, WatchedKind};
use crate::status::Report;
use crate::watch::{Change, Update};

/// A route or a policy as the API server has it: what a new status is laid into.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Its kind.
    pub kind: &'static WatchedKind,
    /// The version in which it was read and is written.
    pub version: &'static str,
    /// The whole object without its managed fields, as JSON text: a tenth of the memory of the
    /// parsed value, which is needed at a write only.
    pub json: Arc<str>,
    /// `metadata.uid`
    uid: String,
    /// `metadata.generation`, which every change of the spec raises.
    generation: i64,
}

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Store {
    objects: Objects,
    /// What has a status of ours: routes and policies.
    reported: BTreeMap<ObjectKey, Reported>,
    /// The objects of each kind, so that a list can tell which are gone.
    keys: BTreeMap<&'static str, BTreeSet<ObjectKey>>,
    /// Kinds that have been listed, or are known to be absent.
    known: BTreeSet<&'static str>,
    /// The routes that name a Service as their parent.
    by_parent: Index,
    /// The routes that name a Service as a backend, of a rule or of a mirror.
    by_backend: Index,
    changed: Changed,
}

type Index = BTreeMap<NamespacedName, BTreeSet<ObjectKey>>;

/// What changed since [`Store::take_concerned`] was called last.
#[derive(Debug, Default)]
struct Changed {
    /// Routes to look at.
    routes: BTreeSet<ObjectKey>,
    /// Services whose routes are to be looked at, because they or their routes changed.
    parents: BTreeSet<NamespacedName>,
    /// Services that changed, also as backends.
    services: BTreeSet<NamespacedName>,
    /// Namespaces whose grants changed.
    grants: BTreeSet<String>,
    /// A policy changed. They are few: all of them are looked at.
    policies: bool,
}

impl Store {
    /// Takes in what a watch told.
    pub fn apply(&mut self, update: Update) {
        let Update { kind, version, change } = update;
        match change {
            Change::Applied(object) => {
                self.insert(kind, version, *object);
            }
            Change::Deleted(object) => {
                self.remove_named(kind, &object);
            }
            Change::Listed(objects) => {
                let mut listed = BTreeSet::new();
                for object in objects {
                    listed.extend(self.insert(kind, version, object));
                }
                self.remove_others(kind, &listed);
                self.known.insert(kind.kind);
            }
            Change::Absent => {
                self.remove_others(kind, &BTreeSet::new());
                self.known.insert(kind.kind);
            }
        }
    }

    /// Whether every kind has been listed: before, a Service that exists could look as if it did not.
    pub fn is_complete(&self) -> bool {
        ROUTING.iter().all(|kind| self.known.contains(kind.kind))
    }

    /// The kinds that [`Store::is_complete`] waits for.
    pub fn missing(&self) -> Vec<&'static str> {
        ROUTING.iter().map(|kind| kind.kind).filter(|kind| !self.known.contains(kind)).collect()
    }

    /// Whether anything changed since [`Store::take_concerned`] was called last.
    pub fn has_changed(&self) -> bool {
        let Changed { routes, parents, services, grants, policies } = &self.changed;
        let is_empty = routes.is_empty() && parents.is_empty() && services.is_empty();
        !(is_empty && grants.is_empty() && !policies)
    }

    /// The route or policy counts as changed.
    pub fn look_again(&mut self, key: &ObjectKey) {
        match key.kind {
            Kind::BackendTrafficPolicy => self.changed.policies = true,
            _ => {
                self.changed.routes.insert(key.clone());
            }
        }
    }

    /// A route or policy as the API server has it.
    pub fn reported(&self, key: &ObjectKey) -> Option<&Reported> {
        self.reported.get(key)
    }

    /// How many routes are known.
    pub fn route_count(&self) -> usize {
        self.objects.routes.len()
    }

    /// The routes and policies whose verdicts may differ from what they were when this was called
    /// last.
    pub fn take_concerned(&mut self) -> BTreeSet<ObjectKey> {
        let changed = std::mem::take(&mut self.changed);
        let mut concerned = changed.routes;
        if changed.policies || !changed.services.is_empty() {
            concerned.extend(self.objects.policies.values().map(|policy| policy.key()));
        }
        let lists = |index: &Index, names: &BTreeSet<NamespacedName>| -> Vec<ObjectKey> {
            names.iter().filter_map(|name| index.get(name)).flatten().cloned().collect()
        };
        concerned.extend(lists(&self.by_parent, &changed.parents));
        concerned.extend(lists(&self.by_parent, &changed.services));
        concerned.extend(lists(&self.by_backend, &changed.services));
        for namespace in changed.grants {
            let first = NamespacedName { namespace: namespace.clone(), name: String::new() };
            let backends = self.by_backend.range(first..);
            let backends = backends.take_while(|(name, _)| name.namespace == namespace);
            concerned.extend(backends.flat_map(|(_, routes)| routes).cloned());
        }
        concerned.retain(|key| self.reported.contains_key(key));
        concerned
    }

    /// What the status of these routes and policies is to say: of a route without a Service as its
    /// parent, nothing.
    pub fn reports(
        &self,
        concerned: &BTreeSet<ObjectKey>,
        settings: &Settings,
    ) -> BTreeMap<ObjectKey, Report> {
        let is_policy = |key: &ObjectKey| key.kind == Kind::BackendTrafficPolicy;
        let (policies, routes): (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>) =
            concerned.iter().cloned().partition(is_policy);
        let mut verdicts = self.verdicts(&routes, settings);
        let of_route = |key: ObjectKey| {
            let verdicts = verdicts.remove(&key).unwrap_or_default();
            (key, Report::Route(verdicts))
        };
        let mut reports: BTreeMap<_, _> = routes.into_iter().map(of_route).collect();
        if !policies.is_empty() {
            let verdicts = policy::resolve(&self.objects).verdicts;
            let concerned = verdicts.into_iter().filter(|(key, _)| policies.contains(key));
            reports.extend(concerned.map(|(key, verdicts)| (key, Report::Policy(verdicts))));
        }
        reports
    }

    /// What these routes deserve; nothing for a route without a Service as its parent.
    fn verdicts(
        &self,
        routes: &BTreeSet<ObjectKey>,
        settings: &Settings,
    ) -> BTreeMap<ObjectKey, Vec<Verdict>> {
        let mut verdicts = match routes.len() * 2 > self.objects.routes.len() {
            true => resolve(&self.objects, settings).verdicts,
            false => resolve(&self.surroundings(routes), settings).verdicts,
        };
        // Of the others, not everything that their verdicts depend on was looked at.
        verdicts.retain(|key, _| routes.contains(key));
        verdicts
    }

    /// All that the verdicts on `routes` depend on.
    fn surroundings(&self, routes: &BTreeSet<ObjectKey>) -> Objects {
        let mut objects = Objects { grants: self.objects.grants.clone(), ..Objects::default() };
        for key in routes {
            let Some(route) = self.objects.routes.get(key) else { continue };
            objects.routes.insert(key.clone(), route.clone());
            for name in route.parent_services() {
                // The other routes of a parent may hold its ports.
                for other in self.by_parent.get(&name).into_iter().flatten() {
                    if let Some(other) = self.objects.routes.get(other) {
                        objects.routes.insert(other.key.clone(), other.clone());
                    }
                }
                self.copy_service(name, &mut objects);
            }
            for name in route.backend_services() {
                self.copy_service(name, &mut objects);
            }
        }
        objects
    }

    fn copy_service(&self, name: NamespacedName, objects: &mut Objects) {
        if let Some(service) = self.objects.services.get(&name) {
            objects.services.insert(name, service.clone());
        }
    }

    /// Takes in an object; None if it cannot be read at all.
    fn insert(
        &mut self,
        kind: &'static WatchedKind,
        version: &'static str,
        object: DynamicObject,
    ) -> Option<ObjectKey> {
        let object = with_type(kind, version, object);
        let decoded = decode(serde_json::to_value(&object).unwrap_or_default());
        for problem in &decoded.problems {
            tracing::debug!(%problem, "cannot be read");
        }
        let Some(readable) = decoded.objects.into_iter().next() else {
            // Nothing else is lost by it; but what it said before does not hold any more.
            self.remove_named(kind, &object);
            return None;
        };
        let key = readable.key();
        match &readable {
            Object::Service(service) => {
                if self.objects.services.get(&service.name).is_none_or(|old| **old != *service) {
                    self.changed.services.insert(service.name.clone());
                }
            }
            Object::ReferenceGrant(grant) => {
                if self.objects.grants.get(&grant.name).is_none_or(|old| **old != *grant) {
                    self.changed.grants.insert(grant.name.namespace.clone());
                }
            }
            Object::Route(route) => {
                let new = Reported::new(kind, version, object);
                self.route_changed(route, &new);
                self.reported.insert(key.clone(), new);
            }
            Object::BackendTrafficPolicy(_) => {
                // Also after our own write: the pass finds that nothing differs.
                self.changed.policies = true;
                self.reported.insert(key.clone(), Reported::new(kind, version, object));
            }
            // Not among the kinds that are watched.
            Object::EndpointSlice(_) => return None,
        }
        self.objects.insert(readable);
        self.keys.entry(kind.kind).or_default().insert(key.clone());
        Some(key)
    }

    fn route_changed(&mut self, route: &Route, new: &Reported) {
        let old = self.reported.get(&route.key);
        // The API server raises the generation with every change of a spec: otherwise only the
        // status or the metadata changed, which is no other route's concern.
        let same_spec = old.is_some_and(|old| {
            old.generation == new.generation && old.uid == new.uid && old.generation > 0
        });
        self.changed.routes.insert(route.key.clone());
        if same_spec {
            return;
        }
        self.forget_references(&route.key);
        for name in route.parent_services() {
            self.changed.parents.insert(name.clone());
            self.by_parent.entry(name).or_default().insert(route.key.clone());
        }
        for name in route.backend_services() {
            self.by_backend.entry(name).or_default().insert(route.key.clone());
        }
    }

    /// Takes a route that is still in `objects` out of the indices; its parents' other routes are
    /// concerned.
    fn forget_references(&mut self, key: &ObjectKey) {
        let Some(route) = self.objects.routes.get(key) else { return };
        for name in route.parent_services() {
            remove_from(&mut self.by_parent, &name, key);
            self.changed.parents.insert(name);
        }
        for name in route.backend_services() {
            remove_from(&mut self.by_backend, &name, key);
        }
    }

    fn remove_named(&mut self, kind: &'static WatchedKind, object: &DynamicObject) {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let named = |key: &&ObjectKey| key.namespace == namespace && key.name == name;
        let key = self.keys.get(kind.kind).and_then(|keys| keys.iter().find(named)).cloned();
        if let Some(key) = key {
            self.remove(kind, &key);
        }
    }

    fn remove(&mut self, kind: &'static WatchedKind, key: &ObjectKey) {
        let name = NamespacedName { namespace: key.namespace.clone(), name: key.name.clone() };
        self.forget_references(key);
        self.reported.remove(key);
        if !self.objects.remove(key) {
            return;
        }
        if let Some(keys) = self.keys.get_mut(kind.kind) {
            keys.remove(key);
        }
        match kind.kind {
            "Service" => {
                self.changed.services.insert(name);
            }
            "ReferenceGrant" => {
                self.changed.grants.insert(name.namespace);
            }
            "XBackendTrafficPolicy" => self.changed.policies = true,
            _ => {}
        }
    }

    fn remove_others(&mut self, kind: &'static WatchedKind, listed: &BTreeSet<ObjectKey>) {
        let keys = self.keys.get(kind.kind);
        let gone: Vec<ObjectKey> =
            keys.into_iter().flatten().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.remove(kind, &key);
        }
    }
}

impl Reported {
    fn new(kind: &'static WatchedKind, version: &'static str, object: DynamicObject) -> Self {
        Self {
            kind,
            version,
            json: serde_json::to_string(&object).unwrap_or_default().into(),
            uid: object.metadata.uid.unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
        }
    }
}

/// The object as the API server would print it alone, without its managed fields: the items of a list
/// of a built-in kind do not say what they are.
fn with_type(kind: &WatchedKind, version: &str, mut object: DynamicObject) -> DynamicObject {
    let resource = kind.resource(version);
    object.types = Some(TypeMeta { api_version: resource.api_version, kind: resource.kind });
    object.metadata.managed_fields = None;
    object
}

fn remove_from(index: &mut Index, name: &NamespacedName, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(name) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
