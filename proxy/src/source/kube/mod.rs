//! The API server as a source, on demand.
//!
//! A sidecar knows nothing at first. When its pod connects to an address for the first time, a
//! worker asks ([`Lookup`]); the Service behind the address is found, and what its traffic depends on
//! is watched: the Service, the routes of its namespace and of the pod's own, the backends that they
//! name with their EndpointSlices and policies, the grants of other namespaces. What the pod has not used for a
//! while is let go. So memory and watches grow with what the pod calls, not with the cluster.
//!
//! While the API server is away all that is known stays in force; its age is a metric. The same holds
//! for a route whose new backends are still being listed: it stays as it was until they are.

pub(crate) mod ask;
mod client;
mod connections;
mod events;
mod find;
mod lean;
mod list;
mod probe;
mod reach;
mod selection;
#[cfg(test)]
mod tests;
mod unread;
mod view;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use weft_gamma::object::NamespacedName;

pub use self::client::client;
use self::find::{Finder, Found, NotFound};
use self::reach::{Reach, Witness};
use self::selection::Selection;
use self::view::View;
use self::watch::{Change, Update, Watch};
use super::{Lookup, Snapshot};
use crate::memory::GiveBack;
use crate::metrics::Metrics;

/// Changes that come together are published together.
const SETTLE: Duration = Duration::from_millis(5);
/// How long an address that is no Service's is remembered as such.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How long an address is not looked for again after the API server did not answer.
const UNANSWERED_FOR: Duration = Duration::from_secs(1);
/// How long a connection waits for an API server that did not answer the last time.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// How many addresses that are no Service's are remembered.
const MAX_UNKNOWN: usize = 4096;
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
    finder: Arc<Finder>,
    view: View,
    metrics: Arc<Metrics>,
    reach: Reach,
    watches: BTreeMap<Selection, Watching>,
    /// How many watches there have been.
    watch_count: u64,
    updates: mpsc::UnboundedSender<Update>,
    /// Who waits for an address that is being looked for.
    finding: HashMap<IpAddr, Vec<oneshot::Sender<()>>>,
    /// Who waits for a Service's dependencies to be listed.
    waiting: HashMap<NamespacedName, Vec<oneshot::Sender<()>>>,
    /// Until when an address is not looked for again.
    unknown: HashMap<IpAddr, Instant>,
    last_used: HashMap<NamespacedName, Instant>,
}

/// A watch that is under way; ends with this.
struct Watching {
    id: u64,
    task: AbortHandle,
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
        let (updates, mut updated) = mpsc::unbounded_channel();
        let (found, mut is_found) = mpsc::unbounded_channel();
        let (installed, mut is_installed) = mpsc::unbounded_channel();
        // Ends when nobody listens any more.
        tokio::spawn(probe::probe(client.clone(), installed));
        let mut running = Running::new(client, view, metrics, updates, found);
        publish(Snapshot { destinations: Some(BTreeSet::new()), ..Snapshot::default() });
        let mut sweep = tokio::time::interval(SWEEP);
        let mut settled: Option<Instant> = None;
        let give_back = GiveBack::start();
        loop {
            let settle = settled.unwrap_or_else(Instant::now);
            tokio::select! {
                Some(lookup) = lookups.recv() => running.look_up(lookup),
                Some(found) = is_found.recv() => {
                    running.found(found);
                    give_back.when_quiet();
                    settled = Some(Instant::now());
                }
                Some(has_policies) = is_installed.recv() => {
                    running.view.set_has_policies(has_policies);
                    settled.get_or_insert_with(Instant::now);
                }
                Some(update) = updated.recv() => {
                    if running.updated(update) {
                        give_back.when_quiet();
                        settled.get_or_insert_with(|| Instant::now() + SETTLE);
                    }
                }
                () = tokio::time::sleep_until(settle), if settled.is_some() => {
                    settled = None;
                    running.reconcile(&mut publish);
                }
                _ = sweep.tick() => {
                    running.forget_unused((used.0)(), idle);
                    settled = Some(Instant::now());
                }
            }
        }
    }
}

impl Running {
    fn new(
        client: kube::Client,
        view: View,
        metrics: Arc<Metrics>,
        updates: mpsc::UnboundedSender<Update>,
        found: mpsc::UnboundedSender<Found>,
    ) -> Self {
        Self {
            finder: Finder::new(client.clone(), found),
            client,
            view,
            reach: Reach::new(metrics.clone()),
            metrics,
            watches: BTreeMap::new(),
            watch_count: 0,
            updates,
            finding: HashMap::new(),
            waiting: HashMap::new(),
            unknown: HashMap::new(),
            last_used: HashMap::new(),
        }
    }

