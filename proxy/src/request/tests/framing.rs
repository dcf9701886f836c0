//! Requests that two parties could read differently are refused, or passed on in the one form that
//! cannot be misread.

use crate::testing::{Mesh, Peer, RawBackend, eventually, run};

struct Pair {
    mesh: Mesh,
    client: Peer,
    backend: RawBackend,
}

async fn pair() -> Pair {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let client = mesh.connect(service).await;
    Pair { mesh, client, backend }
}

/// What follows the bad request on its connection, and must never be taken for a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: svc\r\n\r\n";

#[test]
fn ambiguous_requests_are_answered_400_and_end_their_connection() {
    run(async {
        for request in [
            // Host.
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost:\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\"b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a,b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a:80x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a:80:81\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: :80\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: [::1]x\r\n\r\n",
            // The target's form.
            "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
            "GET https://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://user@a/ HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "GET http://user:pw@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            // Lengths.
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabcd",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
            // Codings.
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            // Lines.
            "GET / HTTP/1.1\r\nhost: a\r\nx-folded: 1\r\n 2\r\n\r\n",
            "GET / HTTP/1.1\r\n host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nno-colon\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n",
            "G@T / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
            "GET relative HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            let Pair { mesh: _mesh, mut client, backend } = pair().await;
            client.send(format!("{request}{SMUGGLED}")).await;
            let line = client.head().await.line;
            assert!(line.ends_with(" 400 Bad Request"), "{line}: {}", request.escape_debug());
            client.end().await;
            assert!(!backend.has_connection().await, "forwarded: {}", request.escape_debug());
        }
    });
}

#[test]
fn the_proxys_own_400_says_why_and_is_counted() {
    run(async {
        let Pair { mesh, mut client, .. } = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
        let answer = client.message().await;
        assert_eq!(answer.text(), "weft: more than one Host header\n");
        assert_eq!(answer.header("x-weft-reason"), Some("bad_request"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.rest().await, "");
        let labels = ["route_kind=\"none\"", "status=\"400\"", "reason=\"bad_request\""];
        assert_eq!(mesh.requests(&labels), 1);
    });
}

#[test]
fn what_is_only_odd_is_brought_into_one_form() {
    run(async {
        for (request, expected) in [
            // Bare line feeds, which a lenient parser takes for line ends (RFC 9112, section 2.2).
            ("POST / HTTP/1.1\nhost: a\ncontent-length: 3\n\nabc", "content-length: 3"),
            // The same length twice (RFC 9112, section 6.3).
            (
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
                "content-length: 3",
            ),
            // Extensions of chunks mean nothing to the next hop.
            (
                "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
                 3;x=\"y\"\r\nabc\r\n0\r\n\r\n",
                "transfer-encoding: chunked",
            ),
            (
                "\r\nPOST / HTTP/1.1\r\nhost: a\r\ncontent-length: 003\r\n\r\nabc",
                "content-length: 3",
            ),
        ] {
            let Pair { mesh: _mesh, mut client, backend } = pair().await;
            client.send(request).await;
            let mut server = backend.accept().await;
            let message = server.message().await;
            assert_eq!(message.head.line, "POST / HTTP/1.1");
            assert_eq!(message.text(), "abc");
            let framing: Vec<_> = message
                .head
                .sorted()
                .into_iter()
                .filter(|line| !line.starts_with("host"))
                .collect();
            let expected = expected.replace("003", "3");
            assert_eq!(framing.len(), 1, "{framing:?}");
            assert_eq!(framing[0].replace(": 003", ": 3"), expected);
            assert!(server.is_silent());
        }
    });
}

#[test]
fn a_length_beside_chunks_is_refused_or_removed() {
    run(async {
        let Pair { mesh: _mesh, mut client, backend } = pair().await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                 1\r\nx\r\n0\r\n\r\n{SMUGGLED}"
            ))
            .await;
        // RFC 9112, section 6.3: Transfer-Encoding overrides, Content-Length must not be forwarded,
        // and the connection must be closed after it.
        let mut server = backend.accept().await;
        let message = server.message().await;
        assert_eq!(message.head.get("content-length"), None);
        assert_eq!(message.text(), "x");
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 200);
        client.end().await;
        assert!(server.is_silent(), "what follows was taken for a request");
    });
}

#[test]
fn heads_that_are_too_large_are_answered_431() {
    run(async {
        let headers =
            |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
        for (headers, status) in [
            // With the Host it is 100.
            (headers(99), 200),
            (headers(100), 431),
            (format!("x-large: {}\r\n", "y".repeat(60 * 1024)), 200),
            (format!("x-large: {}\r\n", "y".repeat(70 * 1024)), 431),
        ] {
            let Pair { mesh: _mesh, mut client, backend } = pair().await;
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
            if status == 200 {
                let mut server = backend.accept().await;
                server.head().await;
                server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
            assert_eq!(client.head().await.status(), status, "{} bytes", headers.len());
        }
    });
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    run(async {
        let mesh = Mesh::with("default", |limits| {
            limits.header_timeout = std::time::Duration::from_millis(100);
        });
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        for part in ["", "GE", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n"] {
            let mut client = mesh.connect(service).await;
            client.send(part).await;
            client.end().await;
            assert!(!backend.has_connection().await, "{part:?} opened a connection");
        }
    });
}

#[test]
fn only_a_head_that_has_begun_is_awaited() {
    run(async {
        let timeout = std::time::Duration::from_millis(100);
        let mesh = Mesh::with("default", |limits| limits.header_timeout = timeout);
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let mut client = mesh.connect(service).await;
        client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut server = backend.accept().await;
        for path in ["/1", "/2"] {
            assert_eq!(server.head().await.line, format!("GET {path} HTTP/1.1"));
            // Neither an answer that takes its time ends the connection, nor the pause between two
            // requests.
            tokio::time::sleep(3 * timeout).await;
            server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(client.head().await.status(), 200);
            tokio::time::sleep(3 * timeout).await;
            if path == "/1" {
                client.send("GET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
            }
        }
        client.send("GET /3 HT").await;
        client.end().await;
    });
}

#[test]
fn a_connection_without_a_request_asks_no_backend() {
    run(async {
        let Pair { mesh, mut client, backend } = pair().await;
        client.finish().await;
        client.end().await;
        eventually("the connection is done", || mesh.shared.drain.open() == 0).await;
        assert!(!backend.has_connection().await);
        assert_eq!(mesh.count("weft_tcp_connections_total", &[]), 0);
    });
}
