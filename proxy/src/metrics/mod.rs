//! What the sidecar counts, and how it is shown to Prometheus.
//!
//! The request path records into a [`Series`] that the table has interned: no lock, no label lookup,
//! no allocation. [`Metrics`] holds all series, forgets those that are gone and idle, and bounds
//! their number.
//!
//! The control thread owns everything else here: it interns series when it compiles a table, calls
//! [`Metrics::sweep`] once a minute and [`Metrics::encode`] for every scrape.

mod counters;
mod encode;
mod process;
mod registry;
mod series;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use self::counters::{ConnectionMetrics, SourceMetrics};
pub use self::encode::Format;
pub use self::series::{MirrorSeries, Series, TcpSeries};

use self::counters::TableMetrics;
use self::registry::Registry;
use self::series::Bounds;

/// The labels of a rule and backend, without the outcome: of requests, and of connections that pass
/// unread.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteLabels {
    pub parent_namespace: String,
    pub parent_name: String,
    /// Never 0, which no port is and which marks the series that takes what is beyond the limit.
    pub parent_port: u16,
    /// `HTTPRoute`, `GRPCRoute`, `TLSRoute`, `TCPRoute`, or `none` where no route is attached or no rule
    /// matched.
    pub route_kind: &'static str,
    pub route_namespace: String,
    pub route_name: String,
    /// The rule's index in its route; empty where there is none.
    pub rule: String,
    pub rule_name: String,
    /// Empty where the proxy answers by itself.
    pub backend_namespace: String,
    pub backend_name: String,
    pub backend_port: String,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Outcome {
    /// The HTTP status; 0 where no response was made (the client left).
    pub status: u16,
    /// The grpc-status of a gRPC response.
    pub grpc_status: Option<u8>,
    /// Empty for a backend's own answer, else [`crate::fault::Fault::reason`] or a word for how the
    /// stream broke.
    pub reason: &'static str,
}

/// As it would be derived, but that most reasons are empty. The C library compares what is empty with a load that is
/// masked out, and where its address is none, as Rust's for nothing is, that costs some processors 0.1 µs.
impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status
            && self.grpc_status == other.grpc_status
            && self.reason.len() == other.reason.len()
            && (self.reason.is_empty() || self.reason == other.reason)
    }
}

/// What became of a request that was sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// Its answer went to the client.
    Success,
    /// It failed like the attempt before it.
    Failure,
    /// The client left or the request's time was up before it ended.
    Cancelled,
    /// It was not sent: the backend's retries were used up.
    OverBudget,
}

impl RetryOutcome {
    const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Cancelled, Self::OverBudget];

    /// The value of the label `outcome`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::OverBudget => "over_budget",
        }
    }
}

/// What of the metrics can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsSettings {
    /// Upper bounds of the duration histograms in seconds, ascending; infinity is implied.
    pub buckets: Vec<f64>,
    /// How many label sets are kept, of requests and of connections each, before the rest is
    /// counted as `other`.
    pub max_series: usize,
    /// How long a series that nothing can record into any more stays to be scraped.
    pub idle: Duration,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        MetricsSettings {
            buckets: DEFAULT_BUCKETS.to_vec(),
            max_series: 10_000,
            idle: Duration::from_secs(15 * 60),
        }
    }
}

/// From a local cache's half a millisecond to the minute that a report may take.
pub const DEFAULT_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Everything that the sidecar counts.
#[derive(Debug)]
pub struct Metrics {
    bounds: Arc<Bounds>,
    idle: Duration,
    routes: Mutex<Registry<RouteLabels, Series>>,
    mirrors: Mutex<Registry<RouteLabels, MirrorSeries>>,
    tcp: Mutex<Registry<RouteLabels, TcpSeries>>,
    weights: Mutex<Vec<(RouteLabels, f64)>>,
    max_weights: usize,
    table: TableMetrics,
    source: SourceMetrics,
    connections: ConnectionMetrics,
    access_log_dropped: AtomicU64,
    started: SystemTime,
}

