//! Start, drain and end.

use std::time::Duration;

use nix::sys::signal::Signal;
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{ClientOptions, Output, Request, poll};

use crate::support::World;

/// Starts a request that takes `ms` milliseconds and waits until a backend has it.
fn in_flight(
    world: &World,
    ms: u32,
    options: &[&str],
) -> std::thread::JoinHandle<anyhow::Result<Output>> {
    let connections = || world.v1.log().lines().count() + world.v2.log().lines().count();
    let before = connections();
    let mut command = world.client.command("curl");
    command.args(["-sS", "-w", " status %{http_code}"]).args(options);
    command.arg(format!("http://echo/delay?ms={ms}"));
    let request = std::thread::spawn(move || Output::of(command));
    let arrived = || (connections() > before).then_some(());
    poll(Duration::from_secs(5), arrived).expect("the request has arrived");
    request
}

#[test]
fn sigterm_lets_requests_finish() {
    for options in [&[][..], &["--http2-prior-knowledge"]] {
        let world = World::new();
        let request = in_flight(&world, 1500, options);
        world.client.with_proxy(|proxy| proxy.signal(Signal::SIGTERM)).expect("SIGTERM");
        let output = request.join().expect("a thread").expect("curl");
        assert!(output.code == 0 && output.stdout.ends_with("status 200"), "{output:?}");
        let status = world
            .client
            .with_proxy(|proxy| proxy.wait(Duration::from_secs(10)))
            .expect("the sidecar has left");
        assert!(status.success(), "{status}\n{}", world.client.proxy_log());
    }
}

#[test]
fn an_idle_sidecar_leaves_at_once() {
    let world = World::new();
    world.client.send(&Request::get("http://echo/"), 5).expect("curl");
    // A kept-alive client connection must not hold it.
    let mut command = world.client.command("weft-client");
    command.args(["raw", "echo:80", r"GET / HTTP/1.1\r\nHost: e\r\n\r\n", "--limit-ms", "20000"]);
    let idle = std::thread::spawn(move || Output::of(command));
    // Five requests before, and this one: it has been answered, its connection is idle.
    let answered = || {
        let read = samples(&world.client.metrics().ok()?);
        (sum(&read, "weft_route_requests_total", &[]) >= 6.0).then_some(())
    };
    poll(Duration::from_secs(5), answered).expect("an answer");
    world.client.with_proxy(|proxy| proxy.signal(Signal::SIGTERM)).expect("SIGTERM");
    let status = world
        .client
        .with_proxy(|proxy| proxy.wait(Duration::from_secs(5)))
        .expect("the sidecar has left");
    assert!(status.success(), "{status}");
    let output = idle.join().expect("a thread").expect("weft-client");
    assert!(output.stdout.contains("200 OK"), "{output:?}");
}

#[test]
fn the_deadline_ends_what_does_not_finish() {
    let world = World::with(&ClientOptions::proxy(&["--drain-seconds", "1"]));
    let request = in_flight(&world, 15_000, &["--max-time", "20"]);
    world.client.with_proxy(|proxy| proxy.signal(Signal::SIGTERM)).expect("SIGTERM");
    world
        .client
        .with_proxy(|proxy| proxy.wait(Duration::from_secs(6)))
        .expect("the sidecar has left");
    let output = request.join().expect("a thread").expect("curl");
    assert!(!output.stdout.ends_with("status 200"), "{output:?}");
}

#[test]
fn the_admin_port_drains_as_well() {
    let world = World::new();
    let output = world.client.curl(&["-X", "POST", "http://127.0.0.1:15000/drain"]).expect("curl");
    assert_eq!(output.code, 0, "{output:?}");
    let status = world
        .client
        .with_proxy(|proxy| proxy.wait(Duration::from_secs(10)))
        .expect("the sidecar has left");
    assert!(status.success(), "{status}");
}

#[test]
fn a_restarted_sidecar_serves_again() {
    let world = World::new();
    world.client.with_proxy(|proxy| proxy.signal(Signal::SIGKILL)).expect("SIGKILL");
    world.client.with_proxy(|proxy| proxy.wait(Duration::from_secs(5))).expect("it has gone");
    world.client.start_proxy().expect("a process");
    world.client.wait_ready().expect("ready again");
    assert_eq!(world.status(&["http://echo/"]), "200");
}
