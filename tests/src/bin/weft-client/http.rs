//! Many HTTP requests over few kept-alive connections, with the counts of who answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{Tally, header};

#[derive(Args)]
pub(crate) struct Options {
    /// `http://host:port/path`
    url: Uri,
    /// Requests in all.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    connections: u64,
    /// HTTP/2 with prior knowledge.
    #[arg(long)]
    http2: bool,
    /// Headers as `name: value`.
    #[arg(long = "header", short = 'H')]
    headers: Vec<String>,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

pub(crate) async fn run(options: &Options) -> Result<Tally> {
    let authority = options.url.authority().context("the URL has no host")?.as_str();
    let left = Arc::new(AtomicU64::new(options.count));
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        let sender = connect(authority, options.http2).await?;
        let request = request(options, authority)?;
        connections.push(tokio::spawn(send_all(sender, request, Arc::clone(&left))));
    }
    let mut tally = Tally::default();
    for connection in connections {
        tally.add(connection.await?);
    }
    Ok(tally)
}

async fn connect(authority: &str, http2: bool) -> Result<Sender> {
    let address = if authority.rsplit(']').next().is_some_and(|rest| rest.contains(':')) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let stream = TcpStream::connect(&address).await.with_context(|| address.clone())?;
    stream.set_nodelay(true)?;
    let io = TokioIo::new(stream);
    // The error of a connection also reaches the request that is on it.
    if http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(async move { connection.await.ok() });
        Ok(Sender::Http2(sender))
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(async move { connection.await.ok() });
        Ok(Sender::Http1(sender))
    }
}

fn request(options: &Options, authority: &str) -> Result<Request<Empty<Bytes>>> {
    let mut builder = Request::builder();
    builder = if options.http2 {
        builder.uri(options.url.clone())
    } else {
        let path = options.url.path_and_query().map_or("/", |path| path.as_str());
        builder.uri(path).header("host", authority)
    };
    for text in &options.headers {
        let (name, value) = header(text)?;
        builder = builder.header(name, value);
    }
    Ok(builder.body(Empty::new())?)
}

/// Sends until no request is left or the connection has gone.
async fn send_all(
    mut sender: Sender,
    request: Request<Empty<Bytes>>,
    left: Arc<AtomicU64>,
) -> Tally {
    let mut tally = Tally::default();
    let one_less = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
        let answer = async {
            let response = sender.send(request.clone()).await?;
            let (parts, body) = response.into_parts();
            Ok::<_, hyper::Error>((parts, body.collect().await?.to_bytes()))
        };
        match answer.await {
            Ok((parts, body)) => {
                Tally::count(&mut tally.statuses, parts.status.as_str());
                for (name, map) in [("x-pod", &mut tally.pods), ("x-version", &mut tally.versions)]
                {
                    if let Some(value) = parts.headers.get(name) {
                        Tally::count(map, String::from_utf8_lossy(value.as_bytes()));
                    }
                }
                if tally.first.is_null() {
                    tally.first = serde_json::from_slice(&body).unwrap_or_default();
                }
            }
            Err(error) => {
                Tally::count(&mut tally.errors, error.to_string());
                break;
            }
        }
    }
    tally
}
