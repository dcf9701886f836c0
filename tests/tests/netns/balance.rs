//! Shares over many requests.

use weft_tests::lab::{Request, counts};

use crate::support::{World, http_route};

fn split(v1: u32, v2: u32) -> String {
    http_route(
        "split",
        &format!(
            "  - backendRefs:\n    - name: echo-v1\n      port: 80\n      weight: {v1}\n    \
             - name: echo-v2\n      port: 80\n      weight: {v2}"
        ),
    )
}

#[test]
fn ten_thousand_requests_within_one_point() {
    let world = World::routed(&split(90, 10));
    let request = Request::get("http://echo/").parallel(8);
    let seen = world.client.send(&request, 10_000).expect("curl");
    let counts = counts(&seen);
    assert_eq!(counts.values().sum::<u32>(), 10_000, "{counts:?}");
    let v1 = counts.get("v1").copied().unwrap_or(0);
    let v2 = counts.get("v2").copied().unwrap_or(0);
    assert_eq!(v1 + v2, 10_000, "{counts:?}");
    assert!((8_900..=9_100).contains(&v1), "90 of 100 within one point: {counts:?}");
}

#[test]
fn a_weight_of_zero_gets_nothing() {
    let world = World::routed(&split(0, 1));
    let seen = world.client.send(&Request::get("http://echo/"), 200).expect("curl");
    assert_eq!(counts(&seen).get("v2"), Some(&200));
    world.lab.settled(|lab| lab.apply(&split(0, 0))).expect("a change");
    let seen = world.client.send(&Request::get("http://echo/"), 20).expect("curl");
    assert_eq!(counts(&seen).get("500"), Some(&20));
}

#[test]
fn an_edit_changes_the_shares_without_a_failed_request() {
    let world = World::routed(&split(1, 0));
    let traffic = world.client.start_traffic(&Request::get("http://echo/")).expect("traffic");
    let closing = Request::get("http://echo/").header("connection: close");
    let reconnecting = world.client.start_traffic(&closing).expect("traffic");
    for weights in [(1, 1), (0, 1), (1, 0), (5, 1), (0, 1)] {
        traffic.wait_for(20).expect("traffic");
        world.lab.settled(|lab| lab.apply(&split(weights.0, weights.1))).expect("a change");
    }
    traffic.wait_for(50).expect("traffic");
    for traffic in [traffic, reconnecting] {
        let seen = traffic.stop().expect("answers");
        assert!(seen.iter().all(|one| one.status == 200), "{:?}", counts(&seen));
        assert_eq!(seen.first().map(|one| one.version.as_str()), Some("v1"));
        assert_eq!(seen.last().map(|one| one.version.as_str()), Some("v2"));
    }
}
