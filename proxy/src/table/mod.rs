//! The compiled configuration: what a request, or a connection that passes unread, is held against.
//!
//! A table is immutable. The control thread compiles one from the resolved objects ([`compile`]) and
//! publishes it by a swap; a request uses the one it began with to its end, so that no request
//! straddles two configurations.

mod compile;
mod draws;
mod dump;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::HOST;
use weft_gamma::matching::{Matcher, SniMatcher};
use weft_gamma::object::{NamespacedName, ObjectKey, ServicePort};
use weft_gamma::route::{Match, RouteKind, Timeouts};

use crate::backend::Backend;
use crate::filter::{self, Filter};
use crate::metrics::{Series, TcpSeries};
use crate::protocol::Declared;
use crate::rendezvous;
use crate::session::Stickiness;

pub use compile::{Compiled, Compiler};
pub(crate) use draws::Draws;
pub use dump::dump;
pub(crate) use dump::duration;
pub(crate) use retry::Retry;

/// Everything that this sidecar knows, at one moment.
#[derive(Debug, Default)]
pub struct Table {
    /// Grows by one with every table.
    pub generation: u64,
    destinations: foldhash::HashMap<(IpAddr, u16), Arc<Destination>>,
    addresses: HashSet<IpAddr>,
}

/// A Service's port, as the application dials it.
#[derive(Debug)]
pub struct Destination {
    pub service: NamespacedName,
    pub port: ServicePort,
    pub(crate) declared: Declared,
    /// A connection or a request came since this was last asked.
    used: AtomicBool,
    /// The port's clients waited for the server to speak first: no more waiting for their bytes.
    pub(crate) server_first: Arc<AtomicBool>,
    /// What applies to requests.
    pub(crate) routing: Routing,
    /// Where requests go that no route applies to.
    pub(crate) unrouted: Arc<Rule>,
    /// For answers without a rule: 404, 400.
    pub(crate) unmatched_series: Arc<Series>,
    /// What applies to connections that pass unread.
    pub(crate) streams: StreamRouting,
    /// Where connections go that pass unread and no route applies to.
    pub(crate) unrouted_stream: StreamRule,
    /// For connections that are closed without a rule.
    pub(crate) unmatched_stream: Arc<TcpSeries>,
}

/// What applies to the requests of a destination.
#[derive(Debug)]
pub(crate) enum Routing {
    /// No HTTPRoute or GRPCRoute is attached: requests are balanced over the Service's own endpoints.
    Unrouted,
    /// Routes are attached: a request that matches none of their rules is answered 404.
    Routed {
        kind: RouteKind,
        matcher: Box<Matcher>,
        rules: Vec<Rule>,
        /// A rule has a CORS filter, or a backend of a rule has.
        cors: bool,
        /// A rule reads the Host header.
        host: bool,
    },
}

/// What applies to the connections of a destination that pass unread.
#[derive(Debug)]
pub(crate) enum StreamRouting {
    /// No TLSRoute or TCPRoute is attached: they are balanced over the Service's own endpoints.
    Unrouted,
    /// TLSRoutes are attached: a connection whose server name matches none is closed.
    Tls { matcher: Box<SniMatcher>, rules: Vec<StreamRule> },
    /// TCPRoutes are attached: the first rule, that of the oldest route, takes all connections.
    Tcp { rules: Vec<StreamRule> },
}

/// A rule of a TLSRoute or TCPRoute.
pub(crate) type StreamRule = Rule<TcpSeries>;

/// A rule, ready for use. `S` is what its outcomes are recorded in.
#[derive(Debug)]
pub(crate) struct Rule<S = Series> {
    /// The route it comes from; None for a destination without routes.
    pub(crate) source: Option<RuleName>,
    pub(crate) matches: Arc<[Match]>,
    /// In the listed order; none where the rule is refused.
    pub(crate) filters: Box<[Filter]>,
    pub(crate) action: Action<S>,
    /// None of them is zero: that disables, and is None here.
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Retry>,
    /// What keeps users where they were; None for almost all rules, and for those of streams.
    pub(crate) stickiness: Option<Box<Stickiness>>,
    /// For answers that the proxy makes before a backend is chosen.
    pub(crate) series: Arc<S>,
}

/// What names a rule.
#[derive(Clone, Debug)]
pub(crate) struct RuleName {
    pub(crate) route: ObjectKey,
    pub(crate) index: usize,
    pub(crate) name: Option<String>,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}", self.index)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(f, " of {}", self.route)
    }
}

/// What a rule does with a request or connection.
#[derive(Debug)]
pub(crate) enum Action<S = Series> {
    /// 500, or the connection is closed, for the reasons given.
    Refuse(String),
    /// Its filters answer (a redirect); there is nothing to forward.
    Answer,
    /// Goes to one of the backends.
    Forward(Split<S>),
}

/// The backends of a rule, by weight.
#[derive(Debug)]
pub(crate) struct Split<S = Series> {
    /// In the route's order; none of weight 0, which get nothing.
    backends: Vec<WeightedBackend<S>>,
    total: u64,
    draws: Draws,
}

#[derive(Debug)]
pub(crate) struct WeightedBackend<S = Series> {
    /// What names it, in every sidecar.
    pub(crate) digest: u64,
    pub(crate) weight: u32,
    pub(crate) filters: Box<[Filter]>,
    /// The backend, or why its share is answered 500, or closed.
    pub(crate) target: Result<Target, String>,
    pub(crate) series: Arc<S>,
}

