//! When to try again what the API server refused or could not be reached for.

use std::time::Duration;

use kube::core::Status;

/// Growing pauses with full jitter, so that replicas do not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    /// How long to wait after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(Self::LONGEST);
        // Never next to nothing: a failure can come back at once.
        most.mul_f64(0.25 + 0.75 * fastrand::f64())
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: Self::FIRST }
    }
}

/// An error in words that can be read: the API server's own where it has answered.
pub(crate) fn told(error: &kube::Error) -> String {
    match status(error) {
        Some(status) => status.message.clone(),
        None => error.to_string(),
    }
}

/// What the API server answered, if it did.
pub(crate) fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut backoff = Backoff::default();
        for most in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!(pause <= most && pause >= most / 4.0, "{pause} of {most}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(500));
    }
}
