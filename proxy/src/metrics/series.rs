//! What workers record into: counters and histograms without a lock, a lookup or an allocation.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::registry::Activity;
use super::{Outcome, RetryOutcome};

/// The requests of one rule and backend.
#[derive(Debug)]
pub struct Series {
    requests: Tally<Outcome, 24>,
    /// By [`RetryOutcome`].
    retries: [AtomicU64; RetryOutcome::ALL.len()],
    pub(super) durations: Histogram,
}

impl Series {
    pub(super) fn new(bounds: Arc<Bounds>) -> Series {
        Series {
            requests: Tally::default(),
            retries: Default::default(),
            durations: Histogram::new(bounds),
        }
    }

    /// A request ended, so long after its head had been read.
    pub fn record(&self, outcome: Outcome, duration: Duration) {
        self.requests.count(outcome);
        self.durations.observe(duration);
    }

    /// A request was sent once more, with that outcome, or would have been.
    pub fn retried(&self, outcome: RetryOutcome) {
        self.retries[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests ended in which way.
    pub(super) fn requests(&self) -> &Tally<Outcome, 24> {
        &self.requests
    }

    /// How many retries had which outcome; none where there was none.
    pub(super) fn retries(&self) -> impl Iterator<Item = (RetryOutcome, u64)> + '_ {
        let counts = self.retries.iter().map(|count| count.load(Ordering::Relaxed));
        RetryOutcome::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}

impl Activity for Series {
    fn activity(&self) -> u64 {
        self.requests.total() + self.retries().map(|(_, count)| count).sum::<u64>()
    }
}

/// The copies of one rule's or backend's requests that go to a mirror.
#[derive(Debug, Default)]
pub struct MirrorSeries {
    copies: Tally<&'static str, 12>,
}

impl MirrorSeries {
    /// A copy came to its end: `completed`, or a word for why it did not.
    pub fn ended(&self, outcome: &'static str) {
        self.copies.count(outcome);
    }

    /// How many copies ended in which way.
    pub(super) fn copies(&self) -> &Tally<&'static str, 12> {
        &self.copies
    }
}

impl Activity for MirrorSeries {
    fn activity(&self) -> u64 {
        self.copies.total()
    }
}

/// The connections of one rule and backend that pass unread.
#[derive(Debug)]
pub struct TcpSeries {
    connections: Tally<&'static str, 12>,
    open: AtomicI64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    pub(super) durations: Histogram,
}

impl TcpSeries {
    pub(super) fn new(bounds: Arc<Bounds>) -> TcpSeries {
        TcpSeries {
            connections: Tally::default(),
            open: AtomicI64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            durations: Histogram::new(bounds),
        }
    }

    /// A connection began. Each must be followed by one [`TcpSeries::closed`].
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended. `sent_bytes` went to the backend, `received_bytes` came from it;
    /// `reason` is empty where both sides were done.
    pub fn closed(
        &self,
        duration: Duration,
        sent_bytes: u64,
        received_bytes: u64,
        reason: &'static str,
    ) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.connections.count(reason);
        self.sent_bytes.fetch_add(sent_bytes, Ordering::Relaxed);
        self.received_bytes.fetch_add(received_bytes, Ordering::Relaxed);
        self.durations.observe(duration);
    }

    /// A connection was closed before it was joined with anything.
    pub fn refused(&self, duration: Duration, reason: &'static str) {
        self.connections.count(reason);
        self.durations.observe(duration);
    }

    /// How many connections ended in which way.
    pub(super) fn connections(&self) -> &Tally<&'static str, 12> {
        &self.connections
    }

    pub(super) fn open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }
}

impl Activity for TcpSeries {
    fn activity(&self) -> u64 {
        // Wraps for the moment in which more are seen to close than to open: only change counts.
        self.connections.total().wrapping_add_signed(self.open())
    }
}

/// Counters by key, for keys of which few exist but nobody knows which: an append-only array that
/// is searched from the front, where the common ones soon are. What finds no room is counted apart.
#[derive(Debug)]
pub(super) struct Tally<K, const SLOTS: usize> {
    slots: [Slot<K>; SLOTS],
    overflow: AtomicU64,
}

#[derive(Debug)]
struct Slot<K> {
    key: OnceLock<K>,
    count: AtomicU64,
}

impl<K, const SLOTS: usize> Default for Tally<K, SLOTS> {
    fn default() -> Self {
        Tally {
            slots: std::array::from_fn(|_| Slot { key: OnceLock::new(), count: AtomicU64::new(0) }),
            overflow: AtomicU64::new(0),
        }
    }
}

impl<K: Copy + Eq, const SLOTS: usize> Tally<K, SLOTS> {
    pub(super) fn count(&self, key: K) {
        for slot in &self.slots {
            // A free slot is claimed for good; where another worker was quicker, it may be with the
            // same key.
            if *slot.key.get_or_init(|| key) == key {
                slot.count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.overflow.fetch_add(1, Ordering::Relaxed);
    }

    /// The keys seen so far with their counts.
    pub(super) fn counts(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.slots
            .iter()
            .map_while(|slot| slot.key.get().map(|key| (*key, slot.count.load(Ordering::Relaxed))))
    }

    /// What was counted after all slots had been taken by other keys.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum::<u64>() + self.overflow()
    }
}

/// The upper bounds of a histogram's buckets, without infinity.
#[derive(Debug)]
pub(super) struct Bounds {
    seconds: Vec<f64>,
    nanoseconds: Vec<u64>,
}

impl Bounds {
    pub(super) fn new(seconds: &[f64]) -> Bounds {
        let mut kept: Vec<f64> = Vec::with_capacity(seconds.len());
        for &bound in seconds {
            let ascends = kept.last().is_none_or(|last| *last < bound);
            if bound.is_finite() && bound > 0.0 && ascends {
                kept.push(bound);
            }
        }
        let nanoseconds = kept.iter().map(|bound| (bound * 1e9).round() as u64).collect();
        Bounds { seconds: kept, nanoseconds }
    }
}

/// How long things took.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: Arc<Bounds>,
    /// One for each bound and one for what is longer than all of them.
    buckets: Box<[AtomicU64]>,
    /// Overflows after 584 years of requests.
    sum_nanoseconds: AtomicU64,
}

impl Histogram {
    fn new(bounds: Arc<Bounds>) -> Histogram {
        let buckets = (0..=bounds.nanoseconds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum_nanoseconds: AtomicU64::new(0) }
    }

    fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.nanoseconds.partition_point(|bound| *bound < nanoseconds);
        // The index is at most the number of bounds, and there is one bucket more than bounds.
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Upper bounds in seconds with what fell into each bucket alone; infinity comes last.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.seconds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_nanoseconds.load(Ordering::Relaxed) as f64 / 1e9
    }
}