/// A backend and how to speak to it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) backend: Arc<Backend>,
    /// The port declares HTTP/2; otherwise only gRPC is sent with HTTP/2.
    pub(crate) http2: bool,
}

impl Table {
    /// The destination at an address, if it is a Service's.
    pub fn destination(&self, ip: IpAddr, port: u16) -> Option<&Arc<Destination>> {
        self.destinations.get(&(ip, port))
    }

    /// How many addresses and ports it knows.
    pub fn len(&self) -> usize {
        self.destinations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// The Services that were used since this was last asked.
    pub fn take_used(&self) -> BTreeSet<NamespacedName> {
        self.destinations
            .values()
            .filter(|destination| destination.used.swap(false, Ordering::Relaxed))
            .map(|destination| destination.service.clone())
            .collect()
    }

    /// Whether a Service has the address, whatever its ports.
    pub(crate) fn knows(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }

    /// All destinations, with their addresses, in no order.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = (&(IpAddr, u16), &Arc<Destination>)> {
        self.destinations.iter()
    }
}

impl Destination {
    /// Notes that it is in use.
    pub(crate) fn touch(&self) {
        // Written only when it changes: the line stays shared among workers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a rule reads the Host header: it is not written for a request of HTTP/2 otherwise.
    pub(crate) fn reads_host(&self) -> bool {
        matches!(self.routing, Routing::Routed { host: true, .. })
    }

    /// Whether its clients are known to wait for the server's first bytes.
    pub(crate) fn is_server_first(&self) -> bool {
        self.server_first.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_server_first(&self) {
        self.server_first.store(true, Ordering::Relaxed);
    }

    /// The backend of the Service's own endpoints.
    #[cfg(test)]
    pub(crate) fn own(&self) -> &Arc<Backend> {
        match &self.unrouted.action {
            Action::Forward(split) => &split.backends()[0].target.as_ref().unwrap().backend,
            other => panic!("{other:?}"),
        }
    }
}

impl<S> Rule<S> {
    /// The backend that a request or connection gets; None where there is none to get.
    pub(crate) fn draw(&self) -> Option<&WeightedBackend<S>> {
        match &self.action {
            Action::Forward(split) => split.choose(),
            Action::Refuse(_) | Action::Answer => None,
        }
    }

    /// The backends that can be drawn.
    pub(crate) fn backends(&self) -> &[WeightedBackend<S>] {
        match &self.action {
            Action::Forward(split) => split.backends(),
            Action::Refuse(_) | Action::Answer => &[],
        }
    }
}

impl Rule {
    /// Whether it has a CORS filter, or one of its backends has.
    pub(crate) fn has_cors(&self) -> bool {
        filter::cors(&self.filters).is_some()
            || self.backends().iter().any(|backend| filter::cors(&backend.filters).is_some())
    }

    /// Whether the Host header makes a difference to it: a match may name it, what keeps users in place
    /// may be it, and filters copy it, change it, or answer with it.
    fn reads_host(&self) -> bool {
        let is_matched = self.matches.iter().any(|it| match it {
            Match::Http(criteria) => criteria.headers.iter().any(|header| header.name == HOST),
            Match::Grpc(criteria) => criteria.headers.iter().any(|header| header.name == HOST),
            Match::Tls(_) | Match::Tcp => false,
        });
        let has_filters = !self.filters.is_empty()
            || self.backends().iter().any(|backend| !backend.filters.is_empty());
        is_matched || has_filters || self.stickiness.is_some()
    }
}

impl<S> Split<S> {
    fn new(backends: Vec<WeightedBackend<S>>) -> Self {
        let backends: Vec<_> = backends.into_iter().filter(|backend| backend.weight > 0).collect();
        let total = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        Self { backends, total, draws: Draws::new() }
    }

    /// Chooses a backend: each with the probability weight / sum of the weights. None where the rule
    /// has no backend of a weight above 0. Over a run of requests the shares are closer to the weights
    /// than independent draws would be: see [`Draws`].
    ///
    /// BackendRef.weight: "the proportion of requests forwarded to the referenced backend […]
    /// computed as weight/(sum of all weights in this BackendRefs list)."
    pub(crate) fn choose(&self) -> Option<&WeightedBackend<S>> {
        match self.backends.as_slice() {
            [] => None,
            [only] => Some(only),
            several => {
                let mut rest = self.draws.next_below(self.total);
                several.iter().find(|backend| {
                    let weight = u64::from(backend.weight);
                    let hit = rest < weight;
                    rest = rest.wrapping_sub(weight);
                    hit
                })
            }
        }
    }

    /// Chooses a backend for a user, always the same, with the probabilities of [`Split::choose`]:
    /// when weights change, only as many users move as must.
    pub(crate) fn choose_for(&self, user: u64) -> Option<&WeightedBackend<S>> {
        let wait = |it: &WeightedBackend<S>| rendezvous::wait(user, it.digest, it.weight);
        self.backends.iter().min_by(|one, other| wait(one).total_cmp(&wait(other)))
    }

    /// The backend of that digest, if it can take requests.
    pub(crate) fn named(&self, digest: u64) -> Option<&WeightedBackend<S>> {
        self.backends.iter().find(|backend| backend.digest == digest && backend.target.is_ok())
    }

    pub(crate) fn backends(&self) -> &[WeightedBackend<S>] {
        &self.backends
    }
}
