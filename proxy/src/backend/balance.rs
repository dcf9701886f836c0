//! The choice among a backend's endpoints: peak-EWMA, power of two choices, ejection.
//!
//! Everything here belongs to one worker: cells, no atomics.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How fast an old observation fades.
const DECAY: Duration = Duration::from_secs(10);
/// The first estimate of an endpoint that has answered nothing yet. Small, so that a new endpoint is
/// tried soon; not zero, so that what is under way there counts.
const FIRST_ESTIMATE: f64 = 1e-3;
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
    /// falls by [`DECAY`].
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
            estimate: Cell::new(FIRST_ESTIMATE),
            observed: Cell::new(now),
            in_flight: Cell::new(0),
            failures: Cell::new(0),
            ejections: Cell::new(0),
            ejected_until: Cell::new(None),
        }
    }

    /// The expected wait for a request sent now: less is better.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.decayed(now) * f64::from(self.in_flight.get() + 1)
    }

    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// A response head came after `took`.
    pub(crate) fn succeeded(&self, now: Instant, took: Duration) {
        self.failures.set(0);
        self.ejections.set(0);
        let took = took.as_secs_f64();
        let faded = self.decayed(now);
        let estimate = if took > faded {
            took
        } else {
            let weight = fade(now.saturating_duration_since(self.observed.get()));
            faded * weight + took * (1.0 - weight)
        };
        self.estimate.set(estimate.max(1e-6));
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

/// The weight that is left to an observation of that age. Linear near zero, which is where requests
/// that follow each other are, and close enough to the exponential beyond.
fn fade(age: Duration) -> f64 {
    1.0 / (1.0 + age.as_secs_f64() / DECAY.as_secs_f64())
}

/// Picks one of `count` candidates by two choices: the better of two distinct random ones, among
/// those that `usable` lets through. Looks at all of them only when both throws miss.
pub(crate) fn two_choices(
    count: usize,
    usable: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
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
        (true, true) => Some(if cost(second) < cost(first) { second } else { first }),
        (true, false) => Some(first),
        (false, true) => Some(second),
        (false, false) => {
            (0..count).map(|step| (first + step) % count).find(|candidate| usable(*candidate))
        }
    }
}
