//! From resolved objects to a table.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::iter::repeat;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use weft_gamma::condition::Reason;
use weft_gamma::endpoints;
use weft_gamma::matching::{Matcher, SniMatcher};
use weft_gamma::object::{
    EndpointSlice, InternalTraffic, NamespacedName, Objects, Service, ServicePort,
};
use weft_gamma::policy::{self, ResolvedPolicies};
use weft_gamma::resolve::{self, Attached, Resolved, ResolvedBackend, ResolvedRule, Settings};
use weft_gamma::route::{self, RouteKind, Timeouts};

use super::{
    Action, Destination, Retry, Routing, Rule, RuleName, Split, StreamRouting, Table, Target,
    WeightedBackend,
};
use crate::backend::{Backend, BackendName, Registry, Scope, Terms};
use crate::filter::{Cors, Filter, Mirror};
use crate::metrics::{Metrics, RouteLabels};
use crate::pod::Pod;
use crate::protocol::{self, Declared};
use crate::rendezvous;
use crate::session::Stickiness;
use crate::source::SourceProblem;

/// Compiles tables, one after the other, and keeps what must outlive a table: the backends with
/// their connections, and what was learned about ports.
#[derive(Debug)]
pub struct Compiler {
    pod: Pod,
    settings: Settings,
    metrics: Arc<Metrics>,
    registry: Registry,
    server_first: HashMap<BackendName, Arc<AtomicBool>>,
    generation: u64,
}

/// What a run of the compiler yields.
#[derive(Debug)]
pub struct Compiled {
    pub table: Table,
    /// What the API would have the routes' status complain about.
    pub verdicts: Vec<SourceProblem>,
}

/// Finds the series of a rule: of requests ([`Metrics::route`]) or of streams ([`Metrics::tcp`]).
type Intern<S> = fn(&Metrics, RouteLabels) -> Arc<S>;

/// One run of the compiler.
struct Run<'a> {
    objects: &'a Objects,
    pod: &'a Pod,
    slices: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    registry: &'a mut Registry,
    metrics: &'a Arc<Metrics>,
    used: HashSet<BackendName>,
    weights: Vec<(RouteLabels, f64)>,
    policies: &'a ResolvedPolicies,
}

impl Compiler {
    pub fn new(pod: Pod, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            registry: Registry::new(pod.address),
            pod,
            settings,
            metrics,
            server_first: HashMap::new(),
            generation: 0,
        }
    }

    /// Compiles the table for this sidecar's pod, with an entry for each of
    /// `destinations`, or for every Service where that is None. Endpoints that changed reach the
    /// workers through the backends, also those of earlier tables.
    pub fn compile(
        &mut self,
        objects: &Objects,
        destinations: Option<&BTreeSet<NamespacedName>>,
    ) -> Compiled {
        let is_destination =
            |name: &NamespacedName| destinations.is_none_or(|known| known.contains(name));
        self.generation += 1;
        let policies = policy::resolve(objects);
        self.learn_zone(objects);
        let mut run = Run {
            objects,
            pod: &self.pod,
            slices: slices_by_service(objects),
            registry: &mut self.registry,
            metrics: &self.metrics,
            used: HashSet::new(),
            weights: Vec::new(),
            policies: &policies,
        };
        let resolved = resolve::resolve(objects, &self.settings);
        let mut table = foldhash::HashMap::default();
        for parent in resolved.parents.values().filter(|parent| is_destination(&parent.service)) {
            let Some(service) = objects.services.get(&parent.service) else { continue };
            for port in &parent.ports {
                let name = BackendName { service: service.name.clone(), port: port.port.port };
                let server_first = self.server_first.entry(name).or_default().clone();
                let attached = port.for_client(&self.pod.namespace);
                let destination =
                    Arc::new(run.destination(service, &port.port, attached, server_first));
                for ip in &service.cluster_ips {
                    table.insert((*ip, port.port.port), destination.clone());
                }
            }
        }
        let Run { used, weights, .. } = run;
        self.registry.retain(|name| used.contains(name));
        self.server_first.retain(|name, _| used.contains(name));
        self.metrics.set_weights(weights);
        Compiled {
            table: Table {
                generation: self.generation,
                addresses: table.keys().map(|(ip, _)| *ip).collect(),
                destinations: table,
            },
            verdicts: verdicts(&resolved, is_destination).chain(conflicts(&policies)).collect(),
        }
    }

    /// Kubernetes tells a pod its zone from v1.35 on. Where it does not, the zone is that of any
    /// endpoint on the pod's node, once there is one; a node does not change its zone.
    fn learn_zone(&mut self, objects: &Objects) {
        let place = &mut self.pod.place;
        if let (Some(node), None) = (&place.node, &place.zone) {
            let slices = objects.slices.values().map(AsRef::as_ref);
            place.zone = endpoints::zone_of_node(slices, node).map(str::to_owned);
            if let Some(zone) = &place.zone {
                tracing::info!(node, zone, "the pod's zone is known, from an endpoint on its node");
            }
        }
    }
}

