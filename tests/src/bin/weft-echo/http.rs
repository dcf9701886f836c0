//! HTTP/1.0, HTTP/1.1 and HTTP/2 on one port. By path:
//!
//! | path | answer |
//! |---|---|
//! | `/status/NNN` | that status |
//! | `/delay?ms=N` | after N milliseconds |
//! | `/fail?times=N&status=S&id=I` | the status S, N times for each id, then what was received |
//! | `/bytes?n=N` | N bytes as fast as the client reads |
//! | `/stream?chunks=N&ms=M` | N lines, M milliseconds apart |
//! | `/echo` | the request's body, streamed back as it arrives |
//! | `/discard?ms=N` | reads the body, N milliseconds for each piece, then answers |
//! | `/trailers` | a body and the trailer `x-checksum` |
//! | `/headers?name=value&…` | these as response headers |
//! | `/certificate` | the certificate of the TLS port |
//! | `/ws` | a WebSocket that echoes |
//! | `/upgrade` | 101 to the protocol `echo`, then bytes are echoed |
//! | `/weft.test.Echo/…` | gRPC |
//! | any, with CONNECT | 200, then bytes are echoed |
//! | `/counted` | what `--count-header` has counted, as JSON ([`Counted`](weft_tests::answer::Counted)) |
//! | `/seen?last=N` | what was received by the next row's requests, as JSON, a line for each: the last N, 1,000 at most |
//! | anything else | what was received, as JSON ([`Answer`]) |

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use weft_tests::answer::{Answer, Identity};

use crate::count::Counter;
use crate::grpc;
use crate::idle::Idle;

/// Any body: errors have become part of the stream's end.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What the HTTP handlers know.
pub(crate) struct Service {
    /// Who answers.
    pub(crate) identity: Arc<Identity>,
    /// The TLS port's certificate as PEM.
    pub(crate) certificate: String,
    /// Which requests are answered 500.
    pub(crate) failing: Failing,
    /// Tells connections when to finish; each holds a receiver until it has.
    pub(crate) draining: Arc<watch::Sender<bool>>,
    /// How long a connection may be idle; nothing for ever.
    pub(crate) idle_close: Duration,
    /// Of requests by a header.
    pub(crate) counter: Option<Counter>,
    /// The answers that tell what was received, for those who did not get them.
    pub(crate) seen: Mutex<VecDeque<String>>,
    /// How often `/fail` was asked, by its id.
    pub(crate) failed: Mutex<HashMap<String, u64>>,
}

/// Chooses a share of the requests, evenly spread.
pub(crate) struct Failing {
    percent: u64,
    requests: AtomicU64,
}

impl Failing {
    pub(crate) fn new(percent: u64) -> Self {
        Self { percent, requests: AtomicU64::new(0) }
    }

    fn next(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        (number + 1) * self.percent / 100 > number * self.percent / 100
    }
}

/// How many answers are kept.
const SEEN: usize = 1_000;

