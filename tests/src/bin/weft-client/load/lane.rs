//! A lane sends one request at a time: over an HTTP/1 connection of its own, or as one of the streams
//! of a connection that several lanes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use weft_tests::grpc::{BIDI, EchoReply, EchoRequest, UNARY};

use super::{Load, Protocol, Target};

/// What is kept of an answer.
pub(super) struct Answer {
    pub(super) status: String,
    pub(super) pod: String,
    pub(super) version: String,
    /// The value of the watched header.
    pub(super) watched: String,
    /// What is wrong with it, in words.
    pub(super) failure: Option<String>,
}

pub(super) struct Lane {
    load: Arc<Load>,
    target: Arc<Target>,
    connection: Connection,
}

enum Connection {
    Http1 {
        sender: Option<http1::SendRequest<Full<Bytes>>>,
        used: u64,
    },
    Http2(Arc<Http2>),
    /// A new one for each.
    Tcp,
    /// Which makes a new connection by itself when the last one has gone.
    Grpc {
        channel: Channel,
        used: Arc<AtomicU64>,
    },
}

/// A connection that several lanes share.
#[derive(Default)]
struct Http2 {
    sender: Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
    used: AtomicU64,
}

impl Lane {
    /// The lanes of one connection.
    pub(super) fn of_connection(
        load: &Arc<Load>,
        target: &Arc<Target>,
        streams: usize,
    ) -> Result<Vec<Lane>> {
        let channel = Endpoint::from_shared(target.url.to_string())?.connect_lazy();
        let (http2, used) = (Arc::new(Http2::default()), Arc::new(AtomicU64::new(0)));
        let lane = || Lane {
            load: load.clone(),
            target: target.clone(),
            connection: match load.options.protocol {
                Protocol::Http1 => Connection::Http1 { sender: None, used: 0 },
                Protocol::Http2 => Connection::Http2(http2.clone()),
                Protocol::Grpc | Protocol::GrpcStream => {
                    Connection::Grpc { channel: channel.clone(), used: used.clone() }
                }
                Protocol::Tcp => Connection::Tcp,
            },
        };
        Ok((0..streams).map(|_| lane()).collect())
    }

    /// How many requests the connection has carried.
    pub(super) fn earlier(&self) -> u64 {
        match &self.connection {
            Connection::Http1 { used, .. } => *used,
            Connection::Http2(http2) => http2.used.load(Ordering::Relaxed),
            Connection::Grpc { used, .. } => used.load(Ordering::Relaxed),
            Connection::Tcp => 0,
        }
    }

    /// Sends a request and reads the answer to its end. An error says why there is none.
    pub(super) async fn send(&mut self) -> Result<Answer, String> {
        let limit = self.load.options.timeout_ms;
        let answer = tokio::time::timeout(Duration::from_millis(limit), self.exchange()).await;
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("no answer in {limit} ms")),
        };
        if answer.is_err()
            && let Connection::Http1 { sender, .. } = &mut self.connection
        {
            *sender = None;
        }
        answer
    }

    async fn exchange(&mut self) -> Result<Answer> {
        let Lane { load, target, connection } = self;
        let reuse = load.options.reuse;
        let response = match connection {
            Connection::Http1 { sender, used } => {
                let open = sender.take().filter(|sender| !sender.is_closed() && *used < reuse);
                let mut open = match open {
                    Some(open) => open,
                    None => {
                        *used = 0;
                        http1_to(&target.url).await?
                    }
                };
                open.ready().await?;
                *used += 1;
                let response = open.send_request(load.request(&target.url)?).await?;
                *sender = Some(open);
                response
            }
            Connection::Http2(http2) => {
                let mut sender = http2.sender_to(&target.url, reuse).await?;
                sender.ready().await?;
                sender.send_request(load.request(&target.url)?).await?
            }
            Connection::Grpc { channel, used } => {
                used.fetch_add(1, Ordering::Relaxed);
                return load.call(channel.clone()).await;
            }
            Connection::Tcp => return load.echo(connect(&target.url).await?).await,
        };
        load.read(response).await
    }
}

impl Http2 {
    async fn sender_to(&self, url: &Uri, reuse: u64) -> Result<http2::SendRequest<Full<Bytes>>> {
        let mut slot = self.sender.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed())
            && self.used.fetch_add(1, Ordering::Relaxed) < reuse
        {
            return Ok(sender.clone());
        }
        let io = TokioIo::new(connect(url).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(async move { connection.await.ok() });
        self.used.store(1, Ordering::Relaxed);
        *slot = Some(sender.clone());
        Ok(sender)
    }
}

async fn http1_to(url: &Uri) -> Result<http1::SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(connect(url).await?)).await?;
    // The error of a connection also reaches the request that is on it.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

