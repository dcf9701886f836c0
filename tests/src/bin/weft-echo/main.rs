//! The backend of the demo and the tests: it answers with what it has seen.
//!
//! One process is one pod. It binds only its own pod's addresses and serves, on each of them:
//! HTTP/1, HTTP/2 with prior knowledge and gRPC on one port ([`http`], [`grpc`]), the same behind
//! TLS, hand-written HTTP/1 for answers that no library would give ([`raw`]), and two plain TCP
//! ports ([`tcp`]). When every port listens it prints one line that begins with `listening`; after
//! that one line for each connection. On SIGTERM it ends as `--drain-seconds` says.

mod count;
mod grpc;
mod http;
mod idle;
mod raw;
mod tcp;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::http::HeaderName;
use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_tests::answer::Identity;

/// A backend that answers with what it has seen.
#[derive(Parser)]
struct Options {
    /// The workload's name, for the answers.
    #[arg(long, default_value = "echo")]
    service: String,
    /// The workload's version, for the answers.
    #[arg(long, default_value = "v1")]
    version: String,
    /// The pod's namespace, for the answers.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The pod's name, for the answers.
    #[arg(long, default_value = "echo-v1-1")]
    pod: String,
    /// The pod's addresses.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1")]
    bind: Vec<IpAddr>,
    /// HTTP/1, HTTP/2 with prior knowledge, gRPC and WebSocket.
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// The same as --http behind TLS with a certificate made at start; printed at `/certificate`.
    #[arg(long, default_value_t = 8443)]
    tls: u16,
    /// HTTP/1 written by hand: 103 Early Hints, broken answers, a close without an answer.
    #[arg(long, default_value_t = 8081)]
    raw: u16,
    /// TCP: the server speaks first, then echoes.
    #[arg(long, default_value_t = 9090)]
    tcp_banner: u16,
    /// TCP: echoes.
    #[arg(long, default_value_t = 9091)]
    tcp_echo: u16,
    /// So many of a hundred HTTP requests (not gRPC calls) are answered 500, evenly spread.
    #[arg(long, default_value_t = 0)]
    fail_percent: u64,
    /// An HTTP connection that has answered is closed after so many idle milliseconds at the latest,
    /// each time after another time; 0 for never.
    #[arg(long, default_value_t = 0)]
    idle_close_ms: u64,
    /// Counts HTTP requests by the value of this header; `/counted` tells.
    #[arg(long)]
    count_header: Option<HeaderName>,
    /// After SIGTERM new connections are refused, HTTP/1 connections close with their current
    /// answer, HTTP/2 connections get a GOAWAY; then it leaves, after so many seconds at the latest.
    /// With 0 it leaves at once, whatever is under way.
    #[arg(long, default_value_t = 0)]
    drain_seconds: u64,
}

/// What the handler of one port does with a connection.
trait Handler: Fn(TcpStream, SocketAddr) + Send + Sync + 'static {}
impl<F: Fn(TcpStream, SocketAddr) + Send + Sync + 'static> Handler for F {}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let draining = Arc::new(watch::Sender::new(false));
    let identity = Arc::new(Identity {
        service: options.service,
        version: options.version,
        pod: options.pod,
        namespace: options.namespace,
    });
    let (acceptor, certificate) = tls::acceptor()?;
    let http = Arc::new(http::Service {
        identity: Arc::clone(&identity),
        certificate,
        failing: http::Failing::new(options.fail_percent),
        draining: Arc::clone(&draining),
        idle_close: Duration::from_millis(options.idle_close_ms),
        counter: options.count_header.map(count::Counter::new),
        seen: Mutex::default(),
        failed: Mutex::default(),
    });
    let raw_identity = Arc::clone(&identity);
    let tcp_identity = Arc::clone(&identity);
    let tls_http = Arc::clone(&http);
    let mut listeners = JoinSet::new();

    listen(&mut listeners, &options.bind, options.http, move |stream, peer| {
        tokio::spawn(http::serve(Arc::clone(&http), stream, peer));
    })
    .await?;
    listen(&mut listeners, &options.bind, options.tls, move |stream, peer| {
        tokio::spawn(tls::serve(acceptor.clone(), Arc::clone(&tls_http), stream, peer));
    })
    .await?;
    listen(&mut listeners, &options.bind, options.raw, move |stream, _| {
        tokio::spawn(raw::serve(Arc::clone(&raw_identity), stream));
    })
    .await?;
    listen(&mut listeners, &options.bind, options.tcp_banner, move |stream, _| {
        tokio::spawn(tcp::banner(Arc::clone(&tcp_identity), stream));
    })
    .await?;
    listen(&mut listeners, &options.bind, options.tcp_echo, |stream, _| {
        tokio::spawn(tcp::echo(stream));
    })
    .await?;
    println!("listening as {} on {:?}", identity.pod, options.bind);
    terminate.recv().await;
    drop(listeners);
    let limit = Duration::from_secs(options.drain_seconds);
    draining.send_replace(true);
    let _cut = tokio::time::timeout(limit, draining.closed()).await;
    Ok(())
}

/// Accepts on one port of every address for as long as `listeners` lives.
async fn listen(
    listeners: &mut JoinSet<()>,
    addresses: &[IpAddr],
    port: u16,
    handler: impl Handler,
) -> Result<()> {
    let handler = Arc::new(handler);
    for address in addresses {
        let listener = bind(SocketAddr::new(*address, port)).await?;
        let handler = Arc::clone(&handler);
        listeners.spawn(async move {
            // The error of one connection (it was reset in the queue, say) is not the listener's.
            loop {
                if let Ok((stream, peer)) = listener.accept().await {
                    println!("connection from {peer} to port {port}");
                    let _only_slower = stream.set_nodelay(true);
                    handler(stream, peer);
                }
            }
        });
    }
    Ok(())
}

/// Binds, patiently: an IPv6 address may need a moment to be usable after it was added.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let start = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result.with_context(|| format!("cannot listen on {address}")),
        }
    }
}