impl Metrics {
    /// Buckets that are not finite, not positive or out of order are left out.
    pub fn new(settings: &MetricsSettings) -> Arc<Metrics> {
        let bounds = Arc::new(Bounds::new(&settings.buckets));
        let other_route = Arc::new(Series::new(Arc::clone(&bounds)));
        let other_tcp = Arc::new(TcpSeries::new(Arc::clone(&bounds)));
        Arc::new(Metrics {
            bounds,
            idle: settings.idle,
            routes: Mutex::new(Registry::new(settings.max_series, other_route)),
            mirrors: Mutex::new(Registry::new(settings.max_series, Arc::default())),
            tcp: Mutex::new(Registry::new(settings.max_series, other_tcp)),
            weights: Mutex::default(),
            max_weights: settings.max_series,
            table: TableMetrics::default(),
            source: SourceMetrics::default(),
            connections: ConnectionMetrics::default(),
            access_log_dropped: AtomicU64::new(0),
            started: SystemTime::now(),
        })
    }

    /// The series of a rule and backend: the same one for the same labels for as long as anybody
    /// holds it, so that a new table goes on counting where the last one stopped. Beyond the limit
    /// it is one series whose labels all say `other`.
    ///
    /// For whoever compiles tables, not for the request path: it takes a lock.
    pub fn route(&self, labels: RouteLabels) -> Arc<Series> {
        let new = || Series::new(Arc::clone(&self.bounds));
        lock(&self.routes).intern(labels, Instant::now(), new)
    }

    /// The series of what is mirrored to the backend that the labels name; as [`Metrics::route`].
    pub fn mirror(&self, labels: RouteLabels) -> Arc<MirrorSeries> {
        lock(&self.mirrors).intern(labels, Instant::now(), MirrorSeries::default)
    }

    /// The series of a rule's and backend's connections that pass unread; as [`Metrics::route`].
    pub fn tcp(&self, labels: RouteLabels) -> Arc<TcpSeries> {
        let new = || TcpSeries::new(Arc::clone(&self.bounds));
        lock(&self.tcp).intern(labels, Instant::now(), new)
    }

    /// What the table that is now published configures: for each rule and backend its weight
    /// divided by the sum of the rule's weights. Replaces what was said before. A backend that a
    /// rule names twice has the sum of both.
    pub fn set_weights(&self, mut weights: Vec<(RouteLabels, f64)>) {
        weights.sort_by(|(a, _), (b, _)| a.cmp(b));
        weights.dedup_by(|(next, weight), (kept, sum)| {
            let same = next == kept;
            if same {
                *sum += *weight;
            }
            same
        });
        weights.truncate(self.max_weights);
        *lock(&self.weights) = weights;
    }

    /// A table has been compiled, which took so long, and swapped in.
    pub fn table_published(
        &self,
        generation: u64,
        took: Duration,
        routes: usize,
        destinations: usize,
        problems: usize,
    ) {
        self.table.published(generation, took, routes, destinations, problems);
    }

    /// What sources report.
    pub fn source(&self) -> &SourceMetrics {
        &self.source
    }

    /// What the outbound listeners report.
    pub fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// Lines that the access log had to drop because nobody read them fast enough.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lets go of series that nothing can record into any more and that have not changed for
    /// [`MetricsSettings::idle`], or were never recorded into. Returns how many went.
    pub fn sweep(&self, now: Instant) -> usize {
        lock(&self.routes).sweep(now, self.idle)
            + lock(&self.mirrors).sweep(now, self.idle)
            + lock(&self.tcp).sweep(now, self.idle)
    }

    /// Everything, in Prometheus' text format.
    pub fn encode(self: &Arc<Self>) -> String {
        encode::encode(self, Format::Text)
    }

    /// Everything, in the format that a scraper asked for.
    pub fn encode_as(self: &Arc<Self>, format: Format) -> String {
        encode::encode(self, format)
    }
}

/// Nothing under these locks can leave them half changed, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
