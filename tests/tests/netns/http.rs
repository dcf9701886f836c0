//! HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge through the redirect.

use crate::support::{World, count, http_route};

/// A port that says HTTP, one whose first bytes decide, and a routed one behave alike.
const PORTS: [u16; 2] = [80, 9000];

fn routed_world() -> World {
    World::routed(&http_route("to-v1", "  - backendRefs:\n    - name: echo-v1\n      port: 80"))
}

#[test]
fn http_1_0_without_and_with_host() {
    let world = routed_world();
    for port in PORTS {
        let url = format!("http://echo:{port}/old?x=1");
        let answer = world.ask(&["--http1.0", &url]);
        assert_eq!((answer.identity.version.as_str(), answer.path.as_str()), ("v1", "/old?x=1"));
        let head = world.head(&["--http1.0", &url]);
        assert!(head.starts_with("HTTP/1."), "{head}");
        // The end of the body is the end of the connection, and no chunks are sent.
        let answer = world.raw(&format!("echo:{port}"), r"GET /bare HTTP/1.0\r\n\r\n", &[]);
        assert!(answer.contains("200 OK") && answer.contains("/bare"), "{answer}");
        assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
    }
}

#[test]
fn http_1_0_keep_alive_is_understood_or_closed() {
    let world = World::new();
    let request = r"GET /bare HTTP/1.0\r\nHost: echo\r\nConnection: keep-alive\r\n\r\n";
    let answer = world.raw("echo:80", request, &["--until", "}", "--limit-ms", "5000"]);
    assert!(answer.contains("200 OK"), "{answer}");
}

