//! Attaches routes to Services, orders them, checks references: what applies, and the verdicts.
//!
//! The proxy calls [`resolve_parent`] or [`resolve`] and compiles the rules; the controller calls
//! [`resolve`] and writes the verdicts. Both come from one pass over the same attachments and rules,
//! so that status cannot disagree with traffic.

mod rules;
mod standing;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::rules::RouteRules;
pub use self::standing::{Place, Standing, near_miss, standings};
use crate::attach::{Attachment, Group, attach};
use crate::condition::{Reason, Verdict};
use crate::object::{NamespacedName, ObjectKey, Objects, Service, ServicePort, Transport};
use crate::precedence::RouteOrder;
use crate::reference::CrossNamespace;
use crate::route::{Filter, Match, Refusal, Retry, Route, RouteKind, Timeouts};
use crate::session::{SessionPersistence, StickySplit};
use crate::support::Implemented;

/// Settings of a cluster that change what routes mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Which references across namespaces need a grant.
    pub cross_namespace: CrossNamespace,
    /// What the proxy implements.
    pub implemented: Implemented,
}

/// What applies, for every Service, and what every route deserves.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Every Service, with its ports.
    pub parents: BTreeMap<NamespacedName, ResolvedParent>,
    /// For every route with at least one Service parent: a verdict per such parentRef.
    pub verdicts: BTreeMap<ObjectKey, Vec<Verdict>>,
}

/// A Service and what applies to each of its TCP ports.
#[derive(Clone, Debug)]
pub struct ResolvedParent {
    /// The Service.
    pub service: NamespacedName,
    /// Its TCP ports, in the Service's order.
    pub ports: Vec<ResolvedPort>,
}

/// A port of a Service and the routes that are attached to it.
#[derive(Clone, Debug)]
pub struct ResolvedPort {
    /// The port.
    pub port: ServicePort,
    /// Routes of the Service's own namespace: for clients anywhere.
    pub producer: Attached,
    /// Routes of other namespaces, by that namespace: for clients in it, in place of `producer`.
    pub consumers: BTreeMap<String, Attached>,
}

/// The routes of one group (producer, or one consumer namespace) on one port, merged.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// Which kind applies; None where no route is attached: then the port behaves as if there were
    /// no mesh.
    pub kind: Option<RouteKind>,
    /// The rules of all routes of that kind, oldest route first, then by `namespace/name`, then in
    /// their route's order. [`crate::matching::Matcher`] and [`crate::matching::SniMatcher`] rank their
    /// matches; of TCPRoutes the first rule takes all connections.
    pub rules: Vec<ResolvedRule>,
}

/// A rule as it applies to one parent.
#[derive(Clone, Debug)]
pub struct ResolvedRule {
    /// The route.
    pub route: ObjectKey,
    /// The rule's index in its route.
    pub index: usize,
    /// The rule's name.
    pub name: Option<String>,
    /// Its matches.
    pub matches: Arc<[Match]>,
    /// Its filters, in the listed order.
    pub filters: Arc<[Filter]>,
    /// Its timeouts.
    pub timeouts: Timeouts,
    /// Its retries.
    pub retry: Option<Retry>,
    /// Its sessions.
    pub session: Option<SessionPersistence>,
    /// Its route's: by what a user keeps the backend that the weights gave them.
    pub sticky_split: Option<StickySplit>,
    /// Its backends, with the whole weights, the invalid ones among them.
    pub backends: Vec<ResolvedBackend>,
    /// Not empty: the rule answers 500 (HTTP) or UNAVAILABLE (gRPC), or closes the connection (TLS,
    /// TCP), whatever else it says.
    pub refusals: Vec<Refusal>,
}

/// A backend of a rule.
#[derive(Clone, Debug)]
pub struct ResolvedBackend {
    /// Its share is this over the sum of the rule's weights.
    pub weight: u32,
    /// Its filters, in the listed order.
    pub filters: Arc<[Filter]>,
    /// Where to, as the route names it: also known when the reference is invalid.
    pub service: NamespacedName,
    /// The Service's port; 0 where the reference has none.
    pub port: u16,
    /// The Service port behind the reference, or why the share is answered with 500 (TLS, TCP: closed).
    pub target: Result<ServicePort, BackendProblem>,
}

/// Why a backend's share is answered with 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendProblem {
    /// InvalidKind, BackendNotFound, RefNotPermitted or UnsupportedProtocol.
    pub reason: Reason,
    /// With the field's path and what to do.
    pub message: String,
}

