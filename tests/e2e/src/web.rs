//! HTTP from the test itself, for what must be seen while the API server is away, or what is no pod.

use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

/// The status and the text that a GET of `http://host:port/path` yields.
pub async fn get(url: &str) -> Result<(u16, String)> {
    let answer = tokio::time::timeout(LIMIT, exchange(url)).await;
    answer.context("no answer").and_then(|answer| answer).with_context(|| url.to_owned())
}

async fn exchange(url: &str) -> Result<(u16, String)> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().context("no host")?.as_str();
    let stream = TokioIo::new(TcpStream::connect(authority).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(async move { connection.await.ok() });
    let request = Request::get(uri.path_and_query().context("no path")?.as_str())
        .header("host", authority)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
