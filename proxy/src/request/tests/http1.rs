//! HTTP/1.0 and 1.1: framing of messages both ways, connections kept and closed.

use crate::testing::{Mesh, Peer, RawBackend, Server, run};

/// A client and a backend of a Service without routes.
async fn pair() -> (Mesh, Peer, RawBackend) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let client = mesh.connect(service).await;
    (mesh, client, backend)
}

#[test]
fn http_1_0_closes_unless_asked_to_keep_alive() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        let request = server.head().await;
        assert_eq!(request.line, "GET /x HTTP/1.1");
        assert_eq!(request.sorted(), ["host: svc"]);
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let answer = client.message().await;
        assert_eq!(answer.head.line, "HTTP/1.0 200 OK");
        assert_eq!(answer.header("connection"), Some("keep-alive"));

        // The same connection again, without a Host this time: the Service's name stands in.
        client.send("GET /y HTTP/1.0\r\n\r\n").await;
        let request = server.head().await;
        assert_eq!(request.get("host"), Some("svc.default:80"));
        // A body of unknown length ends with the connection: HTTP/1.0 has no chunks.
        server.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        server.send("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(head.line, "HTTP/1.0 200 OK");
        assert_eq!(head.get("transfer-encoding"), None);
        assert_eq!(client.rest().await, "abcdef");
    });
}

#[test]
fn a_backend_of_http_1_0_is_understood() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        for path in ["/1", "/2"] {
            client.send(format!("GET {path} HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
            // A connection of its own each time: HTTP/1.0 closes.
            let mut server = backend.accept().await;
            assert_eq!(server.head().await.line, format!("GET {path} HTTP/1.1"));
            server.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
            drop(server);
            let answer = client.message().await;
            assert_eq!(answer.head.line, "HTTP/1.1 200 OK");
            assert_eq!(answer.text(), "until the end");
        }
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 2);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let mesh = Mesh::new();
        let (one, other) = (Server::http1("one").await, Server::http1("other").await);
        let service = mesh.service("default/svc", "http", &[one.addr, other.addr]);
        let mut client = mesh.connect(service).await;
        let requests: String = (0..50)
            .map(|n| match n % 2 {
                0 => format!("GET /{n} HTTP/1.1\r\nhost: svc\r\n\r\n"),
                _ => format!("POST /{n} HTTP/1.1\r\nhost: svc\r\ncontent-length: 4\r\n\r\nbody"),
            })
            .collect();
        client.send(requests).await;
        for n in 0..50 {
            assert_eq!(client.message().await.header("seen-target"), Some(&*format!("/{n}")));
        }
    });
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client
            .send(
                "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\nte: trailers\r\n\
                 connection: te\r\ntrailer: x-sum\r\n\r\n4\r\nping\r\n",
            )
            .await;
        let mut server = backend.accept().await;
        let request = server.head().await;
        assert_eq!(request.get("transfer-encoding"), Some("chunked"));
        assert_eq!(request.get("te"), Some("trailers"));
        assert_eq!(request.get("trailer"), Some("x-sum"));
        assert_eq!(request.get("content-length"), None);
        // Streamed: the first chunk is there before the second was sent.
        server.expect("4\r\nping\r\n").await;
        client.send("2\r\n!!\r\n0\r\nx-sum: 6\r\n\r\n").await;
        server.expect("2\r\n!!\r\n0\r\nx-sum: 6\r\n\r\n").await;

        server
            .send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n\
                 4\r\npong\r\n",
            )
            .await;
        let head = client.head().await;
        assert_eq!(head.sorted(), ["trailer: x-end", "transfer-encoding: chunked"]);
        client.expect("4\r\npong\r\n").await;
        server.send("0\r\nx-end: yes\r\n\r\n").await;
        client.expect("0\r\nx-end: yes\r\n\r\n").await;
    });
}