/// Resolves every Service, and says what every route with a Service parent deserves.
pub fn resolve(objects: &Objects, settings: &Settings) -> Resolved {
    let mut resolved = Resolved::default();
    // Found once: asking every route about every Service would be quadratic.
    let mut routes = routes_by_parent(objects);
    let mut verdicts: BTreeMap<&ObjectKey, Vec<(usize, Verdict)>> = BTreeMap::new();
    let no_routes: Vec<&Route> = Vec::new();
    for (name, service) in &objects.services {
        let routes = routes.remove(name).unwrap_or_else(|| no_routes.clone());
        let pass = Pass::new(objects, service, &routes, settings);
        for attachment in &pass.attachments {
            let route = pass.route_rules(attachment);
            let verdict = verdict::of(attachment, route, service);
            verdicts.entry(&attachment.route.key).or_default().push((attachment.index, verdict));
        }
        resolved.parents.insert(name.clone(), pass.into_parent());
    }
    // What is left names Services that do not exist.
    for (name, routes) in &routes {
        for route in routes {
            let rules = rules::resolve(route, &name.namespace, objects, settings);
            for (index, parent) in route.parents.iter().enumerate() {
                if parent.service(&route.key.namespace).as_ref() == Some(name) {
                    let verdict = verdict::without_service(parent, name, &rules);
                    verdicts.entry(&route.key).or_default().push((index, verdict));
                }
            }
        }
    }
    for (key, mut entries) in verdicts {
        entries.sort_by_key(|(index, _)| *index);
        let mut list: Vec<Verdict> = Vec::with_capacity(entries.len());
        for (_, verdict) in entries {
            // The same parentRef twice is one entry of the status.
            if list.iter().all(|other| !other.parent.says_as(&verdict.parent)) {
                list.push(verdict);
            }
        }
        resolved.verdicts.insert(key.clone(), list);
    }
    resolved
}

/// Resolves one Service: what [`resolve`] has for it, without the rest.
pub fn resolve_parent(objects: &Objects, service: &Service, settings: &Settings) -> ResolvedParent {
    let routes = routes_of(objects, &service.name);
    Pass::new(objects, service, &routes, settings).into_parent()
}

impl ResolvedPort {
    /// What applies to clients in `namespace`.
    ///
    /// "Requests from a namespace with consumer routes will utilize the (possibly merged) set of routes
    /// in the consumer namespace". "The merging of routes occurs only within groups of the same type of
    /// routes (Gateway bound, producer, or consumer)" (GEP-1294).
    pub fn for_client(&self, namespace: &str) -> &Attached {
        let consumer = self.consumers.get(namespace).filter(|it| it.kind.is_some());
        consumer.unwrap_or(&self.producer)
    }
}

/// One Service with the routes that name it, from which both its rules and the routes' verdicts come.
struct Pass<'a> {
    service: &'a Service,
    attachments: Vec<Attachment<'a>>,
    /// The rules of each route of `attachments`, as they apply to this Service.
    rules: BTreeMap<&'a ObjectKey, RouteRules>,
}

impl<'a> Pass<'a> {
    fn new(
        objects: &Objects,
        service: &'a Service,
        routes: &[&'a Route],
        settings: &Settings,
    ) -> Self {
        let mut attachments = attach(service, routes.iter().copied());
        // "The oldest Route", then "The Route appearing first in alphabetical order": this order
        // stands in the rules' indices, by which a Matcher breaks ties.
        attachments.sort_by_key(|it| (RouteOrder::of(it.route), it.index));
        let rules = routes.iter().map(|route| {
            let rules = rules::resolve(route, &service.name.namespace, objects, settings);
            (&route.key, rules)
        });
        Self { service, attachments, rules: rules.collect() }
    }

    fn route_rules(&self, attachment: &Attachment<'_>) -> &RouteRules {
        &self.rules[&attachment.route.key]
    }

    fn into_parent(self) -> ResolvedParent {
        let service = self.service;
        let tcp = |(_, port): &(usize, &ServicePort)| port.transport == Transport::Tcp;
        let ports = service.ports.iter().enumerate().filter(tcp);
        let ports = ports.map(|(index, port)| self.port(index, port)).collect();
        ResolvedParent { service: service.name.clone(), ports }
    }

    fn port(&self, index: usize, port: &ServicePort) -> ResolvedPort {
        let mut resolved = ResolvedPort {
            port: port.clone(),
            producer: Attached::default(),
            consumers: BTreeMap::new(),
        };
        let mut last = None;
        for attachment in self.attachments.iter().filter(|it| it.held().any(|held| held == index)) {
            let route = attachment.route;
            // A route that comes to the port by two parentRefs applies once.
            if last.replace(&route.key) == Some(&route.key) {
                continue;
            }
            let attached = match Group::of(route, self.service) {
                Group::Producer => &mut resolved.producer,
                Group::Consumer(namespace) => {
                    resolved.consumers.entry(namespace.to_owned()).or_default()
                }
            };
            attached.kind = Some(route.kind);
            attached.rules.extend(self.route_rules(attachment).rules.iter().cloned());
        }
        resolved
    }
}

/// The routes that name the Service as a parent.
fn routes_of<'a>(objects: &'a Objects, service: &NamespacedName) -> Vec<&'a Route> {
    let names = |route: &&Route| {
        route.parents.iter().any(|it| it.service(&route.key.namespace).as_ref() == Some(service))
    };
    objects.routes.values().map(|route| &**route).filter(names).collect()
}

fn routes_by_parent(objects: &Objects) -> BTreeMap<NamespacedName, Vec<&Route>> {
    let mut routes: BTreeMap<NamespacedName, Vec<&Route>> = BTreeMap::new();
    for route in objects.routes.values() {
        for name in route.parent_services() {
            let list = routes.entry(name).or_default();
            if list.last().is_none_or(|last| last.key != route.key) {
                list.push(route);
            }
        }
    }
    routes
}

#[cfg(test)]
mod tests;
