//! The part that is not counted: the client, and the backends.

use std::cell::RefCell;
use std::io::{Write, stdin, stdout};
use std::net::Ipv4Addr;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn;
use hyper::server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Work;
use crate::work::{GRPC_MESSAGE, GRPC_PATH, LocalExecutor, SMALL, Version};

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How many requests each version has had.
type Counts = Rc<RefCell<[u32; 3]>>;

/// Runs backends and client; fails unless every answer was right and came from where the route says.
#[tokio::main(flavor = "local")]
pub(super) async fn run(work: Work, requests: u32) -> Result<()> {
    let counts = Counts::default();
    let mut ports = Vec::new();
    for version in Version::ALL {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ports.push(listener.local_addr()?.port().to_string());
        tokio::task::spawn_local(backend(listener, version, work, counts.clone()));
    }
    println!("{}", ports.join(" "));
    stdout().flush()?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("the proxy's port")?;

    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    if work.client_http2() {
        let (mut sender, connection) = conn::http2::handshake(LocalExecutor, stream).await?;
        tokio::task::spawn_local(connection);
        for _ in 0..requests {
            check(sender.send_request(request(work)?).await?, work).await?;
        }
    } else {
        let (mut sender, connection) = conn::http1::handshake(stream).await?;
        tokio::task::spawn_local(connection);
        for _ in 0..requests {
            check(sender.send_request(request(work)?).await?, work).await?;
        }
    }
    let [v1, v2, v3] = *counts.borrow();
    ensure!(v1 == 0 && v2 + v3 == requests, "not as the route says: {v1}, {v2}, {v3}");
    let share = f64::from(v3) / f64::from(requests);
    ensure!((share - 0.1).abs() < 0.03, "v3 got {:.0} %", share * 100.0);
    Ok(())
}

fn request(work: Work) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::default());
    let path = if work == Work::Grpc { GRPC_PATH } else { "/" };
    let headers = request.headers_mut();
    for (name, value) in [("user-agent", "bench"), ("accept", "*/*"), ("end-user", "jason")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if work.client_http2() {
        *request.uri_mut() = format!("http://reviews:8001{path}").parse()?;
    } else {
        headers.insert("host", HeaderValue::from_static("reviews:8001"));
        *request.uri_mut() = path.parse()?;
    }
    if work == Work::Grpc {
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::new(Bytes::from_static(GRPC_MESSAGE));
    }
    Ok(request)
}

async fn check(response: Response<Incoming>, work: Work) -> Result<()> {
    ensure!(response.status() == 200, "answered {}", response.status());
    let body = response.into_body().collect().await?;
    let is_grpc = body.trailers().is_some_and(|trailers| trailers.contains_key("grpc-status"));
    ensure!(is_grpc == (work == Work::Grpc), "a gRPC status where none belongs, or none");
    ensure!(!body.to_bytes().is_empty(), "an empty answer");
    Ok(())
}

async fn backend(listener: TcpListener, version: Version, work: Work, counts: Counts) {
    while let Ok((stream, _)) = listener.accept().await {
        // The client sees what goes wrong.
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(stream);
        let counts = counts.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            counts.borrow_mut()[version as usize] += 1;
            answer(request, work)
        });
        tokio::task::spawn_local(async move {
            let _ = if work.backend_http2() {
                let builder = server::conn::http2::Builder::new(LocalExecutor);
                builder.serve_connection(stream, service).await
            } else {
                server::conn::http1::Builder::new().serve_connection(stream, service).await
            };
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    work: Work,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = BodyError>>> {
    let _ = request.into_body().collect().await?;
    let (body, trailers) = match work {
        Work::Grpc => (GRPC_MESSAGE, Some(status())),
        _ => (SMALL, None),
    };
    // Without trailers nothing is added, and the length is known.
    let body = Full::new(Bytes::from_static(body));
    let body = match trailers {
        Some(trailers) => Either::Left(body.with_trailers(std::future::ready(Some(Ok(trailers))))),
        None => Either::Right(body),
    };
    let mut response = Response::new(body);
    if work == Work::Grpc {
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
    }
    Ok(response)
}

fn status() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}
