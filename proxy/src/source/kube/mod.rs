//! The API server as a source, on demand.
//!
//! A sidecar knows nothing at first. When its pod connects to an address for the first time, a
//! worker asks ([`Lookup`]); the Service behind the address is found, and what its traffic depends on
//! is watched: the Service, the routes of its namespace and of the pod's own, the backends that they
//! name with their EndpointSlices, the grants of other namespaces. What the pod has not used for a
//! while is let go. So memory and watches grow with what the pod calls, not with the cluster.
//!
//! While the API server is away all that is known stays in force; its age is a metric.

mod find;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use weft_gamma::object::NamespacedName;

use self::find::Found;
use self::view::{Selection, View};
use self::watch::Change;
use super::{Lookup, Snapshot};
use crate::metrics::Metrics;

/// Changes that come together are published together.
const SETTLE: Duration = Duration::from_millis(5);
/// How long what is in force waits for the list of something that it newly depends on.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an address that is no Service's is remembered as such.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How often what is not used any more is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Where the source's questions come from, and what it must know of the sidecar.
pub struct KubeSource {
    client: kube::Client,
    lookups: mpsc::UnboundedReceiver<Lookup>,
    view: View,
    /// Tells which Services the pod used since it was last asked.
    used: UsedServices,
    idle: Duration,
}

/// Tells which Services were used since it was last called.
pub struct UsedServices(pub Box<dyn FnMut() -> BTreeSet<NamespacedName> + Send>);

/// What a run of the source keeps.
struct Running {
    client: kube::Client,
    view: View,
    metrics: Arc<Metrics>,
    watches: BTreeMap<Selection, AbortHandle>,
    changes: mpsc::UnboundedSender<(Selection, Change)>,
    found: mpsc::UnboundedSender<Found>,
    /// Who waits for an address that is being looked for.
    finding: HashMap<IpAddr, Vec<oneshot::Sender<()>>>,
    /// Who waits for a Service's dependencies to be listed.
    waiting: HashMap<NamespacedName, Vec<oneshot::Sender<()>>>,
    unknown: HashMap<IpAddr, Instant>,
    last_used: HashMap<NamespacedName, Instant>,
    /// Since when something that is in force waits for a list.
    incomplete_since: Option<Instant>,
}

impl KubeSource {
    /// `namespace` is the pod's own. `idle` is how long an unused Service stays known.
    pub fn new(
        client: kube::Client,
        namespace: String,
        lookups: mpsc::UnboundedReceiver<Lookup>,
        used: UsedServices,
        idle: Duration,
    ) -> Self {
        Self { client, lookups, view: View::new(namespace), used, idle }
    }

    /// Runs until the process ends. `publish` gets an empty snapshot at once: nothing is known, and
    /// the pod need not wait for more.
    pub async fn run(self, metrics: Arc<Metrics>, mut publish: impl FnMut(Snapshot)) {
        let Self { client, mut lookups, view, mut used, idle } = self;
        let (changes, mut changed) = mpsc::unbounded_channel();
        let (found, mut is_found) = mpsc::unbounded_channel();
        let mut running = Running {
            client,
            view,
            metrics,
            watches: BTreeMap::new(),
            changes,
            found,
            finding: HashMap::new(),
            waiting: HashMap::new(),
            unknown: HashMap::new(),
            last_used: HashMap::new(),
            incomplete_since: None,
        };
        publish(running.view.snapshot());
        let mut sweep = tokio::time::interval(SWEEP);
        let mut settled: Option<Instant> = None;
        loop {
            let settle = settled.unwrap_or_else(|| Instant::now() + SWEEP);
            tokio::select! {
                Some(lookup) = lookups.recv() => running.look_up(lookup),
                Some(found) = is_found.recv() => {
                    running.found(found);
                    settled.get_or_insert_with(Instant::now);
                }
                Some((selection, change)) = changed.recv() => {
                    running.changed(&selection, change);
                    settled.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                () = tokio::time::sleep_until(settle), if settled.is_some() => {
                    settled = running.reconcile(&mut publish);
                }
                _ = sweep.tick() => {
                    running.forget_unused(&(used.0)(), idle);
                    settled.get_or_insert_with(Instant::now);
                }
            }
        }
    }
}

impl Running {
    fn look_up(&mut self, Lookup { ip, answer }: Lookup) {
        let now = Instant::now();
        if let Some(service) = self.view.service_at(ip) {
            if !self.view.is_published(&service) {
                self.waiting.entry(service).or_default().push(answer);
            }
            return;
        }
        if self.unknown.get(&ip).is_some_and(|since| now < *since + UNKNOWN_FOR) {
            return;
        }
        let waiting = self.finding.entry(ip).or_default();
        waiting.push(answer);
        if waiting.len() == 1 {
            tokio::spawn(find::find(self.client.clone(), ip, self.found.clone()));
        }
    }

