//! Filters end to end: what the backend gets, and what the client gets.

use crate::testing::{Mesh, Peer, RawBackend, Server, run};

/// A Service whose only rule has these filters and leads to a backend of the same filters' level.
async fn with_filters(filters: &str) -> (Mesh, RawBackend, Peer) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    mesh.service("default/backend", "http", &[backend.addr]);
    let service = mesh.service("default/svc", "http", &[]);
    let rules = format!(
        "[{{matches: [{{path: {{value: /a}}}}], {filters}, \
         backendRefs: [{{name: backend, port: 80}}]}}]"
    );
    mesh.http_route("default/route", "default/svc", &rules);
    let client = mesh.connect(service).await;
    (mesh, backend, client)
}

#[test]
fn redirects_answer_without_a_backend() {
    run(async {
        for (redirect, status, location) in [
            ("{statusCode: 301, hostname: other.example}", 301, "http://other.example/a/b?q=1"),
            ("{scheme: https}", 302, "https://svc.example/a/b?q=1"),
            ("{scheme: https, port: 8443}", 302, "https://svc.example:8443/a/b?q=1"),
            (
                "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}",
                302,
                "http://svc.example/x/b?q=1",
            ),
            (
                "{statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /y}}",
                308,
                "http://svc.example/y?q=1",
            ),
        ] {
            let mesh = Mesh::new();
            let service = mesh.service("default/svc", "http", &[]);
            let rules = format!(
                "[{{matches: [{{path: {{value: /a}}}}], filters: [\
                 {{type: RequestRedirect, requestRedirect: {redirect}}}, \
                 {{type: ResponseHeaderModifier, responseHeaderModifier: \
                   {{set: [{{name: x-by, value: weft}}]}}}}]}}]"
            );
            mesh.http_route("default/route", "default/svc", &rules);
            let mut client = mesh.connect(service).await;
            client.send("GET /a/b?q=1 HTTP/1.1\r\nhost: svc.example:80\r\n\r\n").await;
            let answer = client.message().await;
            assert_eq!(answer.status(), status, "{redirect}");
            assert_eq!(answer.header("location"), Some(location), "{redirect}");
            assert_eq!(answer.header("x-by"), Some("weft"));
            assert_eq!(answer.header("content-length"), Some("0"));
            let status = format!("status=\"{status}\"");
            assert_eq!(mesh.requests(&["route_name=\"route\"", &status, "reason=\"\""]), 1);
        }
    });
}

#[test]
fn a_backends_redirect_answers_its_share() {
    run(async {
        let mesh = Mesh::new();
        mesh.service("default/one", "http", &[Server::http1("one").await.addr]);
        let service = mesh.service("default/svc", "http", &[]);
        let redirect = "{type: RequestRedirect, requestRedirect: {hostname: other.example}}";
        let rules = format!(
            "[{{backendRefs: [{{name: one, port: 80}}, {{name: one, port: 80, filters: [{redirect}]}}]}}]"
        );
        mesh.http_route("default/route", "default/svc", &rules);
        let mut client = mesh.connect(service).await;
        let mut redirected = 0;
        for _ in 0..200 {
            client.send("GET /a HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let answer = client.message().await;
            if answer.status() == 302 {
                assert_eq!(answer.header("location"), Some("http://other.example/a"));
                redirected += 1;
            } else {
                assert_eq!(answer.status(), 200);
            }
        }
        // A binomial share of a half: the standard deviation is 7.1, the bounds are 6 of these away.
        assert!((58..=142).contains(&redirected), "{redirected} of 200");
    });
}

#[test]
fn rewrites_change_what_the_backend_sees() {
    run(async {
        for (rewrite, target, host) in [
            ("{hostname: new.example}", "/a/b?q=1", "new.example"),
            ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}", "/b?q=1", "svc"),
            ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /x/}}", "/x/b?q=1", "svc"),
            ("{path: {type: ReplaceFullPath, replaceFullPath: /full}}", "/full?q=1", "svc"),
        ] {
            let filters = format!("filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]");
            let (_mesh, backend, mut client) = with_filters(&filters).await;
            client.send("GET /a/b?q=1 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let request = backend.accept().await.head().await;
            assert_eq!(request.line, format!("GET {target} HTTP/1.1"), "{rewrite}");
            assert_eq!(request.get("host"), Some(host), "{rewrite}");
        }
    });
}

#[test]
fn request_headers_are_modified() {
    run(async {
        let filters = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {\
            set: [{name: X-Set, value: new}], add: [{name: x-add, value: c}], remove: [x-remove]}}]";
        let (_mesh, backend, mut client) = with_filters(filters).await;
        client
            .send(
                "GET /a HTTP/1.1\r\nhost: svc\r\nx-set: old\r\nx-set: older\r\nx-add: a\r\n\
                 x-add: b\r\nx-remove: gone\r\nx-keep: kept\r\n\r\n",
            )
            .await;
        let request = backend.accept().await.head().await;
        assert_eq!(request.sorted(), ["host: svc", "x-add: a,b,c", "x-keep: kept", "x-set: new"]);
    });
}

