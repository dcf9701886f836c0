//! HTTP servers that answer by themselves, for tests that look at the client's side only.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A body of any kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that runs as long as the test's runtime.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    /// How many requests have come.
    pub(crate) requests: Rc<Cell<usize>>,
    /// How many connections are open.
    pub(crate) open: Rc<Cell<usize>>,
    /// How many have been.
    pub(crate) opened: Rc<Cell<usize>>,
}

impl Server {
    /// HTTP/1.1: says `name`, the path and the Host that it was asked for.
    pub(crate) async fn http1(name: &'static str) -> Self {
        Self::start(false, move |request| std::future::ready(describe(name, &request))).await
    }

    /// HTTP/2 with prior knowledge: as [`Server::http1`].
    pub(crate) async fn http2(name: &'static str) -> Self {
        Self::start(true, move |request| std::future::ready(describe(name, &request))).await
    }

    /// Answers as `handle` says.
    pub(crate) async fn start<F>(
        is_http2: bool,
        handle: impl Fn(Request<Incoming>) -> F + Clone + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server =
            Self { addr, requests: Rc::default(), open: Rc::default(), opened: Rc::default() };
        let (requests, open) = (server.requests.clone(), server.open.clone());
        let opened = server.opened.clone();
        tokio::task::spawn_local(async move {
            loop {
                let stream = TokioIo::new(listener.accept().await.unwrap().0);
                let (requests, handle) = (requests.clone(), handle.clone());
                let service = service_fn(move |request| {
                    requests.set(requests.get() + 1);
                    let answer = handle(request);
                    async { Ok::<_, Infallible>(answer.await) }
                });
                let open = open.clone();
                open.set(open.get() + 1);
                opened.set(opened.get() + 1);
                tokio::task::spawn_local(async move {
                    // How it ends is what tests look at from the other side.
                    if is_http2 {
                        let connection = http2::Builder::new(LocalExecutor);
                        let _ = connection.serve_connection(stream, service).await;
                    } else {
                        let _ = http1::Builder::new().serve_connection(stream, service).await;
                    }
                    open.set(open.get() - 1);
                });
            }
        });
        server
    }
}

fn describe(name: &'static str, request: &Request<Incoming>) -> Response<Body> {
    let host = match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => String::from_utf8_lossy(request.headers()["host"].as_bytes()).into_owned(),
    };
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    Response::builder()
        .header("seen-host", host)
        .header("seen-target", target)
        .body(text(name))
        .unwrap()
}

pub(crate) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// A body with trailers, whose length nobody knows beforehand.
pub(crate) fn with_trailers(text: impl Into<Bytes>, trailers: HeaderMap) -> Body {
    let frames = [Frame::data(text.into()), Frame::trailers(trailers)];
    Frames(frames.into()).boxed_unsync()
}

/// A body of which the test sends the frames, until it drops the sender.
pub(crate) fn by_hand() -> (UnboundedSender<Frame<Bytes>>, Body) {
    let (sender, frames) = unbounded_channel();
    (sender, ByHand(frames).boxed_unsync())
}

struct ByHand(UnboundedReceiver<Frame<Bytes>>);

impl http_body::Body for ByHand {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Spawns hyper's HTTP/2 tasks on the test's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