#[test]
fn a_body_passes_whatever_the_method() {
    run(async {
        for method in ["GET", "DELETE", "OPTIONS", "POST", "PATCH", "X-OWN"] {
            let (_mesh, mut client, backend) = pair().await;
            client
                .send(format!(
                    "{method} /search HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n\
                     5\r\nquery\r\n0\r\n\r\n"
                ))
                .await;
            let mut server = backend.accept().await;
            let request = server.message().await;
            assert_eq!(request.text(), "query", "{method}");

            server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            client.message().await;
            let length = "HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\nabc";
            client.send(format!("{method} /search {length}")).await;
            let request = server.message().await;
            assert_eq!(request.head.get("content-length"), Some("3"), "{method}");
            assert_eq!(request.text(), "abc", "{method}");
        }
    });
}

#[test]
fn answers_without_a_body_keep_their_length() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("HEAD /file HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        for (request, answer, expected) in [
            // Asked above.
            ("", "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n", vec!["content-length: 1234"]),
            ("HEAD /", "HTTP/1.1 200 OK\r\netag: a\r\n", vec!["etag: a"]),
            ("GET /", "HTTP/1.1 204 No Content\r\netag: b\r\n", vec!["etag: b"]),
            ("GET /", "HTTP/1.1 304 Not Modified\r\netag: c\r\n", vec!["etag: c"]),
            ("POST /", "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n", vec!["content-length: 0"]),
        ] {
            if !request.is_empty() {
                client.send(format!("{request} HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
            }
            server.head().await;
            server.send(format!("{answer}\r\n")).await;
            assert_eq!(client.head().await.sorted(), expected, "{answer}");
        }
        // Nothing came in excess of the heads: the next answer would not be one.
        assert!(client.is_silent());
    });
}

#[test]
fn a_304_may_tell_the_length_of_what_it_does_not_send() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        let mut server = None;
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            if server.is_none() {
                server = Some(backend.accept().await);
            }
            let server = server.as_mut().unwrap();
            server.head().await;
            server.send("HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: c\r\n\r\n").await;
            let head = client.head().await;
            assert_eq!((head.status(), head.get("etag")), (304, Some("c")));
        }
        assert!(client.is_silent());
    });
}

#[test]
fn targets_arrive_in_origin_form() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("GET http://svc:80/abs?q=%20#f HTTP/1.1\r\nhost: svc:80\r\n\r\n").await;
        let mut server = backend.accept().await;
        for (request, line, host) in [
            ("", "GET /abs?q=%20 HTTP/1.1", "svc:80"),
            ("GET http://SVC HTTP/1.1\r\nhost: svc\r\n", "GET / HTTP/1.1", "svc"),
            ("GET http://svc?q HTTP/1.1\r\nhost: svc\r\n", "GET /?q HTTP/1.1", "svc"),
            ("OPTIONS * HTTP/1.1\r\nhost: svc\r\n", "OPTIONS * HTTP/1.1", "svc"),
            ("GET //a/../b;c HTTP/1.1\r\nhost: svc\r\n", "GET //a/../b;c HTTP/1.1", "svc"),
            ("GET http://svc/ HTTP/1.0\r\nconnection: keep-alive\r\n", "GET / HTTP/1.1", "svc"),
            ("get /case HTTP/1.1\r\nhost: [::1]:80\r\n", "get /case HTTP/1.1", "[::1]:80"),
        ] {
            if !request.is_empty() {
                client.send(format!("{request}\r\n")).await;
            }
            let head = server.head().await;
            assert_eq!(head.line, line);
            assert_eq!(head.get("host"), Some(host));
            server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(client.message().await.status(), 200, "{line}");
        }
    });
}

#[test]
fn each_side_closes_its_own_connections() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        // The backend closes: the client's connection stays.
        client.send("GET /1 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.message().await.header("connection"), None);
        assert_eq!(server.rest().await, "");
        // The client closes: the backend's stays.
        client.send("GET /2 HTTP/1.1\r\nhost: svc\r\nconnection: close\r\n\r\n").await;
        let mut server = backend.accept().await;
        assert_eq!(server.head().await.get("connection"), None);
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.message().await.header("connection"), Some("close"));
        assert_eq!(client.rest().await, "");
        assert!(server.is_silent());
    });
}
