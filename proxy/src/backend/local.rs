//! One worker's side of a backend: its endpoints with their connections and load.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use weft_gamma::endpoints::Endpoint;

use super::balance::{Load, two_choices};
use super::budget::Budget;
use super::connect::{self, ConnectSettings};
use super::pool::{Pool, PoolSettings};
use super::{Backend, BackendName, EndpointSet, EndpointStream};
use crate::fault::{Fault, Kind};
use crate::rendezvous;
use crate::request::Backlog;
use crate::{http1, http2};

/// A backend on one worker.
#[derive(Debug)]
pub(crate) struct LocalBackend {
    shared: Arc<Backend>,
    generation: Cell<Option<u64>>,
    endpoints: RefCell<Vec<Rc<LocalEndpoint>>>,
    client_affinity: Cell<Option<Duration>>,
    /// How many requests an endpoint may have under way.
    max_requests: u32,
    /// The endpoints by their digest; empty until somebody asks.
    by_digest: RefCell<HashMap<u64, Rc<LocalEndpoint>>>,
    /// What is under way to it as a mirror.
    pub(crate) backlog: Backlog,
    pub(crate) budget: Budget,
}

/// An endpoint on one worker.
#[derive(Debug)]
pub(crate) struct LocalEndpoint {
    pub(crate) endpoint: Endpoint,
    /// What names it, here and in every other sidecar, for as long as its pod lives.
    pub(crate) digest: u64,
    load: Load,
    http1: Pool,
    http2: RefCell<Option<http2::Connection>>,
    /// Held while an HTTP/2 connection is being made, so that requests that come together share it.
    connecting: tokio::sync::Mutex<()>,
    /// It is no longer in any slice: what is in use is finished, nothing is kept.
    retired: Cell<bool>,
}

/// A request's place at an endpoint: counts as in flight until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    endpoint: Rc<LocalEndpoint>,
}

/// An HTTP/1 connection, and whether it has been used before: then its peer may be closing it just
/// as the next request goes out.
pub(crate) struct Http1 {
    pub(crate) connection: http1::Connection,
    pub(crate) reused: bool,
}

impl LocalBackend {
    pub(crate) fn new(shared: Arc<Backend>, max_requests: u32) -> Self {
        let budget = Budget::new(shared.endpoints().terms.retries, Instant::now());
        let backend = Self {
            shared,
            generation: Cell::new(None),
            endpoints: RefCell::default(),
            client_affinity: Cell::new(None),
            max_requests,
            by_digest: RefCell::default(),
            backlog: Backlog::default(),
            budget,
        };
        backend.refresh();
        backend
    }

    pub(crate) fn name(&self) -> &BackendName {
        &self.shared.name
    }

    pub(crate) fn is(&self, shared: &Arc<Backend>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.shared.is_retired()
    }

    /// Takes over the endpoints that the control thread last published. Those that stay keep their
    /// connections and load; the idle connections of those that go are closed.
    pub(crate) fn refresh(&self) {
        let current = self.shared.endpoints();
        if self.generation.get() == Some(current.generation) {
            return;
        }
        self.replace(&current);
        self.budget.set(current.terms.retries);
        self.client_affinity.set(current.terms.client_affinity);
        self.by_digest.borrow_mut().clear();
        self.generation.set(Some(current.generation));
    }

    fn replace(&self, current: &EndpointSet) {
        let now = Instant::now();
        let mut endpoints = self.endpoints.borrow_mut();
        let mut known: HashMap<Endpoint, Rc<LocalEndpoint>> =
            endpoints.drain(..).map(|local| (local.endpoint.clone(), local)).collect();
        endpoints.extend(current.endpoints.iter().map(|endpoint| {
            known.remove(endpoint).unwrap_or_else(|| Rc::new(LocalEndpoint::new(endpoint, now)))
        }));
        for gone in known.values() {
            gone.retire();
        }
    }

