//! Where a request can go: the backends of its rule with their odds and endpoints.

use http::Version;
use http::request::Parts;
use weft_gamma::endpoints::{self, Readiness};
use weft_gamma::object::{EndpointSlice, NamespacedName};
use weft_gamma::resolve::ResolvedRule;
use weft_gamma::route::{PathMatch, Redirect};

use super::answer::{Answer, Backend, Endpoint, Filter, Forwarded};
use super::{Extent, World, decide, filters};
use crate::backend::{self, Scope};
use crate::fault::{Fault, Kind};
use crate::filter::{self, Chain};
use crate::request::head::{self, Present};
use crate::request::{self, Plan};
use crate::table::{Destination, Rule, Target, WeightedBackend, duration};

/// A request that has found its rule.
pub(super) struct Asked<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) destination: &'a Destination,
    pub(super) rule: &'a Rule,
    /// As they came, in the form in which they are held against matches.
    pub(super) parts: &'a Parts,
    pub(super) matched: Option<&'a PathMatch>,
    pub(super) is_grpc: bool,
}

/// What becomes of the request with one of the backends.
#[derive(Default)]
struct Outcome<'a> {
    /// What the proxy answers by itself.
    answer: Option<Answer>,
    /// Where it is sent otherwise.
    target: Option<&'a Target>,
    /// The backend's own.
    filters: Vec<Filter>,
    /// Where these are there.
    forwarded: Option<Forwarded>,
}

impl<'a> Asked<'a> {
    /// What the rule's own filters do, and the request that they leave, where one goes on.
    pub(super) fn by_rule(&self) -> (Vec<Filter>, Option<Forwarded>) {
        let filters = &self.rule.filters;
        if let Some(answer) = self.answer() {
            return (filters::of_answer(filters, &answer, &self.parts.headers), None);
        }
        let chain = Chain::new(filters, &[], &self.parts.headers);
        let mut parts = self.stripped();
        let filters = filters::walk(&chain, &mut parts, self.matched);
        (filters, Some(filters::forwarded(&parts)))
    }

    /// What the rule makes the proxy answer by itself, whichever backend is drawn.
    pub(super) fn answer(&self) -> Option<Answer> {
        let drawable = self.drawable();
        let [first, rest @ ..] = drawable.as_slice() else { return self.plan(None).err() };
        let answer = self.plan(Some(first)).err()?;
        let same = |drawn: &&'a _| self.plan(Some(drawn)).err().as_ref() == Some(&answer);
        rest.iter().all(same).then_some(answer)
    }

    /// The backend and the filters that the request has with what it has drawn, or the answer that the
    /// rule makes of it.
    fn plan(
        &self,
        drawn: Option<&'a WeightedBackend>,
    ) -> Result<(&'a WeightedBackend, Chain<'a>), Answer> {
        let mut chain = Chain::default();
        match request::plan(self.rule, drawn, self.parts, &mut chain) {
            Ok(Plan::Forward(backend)) => Ok((backend, chain)),
            Ok(Plan::Redirect(to)) => Err(self.redirect(to)),
            Ok(Plan::Preflight(headers)) => {
                Err(Answer { headers: decide::headers(&headers), ..Answer::of(204) })
            }
            Err(fault) => Err(self.fault(&fault)),
        }
    }

