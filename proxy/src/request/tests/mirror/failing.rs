//! Mirrors that are slow, broken or gone: nobody else notices them, and what they cost is bounded.

use std::time::Duration;

use http::Request;
use hyper::body::Incoming;

use super::{OK, counting, ended, get, mirrored, one_ended};
use crate::testing::{End, RawBackend, Server, eventually, refusing, run};

#[test]
fn a_mirror_that_takes_nothing_holds_nobody_up() {
    run(async {
        const BODY: usize = 32 * 1024 * 1024;
        let mirror = RawBackend::listen().await;
        let primary = counting().await;
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        let head = format!("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: {BODY}\r\n\r\n");
        client.send(head).await;
        // Accepted, and never read from.
        let mut stalled = mirror.accept().await;
        for _ in 0..BODY / 65_536 {
            client.send(vec![b'x'; 65_536]).await;
        }
        assert_eq!(client.message().await.header("bytes"), Some(&*BODY.to_string()));
        one_ended(&mesh, "fell_behind").await;
        // What had been sent is followed by the connection's end, and not by the rest.
        let (taken, _) = stalled.end().await;
        assert!(taken.len() < BODY, "{}", taken.len());
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 1);
    });
}

#[test]
fn a_mirror_that_fails_is_counted_and_harms_nobody() {
    run(async {
        let primary = Server::http1("primary").await;
        for (mirror, outcome) in
            [(vec![], "no_ready_endpoint"), (vec![refusing()], "connect_failed")]
        {
            let (mesh, service) = mirrored(primary.addr, &mirror);
            let mut client = mesh.connect(service).await;
            get(&mut client).await;
            one_ended(&mesh, outcome).await;
            assert_eq!(mesh.count("weft_route_retries_total", &[]), 0);
        }
        for answer in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"] {
            let mirror = RawBackend::listen().await;
            let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
            let mut client = mesh.connect(service).await;
            get(&mut client).await;
            let mut copy = mirror.accept().await;
            copy.head().await;
            copy.send(answer).await;
            drop(copy);
            one_ended(&mesh, "backend_closed").await;
            assert!(!mirror.has_connection().await, "sent again: {answer:?}");
        }
    });
}

#[test]
fn a_connection_that_the_mirror_has_closed_costs_no_copy() {
    run(async {
        let primary = Server::http1("primary").await;
        let mirror = RawBackend::listen().await;
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        for round in 1..=3 {
            get(&mut client).await;
            let mut copy = mirror.accept().await;
            copy.head().await;
            copy.send(OK).await;
            eventually("the copy is done", || ended(&mesh, "completed") == round).await;
            drop(copy);
        }
    });
}

#[test]
fn a_request_that_breaks_off_ends_its_copy() {
    run(async {
        let head = "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 9\r\n\r\npart";
        for client_leaves in [true, false] {
            let (primary, mirror) = (RawBackend::listen().await, RawBackend::listen().await);
            let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
            let mut client = mesh.connect(service).await;
            client.send(head).await;
            let (mut one, mut other) = (primary.accept().await, mirror.accept().await);
            one.head().await;
            assert_eq!(other.head().await.get("content-length"), Some("9"));
            one.expect("part").await;
            if client_leaves {
                drop(client);
            } else {
                // The backend has seen enough.
                one.send("HTTP/1.1 413 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
                drop(one);
                assert_eq!(client.message().await.status(), 413);
            }
            one_ended(&mesh, "request_broken").await;
            other.end().await;
        }
    });
}

#[test]
fn a_mirror_that_has_seen_enough_ends_its_copy_only() {
    run(async {
        let (primary, mirror) = (RawBackend::listen().await, RawBackend::listen().await);
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 8\r\n\r\npart").await;
        let (mut one, mut other) = (primary.accept().await, mirror.accept().await);
        other.head().await;
        other.send("HTTP/1.1 413 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        drop(other);
        eventually("it is over", || mesh.count("weft_route_mirrors_total", &[]) == 1).await;
        client.send("rest").await;
        assert_eq!(one.message().await.text(), "partrest");
        one.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
    });
}

#[test]
fn a_mirror_that_never_answers_is_given_up() {
    run(async {
        let primary = Server::http1("primary").await;
        let mirror = RawBackend::listen().await;
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        get(&mut mesh.connect(service).await).await;
        let mut copy = mirror.accept().await;
        copy.head().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
        one_ended(&mesh, "timed_out").await;
        assert_eq!(copy.end().await, (Vec::new(), End::Reset));
    });
}

#[test]
fn a_drain_does_not_wait_long_for_mirrors() {
    run(async {
        let primary = Server::http1("primary").await;
        let mirror = RawBackend::listen().await;
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        get(&mut mesh.connect(service).await).await;
        let mut first = mirror.accept().await;
        first.head().await;
        get(&mut mesh.connect(service).await).await;
        let mut second = mirror.accept().await;
        second.head().await;
        mesh.shared.drain.start();
        // What is answered meanwhile is done with.
        second.send(OK).await;
        eventually("it is done", || ended(&mesh, "completed") == 1).await;
        assert_eq!(mesh.shared.drain.finished(Duration::from_secs(10)).await, 0);
        assert_eq!(ended(&mesh, "drained"), 1);
        assert_eq!(first.end().await, (Vec::new(), End::Reset));
    });
}

#[test]
fn copies_under_way_to_one_mirror_are_bounded() {
    run(async {
        let primary = Server::http1("primary").await;
        let mirror = RawBackend::listen().await;
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        for _ in 0..300 {
            get(&mut client).await;
        }
        assert_eq!(mesh.count("weft_route_mirrors_total", &[]), 300 - 256);
        assert_eq!(ended(&mesh, "too_many"), 300 - 256);
        assert_eq!(primary.requests.get(), 300);
        // Each that ends makes room for another one.
        let mut copy = mirror.accept().await;
        copy.head().await;
        copy.send(OK).await;
        eventually("one is done", || ended(&mesh, "completed") == 1).await;
        get(&mut client).await;
        copy.head().await;
        assert_eq!(ended(&mesh, "too_many"), 300 - 256);
    });
}

#[test]
fn what_waits_for_one_mirror_is_bounded_in_all() {
    run(async {
        const BODY: usize = 1900 * 1024;
        let primary = counting().await;
        // It grants a stream the window that HTTP/2 begins with, and never more.
        let mirror = Server::start(true, |request: Request<Incoming>| async {
            let _unread = request;
            std::future::pending().await
        })
        .await;
        let (mesh, service) = mirrored(primary.addr, &[]);
        mesh.service("default/mirror", "h2c", &[mirror.addr]);
        let head = format!("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: {BODY}\r\n\r\n");
        for round in 1..=8 {
            let mut client = mesh.connect(service).await;
            client.send(&head).await;
            client.send(vec![b'x'; BODY]).await;
            assert_eq!(client.message().await.header("bytes"), Some(&*BODY.to_string()));
            // Four times less than 2 MiB may wait, and not five times.
            let beyond = u64::saturating_sub(round, 4);
            eventually("what is beyond is dropped", || ended(&mesh, "fell_behind") >= beyond).await;
            assert!(round > 4 || ended(&mesh, "fell_behind") == 0, "{round}");
        }
        assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 8);
    });
}
