//! The outbound side: accepts what was redirected to the proxy, finds out where it was meant to go
//! and what it speaks, and hands it to [`crate::request`] or to [`crate::opaque`].

mod activity;
mod clients;
mod frames;
mod http1;
mod http2;
mod pace;
mod stream;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::client_hello::{self, Parsed};
use crate::metrics::Metrics;
use crate::opaque::{self, Ended, Hello, Stream};
use crate::prefixed::Prefixed;
use crate::protocol::{self, Declared, Detected};
use crate::request::Connection;
use crate::socket;
use crate::table::{Destination, Routing, StreamRouting};
use crate::worker::{Limits, Worker};
pub(crate) use activity::{Activity, UnderWay};
pub(crate) use clients::{Clients, watch};

/// How long accepting pauses when the process is out of descriptors or memory, at most; half of it
/// at least, so that workers do not come back in step.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How often it is told that accepting pauses.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Connections that are accepted before what others have brought is served.
const ACCEPTS: u32 = 8;

/// Enough for a request line's beginning, and for the head of most requests.
const FIRST_READ: usize = 4096;

/// A connection, accepted and looked up.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) client: SocketAddr,
    /// The address that the application dialled.
    pub(crate) original: SocketAddr,
}

/// Accepts on `port`, the listener's, until the worker's runtime ends.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener, port: u16) {
    let connections = worker.shared.metrics.clone();
    let connections = connections.connections();
    let Limits { max_connections, .. } = worker.shared.limits;
    let mut told = None;
    let mut accepted = 0;
    loop {
        if accepted == ACCEPTS {
            accepted = 0;
            tokio::task::yield_now().await;
        }
        if connections.open() >= max_connections {
            connections.accept_failed();
            if is_time_to_tell(&mut told) {
                tracing::warn!(max_connections, "too many connections are open: pausing");
            }
            pause().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, client)) => {
                accepted += 1;
                tokio::task::spawn_local(serve(worker.clone(), stream, client, port));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                connections.accept_failed();
                if is_time_to_tell(&mut told) {
                    tracing::warn!(%error, "cannot accept: pausing");
                }
                pause().await;
            }
        }
    }
}

/// Not with every pause: a flood would fill the log.
fn is_time_to_tell(told: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_time = told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN);
    if is_time {
        *told = Some(now);
    }
    is_time
}

async fn pause() {
    tokio::time::sleep(ACCEPT_PAUSE.mul_f32(0.5 + fastrand::f32() / 2.0)).await;
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

async fn serve(worker: Rc<Worker>, stream: TcpStream, client: SocketAddr, port: u16) {
    let _open = Open::new(worker.shared.metrics.clone());
    // Boxed here, where it is made: on its way into a task tokio moves a future half a dozen times.
    if let Err(error) = Box::pin(serve_accepted(worker, stream, client, port)).await {
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
    port: u16,
) -> io::Result<()> {
    let Some(original) = socket::original_destination(&stream, client, port)? else {
        // Dialled, not redirected: to pass it on would be to dial ourselves, for ever.
        worker.shared.metrics.connections().loop_refused();
        tracing::warn!(%client, port, "connection refused: it was made to the proxy's own port");
        return Ok(());
    };
    serve_redirected(worker, Accepted { stream, client, original }).await
}

/// Serves a connection that was meant for `accepted.original`.
pub(crate) async fn serve_redirected(worker: Rc<Worker>, accepted: Accepted) -> io::Result<()> {
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
            socket::acknowledge(&accepted.stream);
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
            let is_http2 = detected == Detected::Http2;
            let activity =
                is_http2.then(|| Activity::new(&worker.shared.limits, &worker.clients.pace));
            let connection = Rc::new(Connection {
                worker: worker.clone(),
                client: accepted.client,
                ip: accepted.original.ip(),
                port: accepted.original.port(),
                stream: stream.handle().clone(),
                http2: activity.clone(),
                found_in: Cell::new(None),
            });
            let connections = worker.shared.metrics.connections();
            let ended = if let Some(activity) = activity {
                connections.detected("http2");
                // Boxed: its state is large, and a connection of HTTP/1 would have room for it.
                Box::pin(http2::serve(&worker, stream, connection, activity)).await
            } else {
                connections.detected("http1");
                http1::serve(&worker, stream, connection).await
            };
            if let Some(verdict) = ended {
                connections.ended(verdict.reason());
            }
            Ok(())
        }
        Detected::Tls | Detected::Other | Detected::Incomplete => {
            socket::acknowledge(&accepted.stream);
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
            // What has come already needs no timer.
            biased;
            read = stream.read_buf(&mut first) => read?,
            () = &mut deadline => {
                if is_http {
                    worker.shared.metrics.connections().ended("header_timeout");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no request came"));
                }
                if first.is_empty() {
                    destination.learn_server_first();
                }
                return Ok((Detected::Other, first));
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
            Detected::Incomplete => socket::acknowledge(stream),
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
            biased;
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

#[cfg(test)]
mod tests;
