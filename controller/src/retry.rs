//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Exponential, with full jitter, so that many who failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts with up to `first`, doubles with every failure, and never exceeds `longest`.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, failures: 0 }
    }

    /// How long to wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.failures);
        let ceiling = self.first.saturating_mul(doubled).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        // Not below half of the first: a server that is down is not asked again at once.
        (self.first / 2).max(ceiling.mul_f64(fastrand::f64()))
    }

    /// It worked: the next failure counts as the first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_start_over_after_a_success() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, longest);
        assert!(backoff.wait() <= first);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.wait()).collect();
        assert!(waits.iter().all(|wait| *wait >= first / 2 && *wait <= longest));
        assert!(waits.iter().any(|wait| *wait > longest / 2));
        backoff.reset();
        assert!(backoff.wait() <= first);
    }
}
