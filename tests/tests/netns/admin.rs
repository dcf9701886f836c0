//! Metrics, health, admin port and logs.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{ClientOptions, Request, poll};

use crate::support::{World, count, http_route};

const SPLIT: &str = "  \
  - name: split
    backendRefs:
    - name: echo-v1
      port: 80
      weight: 3
    - name: echo-v2
      port: 80";

const REQUESTS: &str = "weft_route_requests_total";

#[test]
fn promtool_accepts_the_metrics() {
    let world = World::routed(&http_route("split", SPLIT));
    world.client.send(&Request::get("http://echo/"), 40).expect("curl");
    world.raw("echo:3306", "", &["--until", "\n"]);
    world.tally(&["grpc", "http://echo-v1:7070", "--count", "3"]);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: run `make test`, which fetches it, or install Debian's prometheus");
    let metrics = world.client.metrics().expect("metrics");
    let mut stdin = promtool.stdin.take().expect("standard input");
    stdin.write_all(metrics.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{metrics}");
}

#[test]
fn requests_are_counted_by_route_and_backend() {
    let world = World::routed(&http_route("split", SPLIT));
    let tally = world.tally(&["http", "http://echo/", "--count", "100"]);
    let read = samples(&world.client.metrics().expect("metrics"));
    let route = [("route_name", "split"), ("parent_name", "echo"), ("rule_name", "split")];
    assert_eq!(sum(&read, REQUESTS, &route), 100.0);
    for (backend, version) in [("echo-v1", "v1"), ("echo-v2", "v2")] {
        let labels = [route[0], ("backend_name", backend), ("status", "200")];
        assert_eq!(sum(&read, REQUESTS, &labels), count(&tally, "versions", version) as f64);
        // The route names no port: it is attached to all of them.
        let labels = [route[0], ("backend_name", backend), ("parent_port", "80")];
        let share = sum(&read, "weft_route_backend_weight_ratio", &labels);
        assert_eq!(share, if backend == "echo-v1" { 0.75 } else { 0.25 });
    }
    let timed = sum(&read, "weft_route_request_duration_seconds_count", &route[..1]);
    assert_eq!(timed, 100.0);

    // What no route concerns is counted as well, and so is what no rule matches.
    world.status(&["http://echo-v1/"]);
    let read = samples(&world.client.metrics().expect("metrics"));
    let labels = [("parent_name", "echo-v1"), ("route_kind", "none")];
    assert_eq!(sum(&read, REQUESTS, &labels), 1.0);
}

#[test]
fn series_of_a_deleted_route_go() {
    let world = World::routed(&http_route("split", SPLIT));
    world.client.send(&Request::get("http://echo/"), 10).expect("curl");
    assert!(world.client.metrics().expect("metrics").contains("route_name=\"split\""));
    world.lab.settled(|lab| lab.delete("HTTPRoute", "default", "split")).expect("a change");
    world.client.send(&Request::get("http://echo/"), 10).expect("curl");
    let ratio = || {
        let read = samples(&world.client.metrics().ok()?);
        let name = "weft_route_backend_weight_ratio";
        let left = read.iter().any(|one| one.name == name && one.label("route_name") == "split");
        (!left).then_some(())
    };
    poll(Duration::from_secs(10), ratio).expect("its weights are no longer told");
}

#[test]
fn the_pod_s_address_answers_scrapes_but_no_admin() {
    let world = World::new();
    let [v4, v6] = &world.client.addresses;
    let options = ClientOptions { plain: true, ..ClientOptions::default() };
    let prometheus = world.lab.client_with("monitoring", &options).expect("a pod");
    for address in [v4.clone(), format!("[{v6}]")] {
        for path in ["metrics", "livez", "readyz"] {
            let url = format!("http://{address}:15020/{path}");
            let output = prometheus.curl(&["-g", "--fail", &url]).expect("curl");
            assert_eq!(output.code, 0, "{url}: {output:?}");
        }
        for port in [15000, 15001] {
            let url = format!("http://{address}:{port}/config");
            let output = prometheus.curl(&["-g", "--max-time", "3", &url]).expect("curl");
            assert_ne!(output.code, 0, "{url} must not be reachable: {output:?}");
        }
    }
}

#[test]
fn the_log_level_can_be_changed() {
    let world = World::new();
    let level = || world.client.admin("/log-level").expect("/log-level");
    assert!(level().contains("info"), "{}", level());
    let url = "http://127.0.0.1:15000/log-level";
    let output = world.client.curl(&["--fail", "-X", "PUT", "-d", "debug", url]).expect("curl");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(level().contains("debug"), "{}", level());
    let output = world.client.curl(&["--fail", "-X", "PUT", "-d", "lo=ud=er", url]).expect("curl");
    assert_ne!(output.code, 0, "{output:?}");
}

#[test]
fn access_log_and_log_as_json() {
    let arguments = ["--access-log", "json", "--log-format", "json"];
    let world =
        World::with_manifests(&ClientOptions::proxy(&arguments), &http_route("split", SPLIT));
    world.ask(&["-H", "x-request-id: 4711", "http://echo/path?x=1"]);
    let line = || world.client.access_log().lines().next().map(str::to_owned);
    let line = poll(Duration::from_secs(5), line).expect("an access log line");
    let entry: serde_json::Value = serde_json::from_str(&line).expect(&line);
    let text = entry.to_string();
    for word in ["split", "echo", "/path", "200", "GET", "4711"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let log = world.client.proxy_log();
    let first = log.lines().find(|line| line.contains("INFO")).expect(&log);
    serde_json::from_str::<serde_json::Value>(first).expect("every line is JSON");
}