#[test]
fn a_backends_own_filters_apply_to_its_share_only() {
    run(async {
        let mesh = Mesh::new();
        let (v1, v2) = (Server::http1("v1").await, Server::http1("v2").await);
        mesh.service("default/v1", "http", &[v1.addr]);
        mesh.service("default/v2", "http", &[v2.addr]);
        let service = mesh.service("default/svc", "http", &[]);
        let rules = r#"
- filters:
  - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-rule, value: r}]}}
  backendRefs:
  - {name: v1, port: 80}
  - name: v2
    port: 80
    filters:
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-backend, value: b}]}}
    - {type: URLRewrite, urlRewrite: {hostname: v2.example}}
"#;
        mesh.http_route("default/route", "default/svc", rules);
        for _ in 0..40 {
            let answer = mesh.get(service, "/").await;
            assert_eq!(answer.header("x-rule"), Some("r"));
            let of_v2 = answer.text() == "v2";
            assert_eq!(answer.header("x-backend"), of_v2.then_some("b"));
            assert_eq!(answer.header("seen-host"), Some(if of_v2 { "v2.example" } else { "svc" }));
        }
        assert!(v1.requests.get() > 0 && v2.requests.get() > 0);
    });
}

#[test]
fn response_filters_apply_to_the_proxys_own_answers_of_the_rule() {
    run(async {
        let mesh = Mesh::new();
        let service = mesh.service("default/svc", "http", &[]);
        let rules = r#"
- matches: [{path: {value: /a}}]
  filters:
  - {type: ResponseHeaderModifier, responseHeaderModifier: {
      set: [{name: cache-control, value: no-store}], remove: [x-weft-reason]}}
  backendRefs: [{name: missing, port: 80}]
"#;
        mesh.http_route("default/route", "default/svc", rules);
        let answer = mesh.get(service, "/a").await;
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-weft-reason"), None);
        // No rule, no filter.
        let answer = mesh.get(service, "/b").await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.header("cache-control"), None);
    });
}

#[test]
fn response_headers_are_modified() {
    run(async {
        let filters = "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {\
            set: [{name: server, value: ours}], add: [{name: x-add, value: b}], remove: [x-gone]}}]";
        let (_mesh, backend, mut client) = with_filters(filters).await;
        client.send("GET /a HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server
            .send(
                "HTTP/1.1 200 OK\r\nserver: theirs\r\nx-add: a\r\nx-gone: 1\r\n\
                 content-length: 0\r\n\r\n",
            )
            .await;
        let answer = client.message().await;
        assert_eq!(answer.head.sorted(), ["content-length: 0", "server: ours", "x-add: a,b"]);
    });
}

/// What the API forbids, or nobody implements, is answered with an error, and nothing else is.
#[test]
fn filters_that_cannot_be_honoured_refuse_their_rule() {
    run(async {
        let one = Server::http1("one").await;
        let redirect = "{type: RequestRedirect, requestRedirect: {}}";
        let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a}}";
        let set =
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}";
        let backends = "backendRefs: [{name: one, port: 80}]";
        for rule in [
            format!("filters: [{redirect}, {rewrite}]"),
            format!("filters: [{redirect}], {backends}"),
            format!("filters: [{set}, {set}], {backends}"),
            format!("backendRefs: [{{name: one, port: 80, filters: [{redirect}, {rewrite}]}}]"),
            format!("backendRefs: [{{name: one, port: 80, filters: [{set}, {set}]}}]"),
            format!(
                "filters: [{{type: ExtensionRef, extensionRef: {{group: g, kind: K, name: n}}}}], \
                 {backends}"
            ),
            format!(
                "filters: [{{type: ExternalAuth, externalAuth: {{protocol: HTTP, \
                   backendRef: {{name: one, port: 80}}, http: {{}}}}}}], {backends}"
            ),
            format!("filters: [{{type: FromTheFuture}}], {backends}"),
            format!(
                "filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: \
                   {{set: [{{name: content-length, value: '1'}}]}}}}], {backends}"
            ),
        ] {
            let mesh = Mesh::new();
            mesh.service("default/one", "http", &[one.addr]);
            let service = mesh.service("default/svc", "http", &[]);
            let rules =
                format!("[{{matches: [{{path: {{value: /bad}}}}], {rule}}}, {{{backends}}}]");
            mesh.http_route("default/route", "default/svc", &rules);
            let answer = mesh.get(service, "/bad").await;
            assert_eq!(answer.status(), 500, "{rule}");
            assert_eq!(answer.header("x-weft-reason"), Some("rule_refused"), "{rule}");
            assert!(answer.text().contains("spec.rules[0]."), "{rule}: {}", answer.text());
            assert_eq!(mesh.get(service, "/good").await.text(), "one", "{rule}");
        }
    });
}
