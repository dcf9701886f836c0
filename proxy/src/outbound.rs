//! The outbound side: accepts what was redirected to the proxy, finds out where it was meant to go
//! and what it speaks, and hands it to [`crate::request`] or to [`crate::opaque`].

mod http1;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::backend::{LocalExecutor, error_chain, set_options};
use crate::client_hello::{self, Parsed};
use crate::metrics::Metrics;
use crate::opaque::{self, Ended, Hello, Stream};
use crate::prefixed::Prefixed;
use crate::protocol::{self, Declared, Detected};
use crate::request::{self, Connection};
use crate::socket;
use crate::table::{Destination, Routing, StreamRouting};
use crate::worker::Worker;

/// How long accepting pauses when the process is out of descriptors or memory, at most; half of it
/// at least, so that workers do not come back in step.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Enough for a request line's beginning, and for the head of most requests.
const FIRST_READ: usize = 4096;

/// What one HTTP/2 client may have under way, and how its misuse is bounded.
const HTTP2_STREAMS: u32 = 256;
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const HTTP2_RESETS: usize = 64;

/// A connection, accepted and looked up.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) client: SocketAddr,
    /// The address that the application dialled.
    pub(crate) original: SocketAddr,
}

/// Accepts until the worker's runtime ends.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                tokio::task::spawn_local(serve(worker.clone(), stream, client));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                worker.shared.metrics.connections().accept_failed();
                tracing::warn!(%error, "cannot accept: pausing");
                tokio::time::sleep(ACCEPT_PAUSE.mul_f32(0.5 + fastrand::f32() / 2.0)).await;
            }
        }
    }
}

/// Errors of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn serve(worker: Rc<Worker>, stream: TcpStream, client: SocketAddr) {
    let _open = Open::new(worker.shared.metrics.clone());
    if let Err(error) = serve_accepted(worker, stream, client).await {
        tracing::debug!(%client, %error, "connection ended");
    }
}

/// A connection that counts as open until dropped, also by a panic.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections().opened();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections().closed();
    }
}

async fn serve_accepted(
    worker: Rc<Worker>,
    stream: TcpStream,
    client: SocketAddr,
) -> io::Result<()> {
    let local = stream.local_addr()?;
    let original = socket::original_destination(&stream)?;
    if original == local {
        // Dialled, not redirected: to pass it on would be to dial ourselves, for ever.
        worker.shared.metrics.connections().loop_refused();
        tracing::warn!(%client, %local, "connection refused: it was made to the proxy's own port");
        return Ok(());
    }
    serve_redirected(worker, Accepted { stream, client, original }).await
}

/// Serves a connection that was meant for `accepted.original`.
pub(crate) async fn serve_redirected(worker: Rc<Worker>, accepted: Accepted) -> io::Result<()> {
    set_options(&accepted.stream)?;
    let original = accepted.original;
    let table = worker.table_for(original.ip(), original.port()).await;
    let destination = table.destination(original.ip(), original.port()).cloned();
    match destination {
        Some(destination) => {
            destination.touch();
            to_service(worker, accepted, destination).await
        }
        None => {
            worker.shared.metrics.connections().detected("passthrough");
            opaque::to_original(&worker, accepted.stream, original).await
        }
    }
}

/// A connection to a Service's port.
async fn to_service(
    worker: Rc<Worker>,
    mut accepted: Accepted,
    destination: Arc<Destination>,
) -> io::Result<()> {
    let connections = worker.shared.metrics.clone();
    let connections = connections.connections();
    let (detected, mut first) = match foreseen(&destination) {
        Some(detected) => (detected, Vec::new()),
        None => detect(&worker, &mut accepted.stream, &destination).await?,
    };
    match detected {
        Detected::Http1 | Detected::Http2 => {
            let stream = Prefixed::new(accepted.stream, first);
            let connection = Rc::new(Connection {
                worker: worker.clone(),
                client: accepted.client,
                ip: accepted.original.ip(),
                port: accepted.original.port(),
                stream: stream.handle().clone(),
            });
            if detected == Detected::Http2 {
                connections.detected("http2");
                serve_http2(&worker, stream, connection).await;
            } else {
                connections.detected("http1");
                http1::serve(&worker, stream, connection).await;
            }
            Ok(())
        }
        Detected::Tls | Detected::Other | Detected::Incomplete => {
            let is_routed = matches!(destination.streams, StreamRouting::Tls { .. });
            let hello = match detected {
                Detected::Tls if is_routed => {
                    client_hello(&worker, &mut accepted.stream, &mut first).await?
                }
                _ => Hello::Unread,
            };
            let is_tls = detected == Detected::Tls && !matches!(hello, Hello::Refused(_));
            connections.detected(if is_tls { "tls" } else { "opaque" });
            let client = Prefixed::new(accepted.stream, first);
            let (client_addr, original) = (accepted.client, accepted.original);
            let stream = Stream { client, client_addr, original, is_tls, hello };
            opaque::to_service(&worker, stream, &destination).await
        }
    }
}

