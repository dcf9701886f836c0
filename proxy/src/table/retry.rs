//! A rule's `retry`, ready for use.

use std::time::Duration;

use http::StatusCode;
use weft_gamma::route;

/// The base interval where a route names none, short enough for a client not to notice.
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);
/// The longest pause, in base intervals.
const LONGEST_PAUSE: u32 = 10;
/// The codes that a route can name: 400 to 599.
const FIRST_CODE: u16 = 400;
const CODES: usize = 200;

/// When a rule's requests are sent again.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    /// A bit for each code from 400 on.
    codes: [u64; CODES.div_ceil(64)],
    /// How often, beyond the first attempt; 0 disables every retry.
    pub(crate) attempts: u32,
    backoff: Duration,
}

impl Retry {
    pub(crate) fn new(retry: &route::Retry) -> Self {
        let mut codes = [0; CODES.div_ceil(64)];
        for (word, bit) in retry.codes.iter().filter_map(|code| place(*code)) {
            codes[word] |= bit;
        }
        Self { codes, attempts: retry.attempts, backoff: retry.backoff.unwrap_or(DEFAULT_BACKOFF) }
    }

    /// Whether the route names this code.
    pub(crate) fn names(&self, code: StatusCode) -> bool {
        place(code).is_some_and(|(word, bit)| self.codes[word] & bit != 0)
    }

    /// The codes, ascending.
    pub(crate) fn codes(&self) -> impl Iterator<Item = u16> + '_ {
        let all = (FIRST_CODE..FIRST_CODE + CODES as u16).map(StatusCode::from_u16);
        all.flatten().filter(|code| self.names(*code)).map(|code| code.as_u16())
    }

    /// The base interval of the pauses.
    pub(crate) fn backoff(&self) -> Duration {
        self.backoff
    }

    /// The longest of the pauses.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.backoff.saturating_mul(LONGEST_PAUSE)
    }

    /// How long to wait before another attempt, after so many retries: anything up to the base
    /// interval doubled as often, and up to ten base intervals ("full jitter": clients that failed
    /// together do not come back together).
    ///
    /// HTTPRouteRetry.backoff: "Implementations MAY add random jitter and MAY cap the delay at an
    /// implementation-defined maximum, which SHOULD NOT be less than the base interval."
    pub(crate) fn pause(&self, retries: u32) -> Duration {
        let factor = 1_u32.checked_shl(retries).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        self.backoff.saturating_mul(factor).mul_f64(fastrand::f64())
    }
}

/// The word and the bit of a code.
fn place(code: StatusCode) -> Option<(usize, u64)> {
    let index = usize::from(code.as_u16().checked_sub(FIRST_CODE)?);
    (index < CODES).then_some((index / 64, 1 << (index % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(codes: &[u16], backoff: Option<Duration>) -> Retry {
        let codes = codes.iter().map(|code| StatusCode::from_u16(*code).unwrap()).collect();
        Retry::new(&route::Retry { codes, attempts: 3, backoff })
    }

    #[test]
    fn exactly_the_codes_of_the_route_are_named() {
        for codes in [&[][..], &[400], &[599], &[463, 464, 500, 503, 528]] {
            let retry = retry(codes, None);
            assert_eq!(retry.codes().collect::<Vec<_>>(), codes);
            let named = |code: &u16| retry.names(StatusCode::from_u16(*code).unwrap());
            assert_eq!((100..1000).filter(named).collect::<Vec<_>>(), codes);
        }
    }

    #[test]
    fn pauses_grow_by_doubling_and_are_bounded() {
        let second = Duration::from_secs(1);
        let retry = retry(&[], Some(second));
        for (retries, longest) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (31, 10), (99, 10)] {
            let longest = second * longest;
            let pauses: Vec<_> = (0..1000).map(|_| retry.pause(retries)).collect();
            assert!(pauses.iter().all(|pause| *pause <= longest));
            // Full jitter: all of the range is used.
            assert!(pauses.iter().any(|pause| *pause < longest / 10));
            assert!(pauses.iter().any(|pause| *pause > longest / 10 * 9));
        }
    }

    #[test]
    fn a_route_may_do_without_pauses_and_may_ask_for_long_ones() {
        assert_eq!(retry(&[], Some(Duration::ZERO)).pause(5), Duration::ZERO);
        let longest = Duration::from_secs(99_999 * 3600 * 4);
        assert!(retry(&[], Some(longest)).pause(40) <= longest * LONGEST_PAUSE);
    }
}
