//! All endpoints at once: one server on every address, which answers with the address that it was
//! reached at.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The endpoints' port.
pub(crate) const PORT: u16 = 8080;
/// The header of an answer that names the endpoint.
pub(crate) const ENDPOINT: &str = "x-endpoint";

/// Starts it on a thread of its own; it ends with the process.
pub(crate) fn start() -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = std::net::TcpListener::bind(address).context("the endpoints' port")?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    };
    std::thread::spawn(move || runtime.block_on(serve));
    Ok(())
}

async fn serve(stream: TcpStream) {
    let Ok(address) = stream.local_addr() else { return };
    let address = address.ip().to_string();
    let service = service_fn(|_| {
        let answer = Response::builder().header(ENDPOINT, &address).body(Full::<Bytes>::default());
        async { answer }
    });
    // A connection that fails is the client's to tell.
    let _: Result<(), hyper::Error> =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
