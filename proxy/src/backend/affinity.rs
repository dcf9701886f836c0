//! `sessionAffinity: ClientIP`: where the pod is kept.
//!
//! kube-proxy remembers for each client the endpoint that it was sent to, until the endpoint goes or
//! the client has been away for `timeoutSeconds`. Here the pod is the only client. What is remembered
//! belongs to the backend and so to all workers; what is chosen where nothing is remembered follows
//! from the pod's address, so that workers that choose at the same moment, and a sidecar that starts
//! anew, choose alike.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::rendezvous;

/// How exactly it is known when the endpoint was used last: the workers need not all write for that.
const PRECISION: Duration = Duration::from_secs(1);

/// The endpoint that the pod is kept at.
#[derive(Debug)]
pub(crate) struct Affinity {
    key: u64,
    start: Instant,
    /// The endpoint's digest; 0 where there is none yet.
    endpoint: AtomicU64,
    /// When it was used last, in milliseconds since `start`.
    used: AtomicU64,
}

/// The key of a pod's choices; any for a pod of unknown address.
pub(crate) fn key(address: Option<IpAddr>) -> u64 {
    match address {
        Some(address) => rendezvous::digest([address.to_string().as_bytes()]),
        None => fastrand::u64(..),
    }
}

impl Affinity {
    pub(super) fn new(key: u64) -> Self {
        Self { key, start: Instant::now(), endpoint: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// The digest of the endpoint that the pod is kept at, unless it has been away for longer than
    /// `timeout`.
    pub(super) fn kept(&self, now: Instant, timeout: Duration) -> Option<u64> {
        let endpoint = self.endpoint.load(Ordering::Relaxed);
        let used = Duration::from_millis(self.used.load(Ordering::Relaxed));
        let away = self.since_start(now).saturating_sub(used);
        (endpoint != 0 && away <= timeout + PRECISION).then_some(endpoint)
    }

    /// From now on the pod is kept there.
    pub(super) fn keep(&self, now: Instant, endpoint: u64) {
        self.touch(now);
        self.endpoint.store(endpoint, Ordering::Relaxed);
    }

    /// The endpoint is in use.
    pub(super) fn touch(&self, now: Instant) {
        let (now, used) = (self.since_start(now), self.used.load(Ordering::Relaxed));
        // Written only now and then: the line stays shared among workers.
        if now >= Duration::from_millis(used) + PRECISION {
            self.used.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The rank of an endpoint for this pod: the highest is chosen.
    pub(super) fn rank(&self, endpoint: u64) -> u64 {
        rendezvous::bid(self.key, endpoint)
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}