    /// How many endpoints there are, the ejected ones included.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.borrow().len()
    }

    /// Chooses an endpoint for a request, other than those in `tried`; one of these again where
    /// there is no other. None when there are no endpoints, or none has room.
    pub(crate) fn pick(&self, tried: &[Rc<LocalEndpoint>], now: Instant) -> Option<Lease> {
        self.refresh();
        let endpoints = self.endpoints.borrow();
        if let Some(timeout) = self.client_affinity.get() {
            return self.pick_kept(&endpoints, tried, now, timeout);
        }
        let is_better = |one: usize, other: usize| {
            endpoints[one].load.is_better_than(&endpoints[other].load, now)
        };
        let has_room = |index: usize| self.has_room(&endpoints[index]);
        let is_new = |index: usize| has_room(index) && !endpoints[index].is_in(tried);
        let healthy = |index: usize| is_new(index) && !endpoints[index].load.is_ejected(now);
        two_choices(endpoints.len(), healthy, is_better)
            .or_else(|| two_choices(endpoints.len(), is_new, is_better))
            .or_else(|| two_choices(endpoints.len(), has_room, is_better))
            .map(|index| Lease::new(endpoints[index].clone()))
    }

    /// Chooses the endpoint that the pod is kept at. Where that is gone, ejected, or forgotten, the
    /// pod is kept at another one from now on; after a single failure, which may be the connection's,
    /// only this request goes elsewhere.
    fn pick_kept(
        &self,
        endpoints: &[Rc<LocalEndpoint>],
        tried: &[Rc<LocalEndpoint>],
        now: Instant,
        timeout: Duration,
    ) -> Option<Lease> {
        let affinity = &self.shared.affinity;
        let is_healthy =
            |endpoint: &LocalEndpoint| self.has_room(endpoint) && !endpoint.load.is_ejected(now);
        let kept = affinity.kept(now, timeout).and_then(|digest| self.find(endpoints, digest));
        let kept = kept.filter(|endpoint| is_healthy(endpoint));
        if let Some(endpoint) = &kept {
            affinity.touch(now);
            if !endpoint.is_in(tried) {
                return Some(Lease::new(endpoint.clone()));
            }
        }
        let first = |usable: &dyn Fn(&LocalEndpoint) -> bool| {
            // Of one pod's two addresses the first: the one that is found by the digest.
            let usable = endpoints.iter().rev().filter(|endpoint| usable(endpoint));
            usable.max_by_key(|endpoint| affinity.rank(endpoint.digest))
        };
        let next = first(&|endpoint| is_healthy(endpoint) && !endpoint.is_in(tried))
            .or_else(|| first(&|endpoint| self.has_room(endpoint) && !endpoint.is_in(tried)))
            .or_else(|| first(&|endpoint| self.has_room(endpoint)))?;
        if kept.is_none() {
            affinity.keep(now, next.digest);
        }
        Some(Lease::new(next.clone()))
    }

    /// The endpoint of that digest, unless it is gone, ejected, full, or in `tried`.
    pub(crate) fn named(&self, digest: u64, tried: &[Rc<LocalEndpoint>]) -> Option<Lease> {
        self.refresh();
        let endpoint = self.find(&self.endpoints.borrow(), digest)?;
        let usable = self.has_room(&endpoint)
            && !endpoint.load.is_ejected(Instant::now())
            && !endpoint.is_in(tried);
        usable.then(|| Lease::new(endpoint))
    }

    /// Whether another request may be under way there.
    fn has_room(&self, endpoint: &LocalEndpoint) -> bool {
        endpoint.load.in_flight() < self.max_requests
    }

    fn find(&self, endpoints: &[Rc<LocalEndpoint>], digest: u64) -> Option<Rc<LocalEndpoint>> {
        let mut by_digest = self.by_digest.borrow_mut();
        if by_digest.is_empty() {
            for endpoint in endpoints {
                by_digest.entry(endpoint.digest).or_insert_with(|| endpoint.clone());
            }
        }
        by_digest.get(&digest).cloned()
    }

    /// Why there is no endpoint to be had.
    pub(crate) fn no_endpoint(&self) -> Fault {
        if self.endpoints.borrow().is_empty() {
            return self.shared.no_endpoint();
        }
        let (name, most) = (&self.shared.name, self.max_requests);
        let message = format!(
            "all endpoints of {name} have {most} requests under way (--max-requests-per-endpoint)"
        );
        Fault::new(Kind::Overloaded, message)
    }

    /// Notes that `endpoint` gave no connection, or none that held until the response head, and
    /// ejects it when it is not the first time; never more than half of the endpoints.
    pub(crate) fn failed(&self, endpoint: &LocalEndpoint) {
        if !endpoint.load.failed() {
            return;
        }
        let now = Instant::now();
        let endpoints = self.endpoints.borrow();
        let ejected = endpoints.iter().filter(|other| other.load.is_ejected(now)).count();
        if (ejected + 1) * 2 <= endpoints.len() && !endpoint.load.is_ejected(now) {
            let length = endpoint.load.eject(now);
            tracing::info!(
                backend = %self.shared.name,
                endpoint = %endpoint.endpoint.addr,
                seconds = length.as_secs(),
                "endpoint ejected: it refuses connections or breaks them",
            );
        }
    }

    pub(crate) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.sweep(now, settings);
        }
    }
}

