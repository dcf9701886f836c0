//! The floor: hyper's server joined to hyper's client by the least code that does the same work, a
//! header compared and a 90/10 split. No metrics, no balancing, no deadlines, no errors handled.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1 as client1, http2 as client2};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "../work.rs"]
mod work;

use work::{LocalExecutor, Version};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Default)]
struct Floor {
    turn: Cell<u32>,
    http1: [RefCell<Vec<client1::SendRequest<Incoming>>>; 3],
    http2: [RefCell<Option<client2::SendRequest<Incoming>>>; 3],
}

/// Which protocols a port joins.
#[derive(Clone, Copy)]
struct Port {
    number: u16,
    client_http2: bool,
    backend_http2: bool,
}

const PORTS: [Port; 4] = [
    Port { number: 14001, client_http2: false, backend_http2: false },
    Port { number: 14002, client_http2: true, backend_http2: false },
    Port { number: 14003, client_http2: true, backend_http2: true },
    Port { number: 14004, client_http2: true, backend_http2: true },
];

#[tokio::main(flavor = "local")]
async fn main() -> Result<(), Error> {
    // Spans of h2 go nowhere, as in a program that has no use for them; some crate of the workspace has them
    // logged otherwise, which costs a fifth of a request.
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default())?;
    let floor = Rc::new(Floor::default());
    let mut accepting = Vec::new();
    for port in PORTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).await?;
        accepting.push(tokio::task::spawn_local(accept(floor.clone(), listener, port)));
    }
    for task in accepting {
        task.await??;
    }
    Ok(())
}

async fn accept(floor: Rc<Floor>, listener: TcpListener, port: Port) -> Result<(), Error> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(serve(floor.clone(), stream, port));
    }
}

async fn serve(floor: Rc<Floor>, stream: TcpStream, port: Port) {
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| forward(floor.clone(), request, port));
    // A broken connection is the client's to see.
    let _ = if port.client_http2 {
        http2::Builder::new(LocalExecutor).serve_connection(stream, service).await
    } else {
        http1::Builder::new().serve_connection(stream, service).await
    };
}

async fn forward(
    floor: Rc<Floor>,
    mut request: Request<Incoming>,
    port: Port,
) -> Result<Response<Forwarded>, Error> {
    let version = floor.choose(&request);
    // The client's connection, not the backend's.
    request.headers_mut().remove(http::header::CONNECTION);
    if port.backend_http2 {
        *request.version_mut() = http::Version::HTTP_2;
        let mut sender = floor.http2(version).await?;
        let body = sender.send_request(request).await?.map(|body| Forwarded { body, back: None });
        return Ok(body);
    }
    if request.version() == http::Version::HTTP_2 {
        *request.version_mut() = http::Version::HTTP_11;
        if let Some(target) = request.uri().path_and_query() {
            *request.uri_mut() = target.clone().into();
        }
        let host = HeaderValue::from_static("reviews");
        request.headers_mut().insert(http::header::HOST, host);
    }
    let mut sender = floor.http1(version).await?;
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Forwarded { body, back: Some((floor, version, sender)) }))
}

impl Floor {
    fn choose(&self, request: &Request<Incoming>) -> Version {
        if request.headers().get("end-user").is_none_or(|user| user != "jason") {
            return Version::V1;
        }
        self.turn.set(self.turn.get().wrapping_add(1));
        if self.turn.get().is_multiple_of(10) { Version::V3 } else { Version::V2 }
    }

    fn idle(&self, version: Version) -> Option<client1::SendRequest<Incoming>> {
        self.http1[version as usize].borrow_mut().pop()
    }

    async fn http1(&self, version: Version) -> Result<client1::SendRequest<Incoming>, Error> {
        while let Some(sender) = self.idle(version) {
            if sender.is_ready() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect((work::BACKEND, version.port(false))).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    async fn http2(&self, version: Version) -> Result<client2::SendRequest<Incoming>, Error> {
        if let Some(sender) = self.http2[version as usize].borrow().as_ref()
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect((work::BACKEND, version.port(true))).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client2::handshake(LocalExecutor, TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        *self.http2[version as usize].borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}

/// A response's body, which gives its connection back at the end.
struct Forwarded {
    body: Incoming,
    back: Option<(Rc<Floor>, Version, client1::SendRequest<Incoming>)>,
}

impl Body for Forwarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if self.body.is_end_stream()
            && let Some((floor, version, sender)) = self.back.take()
        {
            floor.http1[version as usize].borrow_mut().push(sender);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
