//! Upgrades and CONNECT: both sides agree, then bytes pass unread.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};

use crate::testing::{Mesh, Peer, RawBackend, eventually, run};

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: svc\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    sec-websocket-version: 13\r\n\r\n";

async fn pair() -> (Mesh, Peer, RawBackend) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let client = mesh.connect(service).await;
    (mesh, client, backend)
}

/// What the backend answers to [`WEBSOCKET`] when it agrees.
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[test]
fn a_websocket_passes_bytes_both_ways() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        client.send(WEBSOCKET).await;
        let mut server = backend.accept().await;
        let request = server.head().await;
        assert_eq!(
            request.sorted(),
            [
                "connection: upgrade",
                "host: svc",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-version: 13",
                "upgrade: websocket",
            ]
        );
        // The first frame comes in one piece with the head.
        server
            .send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x01early",
            )
            .await;
        let answer = client.head().await;
        assert_eq!(answer.line, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(answer.get("upgrade"), Some("websocket"));
        assert!(answer.get("connection").unwrap().eq_ignore_ascii_case("upgrade"));
        assert_eq!(answer.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        client.expect("\x01early").await;
        for round in 0..3 {
            client.send([0xff, 0, round]).await;
            server.expect([0xff, 0, round]).await;
            server.send(format!("GET /{round} HTTP/1.1\r\n\r\n")).await;
            client.expect(format!("GET /{round} HTTP/1.1\r\n\r\n")).await;
        }
        assert_eq!(mesh.requests(&["status=\"101\"", "reason=\"\""]), 1);
        // It keeps a drain waiting, as any open stream does.
        assert_eq!(mesh.shared.drain.open(), 1);
        client.finish().await;
        assert_eq!(server.rest().await, "");
        server.send("last words").await;
        drop(server);
        assert_eq!(client.rest().await, "last words");
        eventually("both sides are done", || mesh.shared.drain.open() == 0).await;
    });
}

#[test]
fn what_a_client_says_last_arrives_after_the_server_has_ended() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        client.send(WEBSOCKET).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(SWITCHED).await;
        client.head().await;
        server.finish().await;
        assert_eq!(client.rest().await, "");
        // More than the server takes at once: the rest is on its way when the tunnel ends.
        let last = "last words, ".repeat(32 * 1024);
        client.send(&last).await;
        client.finish().await;
        eventually("the tunnel has ended", || mesh.shared.drain.open() == 0).await;
        assert!(server.rest().await == last);
    });
}

#[test]
fn what_the_client_sends_with_its_request_passes() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send(format!("{WEBSOCKET}early frame")).await;
        let mut server = backend.accept().await;
        server.head().await;
        assert!(server.is_silent(), "sent before the backend has agreed");
        server.send(SWITCHED).await;
        client.head().await;
        server.expect("early frame").await;
    });
}

#[test]
fn a_refused_upgrade_is_an_answer_like_any_other() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        client.send(WEBSOCKET).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (403, "no"));
        client.send("GET /next HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(server.head().await.line, "GET /next HTTP/1.1");
        assert_eq!(mesh.requests(&["status=\"403\""]), 1);
    });
}

#[test]
fn an_upgrade_to_h2c_and_one_of_http_1_0_are_ignored() {
    run(async {
        for request in [
            "GET / HTTP/1.1\r\nhost: svc\r\nconnection: upgrade, http2-settings\r\n\
             upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
            // RFC 9110, section 7.8: "A server MUST ignore an Upgrade header field that is received
            // in an HTTP/1.0 request."
            "GET / HTTP/1.0\r\nhost: svc\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ] {
            let (_mesh, mut client, backend) = pair().await;
            client.send(request).await;
            let mut server = backend.accept().await;
            assert_eq!(server.head().await.sorted(), ["host: svc"]);
            server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(client.message().await.status(), 200);
        }
    });
}

#[test]
fn connect_becomes_a_tunnel() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n").await;
        let mut server = backend.accept().await;
        let request = server.head().await;
        assert_eq!(request.line, "CONNECT db.example:5432 HTTP/1.1");
        assert_eq!(request.sorted(), ["host: db.example:5432"]);
        server.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
        assert_eq!(client.head().await.status(), 200);
        client.expect("hello").await;
        client.send("\0\x01").await;
        server.expect("\0\x01").await;
        drop(client);
        assert_eq!(server.rest().await, "");
    });
}

#[test]
fn a_refused_connect_ends_the_connection() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n").await;
        // For the tunnel, by a client that does not wait for it.
        client.send("GET /smuggled HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 2\r\n\r\nno").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (405, "no"));
        assert_eq!(answer.header("connection"), Some("close"));
        client.end().await;
        assert!(server.is_silent(), "what follows was taken for a request");
    });
}

