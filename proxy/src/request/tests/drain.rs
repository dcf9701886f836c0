//! Draining: what is under way finishes, and nothing new stays.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::http2::{connect, whole};
use crate::testing::{Mesh, RawBackend, Server, empty, eventually, run, text};

#[test]
fn an_idle_connection_closes_and_a_busy_one_after_its_request() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let mut busy = mesh.connect(service).await;
        busy.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        let mut idle = mesh.connect(service).await;
        idle.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut other = backend.accept().await;
        other.head().await;
        other.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(idle.message().await.header("connection"), None);

        mesh.shared.drain.start();
        assert_eq!(idle.rest().await, "");
        assert!(busy.is_silent());
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let answer = busy.message().await;
        assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
        assert_eq!(busy.rest().await, "");
        assert_eq!(mesh.shared.drain.finished(Duration::from_secs(5)).await, 0);
    });
}

#[test]
fn connections_that_come_while_draining_are_served_once() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("one").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        mesh.shared.drain.start();
        for _ in 0..30 {
            let mut client = mesh.connect(service).await;
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let answer = client.message().await;
            assert_eq!((answer.text(), answer.header("connection")), ("one", Some("close")));
            assert_eq!(client.rest().await, "");
        }
    });
}

#[test]
fn http_2_connections_are_told_to_go_away() {
    run(async {
        let mesh = Mesh::new();
        let (release, released) = tokio::sync::watch::channel(false);
        let server = Server::start(false, move |_request| {
            let mut released = released.clone();
            async move {
                released.wait_for(|released| *released).await.unwrap();
                Response::new(text("late"))
            }
        })
        .await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        let mut client = connect(&mesh, service).await;
        let request = Request::get("http://svc/").body(empty()).unwrap();
        let under_way = tokio::task::spawn_local(client.send_request(request));
        eventually("the request is there", || server.requests.get() == 1).await;
        mesh.shared.drain.start();
        // GOAWAY: no new request on this connection.
        let refused = async {
            loop {
                let request = Request::get("http://svc/").body(empty()).unwrap();
                let attempt = client.send_request(request);
                // One that comes before the GOAWAY waits like the first one, and is given up.
                let attempt = tokio::time::timeout(Duration::from_millis(20), attempt).await;
                if matches!(attempt, Ok(Err(_))) {
                    return;
                }
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(5), refused).await;
        assert!(refused.is_ok(), "no GOAWAY came");
        assert_eq!(mesh.shared.drain.open(), 1);
        release.send_replace(true);
        let (answer, _) = whole(under_way.await.unwrap().unwrap()).await;
        assert_eq!(answer.body(), &Bytes::from("late"));
        assert_eq!(mesh.shared.drain.finished(Duration::from_secs(5)).await, 0);
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 1);
    });
}
