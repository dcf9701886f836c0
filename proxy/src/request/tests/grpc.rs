//! gRPC: HTTP/2 to backends whatever their port says, statuses, balance per request, and what a
//! GRPCRoute can say. The official suite's cases are in [`super::suite`].

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::http2::{connect, whole};
use crate::testing::{Body, Mesh, RawBackend, Server, empty, refusing, run, text, with_trailers};

fn call(method: &str, message: &'static str) -> Request<Body> {
    Request::post(format!("http://echo:80/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(text(message))
        .unwrap()
}

/// Answers with what it got and a status in trailers; `/s/Refuse` with trailers only.
async fn echo(name: &'static str) -> Server {
    Server::start(true, move |request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .header("served-by", name);
        if request.uri().path() == "/s/Refuse" {
            return response.header("grpc-status", "5").body(empty()).unwrap();
        }
        let body: Bytes = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("grpc-message", "fine".parse().unwrap());
        response.body(with_trailers(body, trailers)).unwrap()
    })
    .await
}

/// Some servers end what should be trailers only with a frame of data that ends the stream.
#[test]
fn a_status_in_the_head_counts_also_where_a_body_follows() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::start(true, |_| async {
            Response::builder().header("grpc-status", "7").body(text("x")).unwrap()
        });
        let service = mesh.service("default/echo", "web", &[server.await.addr]);
        let mut client = connect(&mesh, service).await;
        let (response, trailers) =
            whole(client.send_request(call("s/Echo", "ping")).await.unwrap()).await;
        assert_eq!((&response.headers()["grpc-status"], trailers), (&"7".parse().unwrap(), None));
        assert_eq!(mesh.requests(&["status=\"200\"", "grpc_status=\"7\"", "reason=\"\""]), 1);
    });
}

#[test]
fn messages_and_trailers_pass() {
    run(async {
        let mesh = Mesh::new();
        // The backend's port says nothing of HTTP/2, as in the API's conformance suite.
        let service = mesh.service("default/echo", "web", &[echo("one").await.addr]);
        let mut client = connect(&mesh, service).await;
        let response = client.send_request(call("s/Echo", "ping")).await.unwrap();
        let (response, trailers) = whole(response).await;
        assert_eq!(response.body(), "ping");
        let trailers = trailers.unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"0".parse().unwrap(), &"fine".parse().unwrap())
        );
        assert_eq!(mesh.requests(&["status=\"200\"", "grpc_status=\"0\"", "reason=\"\""]), 1);

        let response = client.send_request(call("s/Refuse", "ping")).await.unwrap();
        // Trailers only: in the head, and the stream ends with it.
        assert!(hyper::body::Body::is_end_stream(response.body()));
        assert_eq!(response.headers()["grpc-status"], "5");
        assert_eq!(mesh.requests(&["status=\"200\"", "grpc_status=\"5\"", "reason=\"\""]), 1);
    });
}

#[test]
fn calls_of_one_connection_are_balanced() {
    run(async {
        let mut seen = Vec::new();
        // On a busy machine one of the two may have to wait for the processor, and rightly looks slow.
        for _ in 0..5 {
            let mesh = Mesh::new();
            let (one, other) = (echo("one").await, echo("other").await);
            let service = mesh.service("default/echo", "grpc", &[one.addr, other.addr]);
            let mut client = connect(&mesh, service).await;
            for _ in 0..200 {
                let response = client.send_request(call("s/Echo", "x")).await.unwrap();
                whole(response).await;
            }
            assert_eq!(one.requests.get() + other.requests.get(), 200);
            // One connection to each endpoint carries all of them.
            assert_eq!((one.open.get(), other.open.get()), (1, 1));
            seen.push(one.requests.get());
        }
        assert!(seen.iter().any(|seen| (60..=140).contains(seen)), "{seen:?} of 200 each");
    });
}

