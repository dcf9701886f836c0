//! Bodies that are sent again: streamed to the first attempt, kept for the others.

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::Frame;

use super::http2::{connect, whole};
use super::pool::OK;
use crate::testing::{Mesh, Peer, RawBackend, by_hand, run, with_trailers};

const FAILED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

async fn pair() -> (Mesh, Peer, RawBackend) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let rules = "- {retry: {codes: [503]}, backendRefs: [{name: svc, port: 80}]}";
    mesh.http_route("default/route", "default/svc", rules);
    let client = mesh.connect(service).await;
    (mesh, client, backend)
}

#[test]
fn the_first_attempt_does_not_wait_for_the_body_and_the_next_has_all_of_it() {
    run(async {
        for (framing, pieces, end) in [
            ("content-length: 9", ["one", "two", "six"], ""),
            (
                "transfer-encoding: chunked",
                ["3\r\none\r\n", "3\r\ntwo\r\n", "3\r\nsix\r\n"],
                "0\r\n\r\n",
            ),
        ] {
            let (_mesh, mut client, backend) = pair().await;
            client.send(format!("POST / HTTP/1.1\r\nhost: svc\r\n{framing}\r\n\r\n")).await;
            let mut server = backend.accept().await;
            server.head().await;
            // Each piece reaches the backend before the next is there.
            for piece in pieces {
                client.send(piece).await;
                server.expect(piece).await;
            }
            client.send(end).await;
            server.expect(end).await;
            server.send(FAILED).await;
            let again = server.message().await;
            assert_eq!(again.text(), "onetwosix", "{framing}");
            server.send(OK).await;
            assert_eq!(client.message().await.text(), "ok");
        }
    });
}

#[test]
fn an_answer_before_the_bodys_end_hands_the_rest_to_the_next_attempt() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client.send("PUT / HTTP/1.1\r\nhost: svc\r\ncontent-length: 6\r\n\r\none").await;
        let mut first = backend.accept().await;
        first.head().await;
        first.expect("one").await;
        first.send(FAILED).await;
        let mut second = backend.accept().await;
        second.head().await;
        second.expect("one").await;
        // The first one's connection ends within its request, and gets nothing more.
        assert_eq!(first.end().await.0, b"");
        client.send("two").await;
        second.expect("two").await;
        second.send(OK).await;
        assert_eq!(client.message().await.text(), "ok");
    });
}

#[test]
fn bodies_up_to_64_kib_are_sent_again_and_larger_ones_are_not() {
    run(async {
        const KEPT: usize = 64 * 1024;
        for size in [KEPT, KEPT + 1] {
            for framing in [format!("content-length: {size}"), "transfer-encoding: chunked".into()]
            {
                let (mesh, mut client, backend) = pair().await;
                client.send(format!("POST / HTTP/1.1\r\nhost: svc\r\n{framing}\r\n\r\n")).await;
                let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                if framing.starts_with("content") {
                    client.send(&body).await;
                } else {
                    for chunk in body.chunks(10_000) {
                        client.send(format!("{:x}\r\n", chunk.len())).await;
                        client.send(chunk).await;
                        client.send("\r\n").await;
                    }
                    client.send("0\r\n\r\n").await;
                }
                let mut server = backend.accept().await;
                assert!(server.message().await.body == body, "{framing}");
                server.send(FAILED).await;
                if size == KEPT {
                    assert!(server.message().await.body == body, "{framing}");
                    server.send(OK).await;
                }
                let expected = if size == KEPT { 200 } else { 503 };
                let answer = client.message().await;
                assert_eq!((answer.status(), answer.header("x-weft-reason")), (expected, None));
                let retried = mesh.count("weft_route_retries_total", &[]);
                assert_eq!(retried, u64::from(size == KEPT), "{framing}");
            }
        }
    });
}

#[test]
fn a_body_of_very_many_pieces_is_passed_on_and_not_kept() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let rules = "- {retry: {codes: [503]}, backendRefs: [{name: svc, port: 80}]}";
        mesh.http_route("default/route", "default/svc", rules);
        for (pieces, expected) in [(1024, 200), (1025, 503)] {
            let mut client = connect(&mesh, service).await;
            let (frames, body) = by_hand();
            for _ in 0..pieces {
                // Frames of HTTP/2 stay apart.
                frames.send(Frame::data(Bytes::from_static(b"x"))).unwrap();
            }
            drop(frames);
            let request = Request::post("http://svc/").body(body).unwrap();
            let answer = tokio::task::spawn_local(client.send_request(request));
            let mut server = backend.accept().await;
            assert_eq!(server.message().await.body.len(), pieces);
            server.send(FAILED).await;
            if expected == 200 {
                assert_eq!(server.message().await.body.len(), pieces);
                server
                    .send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
            assert_eq!(answer.await.unwrap().unwrap().status(), expected, "{pieces}");
            mesh.endpoints("default/svc", &[]);
            mesh.endpoints("default/svc", &[backend.addr]);
        }
    });
}

#[test]
fn trailers_are_sent_again_too() {
    run(async {
        let (mesh, _client, backend) = pair().await;
        let service = "10.0.0.1:80".parse().unwrap();
        let mut client = connect(&mesh, service).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "4".parse().unwrap());
        let request = Request::post("http://svc/")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .body(with_trailers("ping", trailers))
            .unwrap();
        let answer = tokio::task::spawn_local(client.send_request(request));
        let mut server = backend.accept().await;
        for response in [FAILED, OK] {
            let request = server.message().await;
            assert_eq!((request.text(), &*request.trailers), ("ping", "x-sum: 4"));
            server.send(response).await;
        }
        assert_eq!(whole(answer.await.unwrap().unwrap()).await.0.body(), "ok");
    });
}

#[test]
fn a_body_that_waits_for_100_continue_waits_in_every_attempt() {
    run(async {
        let (_mesh, mut client, backend) = pair().await;
        client
            .send(
                "POST / HTTP/1.1\r\nhost: svc\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
            )
            .await;
        let mut first = backend.accept().await;
        first.head().await;
        // It does not want it.
        first.send(FAILED).await;
        let mut second = backend.accept().await;
        assert_eq!(second.head().await.get("expect"), Some("100-continue"));
        assert!(client.is_silent() && second.is_silent());
        second.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send("body").await;
        second.expect("body").await;
        second.send(OK).await;
        assert_eq!(client.message().await.text(), "ok");
        assert_eq!(first.end().await.0, b"");
    });
}

#[test]
fn a_client_whose_body_breaks_off_is_not_asked_for_it_again() {
    run(async {
        let (mesh, mut client, backend) = pair().await;
        client.send("PUT / HTTP/1.1\r\nhost: svc\r\ncontent-length: 6\r\n\r\none").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.expect("one").await;
        drop(client);
        server.end().await;
        crate::testing::eventually("it is counted", || mesh.requests(&[]) == 1).await;
        assert!(!backend.has_connection().await);
        assert_eq!(mesh.count("weft_route_retries_total", &[]), 0);
    });
}
