//! Bodies on their way: back-pressure, and either side breaking off.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::testing::{End, Mesh, Peer, RawBackend, eventually, run};

async fn pair() -> (Mesh, Peer, RawBackend) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let client = mesh.connect(service).await;
    (mesh, client, backend)
}

/// Writes until nobody takes any more; returns how much was taken.
async fn fill(stream: &mut TcpStream, limit: usize) -> usize {
    static BLOCK: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    let mut written = 0;
    while written < limit {
        let size = BLOCK.len().min(limit - written);
        // Nothing taken for so long means that the way is full: a slow machine can only make it
        // seem so too early, which no assertion here minds.
        match tokio::time::timeout(Duration::from_millis(300), stream.write(&BLOCK[..size])).await {
            Ok(count) => written += count.unwrap(),
            Err(_full) => break,
        }
    }
    written
}

const BODY: usize = 32 * 1024 * 1024;

/// More than the proxy itself may hold of a body on its way.
const BOUND: usize = 512 * 1024;

/// How many bytes the kernel holds of all connections in which one of the ports takes part. (The
/// kernel's buffers grow to megabytes by themselves: they say nothing of the proxy.)
fn queued(ports: [u16; 2]) -> usize {
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let takes_part = |addr: &str| ports.contains(&(hex(addr.rsplit_once(':').unwrap().1) as u16));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets
        .filter(|fields| takes_part(fields[1]) || takes_part(fields[2]))
        .map(|fields| {
            let (sent, received) = fields[4].split_once(':').unwrap();
            hex(sent) + hex(received)
        })
        .sum()
}

/// Whether the kernel knows this connection, one that is closing or was closed too, on the side of its first
/// port.
fn is_known(ports: [u16; 2]) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let [local, peer] = ports.map(|port| format!(":{port:04X}"));
    table.lines().skip(1).any(|line| {
        let mut ends = line.split_whitespace().skip(1);
        ends.next().unwrap().ends_with(&local) && ends.next().unwrap().ends_with(&peer)
    })
}

#[test]
fn a_client_that_does_not_read_stops_the_backend() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        let ports = [client.stream.local_addr().unwrap().port(), backend.addr.port()];
        client.send("GET /large HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n")).await;
        let taken = fill(&mut server.stream, BODY).await;
        let held = taken.saturating_sub(queued(ports));
        assert!(taken < BODY && held < BOUND, "{held} of {taken} bytes that nobody reads");

        // And all of it arrives once somebody reads.
        let reading = tokio::task::spawn_local(async move {
            client.head().await;
            let mut left = BODY;
            while left > 0 {
                let size = left.min(64 * 1024);
                assert!(client.bytes(size).await.iter().all(|byte| *byte == b'x'));
                left -= size;
            }
            client.is_silent()
        });
        let mut left = BODY - taken;
        while left > 0 {
            left -= fill(&mut server.stream, left).await;
        }
        assert!(reading.await.unwrap());
    });
}

#[test]
fn a_backend_that_does_not_read_stops_the_client() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        let ports = [client.stream.local_addr().unwrap().port(), backend.addr.port()];
        client
            .send(format!("POST /large HTTP/1.1\r\nhost: svc\r\ncontent-length: {BODY}\r\n\r\n"))
            .await;
        let mut server = backend.accept().await;
        server.head().await;
        let taken = fill(&mut client.stream, BODY).await;
        let held = taken.saturating_sub(queued(ports));
        assert!(taken < BODY && held < BOUND, "{held} of {taken} bytes that nobody reads");

        let reading = tokio::task::spawn_local(async move {
            let mut left = BODY;
            while left > 0 {
                let size = left.min(64 * 1024);
                assert!(server.bytes(size).await.iter().all(|byte| *byte == b'x'));
                left -= size;
            }
            server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            server
        });
        let mut left = BODY - taken;
        while left > 0 {
            left -= fill(&mut client.stream, left).await;
        }
        assert_eq!(client.message().await.status(), 200);
        reading.await.unwrap();
    });
}

