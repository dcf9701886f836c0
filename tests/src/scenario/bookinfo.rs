//! Scenarios 1 and 2: Istio's Bookinfo sample, a header canary and a second route beside it.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Scenario, Stage, WELL};
use crate::lab::{Request, Seen, Workload};

const REVIEWS: &str = "http://reviews:9080/";

pub(super) fn header_canary() -> Scenario {
    Scenario {
        number: 1,
        title: "Header canary on Bookinfo",
        story: "Istio's sample application. Version 2 of reviews is tried on one user: requests \
                with `end-user: jason` go to v2, all others to v3.",
        set,
        play: play_header_canary,
    }
}

pub(super) fn merged_routes() -> Scenario {
    Scenario {
        number: 2,
        title: "A second route on the same Service merges",
        story: "Another team attaches a route of its own to reviews: `end-user: jason2` goes to \
                v1. Both routes apply, and either can go without a failed request.",
        set,
        play: play_merged_routes,
    }
}

fn set(stage: &mut Stage<'_>) -> Result<()> {
    let workload = |app, version| Workload::new(app, version, "default").on_port(9080);
    stage.scenery("1-header-canary/services.yaml")?;
    stage.workloads(
        "bookinfo",
        &[
            workload("details", "v1"),
            workload("ratings", "v1"),
            workload("productpage", "v1"),
            workload("reviews", "v1"),
            workload("reviews", "v2"),
            workload("reviews", "v3"),
        ],
    )?;
    stage.clients(&["default", "bookinfo-visitor"])
}

fn anybody() -> Request {
    Request::get(REVIEWS)
}

fn user(name: &str) -> Request {
    anybody().header(&format!("end-user: {name}"))
}

fn play_header_canary(stage: &mut Stage<'_>) -> Result<()> {
    stage.say("Before there is a route, reviews is a plain Service: all its pods answer.");
    let before = stage.client("default")?.send(&anybody(), 60)?;
    let versions: BTreeSet<&str> = before.iter().map(|seen| seen.version.as_str()).collect();
    let versions = versions.into_iter().collect::<Vec<_>>().join(" ");
    stage.compare(
        "default",
        "versions that answer 60 requests without a route",
        "v1 v2 v3",
        &versions,
    );

    stage.apply("1-header-canary/route.yaml")?;
    stage.expect("default", &user("jason"), 200, &[("v2", 1.0)])?;
    stage.expect("default", &anybody(), 200, &[("v3", 1.0)])?;
    stage.expect("default", &user("Jason"), 50, &[("v3", 1.0)])?;
    stage.expect_status("default", "reviews-jason-native", WELL)?;
    stage.say("It is the owner's route, so it holds for clients of every namespace.");
    let long = Request::get("http://reviews.default:9080/").header("end-user: jason");
    stage.expect("bookinfo-visitor", &long, 100, &[("v2", 1.0)])?;
    stage.say("A Service without a route is left alone.");
    stage.expect("default", &Request::get("http://ratings:9080/ratings/0"), 20, &[("v1", 1.0)])
}

fn play_merged_routes(stage: &mut Stage<'_>) -> Result<()> {
    stage.apply_if_missing("1-header-canary/route.yaml")?;
    stage.apply("2-merged-routes/route.yaml")?;
    stage.expect("default", &user("jason2"), 200, &[("v1", 1.0)])?;
    stage.expect("default", &user("jason"), 200, &[("v2", 1.0)])?;
    stage.expect("default", &anybody(), 200, &[("v3", 1.0)])?;
    for route in ["reviews-jason-native", "reviews-jason-native2"] {
        stage.expect_status("default", route, WELL)?;
    }

    stage.say("Requests run without a pause while the second route goes and comes back …");
    let client = stage.client("default")?;
    let traffic = client.start_traffic(&user("jason"))?;
    let reconnecting = client.start_traffic(&user("jason").header("connection: close"))?;
    traffic.wait_for(200)?;
    stage.delete("HTTPRoute", "default", "reviews-jason-native2")?;
    traffic.wait_for(200)?;
    stage.expect("default", &user("jason2"), 50, &[("v3", 1.0)])?;
    stage.apply("2-merged-routes/route.yaml")?;
    traffic.wait_for(200)?;
    stage.expect_traffic("default", &user("jason"), traffic, &[("v2", 1.0)])?;
    let closing = user("jason").header("connection: close");
    stage.expect_traffic("default", &closing, reconnecting, &[("v2", 1.0)])?;

    stage.say("… and while the first one goes; jason has no rule then, and no default: 404.");
    let traffic = client.start_traffic(&user("jason2"))?;
    traffic.wait_for(200)?;
    stage.delete("HTTPRoute", "default", "reviews-jason-native")?;
    traffic.wait_for(200)?;
    stage.expect("default", &user("jason"), 50, &[("404", 1.0)])?;
    stage.apply("1-header-canary/route.yaml")?;
    traffic.wait_for(200)?;
    stage.expect_traffic("default", &user("jason2"), traffic, &[("v1", 1.0)])?;

    stage.say("An edit under load: everybody else moves from v3 to v1.");
    let traffic = client.start_traffic(&anybody())?;
    traffic.wait_for(500)?;
    stage.apply("2-merged-routes/edited.yaml")?;
    stage.expect("default", &anybody(), 100, &[("v1", 1.0)])?;
    traffic.wait_for(500)?;
    let seen = traffic.stop()?;
    let failed = seen.iter().filter(|one| one.status != 200).count();
    let version = |seen: Option<&Seen>| seen.map_or("nobody", |one| &one.version).to_owned();
    let (first, last) = (version(seen.first()), version(seen.last()));
    let came = format!("{failed} of {} failed, {first} at first, {last} at last", seen.len());
    let passed = failed == 0 && first == "v3" && last == "v1";
    stage.compared("default", "requests during the edit", "none fails, v3 then v1", &came, passed);
    stage.apply("1-header-canary/route.yaml")
}
