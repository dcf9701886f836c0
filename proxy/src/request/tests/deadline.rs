//! Timeouts: what the client gets when the time is up, and that the backend is freed then.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};

use super::http2::{OnDrop, connect, whole};
use super::pool::OK;
use crate::testing::{
    Body, End, Mesh, Peer, RawBackend, Server, by_hand, empty, eventually, run, text,
};

/// A mesh whose Service `svc` has one endpoint and a route with this rule, which /free is exempt from.
fn routed(port: &str, endpoint: SocketAddr, rule: &str) -> (Mesh, SocketAddr) {
    let mesh = Mesh::new();
    let service = mesh.service("default/svc", port, &[endpoint]);
    let rules = format!(
        "- {{{rule}, backendRefs: [{{name: svc, port: 80}}]}}\n\
         - {{matches: [{{path: {{value: /free}}}}], backendRefs: [{{name: svc, port: 80}}]}}"
    );
    mesh.http_route("default/route", "default/svc", &rules);
    (mesh, service)
}

/// A client whose request has reached a backend under a rule with this timeout.
async fn under_way(timeout: &str, request: &str) -> (Mesh, Peer, RawBackend, Peer) {
    let backend = RawBackend::listen().await;
    let (mesh, service) = routed("http", backend.addr, &format!("timeouts: {{{timeout}}}"));
    let mut client = mesh.connect(service).await;
    client.send(request).await;
    let mut server = backend.accept().await;
    server.head().await;
    (mesh, client, backend, server)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: svc\r\n\r\n";
/// Under no timeout.
const FREE: &str = "GET /free HTTP/1.1\r\nhost: svc\r\n\r\n";

#[test]
fn no_answer_in_time_is_504_and_ends_the_backends_request() {
    run(async {
        for (timeout, reason, field) in [
            ("request: 500ms", "request_timeout", "timeouts.request"),
            ("backendRequest: 500ms", "backend_timeout", "timeouts.backendRequest"),
            ("request: 500ms, backendRequest: 500ms", "request_timeout", "timeouts.request"),
            ("request: 1h, backendRequest: 500ms", "backend_timeout", "timeouts.backendRequest"),
        ] {
            let (mesh, mut client, backend, mut server) = under_way(timeout, GET).await;
            let answer = client.message().await;
            assert_eq!(
                (answer.status(), answer.header("x-weft-reason")),
                (504, Some(reason)),
                "{timeout}"
            );
            assert_eq!(answer.text(), format!("weft: no whole answer within 500ms ({field})\n"));
            server.end().await;
            let reason = format!("reason=\"{reason}\"");
            assert_eq!(mesh.requests(&["backend_name=\"svc\"", "status=\"504\"", &reason]), 1);
            // Nothing was asked again, and the client's connection is as good as before.
            assert!(!backend.has_connection().await);
            client.send(FREE).await;
            let mut server = backend.accept().await;
            server.head().await;
            server.send(OK).await;
            assert_eq!(client.message().await.status(), 200);
        }
    });
}

#[test]
fn a_request_that_is_still_being_sent_is_cut_too() {
    run(async {
        let post = "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 9\r\n\r\nab";
        for timeout in ["request: 500ms", "backendRequest: 500ms"] {
            let (_mesh, mut client, _backend, mut server) = under_way(timeout, post).await;
            server.expect("ab").await;
            assert_eq!(client.message().await.status(), 504);
            server.end().await;
        }
    });
}

#[test]
fn the_time_of_a_request_that_was_answered_is_over_with_it() {
    run(async {
        let timeouts = "request: 1s, backendRequest: 1s";
        let (mesh, mut client, _backend, mut server) = under_way(timeouts, GET).await;
        server.send(OK).await;
        assert_eq!(client.message().await.text(), "ok");
        tokio::time::sleep(Duration::from_millis(1200)).await;
        // Both connections have outlived it.
        client.send(FREE).await;
        server.head().await;
        server.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 2);
    });
}