    /// What becomes of the request when it has drawn this backend.
    fn outcome(&self, drawn: &'a WeightedBackend) -> Outcome<'a> {
        let (backend, chain) = match self.plan(Some(drawn)) {
            Ok(planned) => planned,
            Err(answer) => return self.answered(answer),
        };
        let target = match &backend.target {
            Ok(target) => target,
            Err(why) => {
                let fault = Fault::new(Kind::BackendInvalid, why.clone());
                return self.answered(self.fault(&fault));
            }
        };
        if let Some(to) = filter::redirect(&backend.filters) {
            let answer = self.redirect(to);
            let headers = &self.parts.headers;
            let filters = filters::of_answer(&backend.filters, &answer, headers);
            return Outcome { filters, ..self.answered(answer) };
        }
        let mut outcome = Outcome { target: Some(target), ..Outcome::default() };
        if !backend.filters.is_empty() {
            let mut parts = self.stripped();
            let mut all = filters::walk(&chain, &mut parts, self.matched);
            outcome.filters = all.split_off(self.rule.filters.len());
            outcome.forwarded = Some(filters::forwarded(&parts));
        }
        outcome
    }

    /// The backends of the rule, with what becomes of the request at each.
    pub(super) fn backends(&self, resolved: Option<&ResolvedRule>) -> Vec<Backend> {
        in_order(self.destination, self.rule, resolved, |weighted, backend| {
            self.describe(weighted, backend);
        })
    }

    fn describe(&self, weighted: &'a WeightedBackend, backend: &mut Backend) {
        let Outcome { answer, target, filters, forwarded } = self.outcome(weighted);
        (backend.answer, backend.filters, backend.forwarded) = (answer, filters, forwarded);
        if let Some(kept) = self.kept() {
            backend.percent = if std::ptr::eq(kept, weighted) { 100.0 } else { 0.0 };
        }
        let Some(target) = target else { return };
        let grpc = self.is_grpc && self.parts.version == Version::HTTP_2;
        let upgrades = head::upgrade(self.parts).is_some();
        let http2 = request::speaks_http2(target, grpc, upgrades);
        backend.protocol = Some(if http2 { "HTTP/2" } else { "HTTP/1.1" });
        backend.retry_budget = self.retry_budget(target);
        backend.look_up(self.world, &target.backend);
        let kept = self.kept_endpoint(weighted, target);
        for endpoint in &mut backend.endpoints {
            endpoint.kept = kept.as_ref() == Some(&endpoint.address);
        }
        if backend.has_none_ready() {
            backend.answer = Some(self.fault(&target.backend.no_endpoint()));
        }
    }

    /// As the filters get it.
    fn stripped(&self) -> Parts {
        let mut parts = self.parts.clone();
        let present = Present::of(&parts.headers);
        head::strip_hop_by_hop(&mut parts.headers, present);
        parts
    }

    fn answered(&self, answer: Answer) -> Outcome<'a> {
        Outcome { answer: Some(answer), ..Outcome::default() }
    }

    fn fault(&self, fault: &Fault) -> Answer {
        decide::answer_of(fault, self.is_grpc)
    }

    fn redirect(&self, to: &Redirect) -> Answer {
        match request::location(to, self.parts, self.destination, self.matched) {
            Ok(location) => Answer {
                location: Some(String::from_utf8_lossy(location.as_bytes()).into_owned()),
                ..Answer::of(to.status.as_u16())
            },
            Err(fault) => self.fault(&fault),
        }
    }
}

/// The backends of a rule in the route's order, those of weight 0 among them; `describe` says what
/// becomes of those that can be drawn.
pub(super) fn in_order<'a, S>(
    destination: &Destination,
    rule: &'a Rule<S>,
    resolved: Option<&ResolvedRule>,
    describe: impl Fn(&'a WeightedBackend<S>, &mut Backend),
) -> Vec<Backend> {
    let total: u64 = rule.backends().iter().map(|it| u64::from(it.weight)).sum();
    let mut drawable = rule.backends().iter();
    let mut drawn = |service: &NamespacedName, port: u16| {
        let weighted = drawable.next()?;
        let mut backend = Backend::new(service, port, weighted.weight, total);
        describe(weighted, &mut backend);
        Some(backend)
    };
    let Some(resolved) = resolved else {
        return drawn(&destination.service, destination.port.port).into_iter().collect();
    };
    let shown = resolved.backends.iter().filter_map(|resolved| match resolved.weight {
        0 => Some(Backend::new(&resolved.service, resolved.port, 0, total)),
        _ => drawn(&resolved.service, resolved.port),
    });
    shown.collect()
}

