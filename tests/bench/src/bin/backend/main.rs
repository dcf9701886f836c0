//! What all proxies of the bench send to: three versions of a service on one address, each on a port
//! of HTTP/1.1 and one of HTTP/2. Answers at once, counts what came, and answers 400 to what a proxy
//! has left out: a missing header, a body that is too short.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod client;
mod http1;
mod pace;
mod saturate;
#[path = "../../work.rs"]
mod work;

use work::{COUNTS, GRPC_MESSAGE, GRPC_PATH, LARGE, LARGE_PATH, MIB, MIB_PATH, SMALL, Version};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Small,
    Mib,
    Large,
    Grpc,
}

/// What is looked at of a request.
struct Asked {
    kind: Kind,
    is_post: bool,
    has_user: bool,
}

struct State {
    counts: [Cell<u64>; 3],
    large: Bytes,
}

impl Kind {
    fn of(path: &str) -> Kind {
        match path {
            MIB_PATH => Kind::Mib,
            LARGE_PATH => Kind::Large,
            GRPC_PATH => Kind::Grpc,
            _ => Kind::Small,
        }
    }
}

impl State {
    /// Counts a request whose body has had so many bytes: whether it came as it was sent, and the answer's
    /// body.
    fn answer(&self, version: Version, asked: &Asked, length: usize) -> (bool, Bytes) {
        let count = &self.counts[version as usize];
        count.set(count.get() + 1);
        let (expected, body) = match asked.kind {
            Kind::Small => (0, Bytes::from_static(SMALL)),
            Kind::Mib => (MIB, self.large.slice(..MIB)),
            Kind::Large => (0, self.large.clone()),
            Kind::Grpc => (GRPC_MESSAGE.len(), Bytes::from_static(GRPC_MESSAGE)),
        };
        (length == expected && asked.has_user && asked.is_post == (expected > 0), body)
    }
}

#[tokio::main(flavor = "local")]
async fn main() -> anyhow::Result<()> {
    let state = Rc::new(State { counts: Default::default(), large: vec![b'x'; LARGE].into() });
    for version in Version::ALL {
        for http2 in [false, true] {
            let address = SocketAddr::from((work::BACKEND, version.port(http2)));
            let listener = TcpListener::bind(address).await?;
            tokio::task::spawn_local(accept(listener, state.clone(), version, http2));
        }
    }
    let client = TcpListener::bind((Ipv4Addr::LOCALHOST, work::CLIENT)).await?;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = client.accept().await {
            // Who asks learns what has failed.
            let _ = client::serve(stream).await;
        }
    });
    let counts = TcpListener::bind((Ipv4Addr::LOCALHOST, COUNTS)).await?;
    loop {
        // One line per connection: how many requests each version has had.
        let (stream, _) = counts.accept().await?;
        let counts = state.counts.each_ref().map(Cell::get);
        stream.writable().await?;
        stream.try_write(format!("{} {} {}\n", counts[0], counts[1], counts[2]).as_bytes())?;
    }
}

async fn accept(listener: TcpListener, state: Rc<State>, version: Version, http2: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(serve(stream, state.clone(), version, http2));
    }
}

async fn serve(stream: TcpStream, state: Rc<State>, version: Version, http2: bool) {
    // A connection that fails shows in the counts.
    let _ = stream.set_nodelay(true);
    if !http2 {
        let _ = http1::serve(stream, &state, version).await;
        return;
    }
    let service = service_fn(move |request| answer(state.clone(), version, request));
    let _ = hyper::server::conn::http2::Builder::new(work::LocalExecutor)
        .max_concurrent_streams(1000)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    state: Rc<State>,
    version: Version,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    let asked = Asked {
        kind: Kind::of(head.uri.path()),
        is_post: head.method == Method::POST,
        has_user: head.headers.contains_key("end-user"),
    };
    let trailers = asked.kind == Kind::Grpc;
    let (right, data) = state.answer(version, &asked, length);
    let mut response = Response::new(Answer { data: Some(data), trailers });
    let headers = response.headers_mut();
    headers.insert("x-backend", HeaderValue::from_static(version.name()));
    if trailers {
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    }
    if !right {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

/// A body of one piece, and a gRPC status behind it.
struct Answer {
    data: Option<Bytes>,
    trailers: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::take(&mut self.trailers) {
            let status = [("grpc-status", "0")];
            let status = status.map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            return Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter(status)))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.trailers
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, |data| data.len() as u64);
        if self.trailers { SizeHint::default() } else { SizeHint::with_exact(length) }
    }
}
