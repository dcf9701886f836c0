use super::*;
use crate::outbound::activity::{Activity, FRAMES_OF_REQUEST};
use crate::testing::Mesh;

#[test]
fn slow_connections_have_their_turns_one_after_the_other() {
    let pace = Pace::new();
    let now = pace.began + Duration::from_secs(1);
    for turn in 1..=100 {
        assert_eq!(pace.turn(now), now + turn * SLOW_PAUSE);
    }
    // What nobody took is not saved up.
    let later = now + Duration::from_secs(10);
    assert_eq!(pace.turn(later), later + SLOW_PAUSE);
    for _ in 0..1000 {
        pace.turn(later);
    }
    assert_eq!(pace.turn(later), later + LONGEST_WAIT);
}

#[test]
fn a_part_of_the_budget_makes_slow_and_less_of_it_after_misuse() {
    let (pace, limits) = (Pace::new(), Mesh::limits());
    let activity = Activity::new(&limits, &pace);
    let resets = |count| {
        for _ in 0..count {
            activity.request_begins();
            activity.request_ends(true);
        }
    };
    resets(64);
    assert!(!activity.is_slow());
    resets(1);
    assert!(activity.is_slow());
    // Made up for.
    activity.request_begins();
    activity.request_ends(false);
    assert!(!activity.is_slow());
    pace.is_misused();
    assert!(activity.is_slow());
    pace.passed(STRICT);
    assert!(!activity.is_slow());
    activity.spend_frames(250);
    assert!(!activity.is_slow());
    activity.spend_frames(1);
    assert!(activity.is_slow());
    activity.earn_frames(FRAMES_OF_REQUEST);
    assert!(!activity.is_slow());
}

#[test]
fn a_slow_connection_that_is_polled_often_has_no_more_turns() {
    let pace = Pace::new();
    let activity = Activity::new(&Mesh::limits(), &pace);
    activity.take_turn(TURN);
    assert!(activity.is_turn_over());
    activity.turn_begins();
    assert!(!activity.is_turn_over());
    activity.spend_frames(300);
    activity.turn_begins();
    // What is left of a long turn is not more than a short one.
    activity.take_turn(SLOW_TURN);
    assert!(activity.is_turn_over());
    activity.turn_begins();
    assert!(activity.is_turn_over());
    activity.slow_turn_begins();
    assert!(!activity.is_turn_over());
}

#[test]
fn large_heads_make_slow_and_never_end_a_connection() {
    let activity = Activity::new(&Mesh::limits(), &Pace::new());
    (0..1000).for_each(|_| activity.has_head(16 * 1024));
    assert!(!activity.is_slow());
    (0..8).for_each(|_| activity.has_head(16 * 1024 + 1));
    assert!(!activity.is_slow());
    activity.has_head(60 * 1024);
    assert!(activity.is_slow());
    activity.forgive(Duration::from_secs(1));
    assert!(!activity.is_slow());
    (0..10_000).for_each(|_| activity.has_head(60 * 1024));
    assert!(activity.is_slow());
    assert_eq!(activity.verdict(), None);
}
