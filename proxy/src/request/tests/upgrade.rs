//! Upgrades and CONNECT: both sides agree, then bytes pass unread.

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
