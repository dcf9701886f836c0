//! gRPC through the redirect: balanced per call, with and without routes.

use weft_tests::lab::ClientOptions;

use crate::support::{World, count, http_route, route};

#[test]
fn every_kind_of_call() {
    let world = World::new();
    for port in [7070, 80, 9000] {
        let url = format!("http://echo:{port}");
        for (method, texts) in [
            ("unary", r#"["hello"]"#),
            ("server", r#"["hello","hello","hello"]"#),
            ("client", r#"["hello,hello,hello"]"#),
            ("bidi", r#"["hello","hello","hello"]"#),
        ] {
            let tally = world.tally(&["grpc", &url, "--method", method]);
            assert_eq!(count(&tally, "statuses", "0"), 1, "{port} {method}: {tally}");
            assert_eq!(tally["first"]["texts"].to_string(), texts, "{port} {method}");
        }
    }
}

#[test]
fn calls_of_one_connection_are_balanced() {
    let world = World::new();
    for family in ["10.96.1.1", "[fd00:10:96::101]"] {
        let url = format!("http://{family}:7070");
        let tally = world.tally(&["grpc", &url, "--count", "300", "--concurrency", "4"]);
        assert_eq!(count(&tally, "statuses", "0"), 300, "{tally}");
        let (v1, v2) = (count(&tally, "versions", "v1"), count(&tally, "versions", "v2"));
        assert!(v1 >= 45 && v2 >= 45, "{tally}");
    }
}

#[test]
fn errors_and_metadata_pass() {
    let world = World::new();
    let url = "http://echo:7070";
    let tally = world.tally(&["grpc", url, "--status", "5", "--text", "not here"]);
    assert_eq!(count(&tally, "statuses", "5"), 1, "{tally}");
    assert_eq!(tally["first"]["message"], "not here");
    // An error after the first messages is in the trailers.
    let tally = world.tally(&["grpc", url, "--method", "server", "--status", "10"]);
    assert_eq!(count(&tally, "statuses", "10"), 1, "{tally}");
    let tally = world.tally(&["grpc", url, "--path", "/weft.test.Echo/Nothing"]);
    assert_eq!(count(&tally, "statuses", "12"), 1, "{tally}");
    let tally = world.tally(&["grpc", url, "-H", "x-tenant: blue"]);
    let headers = tally["first"]["headers"].to_string();
    assert!(headers.contains("x-tenant: blue"), "{headers}");
    assert!(headers.contains("te: trailers"), "{headers}");
}

#[test]
fn grpc_routes_match_methods_and_headers() {
    let rules = "  \
  - matches:
    - method:
        service: weft.test.Echo
        method: Unary
      headers:
      - name: x-version
        value: v2
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set:
        - name: x-route
          value: canary
    backendRefs:
    - name: echo-v2
      port: 7070
  - matches:
    - method:
        service: weft.test.Echo
    backendRefs:
    - name: echo-v1
      port: 7070
      weight: 3
    - name: echo-v2
      port: 7070
      weight: 1";
    let world = World::routed(&route("GRPCRoute", "calls", "    port: 7070\n", rules));
    let url = "http://echo:7070";
    let tally = world.tally(&["grpc", url, "-H", "x-version: v2", "--count", "50"]);
    assert_eq!(count(&tally, "versions", "v2"), 50, "{tally}");
    assert!(tally["first"]["headers"].to_string().contains("x-route: canary"), "{tally}");

    let tally = world.tally(&["grpc", url, "--count", "400"]);
    let v1 = count(&tally, "versions", "v1");
    assert!((255..=345).contains(&v1), "three of four calls go to v1: {tally}");

    let tally = world.tally(&["grpc", url, "--path", "/other.Service/Method"]);
    assert_eq!(count(&tally, "statuses", "12"), 1, "no rule matches: UNIMPLEMENTED: {tally}");
    // The route is for one port only.
    assert_eq!(world.status(&["http://echo/weft.test.Echo/Unary"]), "200");
}

#[test]
fn an_invalid_backend_of_a_grpc_route_is_unavailable() {
    let rules = "  - backendRefs:\n    - name: nowhere\n      port: 7070";
    let world = World::routed(&route("GRPCRoute", "broken", "", rules));
    let tally = world.tally(&["grpc", "http://echo:7070", "--count", "5"]);
    assert_eq!(count(&tally, "statuses", "14"), 5, "{tally}");
}

#[test]
fn http_routes_carry_grpc() {
    let rules = "  \
  - matches:
    - path:
        type: PathPrefix
        value: /weft.test.Echo
    backendRefs:
    - name: echo-v2
      port: 7070";
    let world = World::with_manifests(&ClientOptions::default(), &http_route("calls", rules));
    let tally = world.tally(&["grpc", "http://echo:7070", "--count", "20"]);
    assert_eq!(count(&tally, "versions", "v2"), 20, "{tally}");
}