/// What connections to the destination are taken for without a look at their bytes, where that is so.
pub(crate) fn foreseen(destination: &Destination) -> Option<Detected> {
    match &destination.streams {
        // Whatever a connection carries, it is TCP: a TCPRoute needs none of its bytes.
        StreamRouting::Tcp { .. } => Some(Detected::Other),
        // What the port does not declare, its routes do.
        StreamRouting::Tls { .. } if !destination.declared.is_http() => Some(Detected::Tls),
        StreamRouting::Unrouted if destination.declared == Declared::Opaque => {
            Some(Detected::Other)
        }
        _ => None,
    }
}

/// Reads what a client says first, until it is plain what it speaks. What was read is returned.
///
/// A port that declares HTTP, or has HTTP routes, is given the time of a request's head. Elsewhere
/// a client that stays silent for a short while waits for the server, which is remembered.
async fn detect(
    worker: &Worker,
    stream: &mut TcpStream,
    destination: &Destination,
) -> io::Result<(Detected, Vec<u8>)> {
    let limits = &worker.shared.limits;
    let is_http =
        destination.declared.is_http() || matches!(destination.routing, Routing::Routed { .. });
    let mut first = Vec::new();
    if !is_http && destination.is_server_first() {
        return Ok((Detected::Other, first));
    }
    let patience = if is_http { limits.header_timeout } else { limits.detect_timeout };
    let mut deadline = pin!(tokio::time::sleep(patience));
    loop {
        first.reserve(FIRST_READ);
        let read = tokio::select! {
            read = stream.read_buf(&mut first) => read?,
            () = &mut deadline => {
                if is_http && first.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no request came"));
                }
                if first.is_empty() {
                    destination.learn_server_first();
                }
                // Part of a request: hyper's own deadline ends what does not go on.
                return Ok((if is_http { Detected::Http1 } else { Detected::Other }, first));
            }
        };
        match protocol::detect(&first) {
            // What declares itself HTTP and has sent enough to tell it from TLS and HTTP/2 is left to
            // the HTTP parser and its answers.
            Detected::Incomplete if is_http && first.len() >= 3 && !first.starts_with(b"PRI") => {
                return Ok((Detected::Http1, first));
            }
            Detected::Other if destination.declared.is_http() => {
                return Ok((Detected::Http1, first));
            }
            // The client has closed its side; without a request there is nobody to ask for anything.
            Detected::Incomplete if read == 0 && is_http && first.is_empty() => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no request came"));
            }
            Detected::Incomplete if read == 0 => return Ok((Detected::Other, first)),
            Detected::Incomplete => {}
            detected => return Ok((detected, first)),
        }
    }
}

/// Reads a ClientHello to its end, behind what there is of it in `first`: TLSRoutes are attached, so
/// that nothing else can be served.
async fn client_hello(
    worker: &Worker,
    stream: &mut TcpStream,
    first: &mut Vec<u8>,
) -> io::Result<Hello> {
    let refused = |reason: &'static str, message: String| {
        Ok(Hello::Refused(Ended { reason, message: message.into() }))
    };
    let patience = worker.shared.limits.header_timeout;
    let mut deadline = pin!(tokio::time::sleep(patience));
    loop {
        match client_hello::parse(first) {
            Parsed::Complete { server_name } => return Ok(Hello::Tls(server_name)),
            Parsed::Incomplete => {}
            Parsed::NotTls => {
                return Ok(Hello::Refused(not_tls()));
            }
            Parsed::Invalid(why) => return refused("client_hello_invalid", why.to_owned()),
        }
        first.reserve(FIRST_READ);
        let read = tokio::select! {
            read = stream.read_buf(first) => read?,
            () = &mut deadline => {
                let message = format!("no whole ClientHello within {} s", patience.as_secs());
                return refused("client_hello_timeout", message);
            }
        };
        if read == 0 {
            let message = "the client closed before its ClientHello was whole".to_owned();
            return refused("client_closed", message);
        }
    }
}

/// A client that speaks something else than the TLS that TLSRoutes are held against.
pub(crate) fn not_tls() -> Ended {
    Ended { reason: "not_tls", message: "TLSRoutes are attached, and it is no TLS".into() }
}

async fn serve_http2(worker: &Rc<Worker>, stream: Prefixed, connection: Rc<Connection>) {
    let limits = &worker.shared.limits;
    let client = connection.client;
    let max_header_bytes = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
    let serving = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(max_header_bytes)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS)
        .auto_date_header(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| request::serve(connection.clone(), request)),
        );
    let mut serving = pin!(serving);
    let mut watch = worker.shared.drain.watch();
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = watch.draining() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%client, error = error_chain(&error), "HTTP/2 connection ended");
    }
}

#[cfg(test)]
mod tests;
