//! Streams that wait for others, connections that end, windows, and answers before their requests' ends. How
//! requests pass through is in the tests of [`crate::request`].

use h2::server::{self, SendResponse};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{Mesh, Peer, RawBackend, connected, eventually, run};

type Accepted = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// An endpoint of which the requests come one by one.
struct Endpoint(server::Connection<TcpStream, Bytes>);

impl Endpoint {
    /// Takes `streams` at a time, each of which may send `window` bytes before it has to wait.
    async fn accept(stream: TcpStream, streams: u32, window: u32) -> Self {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(streams).initial_window_size(window);
        Self(builder.handshake(stream).await.unwrap())
    }

    async fn next(&mut self) -> Accepted {
        self.0.accept().await.unwrap().unwrap()
    }

    /// Answers the next request, which is for `path`.
    async fn answer(&mut self, path: &str) {
        let (request, mut respond) = self.next().await;
        assert_eq!(request.uri().path(), path);
        respond.send_response(Response::new(()), true).unwrap();
    }
}

/// A connection, and the endpoint that it is to, which takes one stream at a time and has said so.
async fn one_at_a_time() -> (Connection, Endpoint) {
    let (ours, theirs) = connected().await;
    let accept = Endpoint::accept(theirs, 1, 65_535);
    let (connection, mut endpoint) =
        tokio::join!(Connection::open(EndpointStream::http2(ours)), accept);
    let connection = connection.unwrap();
    let first = get(&connection, "/first");
    endpoint.answer("/first").await;
    // Its frames are written only while it is asked for the next request.
    tokio::select! {
        first = first => first.unwrap().unwrap(),
        _ = endpoint.next() => unreachable!(),
    };
    (connection, endpoint)
}

fn request(path: &str) -> Option<Request<RequestBody>> {
    let request = Request::get(format!("http://svc{path}")).version(http::Version::HTTP_2);
    Some(request.body(RequestBody::Empty).unwrap())
}

fn get(connection: &Connection, path: &str) -> JoinHandle<Result<Response<Body>, Error>> {
    let (connection, mut place) = (connection.clone(), request(path));
    tokio::task::spawn_local(async move { connection.send(&mut place).await })
}

#[test]
fn streams_beyond_what_the_endpoint_takes_are_opened_in_order() {
    run(async {
        let (connection, mut endpoint) = one_at_a_time().await;
        let mut answers: Vec<_> =
            (0..8).map(|number| get(&connection, &format!("/{number}"))).collect();
        let (_request, mut respond) = endpoint.next().await;
        // One is in h2's own queue.
        let waiting = || connection.0.waiting.get();
        eventually("they wait", || waiting() == 6).await;
        // One that waits for its turn, and the one whose turn it is.
        for given_up in [4, 2] {
            answers[given_up].abort();
        }
        eventually("two were given up", || waiting() == 4).await;
        respond.send_response(Response::new(()), true).unwrap();
        for number in [1, 3, 5, 6, 7] {
            endpoint.answer(&format!("/{number}")).await;
        }
        let serving = tokio::task::spawn_local(async move { endpoint.0.accept().await.is_none() });
        for number in [0, 1, 3, 5, 6, 7] {
            let answer = (&mut answers[number]).await.unwrap();
            assert_eq!(answer.unwrap().status(), 200, "{number}");
        }
        assert_eq!(waiting(), 0);
        drop(connection);
        assert!(serving.await.unwrap(), "the connection is closed when nobody has it");
    });
}

#[test]
fn what_waits_when_the_connection_ends_was_not_sent() {
    run(async {
        let (connection, mut endpoint) = one_at_a_time().await;
        let sent = get(&connection, "/sent");
        let (_request, respond) = endpoint.next().await;
        let queued = get(&connection, "/queued");
        let waits = tokio::task::spawn_local({
            let connection = connection.clone();
            async move {
                let mut place = request("/waits");
                let sent = connection.send(&mut place).await;
                (sent.unwrap_err(), place.is_some())
            }
        });
        eventually("it waits", || connection.0.waiting.get() == 1).await;
        assert!(!connection.is_closed());
        drop((respond, endpoint));
        assert!(matches!(sent.await.unwrap(), Err(Error::Http2(_))));
        assert!(matches!(queued.await.unwrap(), Err(Error::Http2(_))));
        assert!(matches!(waits.await.unwrap(), (Error::Unsent(_), true)));
        assert!(connection.is_closed());
    });
}

#[test]
fn a_connection_that_is_going_away_takes_no_more() {
    run(async {
        let (connection, mut endpoint) = one_at_a_time().await;
        let last = get(&connection, "/last");
        let (_request, mut respond) = endpoint.next().await;
        endpoint.0.graceful_shutdown();
        let serving =
            tokio::task::spawn_local(async move { while endpoint.0.accept().await.is_some() {} });
        eventually("it is announced", || connection.is_closed()).await;
        let mut place = request("/late");
        assert!(matches!(connection.send(&mut place).await, Err(Error::Unsent(_))));
        assert!(place.is_some());
        respond.send_response(Response::new(()), true).unwrap();
        assert_eq!(last.await.unwrap().unwrap().status(), 200);
        serving.await.unwrap();
    });
}

/// A client of HTTP/1.1 that has sent this, and the endpoint of HTTP/2 that it is passed on to.
async fn passed_on(text: &str, window: u32) -> (Mesh, Peer, Endpoint) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http2", &[backend.addr]);
    let mut client = mesh.connect(service).await;
    client.send(text).await;
    let endpoint = Endpoint::accept(backend.accept().await.stream, 100, window).await;
    (mesh, client, endpoint)
}

#[test]
fn bodies_wait_for_the_windows_of_both_sides() {
    run(async {
        const LENGTH: usize = 1024 * 1024;
        let head = format!("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: {LENGTH}\r\n\r\n");
        let (_mesh, mut client, mut endpoint) = passed_on(&head, 1000).await;
        let (request, mut respond) = endpoint.next().await;
        tokio::task::spawn_local(async move { while endpoint.0.accept().await.is_some() {} });
        let back = tokio::task::spawn_local(async move {
            let mut body = request.into_body();
            let mut back = respond.send_response(Response::new(()), false).unwrap();
            let mut length = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                assert!(data.len() <= 1000);
                body.flow_control().release_capacity(data.len()).unwrap();
                length += data.len();
                // Waits in h2 until the proxy has taken what was sent before.
                back.send_data(data, false).unwrap();
            }
            back.send_data(Bytes::new(), true).unwrap();
            length
        });
        let text: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
        client.send(&text).await;
        assert_eq!(back.await.unwrap(), LENGTH);
        let answer = client.message().await;
        assert!(answer.body == text, "other bytes");
    });
}

#[test]
fn an_answer_that_is_there_before_the_requests_end_is_the_answer() {
    run(async {
        for window in [65_535, 4] {
            let text = "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n\
                        8\r\nabcdefgh\r\n";
            let (mesh, mut client, mut endpoint) = passed_on(text, window).await;
            let (mut request, mut respond) = endpoint.next().await;
            let serving = async move { while endpoint.0.accept().await.is_some() {} };
            tokio::task::spawn_local(serving);
            assert!(!request.body_mut().data().await.unwrap().unwrap().is_empty());
            let mut back = respond.send_response(Response::new(()), false).unwrap();
            back.send_data("early".into(), true).unwrap();
            // Behind all that, RST_STREAM of NO_ERROR: nobody here wants the rest of the request.
            drop((request, respond, back));
            let answer = client.message().await;
            assert_eq!((answer.status(), answer.text()), (200, "early"), "{window}");
            assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 1);
        }
    });
}