#[test]
fn keep_alive_balances_over_both_versions() {
    let world = World::new();
    for port in PORTS {
        let tally = world.tally(&["http", &format!("http://echo:{port}/"), "--count", "200"]);
        assert_eq!(count(&tally, "statuses", "200"), 200, "{tally}");
        assert_eq!(tally["errors"].as_object().map(serde_json::Map::len), Some(0), "{tally}");
        let (v1, v2) = (count(&tally, "versions", "v1"), count(&tally, "versions", "v2"));
        assert!(v1 >= 20 && v2 >= 20, "one connection's requests go to both: {tally}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::new();
    let requests: String =
        (1..=5).map(|n| format!(r"GET /pipelined-{n} HTTP/1.1\r\nHost: echo\r\n\r\n")).collect();
    for port in PORTS {
        let options = ["--until", "\"peer\"", "--times", "5"];
        let answers = world.raw(&format!("echo:{port}"), &requests, &options);
        let positions: Vec<usize> = (1..=5)
            .map(|n| answers.find(&format!("/pipelined-{n}\"")).expect("every answer"))
            .collect();
        assert!(positions.is_sorted(), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 5, "{answers}");
    }
}

#[test]
fn http_2_with_prior_knowledge() {
    let world = World::new();
    for port in [80, 8000, 9000] {
        let url = format!("http://echo:{port}/two?x=2");
        let answer = world.ask(&["--http2-prior-knowledge", &url]);
        assert_eq!(answer.path, "/two?x=2");
        assert!(answer.host.starts_with("echo"), "{answer:?}");
        // HTTP/2 to a backend only where the port says so.
        let expected = if port == 8000 { "HTTP/2.0" } else { "HTTP/1.1" };
        assert_eq!(answer.http, expected, "port {port}");
        let head = world.head(&["--http2-prior-knowledge", &url]);
        assert!(head.starts_with("HTTP/2 200"), "{head}");
        let tally = world.tally(&["http", &url, "--http2", "--count", "100"]);
        assert_eq!(count(&tally, "statuses", "200"), 100, "{tally}");
        let (v1, v2) = (count(&tally, "versions", "v1"), count(&tally, "versions", "v2"));
        assert!(v1 >= 10 && v2 >= 10, "one connection's requests go to both: {tally}");
    }
}

#[test]
fn http_1_to_an_h2c_port() {
    let world = World::new();
    let answer = world.ask(&["http://echo:8000/one"]);
    assert_eq!((answer.http.as_str(), answer.host.as_str()), ("HTTP/2.0", "echo:8000"));
}

#[test]
fn ipv6_service_addresses() {
    let world = routed_world();
    for url in ["http://echo/six", "http://echo:9000/six"] {
        assert_eq!(world.ask(&["-6", url]).identity.version, "v1");
        assert_eq!(world.ask(&["-4", url]).identity.version, "v1");
    }
    let answer = world.ask(&["-g", "http://[fd00:10:96::102]/literal"]);
    assert_eq!(
        (answer.identity.version.as_str(), answer.host.as_str()),
        ("v1", "[fd00:10:96::102]")
    );
}

#[test]
fn the_destination_decides_and_not_the_host_header() {
    let world = World::new();
    let answer = world.ask(&["-H", "Host: echo-v2.default", "http://echo-v1/"]);
    assert_eq!((answer.identity.version.as_str(), answer.host.as_str()), ("v1", "echo-v2.default"));
}

#[test]
fn websocket_messages_come_back() {
    let world = routed_world();
    for port in PORTS {
        let tally = world.tally(&["websocket", &format!("ws://echo:{port}/ws"), "--count", "20"]);
        assert_eq!(tally["first"], 20, "{tally}");
        assert_eq!(count(&tally, "statuses", "101"), 1, "{tally}");
        assert_eq!(count(&tally, "versions", "v1"), 1, "{tally}");
    }
    let large = ["websocket", "ws://echo/ws", "--count", "4", "--size", "300000"];
    assert_eq!(world.tally(&large)["first"], 4);
}

#[test]
fn other_upgrades_pass() {
    let world = routed_world();
    let request = r"GET /upgrade HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nping-1";
    let answer = world.raw("echo:80", request, &["--until", "ping-1"]);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.to_lowercase().contains("upgrade: echo"), "{answer}");
}

#[test]
fn connect_makes_a_tunnel() {
    let world = World::new();
    let request = r"CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\nping-2";
    let answer = world.raw("echo:80", request, &["--until", "ping-2"]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = answer.to_lowercase();
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{answer}");
}

#[test]
fn trailers_both_ways() {
    let world = routed_world();
    let request =
        r"GET /trailers HTTP/1.1\r\nHost: echo\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n";
    let answer = world.raw("echo:80", request, &[]);
    assert!(answer.contains("x-checksum: 4711\r\n"), "the response's trailer: {answer}");
    let request = concat!(
        r"POST /x HTTP/1.1\r\nHost: echo\r\nConnection: close\r\nTrailer: x-sum\r\n",
        r"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 99\r\n\r\n"
    );
    let answer = world.raw("echo:80", request, &[]);
    assert!(answer.contains(r#"["x-sum","99"]"#), "the request's trailer: {answer}");
    assert!(answer.contains(r#""body_bytes":5"#), "{answer}");
}

#[test]
fn an_interim_answer_does_no_harm() {
    let world = World::new();
    // 103 Early Hints is not passed on (hyper's server cannot send it); the answer is.
    for port in [81, 9001] {
        let request = r"GET /early-hints HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n";
        let answer = world.raw(&format!("echo:{port}"), request, &[]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn expect_100_continue() {
    let world = routed_world();
    let head = concat!(
        r"POST /x HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n",
        r"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    );
    // The body is not sent, so whatever comes has come before it.
    let answer = world.raw("echo:80", head, &["--until", "\\r\\n\\r\\n", "--limit-ms", "5000"]);
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
    let answer = world.ask(&["-H", "Expect: 100-continue", "-d", "hello", "http://echo/x"]);
    assert_eq!(answer.body_bytes, 5);
}

#[test]
fn bodies_of_both_kinds_arrive_whole() {
    let world = routed_world();
    let sha = "head -c 3000000 /dev/zero | tr '\\0' 'a' > /tmp/body; sha256sum /tmp/body";
    let sha = world.client.sh(sha).expect("sha256sum").stdout;
    let sha = sha.split(' ').next().expect("a digest").to_owned();
    for options in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["--http2-prior-knowledge"]] {
        let mut words = vec!["-X", "POST", "--data-binary", "@/tmp/body", "http://echo/x"];
        words.extend(options);
        let answer = world.ask(&words);
        assert_eq!((answer.body_bytes, answer.body_sha256.as_str()), (3_000_000, sha.as_str()));
        let last = words.len() - options.len() - 1;
        words[last] = "http://echo/echo";
        let mut line = words.join(" ");
        line = line.replace("Transfer-Encoding: chunked", "'Transfer-Encoding: chunked'");
        let back = world.client.sh(&format!("curl -sS {line} | sha256sum")).expect("curl").stdout;
        assert!(back.starts_with(&sha), "{options:?}: {back}");
    }
}

#[test]
fn answers_without_a_body() {
    let world = World::new();
    for status in ["204", "304"] {
        let tally =
            world.tally(&["http", &format!("http://echo/status/{status}"), "--count", "10"]);
        assert_eq!(count(&tally, "statuses", status), 10, "{tally}");
    }
    let head = world.client.curl(&["--head", "http://echo/bytes?n=5"]).expect("curl");
    assert!(head.stdout.starts_with("HTTP/1.1 200") && head.code == 0, "{head:?}");
}

#[test]
fn bad_answers_of_a_backend() {
    let world = World::new();
    assert_eq!(world.status(&["http://echo:81/garbage"]), "502");
    assert_eq!(world.status(&["-X", "POST", "-d", "x", "http://echo:81/close"]), "503");
    // A body that ends too early must not look complete.
    let half = world.client.curl(&["http://echo:81/half"]).expect("curl");
    assert_ne!(half.code, 0, "{half:?}");
    let whole = world.client.curl(&["http://echo:81/until-close"]).expect("curl");
    assert!(whole.code == 0 && whole.stdout.contains("/until-close"), "{whole:?}");
}

#[test]
fn a_reused_connection_that_was_closed_costs_no_request() {
    let world = World::new();
    let url = "http://echo:81/reset-reused";
    let tally = world.tally(&["http", url, "--count", "50"]);
    assert_eq!(count(&tally, "statuses", "200"), 50, "{tally}");
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    let world = routed_world();
    let answer = world.ask(&[
        "-H",
        "Connection: x-hop, keep-alive",
        "-H",
        "x-hop: 1",
        "-H",
        "x-stays: 2",
        "-H",
        "Keep-Alive: timeout=5",
        "-H",
        "Proxy-Connection: keep-alive",
        "http://echo/",
    ]);
    assert!(answer.header("x-hop").is_empty(), "{answer:?}");
    assert!(answer.header("keep-alive").is_empty(), "{answer:?}");
    assert!(answer.header("proxy-connection").is_empty(), "{answer:?}");
    assert_eq!(answer.header("x-stays"), ["2"]);
}

#[test]
fn headers_arrive_as_they_were_sent() {
    let world = routed_world();
    let long = format!("x-long: {}", "y".repeat(20_000));
    let arguments = ["-H", &long, "-H", "x-twice: a", "-H", "x-twice: b", "http://echo/a%2Fb//c"];
    let answer = world.ask(&arguments);
    assert_eq!(answer.header("x-long")[0].len(), 20_000);
    assert_eq!(answer.header("x-twice").join(","), "a,b");
    assert_eq!(answer.path, "/a%2Fb//c");
    // The proxy is not the one who adds a name for itself or for the client.
    for added in ["via", "server", "x-forwarded-for"] {
        assert!(answer.header(added).is_empty(), "{added} in {answer:?}");
    }
}
