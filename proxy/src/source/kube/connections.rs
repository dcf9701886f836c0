//! The connections to the API server: of HTTP/2, shared by all that is asked and watched.
//!
//! A watch is a stream for minutes, and an API server allows a connection so many streams only. So a
//! connection gets no more of them than it may carry: nothing ever waits behind a watch for a stream, for
//! what has no room opens the next connection. One that carries nothing any more is closed.
//!
//! An API server that does not offer HTTP/2 (RFC 7301's ALPN) is asked over HTTP/1.1, with a connection for
//! each watch.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt, RustlsTlsError};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::{BoxError, ServiceExt};

use crate::backend::error_chain;

/// The most streams of a connection. kube-apiserver allows 100 (`--http2-max-streams-per-connection`),
/// which RFC 9113 (section 6.5.2) recommends as the least; where it says less than this, less it is.
const MAX_STREAMS: usize = 64;
/// What a stream, and all streams of a connection, may have under way: some pages of a list.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// What a connection of HTTP/1.1 may have read and not yet handed on. A list fills what it is given, up to
/// 400 KiB where nothing is said, and keeps it for the watch that follows; each watch has a connection.
const READ_BUFFER: usize = 16 * 1024;

/// How long what a connection does may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// TCP's handshake, TLS's and HTTP/2's.
    pub(super) connect: Duration,
    /// After so long without a word from the API server it gets a PING (RFC 9113, section 6.7) …
    pub(super) ping_after: Duration,
    /// … and where that is not answered the connection is given up, with all its watches.
    pub(super) answer: Duration,
    /// How long a connection is kept that carries nothing.
    pub(super) idle: Duration,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// With [`PING_TIMEOUT`] much shorter than a watch's silence: a dead connection silences all of them.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);

/// Connections as requests need them.
pub(super) struct Connections {
    connector: HttpsConnector<HttpConnector>,
    /// For an API server without HTTP/2.
    http1: legacy::Client<HttpsConnector<HttpConnector>, Body>,
    /// Whether it is one. So it stays until the process ends: to find out takes a connection.
    is_http1: AtomicBool,
    times: Times,
    /// How many streams a connection may have: [`MAX_STREAMS`], or what the API server said last.
    max_streams: Arc<AtomicUsize>,
    /// In the order in which they were opened: what comes goes to the first that has room, so that the
    /// later ones are no longer used one day.
    open: Mutex<Vec<Arc<Connection>>>,
}

/// A connection that is being opened, is open, or has ended.
struct Connection {
    /// Or why not.
    opened: Shared<BoxFuture<'static, Result<Opened, Arc<str>>>>,
    /// How many streams it has, from the moment that somebody means to open one.
    streams: watch::Sender<usize>,
}

#[derive(Clone)]
enum Opened {
    Http2(SendRequest<Body>),
    /// The API server does not offer HTTP/2; there is no connection.
    Http1,
}

/// One of a connection's streams; over when dropped.
struct Stream(Arc<Connection>);

/// A response's body, with the stream that it comes over.
pub(super) struct StreamBody {
    body: Incoming,
    /// None over HTTP/1.1.
    _stream: Option<Stream>,
}

impl Default for Times {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, ping_after: PING_AFTER, answer: PING_TIMEOUT, idle: IDLE }
    }
}

impl Connections {
    pub(super) fn new(config: &kube::Config, times: Times) -> kube::Result<Self> {
        let http1 = legacy::Client::builder(TokioExecutor::new())
            .http1_max_buf_size(READ_BUFFER)
            .build(config.rustls_https_connector()?);
        Ok(Self {
            connector: connector(config, times)?,
            http1,
            is_http1: AtomicBool::new(config.cluster_url.scheme() != Some(&Scheme::HTTPS)),
            times,
            max_streams: Arc::new(AtomicUsize::new(MAX_STREAMS)),
            open: Mutex::default(),
        })
    }

