//! A WebSocket whose messages must come back as they were sent.

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use http::Uri;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::Tally;

#[derive(Args)]
pub(crate) struct Options {
    /// `ws://host:port/path`
    url: Uri,
    /// Messages to exchange.
    #[arg(long, default_value_t = 10)]
    count: u32,
    /// Bytes of each message.
    #[arg(long, default_value_t = 1000)]
    size: usize,
}

pub(crate) async fn run(options: &Options) -> Result<Tally> {
    let host = options.url.host().context("the URL has no host")?;
    let stream = TcpStream::connect((host, options.url.port_u16().unwrap_or(80))).await?;
    let (mut socket, response) =
        tokio_tungstenite::client_async(options.url.clone(), stream).await.context("handshake")?;
    let mut tally = Tally::default();
    Tally::count(&mut tally.statuses, response.status().as_str());
    for (name, map) in [("x-pod", &mut tally.pods), ("x-version", &mut tally.versions)] {
        if let Some(value) = response.headers().get(name) {
            Tally::count(map, String::from_utf8_lossy(value.as_bytes()));
        }
    }
    for number in 0..options.count {
        let sent = format!("{number} {}", "x".repeat(options.size));
        let sent = if number % 2 == 0 { Message::text(sent) } else { Message::binary(sent) };
        socket.send(sent.clone()).await?;
        let received = socket.next().await.context("closed")??;
        ensure!(received == sent, "message {number} came back changed");
    }
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    tally.first = options.count.into();
    Ok(tally)
}