/// Which policies do not hold because of others. What is wrong with one by itself was told when it was
/// read; that its target does not exist may only mean that this sidecar does not need it.
fn conflicts(policies: &ResolvedPolicies) -> impl Iterator<Item = SourceProblem> + '_ {
    let verdicts = policies.verdicts.iter().flat_map(|(policy, it)| it.iter().zip(repeat(policy)));
    let conflicts =
        verdicts.filter(|(verdict, _)| verdict.condition.reason == Reason::PolicyConflicted);
    conflicts.map(|(verdict, policy)| SourceProblem {
        file: None,
        line: None,
        object: Some(policy.clone()),
        field: String::new(),
        message: format!("does not hold: {}", verdict.condition.message),
    })
}

/// What is wrong with routes whose parent is a destination: what their status says.
fn verdicts(
    resolved: &Resolved,
    is_destination: impl Fn(&NamespacedName) -> bool,
) -> impl Iterator<Item = SourceProblem> {
    let mut problems = Vec::new();
    for (route, verdicts) in &resolved.verdicts {
        for verdict in verdicts {
            if !verdict.parent.service(&route.namespace).is_some_and(|name| is_destination(&name)) {
                continue;
            }
            let bad = verdict.conditions.iter().filter(|condition| condition.is_complaint());
            problems.extend(bad.map(|condition| SourceProblem {
                file: None,
                line: None,
                object: Some(route.clone()),
                field: String::new(),
                message: format!(
                    "{}={} ({}) for {}: {}",
                    condition.kind,
                    condition.status_str(),
                    condition.reason,
                    verdict.parent,
                    condition.message
                ),
            }));
        }
    }
    problems.into_iter()
}

fn slices_by_service(objects: &Objects) -> HashMap<(&str, &str), Vec<&EndpointSlice>> {
    let mut slices: HashMap<_, Vec<_>> = HashMap::new();
    for slice in objects.slices.values() {
        if let Some(service) = &slice.service {
            let key = (slice.name.namespace.as_str(), service.as_str());
            slices.entry(key).or_default().push(slice.as_ref());
        }
    }
    slices
}

