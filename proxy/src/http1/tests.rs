//! What is read of an answer, however it comes; what is written of a request; and when a connection can be
//! used again. How requests pass through is in the tests of [`crate::request`].

use std::cell::Cell;
use std::net::Shutdown;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::chunked::Chunked;
use super::framing::{Framing, Length};
use super::*;
use crate::testing::{Peer, RawBackend, run};

fn buffer(text: &str) -> BytesMut {
    BytesMut::from(text)
}

#[test]
fn a_head_is_read_once_it_is_there() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-empty:\r\nx-a: 1\r\nx-a: \u{e4}\r\n\r\n";
    for end in 0..text.len() {
        let mut part = BytesMut::from(&text.as_bytes()[..end]);
        assert!(receive::head(&mut part).unwrap().is_none(), "{end}");
        assert_eq!(part.len(), end);
    }
    let mut whole = buffer(&format!("{text}ok"));
    let head = receive::head(&mut whole).unwrap().unwrap();
    assert_eq!((head.status(), head.version()), (StatusCode::OK, Version::HTTP_11));
    let headers = head.headers();
    assert_eq!(
        (headers["content-length"].as_bytes(), headers["x-empty"].as_bytes()),
        (&b"2"[..], &b""[..])
    );
    let values: Vec<_> = headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(values, [&b"1"[..], "\u{e4}".as_bytes()]);
    assert_eq!(whole, "ok");
}

#[test]
fn a_reason_of_the_endpoint_s_own_is_kept() {
    for (text, kept) in
        [("200 OK", None), ("200 Fine", Some("Fine")), ("299", Some("")), ("200 ", Some(""))]
    {
        let head =
            receive::head(&mut buffer(&format!("HTTP/1.1 {text}\r\n\r\n"))).unwrap().unwrap();
        let reason = head.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
        assert_eq!(reason, kept.map(str::as_bytes), "{text}");
    }
}