impl Backend {
    fn new(service: &NamespacedName, port: u16, weight: u32, total: u64) -> Self {
        Self {
            service: service.to_string(),
            port,
            weight,
            // Weights are below 2^20, so that f64 has them exactly.
            #[allow(clippy::cast_precision_loss)]
            percent: if weight > 0 { f64::from(weight) * 100.0 / total as f64 } else { 0.0 },
            protocol: None,
            filters: Vec::new(),
            forwarded: None,
            retry_budget: None,
            endpoints_known: false,
            choice: Vec::new(),
            endpoints: Vec::new(),
            answer: None,
        }
    }

    /// Notes the endpoints.
    pub(super) fn look_up(&mut self, world: &World<'_>, backend: &backend::Backend) {
        (self.endpoints_known, self.endpoints) = endpoints(world, backend);
        self.choice = choice(backend);
    }

    /// Whether it is certain that there is nowhere to go.
    pub(super) fn has_none_ready(&self) -> bool {
        self.endpoints_known && !self.endpoints.iter().any(|it| it.used)
    }
}

/// The endpoints of a backend, those that take no requests among them; and whether that is all that
/// there is to know.
fn endpoints(world: &World<'_>, backend: &backend::Backend) -> (bool, Vec<Endpoint>) {
    let name = &backend.name;
    let service = world.objects.services.get(&name.service);
    let port = service.and_then(|service| service.ports.iter().find(|it| it.port == name.port));
    let of_service = |slice: &&EndpointSlice| {
        slice.name.namespace == name.service.namespace
            && slice.service.as_deref() == Some(name.service.name.as_str())
    };
    let slices = || world.objects.slices.values().map(|slice| &**slice).filter(of_service);
    let port_name = port.map(|port| port.name.as_str()).unwrap_or_default();
    let used = backend.endpoints();
    let elsewhere = match used.terms.scope {
        Scope::Cluster => "ready, hinted for other nodes or zones",
        Scope::Node(Some(_)) => "ready, on another node",
        Scope::Node(None) => "ready, on a node that may be another",
    };
    let shown = endpoints::all(slices(), port_name).into_iter().map(|(addr, readiness)| {
        let used = used.endpoints.iter().any(|it| it.addr == addr);
        let is_service = service.is_some_and(|it| it.cluster_ips.contains(&addr.ip()));
        let state = match readiness {
            // What stands in for slices that may not be read.
            _ if is_service => "the Service's own address: its EndpointSlices may not be read",
            Readiness::Ready if used => "ready",
            Readiness::Ready => elsewhere,
            Readiness::Leaving if used => "terminating, and still serving as none is ready",
            Readiness::Leaving => "terminating",
            Readiness::NotReady => "not ready",
        };
        Endpoint { address: addr.to_string(), used, state, kept: false }
    });
    let shown = shown.collect();
    let is_known = match world.extent {
        // Nobody need have said where the pod runs that they are asked for.
        Extent::Manifests => slices().next().is_some() && used.terms.scope != Scope::Node(None),
        Extent::Whole | Extent::OnDemand => true,
    };
    (is_known, shown)
}

/// What the Service says of the choice among its endpoints.
fn choice(backend: &backend::Backend) -> Vec<String> {
    let endpoints = backend.endpoints();
    let scope = match &endpoints.terms.scope {
        Scope::Cluster => None,
        Scope::Node(Some(node)) => {
            Some(format!("internalTrafficPolicy Local: only endpoints on node {node}"))
        }
        Scope::Node(None) => {
            Some("internalTrafficPolicy Local: only endpoints on the pod's node".to_owned())
        }
    };
    let affinity = endpoints.terms.client_affinity.map(|timeout| {
        let timeout = duration(timeout);
        format!("sessionAffinity ClientIP: the pod stays at one, unless it is away for {timeout}")
    });
    scope.into_iter().chain(affinity).collect()
}
