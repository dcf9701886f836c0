//! When a client's first bytes are acknowledged: with the answer, or at once where it may wait for that before
//! it sends more.

use std::time::{Duration, Instant};

use super::{CLIENT_HELLO, pair};
use crate::testing::{Mesh, run};

/// Sooner the kernel does not acknowledge by itself, and does so from then on (40 ms).
const BY_ITSELF: Duration = Duration::from_millis(35);

/// How often it is tried to be faster than that.
const TRIES: usize = 100;

#[test]
fn a_whole_request_is_acknowledged_by_its_answer() {
    run(async {
        for _ in 0..TRIES {
            let (mesh, service, backend) = pair("web").await;
            let (mut client, socket) = mesh.connect_watched(service).await;
            let began = Instant::now();
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let mut server = backend.accept().await;
            server.head().await;
            let at_once = socket.tcp_quickack().unwrap();
            if began.elapsed() < BY_ITSELF {
                assert!(!at_once, "in a segment of its own");
                return;
            }
        }
        panic!("too slow to tell");
    });
}

#[test]
fn what_a_client_may_wait_behind_is_acknowledged_at_once() {
    run(async {
        for (port, first) in [
            ("web", &b"G"[..]),
            ("web", b"GET / HTTP/1.1\r\nhost: s"),
            ("http", b"GET / HTTP/1.1\r\nhost: s"),
            ("web", b"POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 4\r\n\r\n"),
            ("web", b"POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n"),
            ("web", CLIENT_HELLO),
            ("web", b"EHLO me\r\n"),
            ("tcp", b"question"),
        ] {
            let (mesh, service, _backend) = pair(port).await;
            assert!(acknowledges(&mesh, service, first).await, "{port}: {}", first.escape_ascii());
        }
        let mesh = Mesh::new();
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = elsewhere.local_addr().unwrap();
        assert!(acknowledges(&mesh, elsewhere, b"question").await, "what is no Service's");
    });
}

/// Whether what a client sends to that address is acknowledged before the kernel does it by itself.
async fn acknowledges(mesh: &Mesh, original: std::net::SocketAddr, first: &[u8]) -> bool {
    for _ in 0..TRIES {
        let (mut client, socket) = mesh.connect_watched(original).await;
        let began = Instant::now();
        client.send(first).await;
        while began.elapsed() < BY_ITSELF {
            if socket.tcp_quickack().unwrap() {
                return true;
            }
            tokio::task::yield_now().await;
        }
    }
    false
}