/// "If multiple backends are specified, and some are invalid, the proportion of requests that would
/// otherwise have been routed to an invalid backend MUST receive an `UNAVAILABLE` status." "For example,
/// if two backends are specified with equal weights, and one is invalid, 50 percent".
#[test]
fn shares_of_invalid_backends_are_unavailable() {
    run(async {
        let mesh = Mesh::new();
        mesh.service("default/one", "grpc", &[echo("one").await.addr]);
        let service = mesh.service("default/echo", "grpc", &[]);
        let rules = "[{backendRefs: [{name: one, port: 80}, {name: missing, port: 80}]}]";
        mesh.grpc_route("default/route", "default/echo", rules);
        let mut client = connect(&mesh, service).await;
        let mut unavailable = 0;
        for _ in 0..400 {
            let response = client.send_request(call("s/Echo", "x")).await.unwrap();
            let (response, trailers) = whole(response).await;
            let status = &trailers.as_ref().unwrap_or(response.headers())["grpc-status"];
            if status == "14" {
                assert_eq!(response.headers()["x-weft-reason"], "backend_invalid");
                unavailable += 1;
            } else {
                assert_eq!(status, "0");
            }
        }
        // A binomial share of a half: the standard deviation is 10, the bounds are 6 of these away.
        assert!((140..=260).contains(&unavailable), "{unavailable} of 400");
    });
}

#[test]
fn a_refusal_is_a_grpc_status() {
    run(async {
        let mesh = Mesh::new();
        mesh.service("default/one", "grpc", &[echo("one").await.addr]);
        mesh.service("default/empty", "grpc", &[]);
        mesh.service("default/dead", "grpc", &[refusing()]);
        let service = mesh.service("default/echo", "grpc", &[]);
        let rules = r#"
- matches: [{method: {service: s, method: Echo}}]
  backendRefs: [{name: one, port: 80}]
- matches: [{method: {service: s, method: Missing}}]
  backendRefs: [{name: missing, port: 80}]
- matches: [{method: {service: s, method: Empty}}]
  backendRefs: [{name: empty, port: 80}]
- matches: [{method: {service: s, method: Dead}}]
  backendRefs: [{name: dead, port: 80}]
- matches: [{method: {service: s, method: Nothing}}]
- matches: [{method: {service: s, method: Future}}]
  filters: [{type: FromTheFuture}]
"#;
        mesh.grpc_route("default/route", "default/echo", rules);
        let mut client = connect(&mesh, service).await;
        for (method, status, reason) in [
            ("s/Echo", "0", ""),
            ("s/Missing", "14", "backend_invalid"),
            ("s/Empty", "14", "no_ready_endpoint"),
            ("s/Dead", "14", "connect_failed"),
            ("s/Nothing", "14", "no_backend"),
            ("s/Future", "14", "rule_refused"),
            ("s/Other", "12", "no_rule_matched"),
            ("t/Echo", "12", "no_rule_matched"),
            ("s/echo", "12", "no_rule_matched"),
        ] {
            let response = client.send_request(call(method, "x")).await.unwrap();
            let (response, trailers) = whole(response).await;
            assert_eq!(response.status(), 200, "{method}");
            let headers = response.headers();
            let trailers = trailers.as_ref().unwrap_or(headers);
            assert_eq!(trailers["grpc-status"], status, "{method}");
            let labels = [&format!("grpc_status=\"{status}\""), &format!("reason=\"{reason}\"")];
            assert!(mesh.requests(&labels.map(|label| label.as_str())) > 0, "{method}");
            if status != "0" {
                assert_eq!(headers["x-weft-reason"], reason, "{method}");
                assert_eq!(headers["content-type"], "application/grpc");
                let message = headers["grpc-message"].to_str().unwrap();
                assert!(message.len() > 10 && !message.contains('\n'), "{message}");
            }
        }
    });
}

#[test]
fn what_cannot_be_answered_is_a_grpc_status_whatever_went_wrong() {
    run(async {
        let mesh = Mesh::with("default", |limits| limits.max_headers = 20);
        let (closes, babbles) = (RawBackend::listen().await, RawBackend::listen().await);
        mesh.service("default/closes", "grpc", &[closes.addr]);
        mesh.service("default/babbles", "grpc", &[babbles.addr]);
        let service = mesh.service("default/echo", "grpc", &[]);
        let rules = r#"
- matches: [{method: {service: s, method: Closes}}]
  backendRefs: [{name: closes, port: 80}]
- matches: [{method: {service: s, method: Babbles}}]
  filters:
  - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-by, value: weft}]}}
  backendRefs: [{name: babbles, port: 80}]
