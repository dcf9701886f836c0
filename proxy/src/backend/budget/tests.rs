use std::time::{Duration, Instant};

use weft_gamma::policy::RetryConstraint;

use super::Budget;

const SECOND: Duration = Duration::from_secs(1);

/// A budget of a share only.
fn share(percent: u32) -> RetryConstraint {
    RetryConstraint { percent, rate_count: 0, ..RetryConstraint::default() }
}

/// How many of so many retries are let through.
fn allowed(budget: &Budget, retries: usize, now: Instant) -> usize {
    (0..retries).filter(|_| budget.retry(now)).count()
}

#[test]
fn a_share_of_all_requests_may_be_retries() {
    // The API's example counts the retries among the requests: of 1000, 200.
    for (percent, expected) in [(0, 0), (20, 200), (50, 800), (100, 2000)] {
        let now = Instant::now();
        let budget = Budget::new(share(percent), now);
        for _ in 0..800 {
            budget.request(now);
        }
        assert_eq!(allowed(&budget, 2000, now), expected, "{percent} %");
    }
}

#[test]
fn requests_count_for_the_interval_and_no_longer() {
    let start = Instant::now();
    let budget = Budget::new(share(50), start);
    for _ in 0..100 {
        budget.request(start);
    }
    let late = start + 9 * SECOND + Duration::from_millis(900);
    assert_eq!(allowed(&budget, 60, late), 60);
    // The requests have left the interval, the retries have not.
    assert_eq!(allowed(&budget, 1, start + 11 * SECOND), 0);
    // Then all is forgotten, and nothing is below zero.
    for passed in [21, 40, 100_000] {
        let now = start + passed * SECOND;
        assert_eq!(allowed(&budget, 1, now), 0);
        for _ in 0..4 {
            budget.request(now);
        }
        assert_eq!(allowed(&budget, 9, now), 4, "after {passed} s");
    }
}

#[test]
fn slices_are_equally_long_however_seldom_one_looks() {
    let start = Instant::now();
    // The slice that began after 1 s is forgotten after 11 s.
    for (milliseconds, expected) in [(10_999, true), (11_001, false)] {
        let budget = Budget::new(share(50), start);
        budget.request(start + Duration::from_millis(1500));
        assert_eq!(budget.retry(start + Duration::from_millis(milliseconds)), expected);
    }
}

#[test]
fn a_rate_is_allowed_whatever_the_share() {
    let start = Instant::now();
    let constraint = RetryConstraint { percent: 0, ..RetryConstraint::default() };
    let budget = Budget::new(constraint, start);
    assert_eq!(allowed(&budget, 100, start), 10);
    assert_eq!(allowed(&budget, 100, start + SECOND / 2), 5);
    assert_eq!(allowed(&budget, 100, start + SECOND), 5);
    // It is not saved up.
    assert_eq!(allowed(&budget, 100, start + 100 * SECOND), 10);
}

#[test]
fn the_greater_of_share_and_rate_is_allowed() {
    let start = Instant::now();
    let budget = Budget::new(RetryConstraint::default(), start);
    for _ in 0..400 {
        budget.request(start);
    }
    // A fifth of 500; the rate's ten are among them.
    assert_eq!(allowed(&budget, 1000, start), 100);
}

#[test]
fn another_constraint_applies_at_once_to_what_was_counted() {
    let now = Instant::now();
    let budget = Budget::new(share(0), now);
    for _ in 0..80 {
        budget.request(now);
    }
    assert_eq!(allowed(&budget, 1, now), 0);
    budget.set(share(20));
    assert_eq!(allowed(&budget, 100, now), 20);
    budget.set(RetryConstraint { percent: 0, rate_count: 5, ..RetryConstraint::default() });
    // The new rate begins empty, and fills.
    assert_eq!(allowed(&budget, 100, now), 0);
    assert_eq!(allowed(&budget, 100, now + SECOND), 5);
}

#[test]
fn what_no_policy_could_say_is_no_harm() {
    let now = Instant::now();
    let zero = Duration::ZERO;
    let budget = Budget::new(
        RetryConstraint { percent: 20, interval: zero, rate_count: 1, rate_interval: zero },
        now,
    );
    budget.request(now + SECOND);
    assert!(budget.retry(now + 2 * SECOND));
}
