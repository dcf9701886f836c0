//! What becomes of a connection before it is HTTP, and of one that never is.

mod acknowledge;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::table::Destination;
use crate::testing::{End, Mesh, Peer, RawBackend, eventually, refusing, run};

const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";

async fn pair(port: &str) -> (Mesh, SocketAddr, RawBackend) {
    // Long: what does not need to wait must not.
    let mesh = Mesh::with("default", |limits| limits.detect_timeout = Duration::from_secs(60));
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", port, &[backend.addr]);
    (mesh, service, backend)
}

/// Bytes both ways, unchanged.
async fn exchange(client: &mut Peer, server: &mut Peer) {
    client.send(b"\0\x01GET / HTTP/1.1\r\n\r\n\xff").await;
    server.expect(b"\0\x01GET / HTTP/1.1\r\n\r\n\xff").await;
    server.send(b"\xfe HTTP/1.1 200 OK\r\n\r\n").await;
    client.expect(b"\xfe HTTP/1.1 200 OK\r\n\r\n").await;
}

#[test]
fn what_is_not_http_passes_unread() {
    run(async {
        for (port, first, protocol) in [
            ("web", CLIENT_HELLO, "tls"),
            // TLS to a port that says HTTP is TLS nevertheless.
            ("http", CLIENT_HELLO, "tls"),
            ("web", b"*1\r\n$4\r\nPING\r\n", "opaque"),
            ("web", b"\0\0\0\x08\x04\xd2\x16\x2f", "opaque"),
            ("redis", b"GET key HTTP/1.1\r\n\r\n", "opaque"),
            ("tls", CLIENT_HELLO, "opaque"),
        ] {
            let (mesh, service, backend) = pair(port).await;
            let mut client = mesh.connect(service).await;
            client.send(first).await;
            let mut server = backend.accept().await;
            server.expect(first).await;
            exchange(&mut client, &mut server).await;
            let labels = [&*format!("protocol=\"{protocol}\"")];
            let what = format!("{port}: {}", first.escape_ascii());
            assert_eq!(mesh.count("weft_outbound_connections_total", &labels), 1, "{what}");
        }
    });
}

#[test]
fn first_bytes_may_come_one_by_one() {
    run(async {
        for (bytes, protocol) in [
            (&b"GET / HTTP/1.1\r\n"[..], "http1"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
            (CLIENT_HELLO, "tls"),
            (b"EHLO me\r\n", "opaque"),
        ] {
            let (mesh, service, _backend) = pair("web").await;
            let mut client = mesh.connect(service).await;
            for byte in bytes {
                client.send([*byte]).await;
                tokio::task::yield_now().await;
            }
            let labels = [&*format!("protocol=\"{protocol}\"")];
            let counted = || mesh.count("weft_outbound_connections_total", &labels) == 1;
            eventually(protocol, counted).await;
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_waited_for_once() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "web", &[backend.addr]);
        let mut client = mesh.connect(service).await;
        let start = std::time::Instant::now();
        let mut server = backend.accept().await;
        assert!(start.elapsed() >= mesh.shared.limits.detect_timeout);
        server.send("220 ready\r\n").await;
        client.expect("220 ready\r\n").await;
        exchange(&mut client, &mut server).await;
        // Remembered, also by the tables to come.
        mesh.endpoints("default/svc", &[backend.addr]);
        assert!(destination(&mesh, service).is_server_first());
    });
}

#[test]
fn a_port_that_is_known_to_speak_first_is_not_waited_for() {
    run(async {
        // Were there a wait, it would outlast the test.
        let (mesh, service, backend) = pair("web").await;
        destination(&mesh, service).learn_server_first();
        let mut client = mesh.connect(service).await;
        let mut server = backend.accept().await;
        server.send("220 ready\r\n").await;
        client.expect("220 ready\r\n").await;
    });
}

fn destination(mesh: &Mesh, service: SocketAddr) -> Arc<Destination> {
    mesh.shared.table().destination(service.ip(), service.port()).unwrap().clone()
}

#[test]
fn a_declared_port_does_not_wait_for_the_client() {
    run(async {
        let (mesh, service, backend) = pair("mysql").await;
        let mut client = mesh.connect(service).await;
        let mut server = backend.accept().await;
        server.send("\x0a8.0.36").await;
        client.expect("\x0a8.0.36").await;
    });
}

#[test]
fn either_side_may_be_done_before_the_other() {
    run(async {
        let (mesh, service, backend) = pair("tcp").await;
        let mut client = mesh.connect(service).await;
        let mut server = backend.accept().await;
        client.send("question").await;
        client.finish().await;
        assert_eq!(server.rest().await, "question");
        server.send("a long answer").await;
        server.finish().await;
        assert_eq!(client.rest().await, "a long answer");

        let closed = || mesh.count("weft_tcp_connections_total", &["reason=\"\""]) == 1;
        eventually("it is counted", closed).await;
        let labels = ["parent_namespace=\"default\",parent_name=\"svc\",parent_port=\"80\",\
             route_kind=\"none\",route_namespace=\"\",route_name=\"\",rule=\"\",rule_name=\"\",\
             backend_namespace=\"default\",backend_name=\"svc\",backend_port=\"80\""];
        assert_eq!(mesh.count("weft_tcp_sent_bytes_total", &labels), 8);
        assert_eq!(mesh.count("weft_tcp_received_bytes_total", &labels), 13);
        assert_eq!(mesh.count("weft_tcp_open_connections", &labels), 0);
        assert_eq!(mesh.count("weft_tcp_connection_duration_seconds_count", &labels), 1);
    });
}

#[test]
fn connections_are_balanced() {
    run(async {
        let mesh = Mesh::new();
        let (one, other) = (RawBackend::listen().await, RawBackend::listen().await);
        let service = mesh.service("default/svc", "tcp", &[one.addr, other.addr]);
        let mut held = Vec::new();
        for _ in 0..20 {
            let client = mesh.connect(service).await;
            let server = tokio::select! {
                server = one.accept() => (0, server),
                server = other.accept() => (1, server),
            };
            held.push((client, server));
        }
        // All stay open: the emptier endpoint gets the next one.
        let at_other: usize = held.iter().map(|(_, (which, _))| which).sum();
        assert_eq!(at_other, 10);
        assert_eq!(mesh.count("weft_tcp_open_connections", &["parent_name=\"svc\""]), 20);
    });
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "tcp", &[refusing(), backend.addr]);
        for _ in 0..10 {
            let mut client = mesh.connect(service).await;
            let mut server = backend.accept().await;
            exchange(&mut client, &mut server).await;
        }
    });
}

