//! gRPC: HTTP/2 to backends whatever their port says, statuses, balance per request.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::http2::{connect, whole};
use crate::testing::{Body, Mesh, Server, empty, refusing, run, text, with_trailers};

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
