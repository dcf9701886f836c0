//! Counters without labels of routes: of sources, of the table, of the outbound listeners.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::series::Tally;

/// What the source of objects reports.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    connected: AtomicBool,
    last_sync_milliseconds: AtomicU64,
    relists: AtomicU64,
    errors: AtomicU64,
    problems: AtomicU64,
}

impl SourceMetrics {
    /// Whether the source can be reached: the API server watched, the directory read.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// What is known was known to be current at this time.
    pub fn synced(&self, at: SystemTime) {
        self.last_sync_milliseconds.store(milliseconds(at), Ordering::Relaxed);
    }

    /// Objects were read anew: a relist, or manifests that changed.
    pub fn relisted(&self) {
        self.relists.fetch_add(1, Ordering::Relaxed);
    }

    /// The source could not be read.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// How many problems there are now in what the source holds.
    pub fn set_problems(&self, problems: usize) {
        self.problems.store(problems as u64, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Seconds since 1970; 0 before the first sync.
    pub(super) fn last_sync(&self) -> f64 {
        self.last_sync_milliseconds.load(Ordering::Relaxed) as f64 / 1e3
    }

    pub(super) fn relists(&self) -> u64 {
        self.relists.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }
}

/// What the outbound listeners of all workers report.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    by_protocol: Tally<&'static str, 12>,
    open: AtomicI64,
    loops: AtomicU64,
    accept_errors: AtomicU64,
    ended: Tally<&'static str, 8>,
}

impl ConnectionMetrics {
    /// A connection was accepted. Each must be followed by one [`ConnectionMetrics::closed`].
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// An accepted connection has gone.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// What a connection turned out to speak: `http1`, `http2`, `tls`, `opaque` for anything else,
    /// or `passthrough` for a destination that is not known.
    pub fn detected(&self, protocol: &'static str) {
        self.by_protocol.count(protocol);
    }

    /// A connection was refused because it would have led back to the sidecar.
    pub fn loop_refused(&self) {
        self.loops.fetch_add(1, Ordering::Relaxed);
    }

    /// No connection could be accepted: out of file descriptors, say.
    pub fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The sidecar has ended a connection, for this reason.
    pub fn ended(&self, reason: &'static str) {
        self.ended.count(reason);
    }

    pub(super) fn by_reason(&self) -> &Tally<&'static str, 8> {
        &self.ended
    }

    pub(super) fn by_protocol(&self) -> &Tally<&'static str, 12> {
        &self.by_protocol
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        usize::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn loops(&self) -> u64 {
        self.loops.load(Ordering::Relaxed)
    }

    pub(super) fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
}

/// What is said of the table that is in force.
#[derive(Debug, Default)]
pub(super) struct TableMetrics {
    pub(super) generation: AtomicU64,
    pub(super) publishes: AtomicU64,
    pub(super) published_milliseconds: AtomicU64,
    pub(super) took_microseconds: AtomicU64,
    pub(super) routes: AtomicU64,
    pub(super) destinations: AtomicU64,
    pub(super) problems: AtomicU64,
}

impl TableMetrics {
    pub(super) fn published(
        &self,
        generation: u64,
        took: Duration,
        routes: usize,
        destinations: usize,
        problems: usize,
    ) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.generation.store(generation, Ordering::Relaxed);
        self.publishes.fetch_add(1, Ordering::Relaxed);
        self.published_milliseconds.store(milliseconds(SystemTime::now()), Ordering::Relaxed);
        self.took_microseconds.store(microseconds, Ordering::Relaxed);
        self.routes.store(routes as u64, Ordering::Relaxed);
        self.destinations.store(destinations as u64, Ordering::Relaxed);
        self.problems.store(problems as u64, Ordering::Relaxed);
    }
}

/// Since 1970.
pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
