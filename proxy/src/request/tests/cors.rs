//! CORS end to end: which filter answers, what is forwarded, and the headers of own answers.

use crate::testing::{Mesh, Message, RawBackend, Server, run};

const CORS: &str =
    "{type: CORS, cors: {allowOrigins: [\"https://a.example\"], allowMethods: [PUT]}}";
const ORIGIN: &str = "access-control-allow-origin";

/// Asks for leave to PUT from `origin`.
async fn preflight(
    mesh: &Mesh,
    service: std::net::SocketAddr,
    path: &str,
    origin: &str,
) -> Message {
    let mut client = mesh.connect(service).await;
    client
        .send(format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: svc\r\norigin: {origin}\r\n\
             access-control-request-method: PUT\r\n\r\n"
        ))
        .await;
    client.message().await
}

/// Services `one` and `two`, and the one that the route is attached to.
async fn routed(rules: &str) -> (Mesh, std::net::SocketAddr, [Server; 2]) {
    let mesh = Mesh::new();
    let servers = [Server::http1("one").await, Server::http1("two").await];
    mesh.service("default/one", "http", &[servers[0].addr]);
    mesh.service("default/two", "http", &[servers[1].addr]);
    let service = mesh.service("default/svc", "http", &[]);
    mesh.http_route("default/route", "default/svc", rules);
    (mesh, service, servers)
}

#[test]
fn a_preflight_is_answered_here() {
    run(async {
        let rules = format!(
            "[{{filters: [{CORS}, {{type: ResponseHeaderModifier, responseHeaderModifier: \
               {{set: [{{name: x-by, value: weft}}]}}}}], backendRefs: [{{name: one, port: 80}}]}}]"
        );
        let (mesh, service, servers) = routed(&rules).await;
        let answer = preflight(&mesh, service, "/", "https://a.example").await;
        assert_eq!(answer.status(), 204);
        assert_eq!(
            answer.head.sorted(),
            [
                "access-control-allow-methods: PUT",
                "access-control-allow-origin: https://a.example",
                "access-control-max-age: 5",
                "vary: Origin",
                "x-by: weft",
            ]
        );
        assert_eq!(mesh.requests(&["rule=\"0\"", "backend_name=\"\"", "status=\"204\""]), 1);

        let answer = preflight(&mesh, service, "/", "https://b.example").await;
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.header("x-weft-reason"), Some("origin_not_allowed"));
        assert_eq!((answer.header(ORIGIN), answer.header("x-by")), (None, Some("weft")));
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert!(answer.text().contains("rule 0 of HTTPRoute default/route"), "{}", answer.text());
        assert_eq!(mesh.requests(&["rule=\"0\"", "reason=\"origin_not_allowed\""]), 1);
        assert_eq!(servers[0].requests.get(), 0);
    });
}

#[test]
fn what_is_no_preflight_is_forwarded() {
    run(async {
        let rules = format!("[{{filters: [{CORS}], backendRefs: [{{name: one, port: 80}}]}}]");
        let (mesh, service, servers) = routed(&rules).await;
        for (count, headers) in [
            "",
            "origin: https://a.example\r\n",
            "origin: https://b.example\r\n",
            "access-control-request-method: PUT\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let mut client = mesh.connect(service).await;
            client.send(format!("OPTIONS /x HTTP/1.1\r\nhost: svc\r\n{headers}\r\n")).await;
            let answer = client.message().await;
            assert_eq!((answer.status(), answer.text()), (200, "one"), "{headers}");
            let allowed = headers.contains("a.example").then_some("https://a.example");
            assert_eq!(answer.header(ORIGIN), allowed);
            assert_eq!(answer.header("vary"), Some("Origin"));
            assert_eq!(answer.header("access-control-max-age"), None);
            assert_eq!(servers[0].requests.get(), count + 1);
        }
    });
}

#[test]
fn a_backends_own_words_are_replaced() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        mesh.service("default/one", "http", &[backend.addr]);
        let service = mesh.service("default/svc", "http", &[]);
        // The Origin is the client's, whatever becomes of it on the way.
        let rules = format!(
            "[{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{remove: [origin]}}}}, \
               {CORS}], backendRefs: [{{name: one, port: 80}}]}}]"
        );
        mesh.http_route("default/route", "default/svc", &rules);
        for (origin, expected) in
            [("https://a.example", Some("https://a.example")), ("https://b.example", None)]
        {
            let mut client = mesh.connect(service).await;
            client.send(format!("GET / HTTP/1.1\r\nhost: svc\r\norigin: {origin}\r\n\r\n")).await;
            let mut server = backend.accept().await;
            assert_eq!(server.head().await.get("origin"), None);
            server
                .send(
                    "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nconnection: close\r\n\
                     access-control-allow-credentials: true\r\ncontent-length: 0\r\n\r\n",
                )
                .await;
            let answer = client.message().await;
            assert_eq!(answer.header(ORIGIN), expected);
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
    });
}