- matches: [{method: {service: s, method: Rewritten}}]
  filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]
  backendRefs: [{name: closes, port: 80}]
"#;
        mesh.grpc_route("default/route", "default/echo", rules);
        let mut client = connect(&mesh, service).await;
        tokio::task::spawn_local(async move {
            loop {
                let mut server = closes.accept().await;
                server.until(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            }
        });
        tokio::task::spawn_local(async move {
            loop {
                babbles.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let mut many = call("s/Closes", "x");
        for number in 0..20 {
            let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
            many.headers_mut().insert(name, "1".parse().unwrap());
        }
        let mut two_hosts = call("s/Closes", "x");
        two_hosts.headers_mut().insert("host", "other".parse().unwrap());
        for (call, status, reasons) in [
            (call("s/Closes", "x"), "14", &["backend_closed"][..]),
            (call("s/Babbles", "x"), "14", &["backend_closed", "backend_protocol"]),
            // No filter of a GRPCRoute.
            (call("s/Rewritten", "x"), "14", &["rule_refused"]),
            (many, "8", &["too_many_headers"]),
            (two_hosts, "13", &["bad_request"]),
        ] {
            let response = client.send_request(call).await.unwrap();
            assert!(hyper::body::Body::is_end_stream(response.body()), "{reasons:?}");
            let headers = response.headers();
            assert_eq!(
                (response.status().as_u16(), &headers["grpc-status"]),
                (200, &status.parse().unwrap()),
                "{reasons:?}"
            );
            assert_eq!(headers["content-type"], "application/grpc");
            let reason = headers["x-weft-reason"].to_str().unwrap();
            assert!(reasons.contains(&reason), "{reason} is none of {reasons:?}");
            // The rule's filters see the proxy's own answers too.
            assert_eq!(headers.contains_key("x-by"), reasons.contains(&"backend_protocol"));
        }
    });
}

/// GRPCMethodMatch: "If left empty or omitted, will match any service." "Exact", "RegularExpression".
#[test]
fn methods_are_matched_by_service_by_method_and_by_pattern() {
    run(async {
        let mesh = Mesh::new();
        let service = mesh.service("default/echo", "grpc", &[]);
        let matches = [
            ("both", "method: {service: a.B, method: C}"),
            ("service", "method: {service: a.B}"),
            ("method", "method: {method: C}"),
            (
                "pattern",
                "method: {type: RegularExpression, service: 'x\\.[a-z]+', method: 'Get.*'}",
            ),
            ("header", "headers: [{name: tenant, value: blue}]"),
            (
                "header-pattern",
                "headers: [{type: RegularExpression, name: tenant, value: 'gr(een|ay)'}]",
            ),
        ];
        let mut rules = String::new();
        for (name, matched) in matches {
            mesh.service(&format!("default/{name}"), "grpc", &[echo(name).await.addr]);
            rules.push_str(&format!(
                "- {{matches: [{{{matched}}}], backendRefs: [{{name: {name}, port: 80}}]}}\n"
            ));
        }
        mesh.grpc_route("default/route", "default/echo", &rules);
        let mut client = connect(&mesh, service).await;
        for (path, tenant, expected) in [
            ("a.B/C", "", "both"),
            ("a.B/D", "", "service"),
            ("b.B/C", "", "method"),
            ("x.foo/GetAll", "", "pattern"),
            // The whole value, with case.
            ("x.foo.bar/GetAll", "", "12"),
            ("x.foo/Forget", "", "12"),
            ("x.Foo/Get", "", "12"),
            ("a.b/C2", "", "12"),
            ("z.Z/Z", "blue", "header"),
            ("z.Z/Z", "gray", "header-pattern"),
            ("z.Z/Z", "greenish", "12"),
            // "Characters in a matching service" come before headers.
            ("a.B/D", "blue", "service"),
        ] {
            let mut call = call(path, "x");
            if !tenant.is_empty() {
                call.headers_mut().insert("tenant", tenant.parse().unwrap());
            }
            let response = client.send_request(call).await.unwrap();
            let headers = response.headers();
            let got = headers.get("served-by").unwrap_or_else(|| &headers["grpc-status"]);
            assert_eq!(got, expected, "{path} {tenant}");
        }
    });
}

#[test]
fn filters_of_a_grpc_route_and_of_its_backends() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::start(true, |request: Request<Incoming>| async move {
            let seen = |name: &str| request.headers().get(name).cloned();
            let mut response = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "0")
                .header("x-gone", "1")
                .header("x-list", "a");
            for (name, value) in
                [("seen-rule", seen("x-rule")), ("seen-backend", seen("x-backend"))]
            {
                if let Some(value) = value {
                    response = response.header(name, value);
                }
            }
            response.body(empty()).unwrap()
        })
        .await;
        mesh.service("default/one", "grpc", &[server.addr]);
        let service = mesh.service("default/echo", "grpc", &[]);
        let rules = r#"
- filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-rule, value: r}, {name: x-backend, value: r}]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-gone], add: [{name: x-list, value: r}]}}
  backendRefs:
  - name: one
    port: 80
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-backend, value: b}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-list, value: b}]}}
"#;
        mesh.grpc_route("default/route", "default/echo", rules);
        let mut client = connect(&mesh, service).await;
        let response = client.send_request(call("s/Echo", "x")).await.unwrap();
        let headers = response.headers();
        for (name, value) in [("seen-rule", "r"), ("seen-backend", "b"), ("x-list", "a,r,b")] {
            assert_eq!(headers[name], value);
        }
        assert!(!headers.contains_key("x-gone"));
    });
}

/// A backend that has taken a call and, if `begun`, has answered with a message; its handles.
async fn call_under_way(
    backend: &RawBackend,
    begun: bool,
) -> (tokio::task::JoinHandle<()>, h2::server::SendResponse<Bytes>, Option<h2::SendStream<Bytes>>) {
    let mut connection = h2::server::handshake(backend.accept().await.stream).await.unwrap();
    let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
    let stream = begun.then(|| {
        let head = Response::builder().header("content-type", "application/grpc");
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data("pong".into(), false).unwrap();
        stream
    });
    let serving = async move { while connection.accept().await.is_some() {} };
    (tokio::task::spawn_local(serving), respond, stream)
}

#[test]
fn a_call_whose_backend_dies_is_unavailable() {
    run(async {
        for begun in [false, true] {
            let mesh = Mesh::new();
            let backend = RawBackend::listen().await;
            let service = mesh.service("default/echo", "grpc", &[backend.addr]);
            let mut client = connect(&mesh, service).await;
            let answer = tokio::task::spawn_local(client.send_request(call("s/Echo", "ping")));
            let (serving, _respond, _stream) = call_under_way(&backend, begun).await;
            if begun {
                let mut body = answer.await.unwrap().unwrap().into_body();
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "pong");
                serving.abort();
                let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
                assert_eq!(trailers["grpc-status"], "14");
                let message = trailers["grpc-message"].to_str().unwrap();
                assert!(message.starts_with("the backend's answer broke off"), "{message}");
                assert!(body.frame().await.is_none());
                let labels = ["grpc_status=\"14\"", "reason=\"backend_reset\""];
                assert_eq!(mesh.requests(&labels), 1);
            } else {
                serving.abort();
                let head = answer.await.unwrap().unwrap();
                assert_eq!(head.headers()["grpc-status"], "14");
                assert_eq!(head.headers()["x-weft-reason"], "backend_closed");
            }
        }
    });
}

#[test]
fn a_call_that_its_backend_resets_is_reset() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/echo", "grpc", &[backend.addr]);
        let mut client = connect(&mesh, service).await;
        let answer = tokio::task::spawn_local(client.send_request(call("s/Echo", "ping")));
        let (_serving, _respond, stream) = call_under_way(&backend, true).await;
        let mut body = answer.await.unwrap().unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "pong");
        stream.unwrap().send_reset(h2::Reason::CANCEL);
        let error = body.frame().await.unwrap().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().downcast_ref::<h2::Error>().unwrap();
        // gRPC's CANCELLED.
        assert_eq!(cause.reason(), Some(h2::Reason::CANCEL));
    });
}
