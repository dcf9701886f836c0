//! Bytes over TCP: what a person would do with netcat, with an end that does not need guessing.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[derive(Args)]
pub(crate) struct Options {
    /// `host:port`
    address: String,
    /// What to send; `\r`, `\n` and `\\` are understood.
    #[arg(default_value = "")]
    text: String,
    /// Wait for this text from the server before sending.
    #[arg(long)]
    first: Option<String>,
    /// Stop after this text has come; without it when the server closes.
    #[arg(long)]
    until: Option<String>,
    /// How often `--until` must have come.
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// Finish the sending side after the text.
    #[arg(long)]
    finish: bool,
    /// Stop after so many milliseconds, with exit status 1.
    #[arg(long, default_value_t = 10_000)]
    limit_ms: u64,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let stream = TcpStream::connect(&options.address).await.context("connect")?;
    let mut received = Vec::new();
    let exchange = exchange(stream, options, &mut received);
    let result = timeout(Duration::from_millis(options.limit_ms), exchange).await;
    std::io::stdout().write_all(&received)?;
    result.with_context(|| format!("nothing more after {} ms", options.limit_ms))?
}

async fn exchange(mut stream: TcpStream, options: &Options, received: &mut Vec<u8>) -> Result<()> {
    if let Some(first) = &options.first {
        read_until(&mut stream, received, first, 1).await.context("the server's first words")?;
    }
    let text = unescaped(&options.text);
    stream.write_all(text.as_bytes()).await.context("send")?;
    if options.finish {
        stream.shutdown().await.context("finish")?;
    }
    match &options.until {
        Some(until) => read_until(&mut stream, received, &unescaped(until), options.times).await,
        None => {
            stream.read_to_end(received).await.context("receive")?;
            Ok(())
        }
    }
}

/// `\r` and `\n` as a shell's user writes them.
fn unescaped(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\\\", "\\")
}

async fn read_until(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
    text: &str,
    times: usize,
) -> Result<()> {
    loop {
        if String::from_utf8_lossy(received).matches(text).count() >= times {
            return Ok(());
        }
        let count = stream.read_buf(received).await.context("receive")?;
        anyhow::ensure!(count > 0, "closed before {text:?} had come {times} times");
    }
}
