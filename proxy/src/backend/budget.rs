//! A backend's retry budget, on one worker: what keeps the retries of many clients from burying a
//! backend that is failing already.
//!
//! The request path counts every request in and asks before every retry that puts load on the
//! backend. Cells, no atomics, no lock: each worker has a budget of its own. Of the share it has its
//! part by itself, since it is of its own requests; the rate is each worker's, as the API has it of
//! each client: "The effective overall minimum rate of retries targeting the backend service may be
//! much higher, as there can be any number of clients which are applying this setting locally."

use std::cell::Cell;
use std::time::{Duration, Instant};

use weft_gamma::policy::RetryConstraint;

/// The interval is counted in so many slices, of which the oldest is forgotten at once.
const SLICES: usize = 10;

/// What a backend was sent lately, and may be sent again.
#[derive(Debug)]
pub(crate) struct Budget {
    constraint: Cell<RetryConstraint>,
    slices: [Slice; SLICES],
    /// The slice that counts now, and its end.
    current: Cell<usize>,
    until: Cell<Instant>,
    /// The sums over all slices.
    requests: Cell<u64>,
    retries: Cell<u64>,
    /// Retries that the rate allows at this moment: they come back steadily, up to `rate_count`.
    spare: Cell<f64>,
    refilled: Cell<Instant>,
}

#[derive(Debug, Default)]
struct Slice {
    requests: Cell<u64>,
    retries: Cell<u64>,
}

impl Budget {
    pub(crate) fn new(constraint: RetryConstraint, now: Instant) -> Self {
        Self {
            constraint: Cell::new(constraint),
            slices: Default::default(),
            current: Cell::new(0),
            until: Cell::new(now + constraint.interval / SLICES as u32),
            requests: Cell::new(0),
            retries: Cell::new(0),
            spare: Cell::new(f64::from(constraint.rate_count)),
            refilled: Cell::new(now),
        }
    }

    /// Takes over another constraint. What was counted so far counts on.
    pub(crate) fn set(&self, constraint: RetryConstraint) {
        if self.constraint.replace(constraint) != constraint {
            self.spare.set(self.spare.get().min(f64::from(constraint.rate_count)));
        }
    }

    /// Counts a request, once, whatever becomes of it.
    pub(crate) fn request(&self, now: Instant) {
        self.advance(now);
        add(&self.requests, 1);
        add(&self.slices[self.current.get()].requests, 1);
    }

    /// Counts a retry if there is room for it; otherwise it must not be sent.
    ///
    /// XBackendTrafficPolicy: "if the retry budget interval is 10 seconds, there have been 1000 active
    /// requests in the past 10 seconds, and the allowed percentage of requests that can be retried is
    /// 20% (the default), then 200 of those requests may be composed of retries." The rate is a floor:
    /// "This ensures that requests can still be retried during periods of low traffic".
    pub(crate) fn retry(&self, now: Instant) -> bool {
        self.advance(now);
        let percent = u64::from(self.constraint.get().percent);
        let retries = self.retries.get() + 1;
        let within = retries * 100 <= percent * (self.requests.get() + retries);
        // Taken from even where the share has room: the greater of both is allowed, not their sum.
        let spare = self.take_spare(now);
        if within || spare {
            add(&self.retries, 1);
            add(&self.slices[self.current.get()].retries, 1);
        }
        within || spare
    }

    fn take_spare(&self, now: Instant) -> bool {
        let RetryConstraint { rate_count, rate_interval, .. } = self.constraint.get();
        let waited = now.saturating_duration_since(self.refilled.replace(now));
        let most = f64::from(rate_count);
        let rate = most / rate_interval.as_secs_f64().max(f64::MIN_POSITIVE);
        let spare = (self.spare.get() + waited.as_secs_f64() * rate).min(most);
        let is_there = spare >= 1.0;
        self.spare.set(if is_there { spare - 1.0 } else { spare });
        is_there
    }

    /// Forgets the slices that are older than the interval.
    fn advance(&self, now: Instant) {
        if now < self.until.get() {
            return;
        }
        let slice = self.constraint.get().interval / SLICES as u32;
        let late = now.saturating_duration_since(self.until.get());
        let passed = 1 + late.as_nanos() / slice.as_nanos().max(1);
        for _ in 0..passed.min(SLICES as u128) {
            let next = (self.current.get() + 1) % SLICES;
            self.current.set(next);
            let Slice { requests, retries } = &self.slices[next];
            self.requests.set(self.requests.get() - requests.take());
            self.retries.set(self.retries.get() - retries.take());
        }
        // Slices go on from their own end, so that they stay equally long whenever one looks.
        let into = Duration::from_nanos((late.as_nanos() % slice.as_nanos().max(1)) as u64);
        self.until.set(now + slice - into);
    }
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

#[cfg(test)]
mod tests;