#[test]
fn own_answers_may_be_read_too() {
    run(async {
        for (rule, status) in [
            ("backendRefs: [{name: missing, port: 80}]", 500),
            ("backendRefs: [{name: idle, port: 80}]", 503),
            ("backendRefs: []", 500),
        ] {
            let rules = format!("[{{filters: [{CORS}], {rule}}}]");
            let (mesh, service, _) = routed(&rules).await;
            mesh.service("default/idle", "http", &[]);
            let answer = mesh.get_with(service, "/", "origin: https://a.example\r\n").await;
            assert_eq!(answer.status(), status, "{rule}");
            assert_eq!(answer.header(ORIGIN), Some("https://a.example"), "{rule}");
            // What would be answered 500 may be asked about all the same.
            let answer = preflight(&mesh, service, "/", "https://a.example").await;
            assert_eq!(answer.status(), 204, "{rule}");
        }
        let rules =
            format!("[{{filters: [{CORS}, {{type: RequestRedirect, requestRedirect: {{}}}}]}}]");
        let (mesh, service, _) = routed(&rules).await;
        let answer = mesh.get_with(service, "/", "origin: https://a.example\r\n").await;
        assert_eq!((answer.status(), answer.header(ORIGIN)), (302, Some("https://a.example")));
        let answer = preflight(&mesh, service, "/", "https://a.example").await;
        assert_eq!((answer.status(), answer.header("location")), (204, None));
    });
}

#[test]
fn a_refused_rule_says_nothing_of_cors() {
    run(async {
        let rules = format!(
            "[{{filters: [{CORS}, {{type: Magic}}], backendRefs: [{{name: one, port: 80}}]}}]"
        );
        let (mesh, service, _) = routed(&rules).await;
        let answer = preflight(&mesh, service, "/", "https://a.example").await;
        assert_eq!((answer.status(), answer.header(ORIGIN)), (500, None));
        assert_eq!(answer.header("x-weft-reason"), Some("rule_refused"));
    });
}

#[test]
fn a_preflight_has_the_rule_of_what_it_announces() {
    run(async {
        let to = |name: &str| format!("backendRefs: [{{name: {name}, port: 80}}]");
        let (one, two) = (to("one"), to("two"));
        let put = format!(
            "{{matches: [{{method: PUT, path: {{value: /x}}}}], filters: [{CORS}], {one}}}"
        );
        for (others, expected) in [
            // By itself an OPTIONS has no rule, or one that leaves it to the backend.
            (String::new(), 204),
            (format!(", {{{two}}}"), 204),
            // Who asks for OPTIONS by name has it.
            (format!(", {{matches: [{{method: OPTIONS}}], {two}}}"), 200),
            // A PUT would not have the first rule: an exact path ranks before a prefix.
            (format!(", {{matches: [{{path: {{type: Exact, value: /x}}}}], {two}}}"), 200),
        ] {
            let (mesh, service, servers) = routed(&format!("[{put}{others}]")).await;
            let answer = preflight(&mesh, service, "/x", "https://a.example").await;
            assert_eq!(answer.status(), expected, "{others}");
            assert_eq!(servers[0].requests.get(), 0);
            assert_eq!(servers[1].requests.get(), usize::from(expected == 200));
            // An OPTIONS that is no preflight is its own request.
            let mut client = mesh.connect(service).await;
            client
                .send("OPTIONS /x HTTP/1.1\r\nhost: svc\r\norigin: https://a.example\r\n\r\n")
                .await;
            let status = if others.is_empty() { 404 } else { 200 };
            assert_eq!(client.message().await.status(), status, "{others}");
        }
    });
}

#[test]
fn a_backends_filter_takes_the_place_of_its_rules() {
    run(async {
        let own = CORS.replace("a.example", "b.example").replace("PUT", "PATCH");
        let rules = format!(
            "[{{matches: [{{path: {{value: /both}}}}], filters: [{CORS}], \
                backendRefs: [{{name: one, port: 80, filters: [{own}]}}]}}, \
              {{backendRefs: [{{name: two, port: 80, filters: [{own}]}}]}}]"
        );
        let (mesh, service, servers) = routed(&rules).await;
        for path in ["/both", "/"] {
            let answer = preflight(&mesh, service, path, "https://b.example").await;
            assert_eq!(answer.status(), 204, "{path}");
            assert_eq!(answer.header("access-control-allow-methods"), Some("PATCH"));
            let answer = preflight(&mesh, service, path, "https://a.example").await;
            assert_eq!(answer.status(), 403, "{path}");
            for (origin, expected) in
                [("https://a.example", None), ("https://b.example", Some("https://b.example"))]
            {
                let answer = mesh.get_with(service, path, &format!("origin: {origin}\r\n")).await;
                assert_eq!(answer.header(ORIGIN), expected, "{path}");
            }
        }
        assert_eq!((servers[0].requests.get(), servers[1].requests.get()), (2, 2));
    });
}
