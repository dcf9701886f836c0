//! The source at work: what it is asked, and what it publishes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use weft_gamma::endpoints::{self, Place};
use weft_gamma::object::NamespacedName;

use super::objects::name;
use super::server::{ApiServer, PATIENCE};
use crate::metrics::{Metrics, MetricsSettings};
use crate::source::kube::{KubeSource, UsedServices};
use crate::source::{Lookup, Snapshot};

/// How long an unused Service stays known.
pub(super) const IDLE: Duration = Duration::from_secs(600);

pub(super) struct Scenario {
    pub(super) metrics: Arc<Metrics>,
    /// How many snapshots have been published.
    pub(super) count: usize,
    /// The last one that was looked at.
    pub(super) latest: Snapshot,
    /// The Services that are in use.
    pub(super) used: Arc<Mutex<BTreeSet<NamespacedName>>>,
    lookups: mpsc::UnboundedSender<Lookup>,
    published: mpsc::UnboundedReceiver<Snapshot>,
    source: JoinHandle<()>,
}

impl Scenario {
    /// A source in a pod of namespace `default`, which has published that it knows nothing.
    pub(super) async fn start(server: &ApiServer) -> Self {
        Self::with_client(server.client()).await
    }

    pub(super) async fn with_client(client: kube::Client) -> Self {
        let (lookups, asked) = mpsc::unbounded_channel();
        let (publish, published) = mpsc::unbounded_channel();
        let used: Arc<Mutex<BTreeSet<NamespacedName>>> = Arc::default();
        let in_use = used.clone();
        let used_services = UsedServices(Box::new(move || in_use.lock().unwrap().clone()));
        let metrics = Metrics::new(&MetricsSettings::default());
        let source = KubeSource::new(client, "default".into(), asked, used_services, IDLE);
        let source = source.run(metrics.clone(), move |snapshot| publish.send(snapshot).unwrap());
        let mut scenario = Self {
            metrics,
            count: 0,
            latest: Snapshot::default(),
            used,
            lookups,
            published,
            source: tokio::spawn(source),
        };
        scenario.next().await;
        assert_eq!(scenario.latest.destinations, Some(BTreeSet::new()));
        scenario
    }

    /// Asks; the answer is the receiver's end.
    pub(super) fn ask(&self, ip: &str) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        let ip: IpAddr = ip.parse().unwrap();
        self.lookups.send(Lookup { ip, answer }).unwrap();
        answered
    }

    /// Asks, waits for the answer, and takes in what was published until then. Returns how long it
    /// took.
    pub(super) async fn look_up(&mut self, ip: &str) -> Duration {
        let begun = Instant::now();
        assert!(timeout(PATIENCE, self.ask(ip)).await.is_ok(), "no answer for {ip}");
        self.catch_up();
        begun.elapsed()
    }

    /// Takes in what has been published.
    pub(super) fn catch_up(&mut self) {
        while let Ok(snapshot) = self.published.try_recv() {
            self.take(snapshot);
        }
    }

    /// Waits for the next snapshot.
    pub(super) async fn next(&mut self) {
        let next = timeout(PATIENCE, self.published.recv()).await;
        self.take(next.expect("nothing is published").expect("the source has ended"));
    }

    /// Takes snapshots in until something holds of one.
    pub(super) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                let next = self.published.recv().await.expect("the source has ended");
                self.take(next);
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: never published");
    }

    /// Whether the Service is one that the pod's connections can be meant for.
    pub(super) fn knows(&self, service: &str) -> bool {
        self.latest.destinations.as_ref().unwrap().contains(&name(service))
    }

    /// The addresses of a Service's endpoints.
    pub(super) fn endpoints(&self, service: &str) -> Vec<SocketAddr> {
        endpoints_of(&self.latest, service)
    }

    /// The problems, a line each.
    pub(super) fn problems(&self) -> String {
        problems(&self.latest)
    }

    /// A metric's value, as it is scraped.
    pub(super) fn metric(&self, metric: &str) -> String {
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {metric}")).to_owned()
    }

    fn take(&mut self, snapshot: Snapshot) {
        self.count += 1;
        self.latest = snapshot;
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        self.source.abort();
    }
}

pub(super) fn endpoints_of(snapshot: &Snapshot, service: &str) -> Vec<SocketAddr> {
    let service = name(service);
    let slices = snapshot.objects.slices.values().filter(|slice| {
        slice.name.namespace == service.namespace && slice.service.as_ref() == Some(&service.name)
    });
    let slices = slices.map(AsRef::as_ref);
    let policy = snapshot.objects.services[&service].internal_traffic;
    let ready = endpoints::for_pod(slices, "http", policy, &Place::default());
    ready.into_iter().map(|endpoint| endpoint.addr).collect()
}

pub(super) fn problems(snapshot: &Snapshot) -> String {
    snapshot.problems.iter().fold(String::new(), |mut all, problem| {
        let _ = writeln!(all, "{problem}");
        all
    })
}