    fn found(&mut self, Found { ip, service }: Found) {
        let waiting = self.finding.remove(&ip).unwrap_or_default();
        match service {
            Ok(Some(service)) => {
                tracing::info!(%ip, %service, "first use of a Service");
                self.unknown.remove(&ip);
                self.last_used.insert(service.clone(), Instant::now());
                self.view.want(service.clone());
                self.waiting.entry(service).or_default().extend(waiting);
            }
            // Whoever waits is answered by being dropped: passed on to the address as it is.
            Ok(None) => {
                self.unknown.insert(ip, Instant::now());
            }
            Err(error) => {
                self.metrics.source().failed();
                tracing::warn!(%ip, %error, "cannot look a Service up: passed on as it is");
            }
        }
    }

    fn changed(&mut self, selection: &Selection, change: Change) {
        match &change {
            Change::Listed(_) => {
                self.metrics.source().relisted();
                self.reached();
            }
            Change::Applied(_) | Change::Deleted(_) => self.reached(),
            Change::Unavailable(_) => {}
            Change::Failed(error) => {
                self.metrics.source().set_connected(false);
                self.metrics.source().failed();
                tracing::debug!(%selection, error, "a watch failed: it is tried again");
                return;
            }
        }
        // A watch that has been let go may still have had something to say.
        if self.watches.contains_key(selection) {
            self.view.change(selection, change);
        }
    }

    fn reached(&self) {
        self.metrics.source().set_connected(true);
        self.metrics.source().synced(SystemTime::now());
    }

    /// Starts the watches that are needed now, ends those that are not, and publishes. Returns when
    /// to come back, if something is waited for.
    fn reconcile(&mut self, publish: &mut impl FnMut(Snapshot)) -> Option<Instant> {
        let needed = self.view.needed();
        self.watches.retain(|selection, task| {
            let kept = needed.contains(selection);
            if !kept {
                task.abort();
            }
            kept
        });
        for selection in &needed {
            if !self.watches.contains_key(selection) {
                let watching =
                    watch::watch(self.client.clone(), selection.clone(), self.changes.clone());
                let task = tokio::spawn(watching).abort_handle();
                self.watches.insert(selection.clone(), task);
            }
        }
        self.view.keep_only(&needed);

        if self.view.is_incomplete() {
            // What is in force stays so until the new dependencies are listed: a route's new backend
            // must not look like one that does not exist.
            let since = *self.incomplete_since.get_or_insert_with(Instant::now);
            if Instant::now() < since + PATIENCE {
                return Some(since + PATIENCE);
            }
        }
        self.incomplete_since = None;
        if !self.view.has_news() {
            return None;
        }
        publish(self.view.snapshot());
        let view = &self.view;
        // Dropping the senders is the answer.
        self.waiting.retain(|service, _| !view.is_published(service));
        None
    }

    fn forget_unused(&mut self, used: &BTreeSet<NamespacedName>, idle: Duration) {
        let now = Instant::now();
        for service in used {
            self.last_used.insert(service.clone(), now);
        }
        self.unknown.retain(|_, since| now < *since + UNKNOWN_FOR);
        let view = &mut self.view;
        self.last_used.retain(|service, last| {
            let kept = now < *last + idle;
            if !kept {
                tracing::info!(%service, "unused for a while: let go");
                view.forget(service);
            }
            kept
        });
    }
}

impl std::fmt::Debug for UsedServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UsedServices")
    }
}
