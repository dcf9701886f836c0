//! What is sent again, and what never is.

use super::pool::{OK, pooled};
use crate::testing::{Mesh, RawBackend, Server, refusing, run};

#[test]
fn a_connection_of_the_pool_that_closes_costs_an_idempotent_request_nothing() {
    run(async {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"] {
            for dies in [false, true] {
                let (mesh, mut client, backend, mut server) = pooled().await;
                client.send(format!("{method} /again HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
                // Read, and not answered: the request was on its way as the backend closed.
                assert_eq!(server.head().await.line, format!("{method} /again HTTP/1.1"));
                if dies {
                    server.reset();
                } else {
                    drop(server);
                }
                let mut server = backend.accept().await;
                assert_eq!(server.head().await.line, format!("{method} /again HTTP/1.1"));
                server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
                assert_eq!(client.head().await.status(), 204, "{method}");
                let labels = ["backend_name=\"svc\""];
                assert_eq!(mesh.count("weft_route_retries_total", &labels), 1);
            }
        }
    });
}

#[test]
fn what_may_have_been_processed_is_never_sent_twice() {
    run(async {
        for (head, body) in [
            ("POST /pay HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\n", "pay"),
            ("POST /pay HTTP/1.1\r\nhost: svc\r\ncontent-length: 0\r\n\r\n", ""),
            ("PATCH /pay HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\n", "pay"),
            // Its body cannot be sent again: it was not kept.
            ("PUT /pay HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\n", "pay"),
            ("X-OWN /pay HTTP/1.1\r\nhost: svc\r\n\r\n", ""),
        ] {
            let (mesh, mut client, backend, mut server) = pooled().await;
            client.send(format!("{head}{body}")).await;
            server.head().await;
            server.expect(body).await;
            drop(server);
            let answer = client.message().await;
            assert_eq!(answer.status(), 503, "{head}");
            assert_eq!(answer.header("x-weft-reason"), Some("backend_closed"));
            assert!(!backend.has_connection().await, "sent again: {head}");
            assert_eq!(mesh.requests(&["status=\"503\"", "reason=\"backend_closed\""]), 1);
        }
    });
}

#[test]
fn an_idle_connection_that_the_backend_has_closed_is_not_used() {
    run(async {
        let (mesh, mut client, backend, mut server) = pooled().await;
        server.finish().await;
        // The proxy has seen it once it closes its own side.
        assert_eq!(server.rest().await, "");
        client.send("POST /pay HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\npay").await;
        let mut server = backend.accept().await;
        assert_eq!(server.message().await.text(), "pay");
        server.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
        assert_eq!(mesh.count("weft_route_retries_total", &[]), 0);
    });
}

#[test]
fn a_refused_connection_sends_any_request_elsewhere() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("alive").await;
        let service = mesh.service("default/svc", "http", &[refusing(), server.addr]);
        let mut client = mesh.connect(service).await;
        for n in 0..50 {
            client
                .send(format!("POST /{n} HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\npay"))
                .await;
            assert_eq!(client.message().await.text(), "alive");
        }
        assert_eq!(server.requests.get(), 50);
        // Ejected after the second refusal, for a second at least.
        assert!((1..=4).contains(&mesh.count("weft_route_retries_total", &[])));
    });
}

#[test]
fn a_body_that_waited_for_100_continue_goes_elsewhere_too() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[refusing(), backend.addr]);
        for _ in 0..4 {
            let mut client = mesh.connect(service).await;
            client
                .send(
                    "POST / HTTP/1.1\r\nhost: svc\r\nexpect: 100-continue\r\nconnection: close\r\n\
                     content-length: 4\r\n\r\n",
                )
                .await;
            let mut server = backend.accept().await;
            server.head().await;
            server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
            client.send("body").await;
            server.expect("body").await;
            server.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(client.message().await.status(), 200);
        }
    });
}

#[test]
fn when_all_refuse_the_attempts_are_bounded() {
    run(async {
        let mesh = Mesh::new();
        let mut dead = Vec::new();
        for _ in 0..10 {
            dead.push(refusing());
        }
        let service = mesh.service("default/svc", "http", &dead);
        let answer = mesh.get(service, "/").await;
        assert_eq!(
            (answer.status(), answer.header("x-weft-reason")),
            (503, Some("connect_failed"))
        );
        assert_eq!(mesh.count("weft_route_retries_total", &[]), 3);
        assert_eq!(mesh.requests(&["status=\"503\""]), 1);
    });
}

#[test]
fn a_backend_that_always_closes_is_not_asked_for_ever() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let mut client = mesh.connect(service).await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        for _ in 0..4 {
            let mut server = backend.accept().await;
            server.head().await;
        }
        let answer = client.message().await;
        assert_eq!(
            (answer.status(), answer.header("x-weft-reason")),
            (503, Some("backend_closed"))
        );
        assert!(!backend.has_connection().await);
    });
}

#[test]
fn an_answer_that_is_no_http_is_502_and_not_asked_again() {
    run(async {
        for garbage in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 abc Bad\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno-colon\r\n\r\n",
            "\0\0\0\0\0\0\0\0\r\n\r\n",
        ] {
            let mesh = Mesh::new();
            let backend = RawBackend::listen().await;
            let service = mesh.service("default/svc", "http", &[backend.addr]);
            let mut client = mesh.connect(service).await;
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let mut server = backend.accept().await;
            server.head().await;
            server.send(garbage).await;
            let answer = client.message().await;
            assert_eq!(answer.status(), 502, "{}", garbage.escape_debug());
            assert_eq!(answer.header("x-weft-reason"), Some("backend_protocol"));
            assert!(!backend.has_connection().await);
            assert_eq!(mesh.requests(&["status=\"502\"", "reason=\"backend_protocol\""]), 1);
        }
    });
}
