//! Backends: a Service's port as a place that requests go to.
//!
//! What all workers share of a backend is its name and its current endpoints ([`Backend`]). What a
//! worker needs to send requests there, connections and load figures, is its own ([`local`]), so
//! that no lock and no other thread is on a request's path.

mod affinity;
mod balance;
mod budget;
mod connect;
pub(crate) mod local;
mod pool;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use weft_gamma::endpoints::Endpoint;
use weft_gamma::object::NamespacedName;
use weft_gamma::policy::RetryConstraint;

use affinity::Affinity;
pub(crate) use connect::{ConnectSettings, HTTP1_BUFFER, error_chain};
pub(crate) use pool::PoolSettings;
pub(crate) use stream::EndpointStream;

use crate::fault::{Fault, Kind};

/// A port of a Service, with the endpoints behind it.
#[derive(Debug)]
pub struct Backend {
    /// A small number, unique among the backends that are in use: the index of a worker's slot.
    pub id: usize,
    pub name: BackendName,
    endpoints: ArcSwap<EndpointSet>,
    affinity: Affinity,
    /// No table refers to it any more: workers let go of it and its connections.
    retired: AtomicBool,
}

/// What names a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendName {
    pub service: NamespacedName,
    /// The Service's port, not the pods'.
    pub port: u16,
}

/// The endpoints of a backend at one moment, and what applies to all of them.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// Differs between any two sets of one backend.
    pub generation: u64,
    pub endpoints: Vec<Endpoint>,
    pub terms: Terms,
}

/// What is said of the choice among a backend's endpoints, and of how often it may be asked again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The Service's `sessionAffinity: ClientIP`, with its timeout.
    pub client_affinity: Option<Duration>,
    pub scope: Scope,
    /// How many retries the backend may get.
    pub retries: RetryConstraint,
}

/// Where the endpoints of a backend may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere.
    #[default]
    Cluster,
    /// `internalTrafficPolicy: Local`: on the pod's node, as far as its name is known.
    Node(Option<Arc<str>>),
}

impl Backend {
    /// The current endpoints.
    pub fn endpoints(&self) -> arc_swap::Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Why there is no endpoint.
    pub(crate) fn no_endpoint(&self) -> Fault {
        let service = &self.name.service;
        match &self.endpoints().terms.scope {
            Scope::Cluster => {
                let message = format!("no endpoint of {} is ready", self.name);
                Fault::new(Kind::NoReadyEndpoint, message)
            }
            Scope::Node(Some(node)) => Fault::new(
                Kind::NoLocalEndpoint,
                format!(
                    "Service {service} has internalTrafficPolicy: Local and no ready endpoint on \
                     the node {node}"
                ),
            ),
            Scope::Node(None) => Fault::new(
                Kind::NoLocalEndpoint,
                format!(
                    "Service {service} has internalTrafficPolicy: Local and the sidecar does not \
                     know its node: set WEFT_NODE_NAME"
                ),
            ),
        }
    }

    /// The digest of the endpoint that `sessionAffinity` keeps the pod at, once it has used one.
    pub(crate) fn kept(&self) -> Option<u64> {
        let timeout = self.endpoints().terms.client_affinity?;
        self.affinity.kept(Instant::now(), timeout)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

impl std::fmt::Display for BackendName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// All backends that the current table refers to. It belongs to the control thread, which hands out
/// the backends through the table.
#[derive(Debug)]
pub struct Registry {
    backends: HashMap<BackendName, Arc<Backend>>,
    slots: Vec<bool>,
    /// [`affinity::key`]
    affinity_key: u64,
}

impl Registry {
    /// For a pod of that address.
    pub fn new(address: Option<IpAddr>) -> Self {
        let affinity_key = affinity::key(address);
        Self { backends: HashMap::new(), slots: Vec::new(), affinity_key }
    }

    /// The backend of that name; a new one starts with `endpoints`, a known one gets them if they
    /// differ. Requests see them at once, tables need not be compiled anew.
    pub fn intern(
        &mut self,
        name: &BackendName,
        endpoints: Vec<Endpoint>,
        terms: Terms,
    ) -> Arc<Backend> {
        if let Some(backend) = self.backends.get(name) {
            let current = backend.endpoints.load();
            if current.endpoints != endpoints || current.terms != terms {
                let generation = current.generation + 1;
                backend.endpoints.store(Arc::new(EndpointSet { generation, endpoints, terms }));
            }
            return backend.clone();
        }
        let id = self.slots.iter().position(|used| !used).unwrap_or_else(|| {
            self.slots.push(false);
            self.slots.len() - 1
        });
        self.slots[id] = true;
        let set = EndpointSet { generation: 0, endpoints, terms };
        let backend = Arc::new(Backend {
            id,
            name: name.clone(),
            endpoints: ArcSwap::from_pointee(set),
            affinity: Affinity::new(self.affinity_key),
            retired: AtomicBool::new(false),
        });
        self.backends.insert(name.clone(), backend.clone());
        backend
    }

    /// Forgets all backends but those that `keep` names.
    pub fn retain(&mut self, keep: impl Fn(&BackendName) -> bool) {
        self.backends.retain(|name, backend| {
            let kept = keep(name);
            if !kept {
                self.slots[backend.id] = false;
                // Its endpoints stay: requests that began with an earlier table still go there.
                backend.retired.store(true, Ordering::Release);
            }
            kept
        });
    }
}
