use std::future::{pending, ready};
use std::pin::pin;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::{Deadline, Expired};
use crate::fault::Kind;

const SECOND: Duration = Duration::from_secs(1);

/// Runs on a clock that jumps to the next timer when nothing else is left to do.
fn run(scenario: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(scenario);
}

/// How long a future takes on that clock.
async fn seconds<T>(future: impl Future<Output = T>) -> (T, u64) {
    let start = tokio::time::Instant::now();
    let output = future.await;
    // A timer's resolution is a millisecond, upwards.
    (output, start.elapsed().as_secs())
}

#[test]
fn the_time_that_is_up_first_ends_it() {
    run(async {
        for (request, attempt, expected) in [
            (Some(3), None, (Err(Expired::Request), 3)),
            (None, Some(2), (Err(Expired::Attempt), 2)),
            (Some(3), Some(2), (Err(Expired::Attempt), 2)),
            (Some(2), Some(3), (Err(Expired::Request), 2)),
            // The request's, where both are up together: nothing is sent again.
            (Some(2), Some(2), (Err(Expired::Request), 2)),
        ] {
            let now = tokio::time::Instant::now().into_std();
            let mut deadline = Deadline::new(now, request.map(|s| s * SECOND), None);
            deadline.begin_attempt(now, attempt.map(|s| s * SECOND));
            assert_eq!(seconds(deadline.limit(pin!(pending::<()>()))).await, expected);
        }
    });
}

#[test]
fn what_is_there_in_time_counts_even_when_it_is_late() {
    run(async {
        let long_ago = Instant::now().checked_sub(SECOND).unwrap();
        let mut deadline = Deadline::new(long_ago, Some(SECOND / 2), None);
        assert_eq!(deadline.limit(pin!(ready("here"))).await, Ok("here"));
        assert_eq!(
            seconds(deadline.limit(pin!(pending::<()>()))).await,
            (Err(Expired::Request), 0)
        );
        assert!(!deadline.allows(Instant::now(), Duration::ZERO));
    });
}

#[test]
fn without_a_timeout_there_is_no_end_and_no_timer() {
    run(async {
        let mut deadline = Deadline::new(Instant::now(), None, None);
        deadline.begin_attempt(Instant::now(), None);
        assert!(deadline.is_none());
        assert_eq!(deadline.limit(pin!(ready(1))).await, Ok(1));
        assert!(deadline.timer.is_none());
        assert!(deadline.allows(Instant::now(), 1_000_000 * SECOND));
        // Beyond what the clock can tell is the same.
        assert!(Deadline::new(Instant::now(), Some(Duration::MAX), None).is_none());
    });
}

#[test]
fn each_attempt_has_its_time_and_all_of_them_the_requests() {
    run(async {
        let start = tokio::time::Instant::now();
        let mut deadline = Deadline::new(start.into_std(), Some(5 * SECOND), None);
        for _ in 0..2 {
            deadline.begin_attempt(tokio::time::Instant::now().into_std(), Some(2 * SECOND));
            assert_eq!(
                seconds(deadline.limit(pin!(pending::<()>()))).await.0,
                Err(Expired::Attempt)
            );
        }
        deadline.begin_attempt(tokio::time::Instant::now().into_std(), Some(2 * SECOND));
        assert_eq!(deadline.expired().await, Expired::Request);
        assert_eq!(start.elapsed().as_secs(), 5);
    });
}

#[test]
fn the_shorter_of_the_rules_and_the_clients_wins() {
    let now = Instant::now();
    for (rule, client, expected) in [
        (Some(1), None, "timeouts.request"),
        (Some(1), Some(2), "timeouts.request"),
        (Some(2), Some(1), "the client's grpc-timeout"),
        (None, Some(1), "the client's grpc-timeout"),
    ] {
        let deadline = Deadline::new(now, rule.map(|s| s * SECOND), client.map(|s| s * SECOND));
        assert!(deadline.allows(now, SECOND / 2) && !deadline.allows(now, SECOND));
        let fault = deadline.fault(Expired::Request);
        assert_eq!(fault.kind, Kind::RequestTimeout);
        assert_eq!(fault.message, format!("no whole answer within 1s ({expected})"));
    }
}

#[test]
fn a_backend_is_told_what_is_left_of_its_clients_deadline() {
    let start = Instant::now();
    let told = |client: &str, rule: Option<Duration>, attempt, after: Duration| {
        let mut headers = HeaderMap::new();
        if !client.is_empty() {
            headers.insert("grpc-timeout", client.parse().unwrap());
        }
        let mut deadline = Deadline::new(start, rule, super::grpc::timeout(&headers));
        deadline.begin_attempt(start + after, attempt);
        deadline.tell(&mut headers, start + after);
        headers.get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned())
    };
    let milliseconds = Duration::from_millis;
    // As the client said it, as long as that is true.
    assert_eq!(told("2S", None, None, Duration::ZERO).unwrap(), "2S");
    assert_eq!(told("2S", None, None, milliseconds(1)).unwrap(), "2S");
    assert_eq!(told("2S", Some(3 * SECOND), None, Duration::ZERO).unwrap(), "2S");
    // Less of it is left, or the rule gives less.
    assert_eq!(told("2S", None, None, milliseconds(500)).unwrap(), "1500000u");
    assert_eq!(told("2S", Some(SECOND), None, milliseconds(250)).unwrap(), "750000u");
    assert_eq!(told("2S", None, Some(milliseconds(80)), milliseconds(250)).unwrap(), "80000000n");
    // None is made up, and none is mended.
    assert_eq!(told("", Some(SECOND), Some(SECOND), Duration::ZERO), None);
    assert_eq!(told("soon", Some(SECOND), None, SECOND / 2).unwrap(), "soon");
}