#[test]
fn an_answer_is_passed_on_before_the_request_has_ended() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 200);
        for round in 0..3 {
            client.send(format!("1\r\n{round}\r\n")).await;
            server.expect(format!("1\r\n{round}\r\n")).await;
            server.send(format!("1\r\n{round}\r\n")).await;
            client.expect(format!("1\r\n{round}\r\n")).await;
        }
        server.send("0\r\n\r\n").await;
        client.expect("0\r\n\r\n").await;
    });
}

#[test]
fn an_early_answer_to_a_large_body_reaches_the_client() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1000000\r\n\r\n").await;
        client.send([b'x'; 1000]).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.bytes(1000).await;
        server
            .send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
            .await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (413, "no"));
    });
}

#[test]
fn a_backend_that_breaks_off_never_looks_like_a_clean_end() {
    run(async {
        for (framing, part) in [
            ("content-length: 10", "12345"),
            ("transfer-encoding: chunked", "5\r\n12345\r\n"),
            ("transfer-encoding: chunked", "5\r\n12"),
            ("transfer-encoding: chunked", "5\r\n12345\r\n0\r\n"),
        ] {
            for dies in [false, true] {
                let (mesh, mut client, backend) = pair().await;
                client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
                let mut server = backend.accept().await;
                server.head().await;
                server.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}")).await;
                assert_eq!(client.head().await.status(), 200);
                if dies {
                    server.reset();
                } else {
                    drop(server);
                }
                let (rest, _end) = client.end().await;
                let rest = String::from_utf8(rest).unwrap();
                assert!(!rest.contains("0\r\n\r\n") && rest.len() < 13, "{framing}: {rest:?}");
                let labels = ["status=\"200\"", "reason=\"backend_reset\""];
                assert_eq!(mesh.requests(&labels), 1, "{framing} {part}");
            }
        }
    });
}

#[test]
fn a_broken_body_without_a_length_is_reset_for_http_1_0() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        client.send("GET / HTTP/1.0\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n").await;
        client.head().await;
        client.expect("12345").await;
        drop(server);
        // The connection's end is the body's: only a reset tells that it is not all.
        assert_eq!(client.end().await, (Vec::new(), End::Reset));
        assert_eq!(mesh.requests(&["reason=\"backend_reset\""]), 1);
    });
}

/// The port of a connection that was closed in order is kept for a minute: whoever gives up many requests
/// would use up all ports towards an endpoint.
#[test]
fn a_request_that_is_given_up_keeps_no_port() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        let ports = [server.stream.peer_addr().unwrap().port(), backend.addr.port()];
        assert!(is_known(ports));
        drop(client);
        eventually("no port is kept", || !is_known(ports)).await;
        server.end().await;
    });
}

#[test]
fn a_client_that_leaves_ends_its_request_at_the_backend() {
    run(async {
        let get = "GET / HTTP/1.1\r\nhost: svc\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 9\r\n\r\nab";
        for (request, answer, reason) in [
            // Before the answer.
            (get, "", "client_closed"),
            // Within the answer, while the backend says nothing.
            (get, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "client_closed"),
            // Within the request.
            (post, "", "client_body"),
        ] {
            for dies in [false, true] {
                let (mesh, mut client, backend) = pair().await;
                client.send(request).await;
                let mut server = backend.accept().await;
                server.head().await;
                server.send(answer).await;
                if !answer.is_empty() {
                    client.head().await;
                }
                if dies {
                    client.reset();
                } else {
                    drop(client);
                }
                let ended = tokio::time::timeout(Duration::from_secs(1), server.end()).await;
                assert!(ended.is_ok(), "the backend's connection stays: {request} {answer}");
                let reason = format!("reason=\"{reason}\"");
                let counted = || mesh.requests(&[&reason]) == 1;
                eventually("it is counted as the client's doing", counted).await;
            }
        }
    });
}