/// Returns when the URL's host has an address.
pub(super) async fn named(url: &Uri) -> Result<()> {
    let address = address(url)?;
    while tokio::net::lookup_host(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn connect(url: &Uri) -> Result<TcpStream> {
    let address = address(url)?;
    let stream = TcpStream::connect(address).await;
    let stream = stream.with_context(|| format!("connect to {}", address.0))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn address(url: &Uri) -> Result<(&str, u16)> {
    let host = url.host().context("the URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host, url.port_u16().unwrap_or(80)))
}

impl Load {
    fn request(&self, url: &Uri) -> Result<Request<Full<Bytes>>> {
        let options = &self.options;
        let mut builder = Request::builder().method(options.method.clone());
        builder = match (options.protocol, url.authority()) {
            (Protocol::Http1, Some(authority)) => builder
                .uri(url.path_and_query().map_or("/", PathAndQuery::as_str))
                .header("host", authority.as_str()),
            _ => builder.uri(url.clone()),
        };
        for (name, value) in self.headers() {
            builder = builder.header(name, value);
        }
        Ok(builder.body(Full::from(vec![b'x'; options.body_bytes]))?)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Answer> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.context("in the body")?.to_bytes();
        let text = |name: &str| header_text(&parts.headers, name);
        let failure = parts.status.as_u16() >= 400;
        Ok(Answer {
            status: parts.status.as_str().to_owned(),
            pod: text("x-pod"),
            version: text("x-version"),
            watched: self.options.watch_header.as_deref().map(text).unwrap_or_default(),
            failure: failure.then(|| {
                let body = String::from_utf8_lossy(&body[..body.len().min(200)]);
                format!("{} {} {body}", parts.status.as_str(), text("x-weft-reason"))
            }),
        })
    }

    /// A unary call, or a stream.
    async fn call(&self, channel: Channel) -> Result<Answer> {
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.context("the connection")?;
        let text = "x".repeat(self.options.body_bytes);
        let message = EchoRequest { text, ..EchoRequest::default() };
        let codec = ProstCodec::<EchoRequest, EchoReply>::default();
        let answer = if self.options.protocol == Protocol::Grpc {
            let path = PathAndQuery::from_static(UNARY);
            grpc.unary(self.with_headers(message)?, path, codec).await
        } else {
            let messages = stream::iter(vec![message; self.options.messages]);
            let path = PathAndQuery::from_static(BIDI);
            match grpc.streaming(self.with_headers(messages)?, path, codec).await {
                Ok(replies) => self.last_of(replies).await,
                Err(status) => Err(status),
            }
        };
        let watched = |metadata: &MetadataMap| {
            let watched = self.options.watch_header.as_deref();
            watched.map(|name| header_text(metadata.as_ref(), name)).unwrap_or_default()
        };
        Ok(match answer {
            Ok(reply) => Answer {
                watched: watched(reply.metadata()),
                status: (Code::Ok as i32).to_string(),
                pod: reply.get_ref().pod.clone(),
                version: reply.get_ref().version.clone(),
                failure: None,
            },
            Err(status) => {
                let code = (status.code() as i32).to_string();
                let reason = header_text(status.metadata().as_ref(), "x-weft-reason");
                Answer {
                    watched: watched(status.metadata()),
                    failure: Some(format!("{code} {reason} {}", status.message())),
                    status: code,
                    pod: String::new(),
                    version: String::new(),
                }
            }
        })
    }

    fn with_headers<T>(&self, message: T) -> Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        for (name, value) in self.headers() {
            let value = MetadataValue::<Ascii>::try_from(value)?;
            let name = MetadataKey::<Ascii>::from_bytes(name.as_bytes())?;
            request.metadata_mut().append(name, value);
        }
        Ok(request)
    }

    /// Reads a stream to its end: every message is to come back.
    async fn last_of(
        &self,
        replies: tonic::Response<Streaming<EchoReply>>,
    ) -> Result<tonic::Response<EchoReply>, Status> {
        let (metadata, mut replies, extensions) = replies.into_parts();
        let (mut count, mut last) = (0, EchoReply::default());
        while let Some(reply) = replies.message().await? {
            (count, last) = (count + 1, reply);
        }
        if count != self.options.messages {
            return Err(Status::data_loss(format!("{count} messages came back")));
        }
        Ok(tonic::Response::from_parts(metadata, last, extensions))
    }

    /// Sends bytes on a connection and reads them back.
    async fn echo(&self, mut stream: TcpStream) -> Result<Answer> {
        let length = self.options.body_bytes;
        let (mut from, mut to) = stream.split();
        let send = async {
            to.write_all(&vec![b'x'; length]).await?;
            to.shutdown().await
        };
        let mut echoed = Vec::with_capacity(length);
        tokio::try_join!(send, from.read_to_end(&mut echoed)).context("on the connection")?;
        let count = echoed.len();
        ensure!(count == length, "the connection ended after {count} of {length} bytes");
        Ok(Answer {
            status: "echoed".to_owned(),
            pod: String::new(),
            version: String::new(),
            watched: String::new(),
            failure: None,
        })
    }
}

fn header_text(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .unwrap_or_default()
}