/// Serves one connection until it is closed.
pub(crate) async fn serve(
    service: Arc<Service>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
) {
    let mut draining = service.draining.subscribe();
    let idle = Idle::new(service.idle_close);
    let mut idle_for_long = pin!(idle.for_long());
    let handler = service_fn(move |request| {
        let (service, under_way) = (Arc::clone(&service), idle.begin());
        async move {
            let answer = answer(&service, request, peer).await;
            drop(under_way);
            answer
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), handler);
    let mut connection = pin!(connection);
    tokio::select! {
        // A client that leaves early is none of the backend's business.
        _closed = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => {}
        () = idle_for_long.as_mut() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _closed = connection.await;
}

async fn answer(
    service: &Service,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let identity = &service.identity;
    if let Some(counter) = &service.counter {
        counter.count(&request);
    }
    if grpc::is_grpc(&request) {
        return Ok(grpc::answer(Arc::clone(identity), request).await);
    }
    let path = request.uri().path().to_owned();
    let query = Query(request.uri().query().unwrap_or("").to_owned());
    let is_head = request.method() == Method::HEAD;
    let mut response = match path.as_str() {
        _ if request.method() == Method::CONNECT => tunnel(request),
        "/bytes" => Response::new(zeros(query.number("n", 1))),
        "/stream" => Response::new(lines(query.number("chunks", 10), query.number("ms", 10))),
        "/echo" => echo(request),
        "/trailers" => trailers(),
        "/certificate" => text(StatusCode::OK, service.certificate.clone()),
        "/ws" => websocket(request),
        "/upgrade" => upgrade(request),
        "/counted" => {
            text(StatusCode::OK, service.counter.as_ref().map(Counter::tell).unwrap_or_default())
        }
        "/seen" => text(StatusCode::OK, service.last_seen(query.number("last", SEEN as u64))),
        "/fail" if service.fails(&query) => {
            let status = query.text("status").and_then(|status| status.parse().ok());
            text(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "not yet\n".to_owned())
        }
        _ => {
            tokio::time::sleep(Duration::from_millis(match path.as_str() {
                "/delay" => query.number("ms", 0),
                _ => 0,
            }))
            .await;
            let pause = if path == "/discard" { query.number("ms", 0) } else { 0 };
            let answer = describe(identity, request, peer, pause).await;
            let body = serde_json::to_string(&answer).unwrap_or_else(|error| error.to_string());
            let body = body + "\n";
            service.saw(&body);
            let mut response = text(status_of(&path), body);
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if path == "/headers" {
                response.headers_mut().extend(query.headers());
            }
            response
        }
    };
    if is_head && let Some(length) = response.body().size_hint().exact() {
        // hyper would send the content in HTTP/2.
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = boxed(Full::default());
    }
    if service.failing.next() {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    let headers = response.headers_mut();
    for (name, value) in [("x-pod", &identity.pod), ("x-version", &identity.version)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

impl Service {
    fn seen(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_seen(&self, count: u64) -> String {
        let seen = self.seen();
        let left_out = seen.len().saturating_sub(count as usize);
        seen.iter().skip(left_out).map(String::as_str).collect()
    }

    fn saw(&self, answer: &str) {
        let mut seen = self.seen();
        if seen.len() == SEEN {
            seen.pop_front();
        }
        seen.push_back(answer.to_owned());
    }

    /// Whether `/fail` is to fail again.
    fn fails(&self, query: &Query) -> bool {
        let id = query.text("id").unwrap_or_default().to_owned();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.entry(id).or_default();
        *failed += 1;
        *failed <= query.number("times", 1)
    }
}

/// What was received, its body read to the end.
async fn describe(
    identity: &Identity,
    request: Request<Incoming>,
    peer: SocketAddr,
    pause_ms: u64,
) -> Answer {
    let (parts, mut body) = request.into_parts();
    let mut answer = Answer {
        identity: identity.clone(),
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        http: format!("{:?}", parts.version),
        host: parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
        headers: pairs(&parts.headers),
        peer: peer.to_string(),
        ..Answer::default()
    };
    if let Some(host) = parts.headers.get(header::HOST) {
        answer.host = String::from_utf8_lossy(host.as_bytes()).into_owned();
    }
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    while let Some(Ok(frame)) = body.frame().await {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        match frame.into_data() {
            Ok(data) => {
                answer.body_bytes += data.len() as u64;
                digest.update(&data);
            }
            Err(frame) => {
                answer.trailers.extend(frame.trailers_ref().map(pairs).unwrap_or_default());
            }
        }
    }
    answer.body_sha256 =
        digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    answer
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// `/status/418` asks for 418.
fn status_of(path: &str) -> StatusCode {
    let number = path.strip_prefix("/status/").and_then(|number| number.parse().ok());
    number.and_then(|number: u16| StatusCode::from_u16(number).ok()).unwrap_or(StatusCode::OK)
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(boxed(Full::from(body)));
    *response.status_mut() = status;
    response
}

fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    body.map_err(|error| Box::new(error) as _).boxed_unsync()
}

/// `count` zeros in pieces of 64 KiB.
fn zeros(count: u64) -> Body {
    const PIECE: u64 = 64 * 1024;
    let piece = Bytes::from_static(&[0; PIECE as usize]);
    let frames = stream::unfold(count, move |left| {
        let now = piece.slice(..left.min(PIECE) as usize);
        async move {
            let left_then = left - now.len() as u64;
            (left > 0).then(|| (Ok::<_, Infallible>(Frame::data(now)), left_then))
        }
    });
    boxed(StreamBody::new(frames))
}

/// Numbered lines with a pause before each but the first.
fn lines(count: u64, pause_ms: u64) -> Body {
    let frames = stream::iter(0..count).then(move |number| async move {
        tokio::time::sleep(Duration::from_millis(if number == 0 { 0 } else { pause_ms })).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("line {number}\n"))))
    });
    boxed(StreamBody::new(frames))
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    Response::new(boxed(request.into_body()))
}

/// A body and a trailer; HTTP/1.1 announces it.
fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("4711"));
    let frames = [Frame::data(Bytes::from_static(b"see the trailer\n")), Frame::trailers(trailers)];
    let frames = stream::iter(frames.into_iter().map(Ok::<_, Infallible>));
    let mut response = Response::new(boxed(StreamBody::new(frames)));
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    response
}

/// 101 to a WebSocket that echoes every message.
fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::BAD_REQUEST, "no WebSocket request\n".to_owned());
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = switching("websocket");
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// 101 to a protocol that echoes bytes.
fn upgrade(request: Request<Incoming>) -> Response<Body> {
    echo_after_upgrade(request);
    switching("echo")
}

/// 200 to CONNECT, then bytes are echoed.
fn tunnel(request: Request<Incoming>) -> Response<Body> {
    echo_after_upgrade(request);
    text(StatusCode::OK, String::new())
}

fn echo_after_upgrade(mut request: Request<Incoming>) {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
            let _reset = tokio::io::copy(&mut from, &mut to).await;
        }
    });
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, String::new());
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

/// A query string, read without percent-decoding: the tests send none.
struct Query(String);

impl Query {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split('&').filter_map(|pair| pair.split_once('='))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn headers(&self) -> HeaderMap {
        let valid = |(name, value): (&str, &str)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in self.pairs().filter_map(valid) {
            headers.append(name, value);
        }
        headers
    }
}
