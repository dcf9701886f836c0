//! gRPC calls over one HTTP/2 connection, with the counts of who answered.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use serde_json::json;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use weft_tests::grpc::{BIDI, CLIENT_STREAM, EchoReply, EchoRequest, SERVER_STREAM, UNARY};

use crate::{Tally, header};

#[derive(Args)]
pub(crate) struct Options {
    /// `http://host:port`
    url: String,
    /// The method's kind.
    #[arg(long, value_enum, default_value = "unary")]
    method: Method,
    /// Calls, one after the other unless --concurrency says more.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Calls in flight on the one connection.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Messages in a stream.
    #[arg(long, default_value_t = 3)]
    messages: u32,
    /// The text of the messages.
    #[arg(long, default_value = "hello")]
    text: String,
    /// The gRPC status that the backend shall answer with.
    #[arg(long, default_value_t = 0)]
    status: i32,
    /// Metadata as `name: value`.
    #[arg(long = "header", short = 'H')]
    headers: Vec<String>,
    /// Another path, `/package.Service/Method`.
    #[arg(long)]
    path: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Method {
    Unary,
    Server,
    Client,
    Bidi,
}

pub(crate) async fn run(options: &Options) -> Result<Tally> {
    let channel = Endpoint::from_shared(options.url.clone())?.connect().await.context("connect")?;
    let calls = stream::iter(0..options.count)
        .map(|_| call(channel.clone(), options))
        .buffer_unordered(options.concurrency.max(1));
    let mut tally = Tally::default();
    let mut calls = std::pin::pin!(calls);
    while let Some(result) = calls.next().await {
        match result? {
            Ok(replies) => {
                Tally::count(&mut tally.statuses, "0");
                // The replies of one stream come from one pod: the first one stands for all.
                if let Some(reply) = replies.first() {
                    Tally::count(&mut tally.pods, reply.pod.as_str());
                    Tally::count(&mut tally.versions, reply.version.as_str());
                }
                if tally.first.is_null() {
                    let texts: Vec<&str> = replies.iter().map(|r| r.text.as_str()).collect();
                    let headers = replies.first().map(|reply| reply.headers.clone());
                    tally.first = json!({ "texts": texts, "headers": headers });
                }
            }
            Err(status) => {
                Tally::count(&mut tally.statuses, (status.code() as i32).to_string());
                if tally.first.is_null() {
                    tally.first = json!({ "message": status.message() });
                }
            }
        }
    }
    Ok(tally)
}

/// One call with all its replies.
async fn call(channel: Channel, options: &Options) -> Result<Result<Vec<EchoReply>, Status>> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.context("the connection")?;
    let text = options.text.clone();
    let message = EchoRequest { text, status: options.status, repeat: options.messages };
    let messages = stream::iter(std::iter::repeat_n(message.clone(), options.messages as usize));
    let path = options.path.as_deref().unwrap_or(match options.method {
        Method::Unary => UNARY,
        Method::Server => SERVER_STREAM,
        Method::Client => CLIENT_STREAM,
        Method::Bidi => BIDI,
    });
    let path: PathAndQuery = path.parse().context("--path")?;
    let codec = ProstCodec::<EchoRequest, EchoReply>::default();
    Ok(match options.method {
        Method::Unary => {
            let request = with_headers(Request::new(message), options)?;
            grpc.unary(request, path, codec).await.map(|reply| vec![reply.into_inner()])
        }
        Method::Client => {
            let request = with_headers(Request::new(messages), options)?;
            grpc.client_streaming(request, path, codec).await.map(|reply| vec![reply.into_inner()])
        }
        Method::Server => {
            let request = with_headers(Request::new(message), options)?;
            match grpc.server_streaming(request, path, codec).await {
                Ok(replies) => collect(replies.into_inner()).await,
                Err(status) => Err(status),
            }
        }
        Method::Bidi => {
            let request = with_headers(Request::new(messages), options)?;
            match grpc.streaming(request, path, codec).await {
                Ok(replies) => collect(replies.into_inner()).await,
                Err(status) => Err(status),
            }
        }
    })
}

async fn collect(mut replies: tonic::Streaming<EchoReply>) -> Result<Vec<EchoReply>, Status> {
    let mut all = Vec::new();
    while let Some(reply) = replies.message().await? {
        all.push(reply);
    }
    Ok(all)
}

fn with_headers<T>(mut request: Request<T>, options: &Options) -> Result<Request<T>> {
    for text in &options.headers {
        let (name, value) = header(text)?;
        let value = MetadataValue::<Ascii>::try_from(value)?;
        request.metadata_mut().append(MetadataKey::<Ascii>::from_bytes(name.as_bytes())?, value);
    }
    Ok(request)
}