#[test]
fn an_answer_that_is_cut_never_looks_like_a_clean_end() {
    run(async {
        let mut cases = Vec::new();
        for timeout in ["request: 1s", "backendRequest: 1s"] {
            for (framing, part) in [
                ("content-length: 10", "12345"),
                ("transfer-encoding: chunked", "5\r\n12345\r\n"),
                // To the end of the connection.
                ("connection: close", "12345"),
            ] {
                cases.push(async move {
                    let (mesh, mut client, _backend, mut server) = under_way(timeout, GET).await;
                    server.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}")).await;
                    assert_eq!(client.head().await.status(), 200);
                    let (rest, _end) = client.end().await;
                    let rest = String::from_utf8(rest).unwrap();
                    assert!(rest.contains("12345") && !rest.contains("0\r\n\r\n"), "{rest:?}");
                    server.end().await;
                    let labels = ["status=\"200\"", "_timeout\""];
                    assert_eq!(mesh.requests(&labels), 1, "{framing}");
                });
            }
        }
        join_all(cases).await;
    });
}

#[test]
fn an_answer_that_is_cut_is_a_reset_for_http_1_0() {
    run(async {
        let get = "GET / HTTP/1.0\r\nhost: svc\r\n\r\n";
        let (_mesh, mut client, _backend, mut server) = under_way("request: 1s", get).await;
        server.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n").await;
        client.head().await;
        client.expect("12345").await;
        assert_eq!(client.end().await, (Vec::new(), End::Reset));
    });
}

#[test]
fn an_answer_that_is_cut_is_a_reset_for_http_2() {
    run(async {
        for port in ["http", "http2"] {
            let (send, body) = by_hand();
            let body = Rc::new(Cell::new(Some(body)));
            let server = Server::start(port == "http2", move |_| {
                let body = body.take().unwrap();
                async move { Response::new(body) }
            })
            .await;
            let (mesh, service) = routed(port, server.addr, "timeouts: {request: 1s}");
            let mut client = connect(&mesh, service).await;
            send.send(Frame::data("part".into())).unwrap();
            let request = Request::get("http://svc/").body(empty()).unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
            assert!(body.frame().await.unwrap().is_err(), "a clean end");
            // The backend's stream, too.
            eventually("the backend's answer is dropped", || send.is_closed()).await;
            assert_eq!(mesh.requests(&["reason=\"request_timeout\""]), 1);
        }
    });
}

#[test]
fn a_client_that_does_not_read_does_not_keep_the_backend() {
    run(async {
        let (mesh, client, _backend, mut server) = under_way("request: 1s", GET).await;
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
        // Until nobody takes any more, and on: the connection is what ends it.
        let writing = async {
            loop {
                use tokio::io::AsyncWriteExt;
                if server.stream.write_all(&[b'x'; 64 * 1024]).await.is_err() {
                    return;
                }
            }
        };
        writing.await;
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"request_timeout\""]), 1);
        drop(client);
    });
}

#[test]
fn an_upgraded_connection_is_not_cut() {
    run(async {
        let websocket = "GET /chat HTTP/1.1\r\nhost: svc\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\n\r\n";
        let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\n\r\n";
        let connect = "CONNECT db:1 HTTP/1.1\r\nhost: db:1\r\n\r\n";
        let cases = [(websocket, switched), (connect, "HTTP/1.1 200 OK\r\n\r\n")];
        let cases = cases.map(|(request, agreed)| async move {
            let timeouts = "request: 1s, backendRequest: 1s";
            let (_mesh, mut client, _backend, mut server) = under_way(timeouts, request).await;
            server.send(agreed).await;
            client.head().await;
            tokio::time::sleep(Duration::from_millis(1200)).await;
            client.send("still").await;
            server.expect("still").await;
            server.send("there").await;
            client.expect("there").await;
        });
        join_all(cases).await;
    });
}

/// A gRPC server: remembers the deadline that it was told, and answers never on `/s/Never`.
async fn grpc() -> (Server, Rc<Cell<Option<String>>>, Rc<Cell<u32>>) {
    let (told, dropped) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
    let (seen, counted) = (told.clone(), dropped.clone());
    let server = Server::start(true, move |request: Request<Incoming>| {
        let timeout = request.headers().get("grpc-timeout");
        seen.set(timeout.map(|value| value.to_str().unwrap().to_owned()));
        let guard = OnDrop(counted.clone());
        async move {
            if request.uri().path() == "/s/Never" {
                std::future::pending::<()>().await;
            }
            drop(guard);
            let response = Response::builder().header("content-type", "application/grpc");
            response.header("grpc-status", "0").body(empty()).unwrap()
        }
    })
    .await;
    (server, told, dropped)
}

