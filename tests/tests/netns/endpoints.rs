//! Endpoints come, go, refuse and end.

use std::time::Duration;

use weft_tests::lab::{Request, SETTLE_LIMIT, Workload, counts, poll};

use crate::support::{World, http_route};

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

/// A Service of one port, named http, with more lines for its spec.
fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n{spec}  \
         ports:\n  - name: http\n    port: 80\n    targetPort: web\n---\n"
    )
}

/// An EndpointSlice as somebody writes it by hand: of one endpoint, without conditions.
fn slice(service: &str, number: u8, address: &str, port: u16) -> String {
    format!(
        "addressType: IPv4\napiVersion: discovery.k8s.io/v1\nendpoints:\n- addresses:\n  - {address}\nkind: \
         EndpointSlice\nmetadata:\n  labels:\n    kubernetes.io/service-name: {service}\n  name: \
         {service}-{number}\n  namespace: default\nports:\n- name: http\n  port: {port}\n  protocol: \
         TCP\n---\n"
    )
}

/// A backend is what its EndpointSlices say: by whose hand, at which ports, and with an address of the
/// cluster's or none.
#[test]
fn backends_of_every_sort() {
    let world = World::new();
    let other = Workload::new("other", "v3", "default").on_port(8090);
    let v3 = world.lab.backend(&other).expect("a backend");
    let (first, third) = (&world.v1.addresses[0], &v3.addresses[0]);
    // A named target port that differs between pods makes a slice for each number.
    let mapped = service("mapped", "  clusterIP: 10.96.7.1\n")
        + &slice("mapped", 1, first, 8080)
        + &slice("mapped", 2, third, 8090);
    let headless = service("headless", "  clusterIP: None\n") + &slice("headless", 1, third, 8090);
    let external = service("external", "  type: ExternalName\n  externalName: echo-v1\n");
    let rule = |name: &str| {
        format!(
            "  - matches:\n    - path:\n        value: /{name}\n    backendRefs:\n    - name: {name}\n      \
             port: 80\n"
        )
    };
    let rules = ["mapped", "headless", "external"].map(rule).concat();
    let route = http_route("sorts", rules.trim_end());
    world
        .lab
        .settled(|lab| lab.apply(&[mapped, headless, external, route].concat()))
        .expect("a change");
    let versions = |path: &str| {
        let request = Request::get(&format!("http://echo/{path}"));
        counts(&world.client.send(&request, 40).expect("curl"))
    };
    let mapped = versions("mapped");
    assert_eq!(mapped.keys().collect::<Vec<_>>(), ["v1", "v3"], "{mapped:?}");
    assert_eq!(versions("headless").get("v3"), Some(&40));
    // As a Service that an application dials, too.
    let dialled = counts(&world.client.send(&Request::get("http://mapped/"), 40).expect("curl"));
    assert_eq!(dialled.len(), 2, "{dialled:?}");
    let head = world.head(&["http://echo/external"]);
    assert!(head.contains(" 500 ") && head.contains("x-weft-reason: backend_invalid"), "{head}");
    let said = "Service default/external is of type ExternalName, which cannot be a backend";
    assert!(world.client.admin("/config").expect("the table").contains(said));
}
