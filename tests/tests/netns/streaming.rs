//! Streams flow at once, in both directions, and neither side can fill the sidecar's memory.

use std::time::Duration;

use weft_tests::lab::{ClientOptions, Output, poll};

use crate::support::{World, http_route};

const MIB: u64 = 1024 * 1024;

fn resident(world: &World) -> u64 {
    world.client.with_proxy(|proxy| proxy.resident_bytes()).expect("memory")
}

#[test]
fn pieces_arrive_when_they_are_sent() {
    let rules = "  - backendRefs:\n    - name: echo-v1\n      port: 80";
    let world = World::routed(&http_route("to-v1", rules));
    for port in [80, 9000] {
        // 200 lines, half a second apart: the first ones must not wait for the last.
        let request = r"GET /stream?chunks=200&ms=500 HTTP/1.1\r\nHost: echo\r\n\r\n";
        let options = ["--until", "line 1", "--limit-ms", "5000"];
        let answer = world.raw(&format!("echo:{port}"), request, &options);
        assert!(answer.contains("line 0"), "{answer}");
        // The request's pieces too: the backend echoes the first before the second is sent.
        let request = concat!(
            r"POST /echo HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n",
            r"7\r\npiece-1\r\n"
        );
        let options = ["--until", "piece-1", "--limit-ms", "5000"];
        let answer = world.raw(&format!("echo:{port}"), request, &options);
        assert!(answer.contains("200 OK"), "{answer}");
    }
}

#[test]
fn a_slow_reader_holds_the_backend_back() {
    let world = World::with(&ClientOptions::default());
    world.client.curl(&["-o", "/dev/null", "http://echo/bytes?n=1000000"]).expect("curl");
    let before = resident(&world);
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        let mut command = world.client.command("curl");
        command.args(["-s", http, "--limit-rate", "1M", "--max-time", "3", "-o", "/dev/null"]);
        command.arg("http://echo/bytes?n=20000000000");
        let reader = std::thread::spawn(move || Output::of(command));
        let mut most = 0;
        let finished = || {
            most = most.max(resident(&world));
            reader.is_finished().then_some(())
        };
        poll(Duration::from_secs(20), finished).expect("curl stops by itself");
        let grown = most.saturating_sub(before);
        assert!(grown < 24 * MIB, "{http}: {} MiB more", grown / MIB);
    }
}

#[test]
fn a_slow_backend_holds_the_client_back() {
    let world = World::with(&ClientOptions::default());
    world.client.sh("head -c 200000000 /dev/zero > /tmp/large").expect("a file");
    world.client.curl(&["-T", "/tmp/large", "http://echo/x", "-o", "/dev/null"]).expect("curl");
    let before = resident(&world);
    let mut command = world.client.command("curl");
    command.args(["-s", "--max-time", "3", "-o", "/dev/null", "-T", "/tmp/large"]);
    command.arg("http://echo/discard?ms=50");
    let writer = std::thread::spawn(move || Output::of(command));
    let mut most = 0;
    let finished = || {
        most = most.max(resident(&world));
        writer.is_finished().then_some(())
    };
    poll(Duration::from_secs(20), finished).expect("curl stops by itself");
    let grown = most.saturating_sub(before);
    assert!(grown < 24 * MIB, "{} MiB more", grown / MIB);
}

#[test]
fn a_client_that_leaves_frees_the_backend() {
    let world = World::new();
    let url = "http://echo/stream?chunks=100000&ms=20";
    let output = world.client.curl(&["--max-time", "1", url]).expect("curl");
    assert_eq!(output.code, 28, "curl has left: {output:?}");
    let idle = || {
        let open =
            world.lab.connections_to(&world.v1).ok()? + world.lab.connections_to(&world.v2).ok()?;
        (open == 0).then_some(())
    };
    poll(Duration::from_secs(10), idle).expect("the stream is ended at the backend");
}
