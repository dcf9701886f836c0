//! What is not HTTP passes through unread: TLS, TCP, and servers that speak first.

use std::time::Instant;

use crate::support::{World, http_route};

#[test]
fn the_server_may_speak_first() {
    let world = World::new();
    // Declared by the port's name; then found out by silence, which is remembered for the port.
    for (port, limit_ms) in [(3306, "2000"), (9090, "5000"), (9090, "2000")] {
        let options = ["--first", "hello from echo-", "--until", "ping", "--limit-ms", limit_ms];
        let answer = world.raw(&format!("echo:{port}"), r"ping\n", &options);
        assert!(answer.starts_with("hello from echo-"), "{answer}");
    }
    let start = Instant::now();
    let options = ["--first", "hello from echo-", "--until", "ping"];
    for _ in 0..5 {
        world.raw("echo:9090", r"ping\n", &options);
    }
    let each = start.elapsed() / 5;
    assert!(each.as_millis() < 400, "a learnt port does not wait again: {each:?}");
}

#[test]
fn tcp_passes_both_ways_with_half_close() {
    let world = World::new();
    for port in [7, 9091] {
        for family in ["10.96.1.1", "[fd00:10:96::101]"] {
            let address = format!("{family}:{port}");
            let answer = world.raw(&address, "no protocol at all", &["--finish"]);
            assert_eq!(answer, "no protocol at all", "{address}");
        }
    }
}

#[test]
fn tcp_is_balanced_by_connection() {
    let world = World::new();
    let mut seen = [0, 0];
    for _ in 0..24 {
        let answer = world.raw("echo:3306", "", &["--until", "\n"]);
        seen[usize::from(answer.contains("echo-v2"))] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn tls_passes_unread() {
    let world = World::new();
    for version in ["v1", "v2"] {
        let certificate = format!(
            "curl -sS http://echo-{version}/certificate > /tmp/{version}.pem && \
             echo $(getent ahostsv4 echo-{version} | head -n 1 | cut -d ' ' -f 1)"
        );
        let address = world.client.sh(&certificate).expect("curl").success().expect("an address");
        for port in [443, 9443] {
            let resolve = format!("secure:{port}:{}", address.trim());
            let url = format!("https://secure:{port}/private");
            let pem = format!("/tmp/{version}.pem");
            // Only this pod's own certificate is trusted: nobody stands in between.
            for http in ["--http1.1", "--http2"] {
                let answer = world.ask(&[http, "--cacert", &pem, "--resolve", &resolve, &url]);
                assert_eq!(answer.identity.version, version);
                assert_eq!(answer.path, "/private");
                let expected = if http == "--http2" { "HTTP/2.0" } else { "HTTP/1.1" };
                assert_eq!(answer.http, expected);
            }
        }
    }
}

#[test]
fn http_routes_leave_tls_alone() {
    // A route without a port covers every port of the Service, but only where HTTP is spoken.
    let rules = "  - backendRefs:\n    - name: nowhere\n      port: 80";
    let world = World::routed(&http_route("all-ports", rules));
    assert_eq!(world.status(&["http://echo/"]), "500");
    assert_eq!(world.status(&["-k", "https://echo/"]), "200");
    let answer = world.raw("echo:3306", r"ping\n", &["--first", "hello", "--until", "ping"]);
    assert!(answer.contains("ping"), "{answer}");
}

#[test]
fn a_port_that_promised_http_and_gets_something_else() {
    let world = World::new();
    // Answered or closed, but never left hanging, and the sidecar lives on.
    world.weft_client(&[
        "raw",
        "echo:80",
        r"\x16\x03 this is no HTTP\r\n\r\n",
        "--limit-ms",
        "3000",
    ]);
    assert_eq!(world.status(&["http://echo/"]), "200");
}
