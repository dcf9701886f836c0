//! The gRPC echo service on tonic's server half, without generated code: one function per method.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::server::Grpc;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;
use weft_tests::answer::Identity;
use weft_tests::grpc::{BIDI, CLIENT_STREAM, EchoReply, EchoRequest, SERVER_STREAM, UNARY};

use crate::http::Body;

type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

/// Whether the request is gRPC by its content type.
pub(crate) fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers one call.
pub(crate) async fn answer(identity: Arc<Identity>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let request = request.map(tonic::body::Body::new);
    let mut grpc = Grpc::new(ProstCodec::<EchoReply, EchoRequest>::default());
    let response = match path.as_str() {
        UNARY => grpc.unary(service_fn(move |r| unary(Arc::clone(&identity), r)), request).await,
        SERVER_STREAM => {
            let method = service_fn(move |r| server_stream(Arc::clone(&identity), r));
            grpc.server_streaming(method, request).await
        }
        CLIENT_STREAM => {
            let method = service_fn(move |r| client_stream(Arc::clone(&identity), r));
            grpc.client_streaming(method, request).await
        }
        BIDI => grpc.streaming(service_fn(move |r| bidi(Arc::clone(&identity), r)), request).await,
        _ => Status::unimplemented(format!("no method {path}")).into_http(),
    };
    response.map(|body| BodyExt::map_err(body, Into::into).boxed_unsync())
}

async fn unary(
    identity: Arc<Identity>,
    request: tonic::Request<EchoRequest>,
) -> Result<tonic::Response<EchoReply>, Status> {
    let (metadata, _, message) = request.into_parts();
    reply(&identity, &metadata, message).map(tonic::Response::new)
}

async fn server_stream(
    identity: Arc<Identity>,
    request: tonic::Request<EchoRequest>,
) -> Result<tonic::Response<Replies>, Status> {
    let (metadata, _, message) = request.into_parts();
    let (repeat, end) = (message.repeat.max(1) as usize, message.status);
    let text = message.text.clone();
    let one = reply(&identity, &metadata, EchoRequest { status: 0, ..message })?;
    let replies = stream::iter(std::iter::repeat_n(Ok(one), repeat));
    // An error on demand comes after the replies: in the trailers.
    let error = (end != 0).then(|| Err(Status::new(Code::from_i32(end), text)));
    Ok(tonic::Response::new(Box::pin(replies.chain(stream::iter(error)))))
}

async fn client_stream(
    identity: Arc<Identity>,
    request: tonic::Request<Streaming<EchoRequest>>,
) -> Result<tonic::Response<EchoReply>, Status> {
    let (metadata, _, mut messages) = request.into_parts();
    let mut texts = Vec::new();
    while let Some(message) = messages.message().await? {
        texts.push(message.text);
    }
    let joined = EchoRequest { text: texts.join(","), ..EchoRequest::default() };
    reply(&identity, &metadata, joined).map(tonic::Response::new)
}

async fn bidi(
    identity: Arc<Identity>,
    request: tonic::Request<Streaming<EchoRequest>>,
) -> Result<tonic::Response<Replies>, Status> {
    let (metadata, _, messages) = request.into_parts();
    let replies = messages.map(move |message| reply(&identity, &metadata, message?));
    Ok(tonic::Response::new(Box::pin(replies)))
}

/// The reply to one message, or the error that it asks for.
fn reply(
    identity: &Identity,
    metadata: &MetadataMap,
    message: EchoRequest,
) -> Result<EchoReply, Status> {
    if message.status != 0 {
        return Err(Status::new(Code::from_i32(message.status), message.text));
    }
    let line = |entry: KeyAndValueRef<'_>| match entry {
        KeyAndValueRef::Ascii(key, value) => {
            format!("{key}: {}", String::from_utf8_lossy(value.as_encoded_bytes()))
        }
        KeyAndValueRef::Binary(key, value) => format!("{key}: {value:?}"),
    };
    Ok(EchoReply {
        text: message.text,
        pod: identity.pod.clone(),
        version: identity.version.clone(),
        headers: metadata.iter().map(line).collect(),
    })
}
