//! What policies say of a backend's traffic.

use std::time::Duration;

/// How many retries a backend may get (`retryConstraint` of an XBackendTrafficPolicy): a share of its
/// requests, and at least a rate. The default is what the API gives where a policy names nothing, and
/// what Weft applies where there is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConstraint {
    /// `budget.percent`, 0 to 100: how many of the backend's requests, retries included, may be
    /// retries.
    pub percent: u32,
    /// `budget.interval`: over the requests of how much time; 1 s to 1 h.
    pub interval: Duration,
    /// `minRetryRate.count`: so many retries are allowed in each `rate_interval` whatever the share.
    pub rate_count: u32,
    /// `minRetryRate.interval`.
    pub rate_interval: Duration,
}

impl Default for RetryConstraint {
    /// "default={percent: 20, interval: \"10s\"}" and "default={count: 10, interval: \"1s\"}".
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            rate_count: 10,
            rate_interval: Duration::from_secs(1),
        }
    }
}
