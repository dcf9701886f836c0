//! Misuse of HTTP and of connections: the sidecar ends it within bounds, and serves others meanwhile.
//! What it costs is measured by `make attacks`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weft_tests::attack::Attack;
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{ClientOptions, Output, Request, poll};

use crate::support::World;

const ENHANCE_YOUR_CALM: u32 = 0xb;
/// The frames of one piece of `weft-client attack`, and what stands before the first.
const PIECE: u64 = 105;

/// Runs an attack of `weft-client` on a port of the Service `echo`.
fn attack(world: &World, kind: &str, port: u16, words: &[&str]) -> Attack {
    let mut command = world.client.command("weft-client");
    command.args(["attack", kind, &format!("echo:{port}")]).args(words);
    let output = Output::of(command).expect("weft-client").success().expect("an attack");
    serde_json::from_str(&output).expect("what it tells")
}

/// Attacks until two connections have been ended, each after so many frames at most.
fn ended_within(world: &World, kind: &str, frames: u64) -> Attack {
    let seen = attack(world, kind, 80, &STEPS);
    check_ended(kind, &seen, frames);
    seen
}

/// Two connections, of which each piece is read before the next one is sent.
const STEPS: [&str; 5] = ["--in-step", "--closed", "2", "--seconds", "20"];

fn check_ended(kind: &str, seen: &Attack, frames: u64) {
    assert_eq!(seen.closed, 2, "{kind} goes on: {seen:?}");
    assert!(seen.most_frames <= frames + PIECE, "{kind}: {seen:?}");
}

fn ended(world: &World, reason: &str) -> f64 {
    let read = samples(&world.client.metrics().expect("/metrics"));
    sum(&read, "weft_outbound_connections_ended_total", &[("reason", reason)])
}

#[test]
fn floods_end_their_connection_and_nobody_else_s() {
    let world = World::new();
    let traffic = world.client.start_traffic(&Request::get("http://echo/")).expect("traffic");
    for (kind, frames, code) in [
        // 1000 frames, what the first writes of answers account for, and what is forgiven meanwhile.
        ("settings", 1100, ENHANCE_YOUR_CALM),
        ("ping", 1100, ENHANCE_YOUR_CALM),
        ("priority", 1100, ENHANCE_YOUR_CALM),
        ("window-update", 1100, ENHANCE_YOUR_CALM),
        // h2's own bounds.
        ("empty-data", 101, ENHANCE_YOUR_CALM),
        // Nothing can be asked within a head, so nobody knows how many were read.
        ("continuation", u64::from(u32::MAX), ENHANCE_YOUR_CALM),
        ("hpack-bomb", 10, ENHANCE_YOUR_CALM),
    ] {
        let seen = ended_within(&world, kind, frames);
        assert_eq!((seen.told, seen.code), (2, code), "{kind}: {seen:?}");
    }
    assert_eq!(ended(&world, "too_many_frames"), 8.0);
    traffic.wait_for(20).expect("others are served");
    let seen = traffic.stop().expect("answers");
    assert!(seen.iter().all(|answer| answer.status == 200), "{seen:?}");
}

/// Requests that are given up, or that the sidecar is made to give up: not one more reaches the backend
/// than may be under way.
#[test]
fn resets_end_their_connection_and_the_backend_is_spared() {
    let world = World::new();
    let traffic = world.client.start_traffic(&Request::get("http://echo/")).expect("traffic");
    for kind in ["rapid-reset", "late-reset", "made-you-reset"] {
        let is_over = AtomicBool::new(false);
        let (seen, long, most_open) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut most_open = 0;
                while !is_over.load(Ordering::Relaxed) {
                    most_open = most_open.max(open_at_backends(&world));
                }
                most_open
            });
            let attacks =
                [&STEPS[..], &["--seconds", "1"]].map(|words| attack(&world, kind, 80, words));
            is_over.store(true, Ordering::Relaxed);
            let [seen, long] = attacks;
            (seen, long, watcher.join().expect("a thread"))
        });
        // A request is two frames; 256 may be abandoned, and two pieces may be on their way.
        check_ended(kind, &seen, 2 * 256 + 2 * PIECE);
        assert_eq!(seen.code, ENHANCE_YOUR_CALM, "{kind}: {seen:?}");
        assert!(long.closed > 0, "{kind}: {long:?}");
        // As many streams, and the other client's connection with its own.
        assert!(most_open <= 260, "{kind}: {most_open} connections to the backends");
    }
    traffic.wait_for(20).expect("others are served");
    let seen = traffic.stop().expect("answers");
    assert!(seen.iter().all(|answer| answer.status == 200), "{seen:?}");
    let none = || (open_at_backends(&world) <= 4).then_some(());
    poll(Duration::from_secs(10), none).expect("abandoned connections are closed");
}

