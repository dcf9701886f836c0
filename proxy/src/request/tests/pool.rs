//! Connections to endpoints: kept, shared, closed with what they lead to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::testing::{End, Mesh, Peer, RawBackend, Server, eventually, run};

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A client and a backend with one connection between the proxy and it, idle in the pool.
pub(super) async fn pooled() -> (Mesh, Peer, RawBackend, Peer) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let mut client = mesh.connect(service).await;
    client.send("GET /first HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut server = backend.accept().await;
    server.head().await;
    server.send(OK).await;
    client.message().await;
    (mesh, client, backend, server)
}

/// A client with a request that has reached the backend, on a connection of its own.
async fn under_way(mesh: &Mesh, service: SocketAddr, backend: &RawBackend) -> (Peer, Peer) {
    let mut client = mesh.connect(service).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut server = backend.accept().await;
    server.head().await;
    (client, server)
}

#[test]
fn no_more_connections_are_kept_than_is_set() {
    run(async {
        let mesh = Mesh::with("default", |limits| limits.pool_max_idle = 2);
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let mut requests = Vec::new();
        for _ in 0..4 {
            requests.push(under_way(&mesh, service, &backend).await);
        }
        for (client, server) in &mut requests {
            server.send(OK).await;
            client.message().await;
        }
        for (_, server) in &mut requests[2..] {
            assert_eq!(server.rest().await, "");
        }
        assert!(requests[..2].iter().all(|(_, server)| server.is_silent()));
        // The two that are left are used again, the last one first.
        let (client, server) = &mut requests[1];
        client.send("GET /again HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(server.head().await.line, "GET /again HTTP/1.1");
    });
}

#[test]
fn what_an_endpoint_has_no_room_for_goes_elsewhere_and_then_is_503() {
    run(async {
        let mesh = Mesh::with("default", |limits| limits.max_requests = 2);
        let (one, other) = (RawBackend::listen().await, RawBackend::listen().await);
        let service = mesh.service("default/svc", "http", &[one.addr, other.addr]);
        let mut requests = Vec::new();
        for _ in 0..4 {
            let mut client = mesh.connect(service).await;
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let mut server = tokio::select! {
                server = one.accept() => server,
                server = other.accept() => server,
            };
            server.head().await;
            requests.push((client, server));
        }
        let mut refused = mesh.connect(service).await;
        refused.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let answer = refused.message().await;
        assert_eq!((answer.status(), answer.header("x-weft-reason")), (503, Some("overloaded")));
        // One that ends makes room for another.
        let (client, server) = &mut requests[0];
        server.send(OK).await;
        client.message().await;
        refused.send("GET /again HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(server.head().await.line, "GET /again HTTP/1.1");
    });
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_closed() {
    run(async {
        let (mesh, _client, backend, mut server) = pooled().await;
        let table = mesh.shared.table();
        let destination = table.destination([10, 0, 0, 1].into(), 80).unwrap();
        let endpoints = mesh.worker.backend(destination.own());
        let idle = mesh.worker.pool.idle_timeout;
        endpoints.sweep(Instant::now() + idle / 2, &mesh.worker.pool);
        assert!(server.is_silent());
        endpoints.sweep(Instant::now() + idle + Duration::from_secs(1), &mesh.worker.pool);
        assert_eq!(server.rest().await, "");
        assert!(!backend.has_connection().await);
    });
}

#[test]
fn a_connection_whose_request_is_still_being_sent_is_not_used_again() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let mut client = mesh.connect(service).await;
        client.send("POST /1 HTTP/1.1\r\nhost: svc\r\ncontent-length: 4\r\n\r\nbo").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.expect("bo").await;
        server.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
        let mut other = mesh.connect(service).await;
        other.send("GET /2 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut second = backend.accept().await;
        assert_eq!(second.head().await.line, "GET /2 HTTP/1.1");
        drop(client);
        assert_eq!(server.end().await, (Vec::new(), End::Clean));
    });
}

#[test]
fn an_endpoint_that_goes_gets_nothing_more() {
    run(async {
        let (mesh, mut client, gone, mut idle) = pooled().await;
        // A second request is under way there as the endpoint is removed.
        client.send("GET /second HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        idle.head().await;
        let mut busy = idle;
        let other = Server::http1("other").await;
        let service = mesh.service("default/other", "http", &[]);
        mesh.endpoints("default/other", &[gone.addr]);
        let mut second = mesh.connect(service).await;
        second.send("GET / HTTP/1.1\r\nhost: other\r\n\r\n").await;
        let mut idle = gone.accept().await;
        idle.head().await;
        idle.send(OK).await;
        second.message().await;

        mesh.endpoints("default/svc", &[other.addr]);
        mesh.endpoints("default/other", &[other.addr]);
        // The idle one is closed without waiting for another request, the busy one is finished.
        assert_eq!(idle.rest().await, "");
        assert!(busy.is_silent());
        busy.send(OK).await;
        assert_eq!(client.message().await.text(), "ok");
        assert_eq!(busy.end().await, (Vec::new(), End::Clean));
        for _ in 0..20 {
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            assert_eq!(client.message().await.text(), "other");
        }
        assert!(!gone.has_connection().await);
    });
}

#[test]
fn of_an_endpoint_that_goes_each_connection_closes_with_its_own_request() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let (mut first, mut first_server) = under_way(&mesh, service, &backend).await;
        let (mut second, mut second_server) = under_way(&mesh, service, &backend).await;
        mesh.endpoints("default/svc", &[]);
        first_server.send(OK).await;
        first.message().await;
        // Though the other one still holds the endpoint.
        assert_eq!(first_server.rest().await, "");
        second_server.send(OK).await;
        assert_eq!(second.message().await.text(), "ok");
        assert_eq!(second_server.rest().await, "");
    });
}

