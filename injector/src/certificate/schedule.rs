//! When to renew, and which generation to serve; nothing but arithmetic.
//!
//! `keeper` asks with the time of day, tests with any other.

use std::time::{Duration, SystemTime};

use super::generation::Validity;

/// A generation, as far as the choice goes.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub valid: Validity,
    /// Since when its CA has been seen in the bundle, without a break; `None` if it is not there.
    pub in_bundle_since: Option<SystemTime>,
    /// Whether this replica serves it now.
    pub is_served: bool,
}

/// Whether the newest generation wants a successor: in the last third of its life, and where it has
/// longer to live than one that is made now, as after the option has been changed. `validity` is what
/// the option says; replicas' clocks may differ by a tenth of it.
pub fn wants_successor(valid: &Validity, validity: Duration, now: SystemTime) -> bool {
    let is_old = now + valid.length() / 3 >= valid.until;
    let lives_too_long = valid.until > now + validity + validity / 10;
    is_old || lives_too_long
}

/// How long a CA has to be in the bundle before every API server has surely seen it. An API server
/// watches webhook configurations and has a change in milliseconds; a minute covers one that has
/// just lost its watch.
pub fn settling(valid: &Validity) -> Duration {
    (valid.length() / 20).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// How long to wait until the next look, if nothing happens before: often enough for a generation
/// to be renewed and served in good time.
pub fn pause(validity: Duration) -> Duration {
    (validity / 60).clamp(Duration::from_millis(250), Duration::from_secs(60))
}

/// The position of the generation to serve; `candidates` are in order of age, the oldest first.
///
/// In this order: the newest that is settled; the one that is served, as long as it is trusted;
/// the oldest that is trusted, as a replica that has just started cannot know how long the newer
/// ones have been; and if none is trusted yet, the newest.
pub fn choose(candidates: &[Candidate], now: SystemTime) -> Option<usize> {
    let good = || {
        let positions = candidates.iter().enumerate();
        positions.filter(|(_, candidate)| !candidate.valid.has_ended(now))
    };
    let settled = |candidate: &Candidate| {
        let due = candidate.in_bundle_since.map(|since| since + settling(&candidate.valid));
        due.is_some_and(|due| now >= due)
    };
    let trusted = |candidate: &Candidate| candidate.in_bundle_since.is_some();
    good()
        .rfind(|(_, candidate)| settled(candidate))
        .or_else(|| good().find(|(_, candidate)| candidate.is_served && trusted(candidate)))
        .or_else(|| good().find(|(_, candidate)| trusted(candidate)))
        .or_else(|| good().next_back())
        .map(|(position, _)| position)
}

#[cfg(test)]
mod tests;