fn open_at_backends(world: &World) -> usize {
    [&world.v1, &world.v2].map(|it| world.lab.connections_to(it).expect("ss")).iter().sum()
}

#[test]
fn heads_of_a_megabyte_are_refused_before_they_are_read() {
    let world = World::new();
    // Of 4,000 bytes each; some lie in the kernel's buffers.
    let seen = attack(&world, "huge-headers-http1", 80, &["--closed", "1", "--seconds", "20"]);
    assert_eq!((seen.closed, seen.code), (1, 431), "{seen:?}");
    // Of 16,000 bytes each.
    let seen = ended_within(&world, "huge-headers-http2", 70);
    assert_ne!(seen.code, 0, "{seen:?}");
    assert_eq!(world.status(&["http://echo/"]), "200");
}

#[test]
fn slow_heads_and_silent_connections_are_ended_by_a_deadline() {
    let world = World::with(&ClientOptions::proxy(&["--header-timeout-seconds", "0.5"]));
    for kind in ["slow-headers-http1", "slow-headers-http2", "idle-connections"] {
        let before = ended(&world, "header_timeout");
        let words = ["--connections", "20", "--closed", "20", "--seconds", "20"];
        let seen = attack(&world, kind, 80, &words);
        assert!(seen.closed >= 20, "{kind}: {seen:?}");
        assert!(ended(&world, "header_timeout") - before >= 20.0, "{kind}");
        assert_eq!(world.status(&["http://echo/"]), "200", "{kind}");
    }
}

#[test]
fn a_connection_that_waits_for_its_next_request_is_not_ended_by_the_deadline_of_heads() {
    let world = World::with(&ClientOptions::proxy(&["--header-timeout-seconds", "0.2"]));
    let connections = || {
        let read = samples(&world.client.metrics().expect("/metrics"));
        sum(&read, "weft_outbound_connections_total", &[])
    };
    // Two requests on one connection, far apart.
    let mut command = world.client.command("curl");
    command.args(["-sS", "--rate", "1/s", "-o", "/dev/null", "-o", "/dev/null"]);
    command.args(["http://echo/", "http://echo/"]);
    let before = connections();
    Output::of(command).expect("curl").success().expect("two answers");
    assert_eq!(connections() - before, 1.0);
}

#[test]
fn without_descriptors_it_waits_and_then_serves_again() {
    // By itself it would not accept what it has no descriptors for.
    let options =
        ClientOptions { files: Some(64), ..ClientOptions::proxy(&["--max-connections", "1000"]) };
    let world = World::with(&options);
    let established = world.client.start_traffic(&Request::get("http://echo/")).expect("traffic");
    let seen =
        attack(&world, "idle-connections", 80, &["--connections", "100", "--seconds", "1.5"]);
    assert!(seen.connections >= 100, "{seen:?}");
    established.wait_for(20).expect("who is connected is served");
    let answers = established.stop().expect("answers");
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let served = || (world.status(&["--max-time", "5", "http://echo/"]) == "200").then_some(());
    poll(Duration::from_secs(10), served).expect("it serves again");
    let read = samples(&world.client.metrics().expect("/metrics"));
    assert!(sum(&read, "weft_outbound_accept_errors_total", &[]) >= 1.0);
    assert!(world.client.proxy_log().contains("cannot accept: pausing"));
}

#[test]
fn more_connections_than_allowed_wait_until_others_end() {
    let world = World::with(&ClientOptions::proxy(&["--max-connections", "8"]));
    let seen = attack(&world, "idle-connections", 80, &["--connections", "50", "--seconds", "1.5"]);
    assert_eq!(seen.refused, 0, "{seen:?}");
    assert!(world.client.proxy_log().contains("too many connections are open: pausing"));
    let read = samples(&world.client.metrics().expect("/metrics"));
    assert_eq!(sum(&read, "weft_outbound_connections_total", &[]), 0.0, "nobody has said anything");
    assert_eq!(world.status(&["--max-time", "10", "http://echo/"]), "200");
}
