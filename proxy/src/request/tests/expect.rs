//! `Expect: 100-continue`: the client's body waits for the backend's word.

use crate::testing::{Mesh, Peer, RawBackend, run};

const REQUEST: &str =
    "POST / HTTP/1.1\r\nhost: svc\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

async fn pair() -> (Mesh, Peer, RawBackend) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let client = mesh.connect(service).await;
    (mesh, client, backend)
}

#[test]
fn the_backends_100_reaches_the_client_which_then_sends() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send(REQUEST).await;
        let mut server = backend.accept().await;
        assert_eq!(server.head().await.get("expect"), Some("100-continue"));
        // Nobody has asked for the body yet.
        assert!(client.is_silent() && server.is_silent());
        server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send("body").await;
        server.expect("body").await;
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(client.message().await.text(), "ok");
        // Both connections go on.
        client.send("GET /next HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(server.head().await.line, "GET /next HTTP/1.1");
    });
}

#[test]
fn a_final_answer_before_the_body_ends_it() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        client.send(REQUEST).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (417, "no"));
        // The body was not asked for, and the connection that waits for it is not used again.
        assert_eq!(server.rest().await, "");
        assert_eq!(mesh.requests(&["status=\"417\"", "reason=\"\""]), 1);
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_backend_that_ignores_the_expectation_gets_the_body_after_a_while() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send(REQUEST).await;
        let mut server = backend.accept().await;
        server.head().await;
        // The client hears from the proxy in the end, and sends.
        client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send("body").await;
        server.expect("body").await;
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 200);
    });
}

#[test]
fn a_good_answer_without_a_100_leaves_the_body_to_the_client() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send(REQUEST).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 200);
        client.send("body").await;
        server.expect("body").await;
        server.send("0\r\n\r\n").await;
        client.expect("0\r\n\r\n").await;
    });
}

#[test]
fn a_refused_request_is_never_told_to_continue() {
    run(async {
        let (mesh, mut client, _backend) = pair().await;
        mesh.http_route("default/none", "default/svc", "[{matches: [{path: {value: /x}}]}]");
        client.send(REQUEST).await;
        let answer = client.message().await;
        assert_eq!(answer.status(), 404);
    });
}

#[test]
fn a_client_that_does_not_wait_is_served_too() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send(format!("{REQUEST}body")).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        server.expect("body").await;
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 200);
    });
}