#[test]
fn a_switch_that_nobody_has_asked_for_is_no_answer() {
    run(async {
        for (target, host) in [("GET /", "svc"), ("CONNECT svc:1", "svc:1")] {
            let (_mesh, mut client, backend) = pair().await;
            client.send(format!("{target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            let mut server = backend.accept().await;
            server.head().await;
            server.send(SWITCHED).await;
            let answer = client.message().await;
            assert_eq!(answer.status(), 502, "{target}");
            assert_eq!(answer.header("x-weft-reason"), Some("backend_protocol"));
        }
    });
}

/// [`pair`], with a client of HTTP/2.
async fn http2_pair() -> (Mesh, SendRequest<Bytes>, RawBackend) {
    let (mesh, client, backend) = pair().await;
    let (sender, connection) = h2::client::handshake(client.stream).await.unwrap();
    tokio::task::spawn_local(async move {
        // How it ends shows in the requests.
        let _ = connection.await;
    });
    (mesh, sender, backend)
}

/// CONNECT on a stream of that connection, and its head at the backend.
async fn connect(
    client: &mut SendRequest<Bytes>,
    backend: &RawBackend,
) -> (ResponseFuture, SendStream<Bytes>, Peer) {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "db.example:5432".parse().unwrap();
    let (answer, stream) = client.send_request(request, false).unwrap();
    let mut server = backend.accept().await;
    let request = server.head().await;
    assert_eq!(request.line, "CONNECT db.example:5432 HTTP/1.1");
    assert_eq!(request.sorted(), ["host: db.example:5432"]);
    (answer, stream, server)
}

/// So many bytes of an answer.
async fn read(stream: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < length {
        let data = stream.data().await.unwrap().unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        seen.extend_from_slice(&data);
    }
    seen
}

#[test]
fn connect_of_http2_makes_its_stream_a_tunnel() {
    run(async {
        let (mesh, mut client, backend) = http2_pair().await;
        let (answer, mut up, mut server) = connect(&mut client, &backend).await;
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nhello").await;
        let answer = answer.await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("content-length")), (200, None));
        let mut down = answer.into_body();
        assert_eq!(read(&mut down, 5).await, b"hello");
        for round in 0..3 {
            up.send_data(Bytes::from(vec![0, 0xff, round]), false).unwrap();
            server.expect([0, 0xff, round]).await;
            server.send([0xfe, round]).await;
            assert_eq!(read(&mut down, 2).await, [0xfe, round]);
        }
        // The request is over, its connection is not; both keep a drain waiting.
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 1);
        assert_eq!(mesh.shared.drain.open(), 2);
        // One side ends; the other goes on for as long as it likes.
        up.send_data("last".into(), true).unwrap();
        assert_eq!(server.rest().await, "last");
        let large: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let ((), seen) = tokio::join!(server.send(&large), read(&mut down, large.len()));
        assert!(seen == large, "other bytes");
        drop(server);
        // The frame that ends it may be an empty one.
        while let Some(data) = down.data().await {
            assert_eq!(data.unwrap(), "");
        }
        eventually("the tunnel is closed", || mesh.shared.drain.open() == 1).await;
    });
}

#[test]
fn a_refused_connect_of_http2_is_an_answer_like_any_other() {
    run(async {
        let (_mesh, mut client, backend) = http2_pair().await;
        for _ in 0..2 {
            let (answer, mut up, mut server) = connect(&mut client, &backend).await;
            up.send_data("for the tunnel".into(), false).unwrap();
            server.send("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 2\r\n\r\nno").await;
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 405);
            assert_eq!(read(&mut answer.into_body(), 2).await, b"no");
        }
    });
}

#[test]
fn a_length_of_what_has_none_is_refused() {
    run(async {
        let (_mesh, mut client, _backend) = http2_pair().await;
        let request = Request::connect("db.example:5432").header("content-length", "3");
        let (answer, mut up) = client.send_request(request.body(()).unwrap(), false).unwrap();
        up.send_data("abc".into(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 400);
    });
}

#[test]
fn a_tunnel_of_http2_breaks_on_both_sides() {
    run(async {
        let (mesh, mut client, backend) = http2_pair().await;

        let (answer, mut up, mut server) = connect(&mut client, &backend).await;
        server.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let _down = answer.await.unwrap();
        up.send_reset(Reason::CANCEL);
        server.end().await;

        let (answer, _up, mut server) = connect(&mut client, &backend).await;
        server.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut down = answer.await.unwrap().into_body();
        server.reset();
        let error = down.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
        eventually("the tunnels are closed", || mesh.shared.drain.open() == 1).await;
    });
}