impl Run<'_> {
    fn destination(
        &mut self,
        service: &Service,
        port: &ServicePort,
        attached: &Attached,
        server_first: Arc<AtomicBool>,
    ) -> Destination {
        let parent = RouteLabels {
            parent_namespace: service.name.namespace.clone(),
            parent_name: service.name.name.clone(),
            parent_port: port.port,
            route_kind: "none",
            ..RouteLabels::default()
        };
        let own = self.backend(&service.name, port);
        let declared = protocol::declared(port);
        let (mut routing, mut streams) = (Routing::Unrouted, StreamRouting::Unrouted);
        match attached.kind {
            None => {}
            Some(RouteKind::Tls) => {
                let matcher = Box::new(SniMatcher::new(&attached.rules));
                let rules = self.rules(service, &parent, attached, Metrics::tcp);
                streams = StreamRouting::Tls { matcher, rules };
            }
            Some(RouteKind::Tcp) => {
                let rules = self.rules(service, &parent, attached, Metrics::tcp);
                streams = StreamRouting::Tcp { rules };
            }
            Some(kind @ (RouteKind::Http | RouteKind::Grpc)) => {
                let matcher = Box::new(Matcher::new(kind, &attached.rules));
                let rules = self.rules(service, &parent, attached, Metrics::route);
                let cors = rules.iter().any(Rule::has_cors);
                let host = rules.iter().any(Rule::reads_host);
                routing = Routing::Routed { kind, matcher, rules, cors, host };
            }
        }
        Destination {
            service: service.name.clone(),
            port: port.clone(),
            declared,
            used: AtomicBool::new(false),
            server_first,
            routing,
            unrouted: Arc::new(self.unrouted(&parent, &own, declared, Metrics::route)),
            unmatched_series: self.metrics.route(parent.clone()),
            streams,
            unrouted_stream: self.unrouted(&parent, &own, declared, Metrics::tcp),
            unmatched_stream: self.metrics.tcp(parent),
        }
    }

    /// What happens where no route applies: all goes to the Service's own endpoints.
    fn unrouted<S>(
        &mut self,
        parent: &RouteLabels,
        backend: &Arc<Backend>,
        declared: Declared,
        intern: Intern<S>,
    ) -> Rule<S> {
        let labels = with_backend(parent, &backend.name.service, backend.name.port);
        let backend = WeightedBackend {
            digest: digest(&backend.name.service, backend.name.port, 0),
            weight: 1,
            filters: Box::default(),
            target: Ok(Target { backend: backend.clone(), http2: declared == Declared::Http2 }),
            series: intern(self.metrics, labels),
        };
        Rule {
            source: None,
            matches: Arc::default(),
            filters: Box::default(),
            action: Action::Forward(Split::new(vec![backend])),
            timeouts: Timeouts::default(),
            retry: None,
            stickiness: None,
            series: intern(self.metrics, parent.clone()),
        }
    }

    fn rules<S>(
        &mut self,
        service: &Service,
        parent: &RouteLabels,
        attached: &Attached,
        intern: Intern<S>,
    ) -> Vec<Rule<S>> {
        attached.rules.iter().map(|rule| self.rule(service, parent, rule, intern)).collect()
    }

    fn rule<S>(
        &mut self,
        service: &Service,
        parent: &RouteLabels,
        rule: &ResolvedRule,
        intern: Intern<S>,
    ) -> Rule<S> {
        let labels = RouteLabels {
            route_kind: rule.route.kind.as_str(),
            route_namespace: rule.route.namespace.clone(),
            route_name: rule.route.name.clone(),
            rule: rule.index.to_string(),
            rule_name: rule.name.clone().unwrap_or_default(),
            ..parent.clone()
        };
        let action = self.action(&labels, rule, intern);
        let stickiness = match &action {
            Action::Forward(split) => Stickiness::new(service, rule, split.backends().len() > 1),
            Action::Refuse(_) | Action::Answer => None,
        };
        Rule {
            source: Some(RuleName {
                route: rule.route.clone(),
                index: rule.index,
                name: rule.name.clone(),
            }),
            matches: rule.matches.clone(),
            // Half of a rule is another rule.
            filters: match rule.refusals.is_empty() {
                true => self.filters(&labels, &rule.filters),
                false => Box::default(),
            },
            action,
            timeouts: timeouts(rule.timeouts),
            retry: rule.retry.as_ref().map(Retry::new),
            stickiness: stickiness.map(Box::new),
            series: intern(self.metrics, labels),
        }
    }

    fn action<S>(
        &mut self,
        labels: &RouteLabels,
        rule: &ResolvedRule,
        intern: Intern<S>,
    ) -> Action<S> {
        if !rule.refusals.is_empty() {
            let reasons: Vec<String> = rule
                .refusals
                .iter()
                .map(|refusal| format!("{}: {}", refusal.field, refusal.message))
                .collect();
            return Action::Refuse(reasons.join("; "));
        }
        if rule.filters.iter().any(|filter| matches!(filter, route::Filter::Redirect(_))) {
            return Action::Answer;
        }
        let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut backends = Vec::with_capacity(rule.backends.len());
        for (index, backend) in rule.backends.iter().enumerate() {
            let is_same =
                |it: &&ResolvedBackend| it.service == backend.service && it.port == backend.port;
            // One backend may be there twice, with different filters.
            let before = rule.backends[..index].iter().filter(is_same).count();
            backends.push(self.weighted_backend(labels, backend, before, total, intern));
        }
        Action::Forward(Split::new(backends))
    }

    fn weighted_backend<S>(
        &mut self,
        labels: &RouteLabels,
        backend: &ResolvedBackend,
        before: usize,
        total: u64,
        intern: Intern<S>,
    ) -> WeightedBackend<S> {
        let filters = self.filters(labels, &backend.filters);
        let labels = with_backend(labels, &backend.service, backend.port);
        if total > 0 {
            // Weights are below 2^20, so that f64 has them exactly.
            #[allow(clippy::cast_precision_loss)]
            self.weights.push((labels.clone(), f64::from(backend.weight) / total as f64));
        }
        WeightedBackend {
            digest: digest(&backend.service, backend.port, before),
            weight: backend.weight,
            filters,
            target: match &backend.target {
                Ok(port) => Ok(self.target(&backend.service, port)),
                Err(problem) => Err(problem.message.clone()),
            },
            series: intern(self.metrics, labels),
        }
    }

    fn filters(&mut self, labels: &RouteLabels, listed: &[route::Filter]) -> Box<[Filter]> {
        let compiled = listed.iter().filter_map(|filter| match filter {
            route::Filter::RequestHeaders(it) => Some(Filter::RequestHeaders(it.clone())),
            route::Filter::ResponseHeaders(it) => Some(Filter::ResponseHeaders(it.clone())),
            route::Filter::Redirect(it) => Some(Filter::Redirect(it.clone())),
            route::Filter::Rewrite(it) => Some(Filter::Rewrite(it.clone())),
            route::Filter::Cors(it) => Some(Filter::Cors(Cors::from(it))),
            route::Filter::Mirror(it) => self.mirror(labels, it).map(Filter::Mirror),
        });
        compiled.collect()
    }

    /// None for a mirror that no request goes to.
    fn mirror(&mut self, labels: &RouteLabels, mirror: &route::Mirror) -> Option<Mirror> {
        let service = mirror.backend.service(&labels.route_namespace);
        // The reference was checked: a mirror whose target does not resolve is not among the filters.
        let port = self.objects.services.get(&service)?.tcp_port(mirror.backend.port?)?;
        let target = self.target(&service, port);
        let series = self.metrics.mirror(with_backend(labels, &service, port.port));
        Mirror::new(target, series, mirror.numerator, mirror.denominator)
    }

    fn target(&mut self, service: &NamespacedName, port: &ServicePort) -> Target {
        let http2 = protocol::declared(port) == Declared::Http2;
        Target { backend: self.backend(service, port), http2 }
    }

    /// The backend of a Service's port, with its current endpoints and retry constraint.
    fn backend(&mut self, service: &NamespacedName, port: &ServicePort) -> Arc<Backend> {
        let name = BackendName { service: service.clone(), port: port.port };
        let slices = self.slices.get(&(service.namespace.as_str(), service.name.as_str()));
        let slices = slices.into_iter().flatten().copied();
        let retries = self.policies.retries.get(service).copied().unwrap_or_default();
        let service = self.objects.services.get(service);
        debug_assert!(service.is_some(), "references are checked");
        let internal_traffic = service.map(|it| it.internal_traffic).unwrap_or_default();
        let place = &self.pod.place;
        let endpoints = endpoints::for_pod(slices, &port.name, internal_traffic, place);
        let terms = Terms {
            client_affinity: service.and_then(|it| it.client_affinity),
            scope: match internal_traffic {
                InternalTraffic::Cluster => Scope::Cluster,
                InternalTraffic::Local => Scope::Node(place.node.as_deref().map(Arc::from)),
            },
            retries,
        };
        let backend = self.registry.intern(&name, endpoints, terms);
        self.used.insert(name);
        backend
    }
}

/// "Setting a timeout to the zero duration (e.g. "0s") SHOULD disable the timeout completely."
fn timeouts(timeouts: Timeouts) -> Timeouts {
    let some = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    Timeouts { request: some(timeouts.request), backend_request: some(timeouts.backend_request) }
}

/// By the names, not the order: a user keeps the backend when its route is written anew. `before` is
/// how often the same backend was there before.
fn digest(service: &NamespacedName, port: u16, before: usize) -> u64 {
    let (port, before) = (port.to_string(), before.to_string());
    let parts = [&*service.namespace, &service.name, &port, &before];
    rendezvous::digest(parts.map(str::as_bytes))
}

fn with_backend(labels: &RouteLabels, service: &NamespacedName, port: u16) -> RouteLabels {
    RouteLabels {
        backend_namespace: service.namespace.clone(),
        backend_name: service.name.clone(),
        backend_port: port.to_string(),
        ..labels.clone()
    }
}