impl Drop for LocalBackend {
    fn drop(&mut self) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.retire();
        }
    }
}

impl LocalEndpoint {
    fn new(endpoint: &Endpoint, now: Instant) -> Self {
        Self {
            endpoint: endpoint.clone(),
            digest: digest(endpoint),
            load: Load::new(now),
            http1: Pool::default(),
            http2: RefCell::default(),
            connecting: tokio::sync::Mutex::default(),
            retired: Cell::new(false),
        }
    }

    /// Notes that the endpoint took longer than it was given. It is asked less often, as one that is
    /// slow, and not ejected: a report that takes its time is no broken endpoint.
    pub(crate) fn timed_out(&self, after: Duration) {
        self.load.timed_out(Instant::now(), after);
    }

    fn is_in(&self, endpoints: &[Rc<Self>]) -> bool {
        endpoints.iter().any(|other| std::ptr::eq(self, &**other))
    }

    #[cfg(test)]
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    #[cfg(test)]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Closes what has been idle for too long.
    fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.http1.sweep(now, settings);
        if self.load.is_idle(now, settings.idle_timeout) {
            self.http2.replace(None);
        }
    }

    /// Closes what is idle. An HTTP/2 connection closes when its last stream has ended.
    fn retire(&self) {
        self.retired.set(true);
        self.http1.clear();
        self.http2.replace(None);
    }
}

/// By the pod where it is known: the same on all of its ports, and another one for the next pod that
/// gets the address.
pub(crate) fn digest(endpoint: &Endpoint) -> u64 {
    match &endpoint.target {
        Some(target) => rendezvous::digest([target.as_bytes()]),
        None => rendezvous::digest([endpoint.addr.to_string().as_bytes()]),
    }
}

impl Lease {
    fn new(endpoint: Rc<LocalEndpoint>) -> Self {
        endpoint.load.begin();
        Self { endpoint }
    }

    pub(crate) fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }

    /// A TCP connection of its own, for traffic that is not HTTP.
    pub(crate) async fn tcp(&self, settings: &ConnectSettings) -> std::io::Result<TcpStream> {
        connect::tcp(self.endpoint.endpoint.addr, settings).await
    }

    /// An idle connection where there is one, unless `fresh` asks for a new one.
    pub(crate) async fn http1(
        &self,
        fresh: bool,
        settings: &ConnectSettings,
    ) -> std::io::Result<Http1> {
        if !fresh && let Some(connection) = self.endpoint.http1.take() {
            return Ok(Http1 { connection, reused: true });
        }
        // Boxed: every request would otherwise have room for what few do.
        let stream = Box::pin(self.tcp(settings)).await?;
        Ok(Http1 { connection: http1::Connection::new(stream), reused: false })
    }

    /// The worker's HTTP/2 connection to the endpoint, if there is one.
    pub(crate) fn open_http2(&self) -> Option<http2::Connection> {
        let slot = self.endpoint.http2.borrow();
        slot.as_ref().filter(|connection| !connection.is_closed()).cloned()
    }

    /// The worker's HTTP/2 connection to the endpoint; all requests share it.
    pub(crate) async fn http2(
        &self,
        settings: &ConnectSettings,
    ) -> Result<http2::Connection, ConnectError> {
        let _connecting = self.endpoint.connecting.lock().await;
        if let Some(connection) = self.open_http2() {
            return Ok(connection);
        }
        let connection = Box::pin(self.connect_http2(settings)).await?;
        if !self.endpoint.retired.get() {
            self.endpoint.http2.replace(Some(connection.clone()));
        }
        Ok(connection)
    }

    async fn connect_http2(
        &self,
        settings: &ConnectSettings,
    ) -> Result<http2::Connection, ConnectError> {
        let stream = self.tcp(settings).await?;
        Ok(http2::Connection::open(EndpointStream::http2(stream)).await?)
    }

    /// Notes that a connection was made whose traffic passes unread: that is all there is to know.
    pub(crate) fn connected(&self) {
        self.endpoint.load.connected();
    }

    /// Notes the time to a response head, which is there now; returns that moment.
    pub(crate) fn succeeded(&self, sent: Instant) -> Instant {
        let now = Instant::now();
        self.endpoint.load.succeeded(now, now.saturating_duration_since(sent));
        now
    }

    /// Gives a connection back whose response was read to its end.
    pub(crate) fn give_back(
        &self,
        connection: http1::Connection,
        settings: &PoolSettings,
        now: Instant,
    ) {
        if !self.endpoint.retired.get() {
            self.endpoint.http1.put(connection, settings, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.load.end();
    }
}

/// Why there is no connection to an endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Tcp(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] h2::Error),
}
