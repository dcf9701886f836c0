//! Endpoints come, go, refuse and end.

use std::time::Duration;

use weft_tests::lab::{Request, SETTLE_LIMIT, Workload, counts, poll};

use crate::support::World;

#[test]
fn a_removed_endpoint_gets_nothing_more() {
    let world = World::new();
    let request = Request::get("http://echo/").parallel(4);
    let seen = world.client.send(&request, 200).expect("curl");
    assert_eq!(counts(&seen).len(), 2, "{:?}", counts(&seen));
    let pooled = world.lab.connections_to(&world.v1).expect("ss");
    assert!(pooled > 0, "connections are kept");

    let traffic = world.client.start_traffic(&Request::get("http://echo/")).expect("traffic");
    traffic.wait_for(50).expect("traffic");
    world.lab.settled(|lab| lab.remove_endpoint(&world.v1.name)).expect("a change");
    let seen = world.client.send(&request, 500).expect("curl");
    assert_eq!(counts(&seen).get("v2"), Some(&500), "{:?}", counts(&seen));
    let during = traffic.stop().expect("answers");
    assert!(during.iter().all(|one| one.status == 200), "{:?}", counts(&during));

    let closed = || (world.lab.connections_to(&world.v1).ok()? == 0).then_some(());
    poll(SETTLE_LIMIT, closed).expect("its pooled connections are closed");
}

#[test]
fn a_new_endpoint_gets_its_share() {
    let world = World::new();
    let workload = Workload::new("echo", "v3", "default");
    let _v3 = world.lab.settled(|lab| lab.backend(&workload)).expect("a backend");
    let seen = world.client.send(&Request::get("http://echo/"), 300).expect("curl");
    let v3 = counts(&seen).get("v3").copied().unwrap_or(0);
    assert!(v3 >= 30, "{:?}", counts(&seen));
}

#[test]
fn an_endpoint_that_refuses_costs_no_request() {
    let world = World::new();
    let request = Request::get("http://echo/");
    let closing = request.clone().header("connection: close");
    world.client.send(&request, 100).expect("curl");
    world.v1.crash().expect("a crash");
    for request in [request, closing] {
        let seen = world.client.send(&request, 300).expect("curl");
        assert_eq!(counts(&seen).get("v2"), Some(&300), "{:?}", counts(&seen));
    }
}

#[test]
fn without_a_ready_endpoint_the_answer_is_503() {
    let world = World::new();
    world
        .lab
        .settled(|lab| {
            lab.remove_endpoint(&world.v1.name)?;
            lab.remove_endpoint(&world.v2.name)
        })
        .expect("a change");
    let none = || (world.status(&["http://echo/"]) == "503").then_some(());
    poll(SETTLE_LIMIT, none).expect("503 without endpoints");
    let tally = world.tally(&["grpc", "http://echo:7070"]);
    assert_eq!(tally["statuses"]["14"], 1, "gRPC is told UNAVAILABLE: {tally}");
    // Something that is no HTTP is closed instead of left waiting.
    world.weft_client(&["raw", "echo:3306", "", "--limit-ms", "3000"]);
}

#[test]
fn terminating_endpoints_serve_only_when_nothing_is_ready() {
    let world = World::new();
    let version = |expected: &str| {
        let all = || {
            let seen = world.client.send(&Request::get("http://echo/"), 40).ok()?;
            (counts(&seen).get(expected) == Some(&40)).then_some(())
        };
        poll(Duration::from_secs(10), all).unwrap_or_else(|| panic!("all from {expected}"));
    };
    world.lab.set_conditions(&world.v1.name, true, true).expect("a change");
    version("v2");
    world.lab.set_conditions(&world.v2.name, false, false).expect("a change");
    version("v1");
    world.lab.set_conditions(&world.v1.name, true, false).expect("a change");
    world.lab.set_conditions(&world.v2.name, false, true).expect("a change");
    version("v1");
}
