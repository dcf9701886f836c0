use std::time::UNIX_EPOCH;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn day(number: u32) -> SystemTime {
    UNIX_EPOCH + DAY * number
}

fn valid(from: u32, until: u32) -> Validity {
    Validity { from: day(from), until: day(until) }
}

#[test]
fn renewed_in_the_last_third() {
    let valid = valid(0, 90);
    let wants = |now| wants_successor(&valid, DAY * 90, now);
    assert!(!wants(day(0)));
    assert!(!wants(day(60) - Duration::from_secs(1)));
    assert!(wants(day(60)));
    assert!(wants(day(200)));
}

#[test]
fn renewed_when_the_option_has_become_shorter() {
    let valid = valid(0, 90);
    assert!(wants_successor(&valid, DAY, day(10)));
    assert!(!wants_successor(&valid, DAY * 365, day(10)));
    // A replica whose clock is behind.
    assert!(!wants_successor(&valid, DAY * 90, day(0) - Duration::from_secs(300)));
}

#[test]
fn settling_is_bounded_and_fits_into_the_overlap() {
    let seconds =
        |seconds| Validity { from: UNIX_EPOCH, until: UNIX_EPOCH + Duration::from_secs(seconds) };
    assert_eq!(settling(&seconds(90 * 86400)), Duration::from_secs(60));
    assert_eq!(settling(&seconds(600)), Duration::from_secs(30));
    assert_eq!(settling(&seconds(10)), Duration::from_secs(1));
    // From noticing to serving, in the shortest life that can be set, with its backdating.
    let shortest = Duration::from_secs(10);
    let worst = pause(shortest) * 2 + settling(&seconds(11));
    assert!(worst < shortest / 3, "{worst:?}");
}

#[test]
fn looks_are_frequent_for_short_lives() {
    assert_eq!(pause(DAY * 90), Duration::from_secs(60));
    assert_eq!(pause(Duration::from_secs(600)), Duration::from_secs(10));
    assert_eq!(pause(Duration::from_secs(10)), Duration::from_millis(250));
}

/// A generation good from day 0 (old) or 60 (new), and since when its CA is in the bundle.
fn old(in_bundle_since: Option<SystemTime>, is_served: bool) -> Candidate {
    Candidate { valid: valid(0, 90), in_bundle_since, is_served }
}

fn new(in_bundle_since: Option<SystemTime>, is_served: bool) -> Candidate {
    Candidate { valid: valid(60, 150), in_bundle_since, is_served }
}

#[test]
fn each_case_of_the_choice() {
    let now = day(61);
    let long_ago = Some(day(60));
    let just_now = Some(now - Duration::from_secs(59));
    let a_minute_ago = Some(now - Duration::from_secs(60));
    for (case, candidates, expected) in [
        ("none", vec![], None),
        ("the first, not in the bundle yet", vec![old(None, false)], Some(0)),
        ("the only one", vec![old(long_ago, true)], Some(0)),
        (
            "a successor that no API server knows",
            vec![old(long_ago, true), new(None, false)],
            Some(0),
        ),
        ("one that some may not know", vec![old(long_ago, true), new(just_now, false)], Some(0)),
        ("one that all know", vec![old(long_ago, true), new(a_minute_ago, false)], Some(1)),
        ("after the swap", vec![old(long_ago, false), new(a_minute_ago, true)], Some(1)),
        (
            "just started, amid a rotation",
            vec![old(just_now, false), new(just_now, false)],
            Some(0),
        ),
        ("the served one is not trusted", vec![old(None, true), new(just_now, false)], Some(1)),
        ("none is trusted", vec![old(None, true), new(None, false)], Some(1)),
    ] {
        assert_eq!(choose(&candidates, now), expected, "{case}");
    }
    let expired = day(90);
    assert_eq!(choose(&[old(long_ago, true), new(None, false)], expired), Some(1));
    assert_eq!(choose(&[old(long_ago, true)], expired), None);
}