#[test]
fn without_an_endpoint_the_connection_is_reset() {
    run(async {
        let mesh = Mesh::new();
        for (endpoints, reason) in
            [(vec![], "no_ready_endpoint"), (vec![refusing()], "connect_failed")]
        {
            let service =
                mesh.service(&format!("default/{reason}").replace('_', "-"), "tcp", &endpoints);
            let mut client = mesh.connect(service).await;
            assert_eq!(client.end().await, (Vec::new(), End::Reset), "{reason}");
            let labels = [&*format!("reason=\"{reason}\"")];
            assert_eq!(mesh.count("weft_tcp_connections_total", &labels), 1);
        }
    });
}

#[test]
fn a_reset_passes_either_way() {
    run(async {
        for from_client in [false, true] {
            for known in [false, true] {
                let (mesh, service, backend) = pair("tcp").await;
                let mut client = mesh.connect(if known { service } else { backend.addr }).await;
                let mut server = backend.accept().await;
                exchange(&mut client, &mut server).await;
                let mut other = if from_client {
                    client.reset();
                    server
                } else {
                    server.reset();
                    client
                };
                assert_eq!(other.end().await, (Vec::new(), End::Reset), "{from_client} {known}");
                if known {
                    let reset = || mesh.count("weft_tcp_connections_total", &["\"reset\""]) == 1;
                    eventually("it is counted", reset).await;
                }
            }
        }
    });
}

#[test]
fn what_is_no_service_goes_where_it_was_meant_to() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let mut client = mesh.connect(backend.addr).await;
        // Unread, and without waiting for anybody: not even HTTP is looked at.
        let mut server = backend.accept().await;
        server.send("220 ready\r\n").await;
        client.expect("220 ready\r\n").await;
        exchange(&mut client, &mut server).await;
        client.finish().await;
        assert_eq!(server.rest().await, "");
        server.send("bye").await;
        drop(server);
        assert_eq!(client.rest().await, "bye");
        let labels = ["protocol=\"passthrough\""];
        assert_eq!(mesh.count("weft_outbound_connections_total", &labels), 1);
        // Nobody there: as without a mesh, it is not a clean end.
        let mut client = mesh.connect(refusing()).await;
        assert_eq!(client.end().await, (Vec::new(), End::Reset));
    });
}

#[test]
fn a_connection_to_the_proxy_itself_is_refused() {
    run(async {
        let mesh = Mesh::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::task::spawn_local(super::accept(mesh.worker.clone(), listener, addr.port()));
        for count in 1..=3 {
            let mut client = Peer::new(tokio::net::TcpStream::connect(addr).await.unwrap());
            assert_eq!(client.rest().await, "");
            assert_eq!(mesh.count("weft_outbound_loops_refused_total", &[]), count);
        }
        let closed = || mesh.count("weft_outbound_open_connections", &[]) == 0;
        eventually("none is left", closed).await;
    });
}

#[test]
fn a_drain_lets_streams_go_on() {
    run(async {
        let (mesh, service, backend) = pair("tcp").await;
        let mut client = mesh.connect(service).await;
        let mut server = backend.accept().await;
        mesh.shared.drain.start();
        exchange(&mut client, &mut server).await;
        assert_eq!(mesh.shared.drain.finished(Duration::from_millis(50)).await, 1);
        drop(client);
        assert_eq!(server.rest().await, "");
        drop(server);
        assert_eq!(mesh.shared.drain.finished(Duration::from_secs(5)).await, 0);
    });
}
