//! The choice among a backend's endpoints: peak-EWMA, power of two choices, ejection.
//!
//! Everything here belongs to one worker: cells, no atomics.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How fast an old observation fades.
const DECAY: Duration = Duration::from_secs(10);
/// Added to every estimate, in seconds: endpoints that answer within a few milliseconds of each other
/// are told apart by what is under way there, which says more than chance does. It also makes what
/// is under way at a new endpoint count.
const INDIFFERENCE: f64 = 10e-3;
/// Up to this factor two estimates count as alike, and only what is under way decides. Otherwise a
/// client that sends one request at a time would stay with one endpoint for minutes, whichever
/// happened to be a few microseconds faster.
const ALIKE: f64 = 1.5;
/// Failures in a row after which an endpoint is ejected.
const FAILURES_TO_EJECT: u32 = 2;
/// The first ejection's length; each further one in a row doubles it.
const EJECTION: Duration = Duration::from_secs(1);
/// The longest ejection.
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// The load of one endpoint as one worker sees it.
#[derive(Debug)]
pub(crate) struct Load {
    /// Estimated time to the response head, in seconds: rises at once with a slow answer (peak),
    /// falls by [`DECAY`]. Zero before the first answer, so that a new endpoint is tried soon.
    estimate: Cell<f64>,
    observed: Cell<Instant>,
    in_flight: Cell<u32>,
    failures: Cell<u32>,
    ejections: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
}

impl Load {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            estimate: Cell::new(0.0),
            observed: Cell::new(now),
            in_flight: Cell::new(0),
            failures: Cell::new(0),
            ejections: Cell::new(0),
            ejected_until: Cell::new(None),
        }
    }

    /// Whether a request sent now can be expected to wait less here than at `other`.
    pub(crate) fn is_better_than(&self, other: &Self, now: Instant) -> bool {
        let (own, others) = (INDIFFERENCE + self.decayed(now), INDIFFERENCE + other.decayed(now));
        let (own_queue, others_queue) = (self.in_flight.get() + 1, other.in_flight.get() + 1);
        if own.max(others) <= own.min(others) * ALIKE {
            return own_queue < others_queue;
        }
        own * f64::from(own_queue) < others * f64::from(others_queue)
    }

    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether nothing is under way, and no answer came for so long.
    pub(crate) fn is_idle(&self, now: Instant, so_long: Duration) -> bool {
        self.in_flight.get() == 0 && now.saturating_duration_since(self.observed.get()) >= so_long
    }

    /// A connection was made: failures before it are no longer in a row. Its time says nothing of how
    /// long a stream lasts, so that streams are balanced by how many are open.
    pub(crate) fn connected(&self) {
        self.failures.set(0);
        self.ejections.set(0);
    }

    /// A response head came after `took`.
    pub(crate) fn succeeded(&self, now: Instant, took: Duration) {
        self.connected();
        self.observe(now, took);
    }

    /// No response head came within `waited`: it would have taken at least so long.
    pub(crate) fn timed_out(&self, now: Instant, waited: Duration) {
        if waited.as_secs_f64() > self.decayed(now) {
            self.observe(now, waited);
        }
    }

    fn observe(&self, now: Instant, took: Duration) {
        let (took, before) = (took.as_secs_f64(), self.estimate.get());
        self.estimate.set(if took > before {
            took
        } else {
            let weight = fade(now.saturating_duration_since(self.observed.get()));
            before * weight + took * (1.0 - weight)
        });
        self.observed.set(now);
    }

    /// No connection, or none that held until the response head. True when the endpoint has now
    /// failed often enough to be ejected; the caller decides whether enough others are left.
    pub(crate) fn failed(&self) -> bool {
        self.failures.set(self.failures.get().saturating_add(1));
        self.failures.get() >= FAILURES_TO_EJECT
    }

    /// Takes the endpoint out of the choice, longer each time in a row.
    pub(crate) fn eject(&self, now: Instant) -> Duration {
        let doublings = self.ejections.get().min(5);
        self.ejections.set(self.ejections.get().saturating_add(1));
        let length = (EJECTION * 2u32.pow(doublings)).min(EJECTION_MAX);
        self.ejected_until.set(Some(now + length));
        // Back in the choice, a single failure is enough to be ejected again.
        self.failures.set(FAILURES_TO_EJECT - 1);
        length
    }

    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        match self.ejected_until.get() {
            Some(until) if now < until => true,
            Some(_) => {
                self.ejected_until.set(None);
                false
            }
            None => false,
        }
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.estimate.get() * fade(now.saturating_duration_since(self.observed.get()))
    }
}

/// The weight that is left to an observation of that age.
fn fade(age: Duration) -> f64 {
    let decays = age.as_secs_f64() / DECAY.as_secs_f64();
    // What most requests ask for. The next term of the series is below a millionth then.
    if decays < 1e-3 { 1.0 - decays } else { libm::exp(-decays) }
}

/// Picks one of `count` candidates by two choices: the better of two distinct random ones, among
/// those that `usable` lets through. Looks at all of them only when both throws miss.
pub(crate) fn two_choices(
    count: usize,
    usable: impl Fn(usize) -> bool,
    is_better: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    match count {
        0 => return None,
        1 => return usable(0).then_some(0),
        _ => {}
    }
    let first = fastrand::usize(..count);
    // One of the others, each equally likely.
    let second = (first + 1 + fastrand::usize(..count - 1)) % count;
    match (usable(first), usable(second)) {
        (true, true) => Some(if is_better(second, first) { second } else { first }),
        (true, false) => Some(first),
        (false, true) => Some(second),
        // Any of the usable ones: the next one would get the share of all unusable ones before it.
        (false, false) => {
            let left = (0..count).filter(|candidate| usable(*candidate)).count();
            let nth = (left > 0).then(|| fastrand::usize(..left))?;
            (0..count).filter(|candidate| usable(*candidate)).nth(nth)
        }
    }
}