#[test]
fn after_one_closed_connection_of_the_pool_no_other_one_is_tried() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let (mut client, mut old) = under_way(&mesh, service, &backend).await;
        let (mut other, mut recent) = under_way(&mesh, service, &backend).await;
        old.send(OK).await;
        client.message().await;
        recent.send(OK).await;
        other.message().await;
        client.send("GET /again HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(recent.head().await.line, "GET /again HTTP/1.1");
        drop(recent);
        // The old one is likely to have been closed as well.
        let mut new = backend.accept().await;
        assert_eq!(new.head().await.line, "GET /again HTTP/1.1");
        new.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
        assert!(old.is_silent());
    });
}

#[test]
fn an_address_that_comes_back_under_another_pod_gets_a_new_connection() {
    run(async {
        let (mesh, mut client, backend, mut server) = pooled().await;
        mesh.pods("default/svc", &[(backend.addr, "another-pod")]);
        assert_eq!(server.rest().await, "");
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
    });
}

#[test]
fn http_2_connections_follow_the_endpoints_too() {
    run(async {
        let mesh = Mesh::new();
        let (one, other) = (Server::http2("one").await, Server::http2("other").await);
        let service = mesh.service("default/svc", "http2", &[one.addr]);
        assert_eq!(mesh.get(service, "/").await.text(), "one");
        assert_eq!(one.open.get(), 1);
        mesh.endpoints("default/svc", &[other.addr]);
        eventually("the connection is closed", || one.open.get() == 0).await;
        assert_eq!(mesh.get(service, "/").await.text(), "other");
        assert_eq!(one.requests.get(), 1);
    });
}

#[test]
fn an_http_2_connection_that_is_idle_for_too_long_is_closed() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http2("one").await;
        let service = mesh.service("default/svc", "http2", &[server.addr]);
        mesh.get(service, "/").await;
        let table = mesh.shared.table();
        let destination = table.destination([10, 0, 0, 1].into(), 80).unwrap();
        let endpoints = mesh.worker.backend(destination.own());
        let later =
            |seconds| Instant::now() + mesh.worker.pool.idle_timeout + Duration::from_secs(seconds);
        // While a request is under way nothing is idle.
        let lease = endpoints.pick(&[], Instant::now()).unwrap();
        endpoints.sweep(later(1), &mesh.worker.pool);
        drop(lease);
        endpoints.sweep(Instant::now(), &mesh.worker.pool);
        mesh.get(service, "/").await;
        assert_eq!(server.opened.get(), 1);
        endpoints.sweep(later(1), &mesh.worker.pool);
        eventually("the connection is closed", || server.open.get() == 0).await;
        assert_eq!(mesh.get(service, "/").await.text(), "one");
        assert_eq!(server.opened.get(), 2);
    });
}