    fn look_up(&mut self, Lookup { ip, answer }: Lookup) {
        let now = Instant::now();
        if let Some(service) = self.view.service_at(ip) {
            self.last_used.insert(service.clone(), now);
            if !self.view.is_published(service) {
                let waiting = self.waiting.entry(service.clone()).or_default();
                // The API server may be away for long; most have given up by then.
                waiting.retain(|answer| !answer.is_closed());
                waiting.push(answer);
            }
            return;
        }
        if self.unknown.get(&ip).is_some_and(|until| now < *until) {
            return;
        }
        let answer = match self.reach.lookups_fail() {
            true => within(SHORT_WAIT, answer),
            false => answer,
        };
        let waiting = self.finding.entry(ip).or_default();
        waiting.push(answer);
        if waiting.len() == 1 {
            tokio::spawn(self.finder.clone().find(ip));
        }
    }

    /// Whoever waits is answered by being dropped, and passed on to the address as it is, unless it
    /// is a Service's.
    fn found(&mut self, Found { ip, service }: Found) {
        let waiting = self.finding.remove(&ip).unwrap_or_default();
        match &service {
            Err(NotFound::Failed(error)) => self.reach.failed(Witness::Lookup, error),
            answered => {
                self.reach.answered(Witness::Lookup);
                self.view.set_lookups_forbidden(answered.is_err());
            }
        }
        match service {
            Ok(Some(service)) => {
                tracing::info!(%ip, %service, "first use of a Service");
                self.unknown.remove(&ip);
                self.last_used.insert(service.clone(), Instant::now());
                self.view.want(service.clone(), ip);
                self.waiting.entry(service).or_default().extend(waiting);
            }
            Ok(None) | Err(NotFound::Forbidden) => self.remember_unknown(ip, UNKNOWN_FOR),
            Err(NotFound::Failed(_)) => self.remember_unknown(ip, UNANSWERED_FOR),
        }
    }

    fn remember_unknown(&mut self, ip: IpAddr, time: Duration) {
        let now = Instant::now();
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.retain(|_, until| now < *until);
        }
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(ip, now + time);
        }
    }

    /// True where the view may have changed.
    fn updated(&mut self, Update { watch, selection, change }: Update) -> bool {
        // A watch that has been let go may still have had something to say, also after another one
        // of the same selection has begun.
        if self.watches.get(&selection).is_none_or(|watching| watching.id != watch) {
            return false;
        }
        if let Change::Failed(error) = &change {
            self.reach.failed(Witness::Watch(watch), error);
            return false;
        }
        self.reach.answered(Witness::Watch(watch));
        match &change {
            Change::Current => return false,
            Change::Listed(_) => self.metrics.source().relisted(),
            _ => {}
        }
        self.view.change(&selection, change);
        true
    }

    /// Starts the watches that are needed now, ends those that are not, and publishes what is new.
    fn reconcile(&mut self, publish: &mut impl FnMut(Snapshot)) {
        let needed = self.view.needed();
        let reach = &mut self.reach;
        self.watches.retain(|selection, watching| {
            let kept = needed.contains(selection);
            if !kept {
                reach.forget(watching.id);
            }
            kept
        });
        self.view.keep_only(&needed);
        for selection in needed {
            if !self.watches.contains_key(&selection) {
                self.watch(selection);
            }
        }
        if let Some(snapshot) = self.view.news() {
            publish(snapshot);
        }
        let view = &self.view;
        // Dropping the senders is the answer.
        self.waiting.retain(|service, _| view.is_wanted(service) && !view.is_published(service));
    }

    fn watch(&mut self, selection: Selection) {
        self.watch_count += 1;
        let watch = Watch {
            client: self.client.clone(),
            id: self.watch_count,
            selection: selection.clone(),
            updates: self.updates.clone(),
            back: self.reach.back(),
        };
        let task = tokio::spawn(watch.run()).abort_handle();
        self.watches.insert(selection, Watching { id: self.watch_count, task });
    }

    fn forget_unused(&mut self, used: BTreeSet<NamespacedName>, idle: Duration) {
        let now = Instant::now();
        let view = &mut self.view;
        self.last_used.extend(
            used.into_iter()
                .filter(|service| view.is_wanted(service))
                .map(|service| (service, now)),
        );
        self.unknown.retain(|_, until| now < *until);
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

/// A way to whoever waits that is given up after a while. The search for an answer goes on: it may
/// take longer than a connection should wait, and the next one has it at once.
fn within(time: Duration, answer: oneshot::Sender<()>) -> oneshot::Sender<()> {
    let (sender, heard) = oneshot::channel();
    tokio::spawn(async move {
        // Dropping the sender is the answer, in time or not.
        let _ = tokio::time::timeout(time, heard).await;
        drop(answer);
    });
    sender
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for UsedServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UsedServices")
    }
}