    /// The answer's head; its body may go on for long.
    pub(super) async fn send(
        self: Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<Response<StreamBody>, BoxError> {
        let mut is_second = false;
        while !self.is_http1.load(Ordering::Relaxed) {
            let stream = self.stream(request.uri());
            let opened = stream.0.opened.clone().await;
            let Opened::Http2(mut sender) = opened.map_err(|why| why.to_string())? else {
                self.is_http1.store(true, Ordering::Relaxed);
                break;
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok(response.map(|body| StreamBody { body, _stream: Some(stream) }));
                }
                Err(mut error) => match error.take_message() {
                    // It has not been sent: the connection was about to end, by a GOAWAY for one.
                    Some(unsent) if !is_second => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
            is_second = true;
        }
        let response = self.http1.request(request).await?;
        Ok(response.map(|body| StreamBody { body, _stream: None }))
    }

    /// A stream of the first connection that has room, or of a new one.
    fn stream(&self, server: &Uri) -> Stream {
        let max_streams = self.max_streams.load(Ordering::Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| !connection.has_ended());
        let with_room = open.iter().find(|connection| *connection.streams.borrow() < max_streams);
        let connection = with_room.cloned().unwrap_or_else(|| {
            let connection = Arc::new(self.connection(server.clone()));
            open.push(connection.clone());
            connection
        });
        // Before the lock is gone: the next one must see it.
        Stream::new(connection)
    }

    /// Opens a connection, whoever goes on waiting for it.
    fn connection(&self, server: Uri) -> Connection {
        let streams = watch::Sender::new(0);
        let (connector, times) = (self.connector.clone(), self.times);
        let (max_streams, carried) = (self.max_streams.clone(), streams.subscribe());
        let opening = tokio::spawn(async move {
            let opening = open(connector, server, times, max_streams, carried);
            timeout(times.connect, opening)
                .await
                .unwrap_or_else(|_| Err(format!("no connection in {:?}", times.connect).into()))
        });
        let opened = opening.map(|opened| {
            let opened = opened.unwrap_or_else(|panic| Err(panic.into()));
            opened.map_err(|error| error_chain(&*error).into())
        });
        Connection { opened: opened.boxed().shared(), streams }
    }
}

/// Connects, and has a task drive the connection until it ends or is not used any more.
async fn open(
    connector: HttpsConnector<HttpConnector>,
    server: Uri,
    times: Times,
    max_streams: Arc<AtomicUsize>,
    streams: watch::Receiver<usize>,
) -> Result<Opened, BoxError> {
    let stream = connector.oneshot(server).await?;
    if !stream.connected().is_negotiated_h2() {
        return Ok(Opened::Http1);
    }
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Until the API server has said it.
        .initial_max_send_streams(max_streams.load(Ordering::Relaxed))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(times.ping_after)
        .keep_alive_timeout(times.answer)
        .keep_alive_while_idle(true)
        .handshake(stream)
        .await?;
    tokio::spawn(async move {
        let driven = std::future::poll_fn(|context| {
            let driven = connection.poll_unpin(context);
            let allowed = connection.current_max_send_streams();
            max_streams.store(allowed.clamp(1, MAX_STREAMS), Ordering::Relaxed);
            driven
        });
        tokio::select! {
            ended = driven => tracing::debug!(?ended, "a connection to the API server has ended"),
            () = unused(streams, times.idle) => {}
        }
    });
    Ok(Opened::Http2(sender))
}

/// Returns when a connection has carried nothing for so long, or is forgotten.
async fn unused(mut streams: watch::Receiver<usize>, idle: Duration) {
    while streams.wait_for(|count| *count == 0).await.is_ok() {
        let used = pin!(streams.wait_for(|count| *count > 0));
        if !matches!(timeout(idle, used).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// As kube makes it, and offers HTTP/2.
fn connector(config: &kube::Config, times: Times) -> kube::Result<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // What is under way to a host that is gone ends no later than by a PING.
    tcp.set_tcp_user_timeout(Some(times.ping_after + times.answer));
    let mut tls = config.rustls_client_config()?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(match &config.tls_server_name {
        None => HttpsConnector::new(tcp, tls, true, Arc::new(DefaultServerNameResolver::default())),
        Some(name) => {
            let name = name.clone().try_into().map_err(RustlsTlsError::InvalidServerName);
            let name = FixedServerNameResolver::new(name.map_err(kube::Error::RustlsTls)?);
            HttpsConnector::new(tcp, tls, true, Arc::new(name))
        }
    })
}

impl Connection {
    fn has_ended(&self) -> bool {
        match self.opened.peek() {
            None => false,
            Some(Ok(Opened::Http2(sender))) => sender.is_closed(),
            Some(Ok(Opened::Http1) | Err(_)) => true,
        }
    }
}

impl Stream {
    fn new(connection: Arc<Connection>) -> Self {
        connection.streams.send_modify(|count| *count += 1);
        Self(connection)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.send_modify(|count| *count -= 1);
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