fn call(method: &str, timeout: Option<&str>) -> Request<Body> {
    let mut request = Request::post(format!("http://svc/s/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(text("message")).unwrap()
}

#[test]
fn a_grpc_call_has_the_shorter_of_its_own_and_its_rules_time() {
    run(async {
        for (rule, timeout) in [
            ("timeouts: {request: 1s}", None),
            ("timeouts: {request: 1s}", Some("1H")),
            ("timeouts: {request: 1h}", Some("1S")),
            ("filters: []", Some("1000m")),
        ] {
            let (server, told, dropped) = grpc().await;
            let (mesh, service) = routed("web", server.addr, rule);
            let mut client = connect(&mesh, service).await;
            let request = call("Never", timeout);
            let (response, _) = whole(client.send_request(request).await.unwrap()).await;
            let headers = response.headers();
            assert_eq!(response.status(), 200);
            assert_eq!(
                (&headers["grpc-status"], headers["x-weft-reason"].to_str().unwrap()),
                (&"4".parse().unwrap(), "request_timeout")
            );
            let labels = ["status=\"200\"", "grpc_status=\"4\"", "reason=\"request_timeout\""];
            assert_eq!(mesh.requests(&labels), 1, "{rule}");
            eventually("the backend's stream is reset", || dropped.get() == 1).await;
            // The backend has been told what it had, unless the client had no deadline at all.
            match (timeout, told.take()) {
                (Some("1H"), Some(told)) => {
                    let left: u64 = told.strip_suffix('u').unwrap().parse().unwrap();
                    assert!(left <= 1_000_000, "{told}");
                }
                (timeout, told) => assert_eq!(told.is_some(), timeout.is_some(), "{told:?}"),
            }
        }
    });
}

#[test]
fn a_deadline_that_is_far_away_passes_as_it_is() {
    run(async {
        let (server, told, _dropped) = grpc().await;
        let (mesh, service) = routed("web", server.addr, "filters: []");
        let mut client = connect(&mesh, service).await;
        // The first call waits for a connection, and may have lost a millisecond.
        for _ in 0..2 {
            let response = client.send_request(call("Now", Some("99S"))).await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "0");
        }
        let told = told.take().unwrap();
        assert!(told == "99S" || told.starts_with("98"), "{told}");
        // One that cannot be read is the backend's to complain about.
        client.send_request(call("Now", Some("soon"))).await.unwrap();
        assert_eq!(told_of(&mesh), 3);
    });

    fn told_of(mesh: &Mesh) -> u64 {
        mesh.requests(&["grpc_status=\"0\""])
    }
}

#[test]
fn a_grpc_answer_that_is_cut_ends_in_trailers() {
    run(async {
        let (send, answer) = by_hand();
        let answer = Rc::new(Cell::new(Some(answer)));
        let (upload, mut uploaded) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::start(true, move |request: Request<Incoming>| {
            let (answer, upload) = (answer.take().unwrap(), upload.clone());
            // Both ways at once, and neither ends by itself.
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                loop {
                    let frame = body.frame().await.unwrap();
                    let is_last = frame.is_err();
                    upload.send(frame.map(|frame| frame.into_data().unwrap())).unwrap();
                    if is_last {
                        return;
                    }
                }
            });
            async move {
                let response = Response::builder().header("content-type", "application/grpc");
                response.body(answer).unwrap()
            }
        })
        .await;
        let (mesh, service) = routed("web", server.addr, "timeouts: {request: 1s}");
        let mut client = connect(&mesh, service).await;
        let (messages, body) = by_hand();
        let request = Request::post("http://svc/s/Chat").header("content-type", "application/grpc");
        let response = client.send_request(request.body(body).unwrap());
        messages.send(Frame::data("ping".into())).unwrap();
        send.send(Frame::data("pong".into())).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "pong");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "4");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("within 1s"));
        assert!(body.frame().await.is_none());
        let labels = ["status=\"200\"", "grpc_status=\"4\"", "reason=\"request_timeout\""];
        assert_eq!(mesh.requests(&labels), 1);
        // Both halves of the backend's stream have ended, though the client has not finished its own.
        eventually("nobody wants the answer", || send.is_closed()).await;
        assert_eq!(uploaded.recv().await.unwrap().unwrap(), Bytes::from("ping"));
        assert!(uploaded.recv().await.unwrap().is_err(), "a clean end of the client's messages");
        drop(messages);
    });
}
