//! Timeouts and retries through the redirect: with curl's eyes, and the metrics'.

use std::time::Duration;

use weft_tests::lab::{ClientOptions, metrics, poll};

use crate::support::{World, count, http_route};

/// A world whose Service `echo` goes to v1, under a rule with these further lines.
fn world(rule: &str) -> World {
    let rules = format!("  - backendRefs:\n    - name: echo-v1\n      port: 80\n{rule}");
    let options = ClientOptions::proxy(&["--access-log", "json"]);
    World::with_manifests(&options, &http_route("bounded", &rules))
}

fn retries(world: &World, outcome: &str) -> f64 {
    let samples = metrics::samples(&world.client.metrics().expect("metrics"));
    metrics::sum(&samples, "weft_route_retries_total", &[("outcome", outcome)])
}

fn requests(world: &World, labels: &[(&str, &str)]) -> f64 {
    let samples = metrics::samples(&world.client.metrics().expect("metrics"));
    metrics::sum(&samples, "weft_route_requests_total", labels)
}

#[test]
fn a_slow_answer_is_504_and_the_backend_is_freed() {
    let world = world("    timeouts:\n      request: 1s");
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        let head = world.head(&[http, "http://echo/delay?ms=600000"]);
        assert!(head.contains(" 504"), "{head}");
        assert!(head.contains("x-weft-reason: request_timeout"), "{head}");
    }
    let idle = || (world.lab.connections_to(&world.v1).ok()? == 0).then_some(());
    poll(Duration::from_secs(10), idle).expect("the requests are ended at the backend");
    let labels = [("status", "504"), ("reason", "request_timeout"), ("backend_name", "echo-v1")];
    assert_eq!(requests(&world, &labels), 2.0);
    // Last, as its connection stays.
    assert_eq!(world.status(&["http://echo/delay?ms=10"]), "200");
}

#[test]
fn an_answer_that_takes_too_long_breaks_off() {
    let world = world("    timeouts:\n      request: 2s");
    // curl's words: 18 is a part of the answer, 92 a stream that was not closed cleanly.
    for (http, code) in [("--http1.1", 18), ("--http2-prior-knowledge", 92)] {
        let url = "http://echo/stream?chunks=100000&ms=20";
        let output = world.client.curl(&[http, "--max-time", "20", url]).expect("curl");
        assert!(output.stdout.contains("line 1"), "{output:?}");
        assert_eq!(output.code, code, "{output:?}");
    }
    let idle = || (world.lab.connections_to(&world.v1).ok()? == 0).then_some(());
    poll(Duration::from_secs(10), idle).expect("the streams are ended at the backend");
    assert_eq!(requests(&world, &[("status", "200"), ("reason", "request_timeout")]), 2.0);
}

#[test]
fn a_websocket_outlives_the_timeout() {
    let world = world("    timeouts:\n      request: 500ms\n      backendRequest: 500ms");
    let request = concat!(
        r"GET /upgrade HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        r"ping-1"
    );
    // Nothing ends it but this client's patience, of which it complains.
    let output = world.weft_client(&["raw", "echo:80", request, "--limit-ms", "2500"]);
    assert!(output.stdout.starts_with("HTTP/1.1 101"), "{output:?}");
    assert!(output.stdout.ends_with("ping-1") && output.code == 1, "{output:?}");
    assert!(output.stderr.contains("nothing more after 2500 ms"), "{output:?}");
}

#[test]
fn a_listed_code_is_asked_again_with_its_body() {
    let world = world(
        "    retry:\n      codes: [503]\n      attempts: 2\n    timeouts:\n      request: 20s",
    );
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        for (times, status) in [(2, "200"), (3, "503")] {
            let url = format!("http://echo/fail?times={times}&id={http}-{times}");
            assert_eq!(world.status(&[http, "-d", "order=1", &url]), status, "{http} {times}");
        }
        let url = format!("http://echo/fail?times=1&id=body{http}");
        let answer = world.ask(&[http, "-d", "order=1", &url]);
        assert_eq!((answer.method.as_str(), answer.body_bytes), ("POST", 7));
    }
    // Not listed.
    let url = "http://echo/fail?times=1&status=500&id=other";
    assert_eq!(world.status(&[url]), "500");
    assert_eq!((retries(&world, "success"), retries(&world, "failure")), (4.0, 6.0));
    let logged = || {
        let log = world.client.access_log();
        (log.matches("\"retries\":2").count() == 4).then_some(())
    };
    poll(Duration::from_secs(10), logged).expect("the access log counts them");
}

#[test]
fn an_unavailable_grpc_call_is_made_again() {
    let world = world("    retry:\n      attempts: 2");
    let tally = world.tally(&["grpc", "http://echo:7070", "--status", "14"]);
    assert_eq!(count(&tally, "statuses", "14"), 1, "{tally}");
    assert_eq!(retries(&world, "failure"), 2.0);
}