#[test]
fn what_is_no_head_is_told() {
    for text in [
        "<html>\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno-colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: 1\r\n 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
    ] {
        assert!(matches!(receive::head(&mut buffer(text)), Err(Error::NotHttp(_))), "{text:?}");
    }
    let many = "x: 1\r\n".repeat(MAX_HEADERS + 1);
    let many = receive::head(&mut buffer(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")));
    assert!(matches!(many, Err(Error::NotHttp(_))));
}

/// The length that an answer's head tells, `None` where it is refused, and whether another request may follow.
fn framing(method: &Method, head: &str) -> Option<(String, bool)> {
    let head = receive::head(&mut buffer(&format!("{head}\r\n\r\n"))).unwrap().unwrap();
    let Framing { length, keep_alive } = Framing::of(method, &head).ok()?;
    Some((format!("{length:?}"), keep_alive))
}

#[test]
fn the_length_is_what_the_head_says() {
    let bytes = |length| format!("{:?}", Length::Bytes(length));
    let chunked = || format!("{:?}", Length::Chunked(Chunked::default()));
    let until_close = || format!("{:?}", Length::UntilClose);
    for (head, expected) in [
        ("200 OK\r\ncontent-length: 3", Some((bytes(3), true))),
        ("200 OK\r\ncontent-length: 3\r\nconnection: x, Close", Some((bytes(3), false))),
        ("200 OK\r\ncontent-length: 3\r\ncontent-length: 3, 003", Some((bytes(3), true))),
        ("200 OK\r\ncontent-length: 3\r\ncontent-length: 4", None),
        ("200 OK\r\ncontent-length: +3", None),
        ("200 OK\r\ncontent-length:", None),
        ("200 OK\r\ncontent-length: 3,", None),
        ("200 OK\r\ncontent-length: 99999999999999999999", None),
        ("200 OK\r\ntransfer-encoding: Chunked", Some((chunked(), true))),
        (
            "200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked",
            Some((chunked(), true)),
        ),
        ("200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3", Some((chunked(), false))),
        ("200 OK\r\ntransfer-encoding: chunked, gzip", Some((until_close(), false))),
        ("200 OK\r\nx: 1", Some((until_close(), false))),
        ("204 No Content\r\ncontent-length: 3", Some((bytes(0), true))),
        ("304 Not Modified\r\ncontent-length: 3", Some((bytes(0), true))),
        ("101 Switching Protocols\r\nupgrade: x", Some(("Tunnel".to_owned(), false))),
    ] {
        assert_eq!(framing(&Method::GET, &format!("HTTP/1.1 {head}")), expected, "{head}");
    }
    let length = "200 OK\r\ncontent-length: 3";
    let old = format!("HTTP/1.0 {length}");
    assert_eq!(framing(&Method::GET, &old), Some((bytes(3), false)));
    let kept = format!("{old}\r\nconnection: keep-alive");
    assert_eq!(framing(&Method::GET, &kept), Some((bytes(3), true)));
    assert_eq!(framing(&Method::GET, "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked"), None);
    let new = format!("HTTP/1.1 {length}");
    assert_eq!(framing(&Method::HEAD, &new), Some((bytes(0), true)));
    assert_eq!(framing(&Method::CONNECT, &new), Some(("Tunnel".to_owned(), false)));
    assert_eq!(
        framing(&Method::CONNECT, "HTTP/1.1 403 No\r\ncontent-length: 3"),
        Some((bytes(3), true))
    );
}

/// The data and the trailers of a body that comes in these pieces, and what is left behind it.
fn decode(pieces: &[&[u8]]) -> Result<(String, String, BytesMut), Error> {
    let (mut chunked, mut buffer) = (Chunked::default(), BytesMut::new());
    let (mut data, mut trailers) = (String::new(), String::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = chunked.next(&mut buffer)? {
            match frame.into_data() {
                Ok(bytes) => data += std::str::from_utf8(&bytes).unwrap(),
                Err(frame) => trailers += &format!("{:?}", frame.into_trailers().unwrap()),
            }
        }
    }
    assert!(chunked.is_end(), "{chunked:?}");
    Ok((data, trailers, buffer))
}

#[test]
fn chunks_are_the_same_however_they_are_cut() {
    for (text, trailers) in [
        ("3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", ""),
        (
            "3\r\nabc\r\n0a\r\n0123456789\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
            r#"{"x-a": "1", "x-b": "2"}"#,
        ),
    ] {
        let expected = ("abc0123456789".to_owned(), trailers.to_owned(), buffer("next"));
        let text = format!("{text}next");
        for cut in 0..=text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            assert_eq!(decode(&[one, other]).unwrap(), expected, "{cut}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(&bytes).unwrap(), expected);
    }
}

#[test]
fn what_are_no_chunks_is_told() {
    let long = format!("1;{}", "x".repeat(16 * 1024));
    let trailers = format!("0\r\nx: {}", "x".repeat(16 * 1024));
    for text in [
        "x\r\n",
        "-1\r\n",
        "\r\n",
        "fffffffffffffffff\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "0\r\nno-colon\r\n\r\n",
        &long,
        &trailers,
    ] {
        assert!(matches!(decode(&[text.as_bytes()]), Err(Error::NotHttp(_))), "{text:?}");
    }
}

async fn pair() -> (Connection, Peer) {
    let backend = RawBackend::listen().await;
    let stream = TcpStream::connect(backend.addr).await.unwrap();
    (Connection::new(stream), backend.accept().await)
}

fn get() -> Request<RequestBody> {
    Request::get("/a?b").header("host", "svc").body(RequestBody::Empty).unwrap()
}

/// Sends a GET, of which the peer answers that, and reads the answer.
async fn exchange(
    connection: Connection,
    peer: &mut Peer,
    answer: &str,
) -> (Result<Bytes, Error>, Option<Connection>) {
    let mut request = get();
    let (response, ()) = tokio::join!(connection.send(&mut request, || ()), async {
        assert_eq!(peer.head().await.line, "GET /a?b HTTP/1.1");
        peer.send(answer).await;
    });
    let mut body = response.unwrap().into_body();
    let data = (&mut body).collect().await.map(|body| body.to_bytes());
    (data, body.take_connection())
}

#[test]
fn one_request_follows_another_and_nothing_is_kept_between_them() {
    run(async {
        let (mut connection, mut peer) = pair().await;
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ] {
            let (data, again) = exchange(connection, &mut peer, answer).await;
            assert_eq!(data.unwrap(), "ok");
            connection = again.expect("it stays open");
            assert!(connection.is_ready());
            assert_eq!(connection.buffer.capacity(), 0);
        }
    });
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    run(async {
        for end in ["\r\n", "\n"] {
            let (connection, mut peer) = pair().await;
            let answer =
                ["HTTP/1.1 100 Continue", "", "HTTP/1.1 200 OK", "content-length: 2", "", "ok"];
            let mut request = get();
            let continued = Cell::new(0);
            let sent = connection.send(&mut request, || continued.set(continued.get() + 1));
            let (response, ()) = tokio::join!(sent, async {
                peer.head().await;
                for byte in answer.join(end).as_bytes() {
                    peer.send([*byte]).await;
                    tokio::task::yield_now().await;
                }
            });
            assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "ok");
            assert_eq!(continued.get(), 1);
        }
    });
}

#[test]
fn a_connection_of_which_more_came_or_that_closes_is_not_used_again() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        ] {
            let (connection, mut peer) = pair().await;
            let (data, again) = exchange(connection, &mut peer, answer).await;
            assert_eq!(data.unwrap(), "ok");
            assert!(again.is_none());
            assert_eq!(peer.rest().await, "");
        }
    });
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        ] {
            let (connection, mut peer) = pair().await;
            let mut request = get();
            let (response, ()) = tokio::join!(connection.send(&mut request, || ()), async {
                peer.head().await;
                peer.send(answer).await;
            });
            drop(peer);
            let mut body = response.unwrap().into_body();
            let data = (&mut body).collect().await;
            assert!(matches!(data, Err(Error::Incomplete)), "{data:?}");
            assert!(body.take_connection().is_none());
        }
    });
}

#[test]
fn without_an_answer_it_is_known_whether_the_request_was_sent() {
    run(async {
        let (connection, mut peer) = pair().await;
        let mut request = get();
        let (response, ()) = tokio::join!(connection.send(&mut request, || ()), async {
            peer.head().await;
            drop(peer);
        });
        assert!(matches!(response, Err(Error::Incomplete)), "{response:?}");

        let backend = RawBackend::listen().await;
        let stream = TcpStream::connect(backend.addr).await.unwrap();
        SockRef::from(&stream).shutdown(Shutdown::Write).unwrap();
        let response = Connection::new(stream).send(&mut get(), || ()).await;
        assert!(matches!(response, Err(Error::Unsent(_))), "{response:?}");
    });
}

#[test]
fn a_head_without_an_end_is_refused() {
    run(async {
        let (connection, mut peer) = pair().await;
        let mut request = get();
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2 * MAX_HEAD));
        let (response, ()) = tokio::join!(connection.send(&mut request, || ()), async {
            peer.head().await;
            peer.send(&endless).await;
        });
        assert!(matches!(response, Err(Error::NotHttp(_))), "{response:?}");
    });
}
