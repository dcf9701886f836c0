//! Sends the corpus, in a client's pod: for each payload one connection with the payload and a marker
//! behind it, then another connection with a last request, which gets to the backend on the connection
//! that the payload has used. What came back is printed, a line of JSON for each.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::frames;
use super::payload::Payload;

/// Silence after which the client ends its side.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long an exchange may take in all.
const LIMIT: Duration = Duration::from_secs(6);

#[derive(Args)]
pub(crate) struct Options {
    /// The folder of payloads.
    #[arg(long)]
    corpus: PathBuf,
    /// The Service; its port is 80.
    #[arg(long)]
    host: String,
    /// Send the bytes of a payload in pieces of this size.
    #[arg(long)]
    pieces: Option<usize>,
}

/// What came back for a payload.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Exchange {
    pub(crate) id: String,
    /// The answers to the payload and to what stands behind it, in order.
    pub(crate) answers: Vec<Answer>,
    /// Whether the sidecar has closed the connection.
    pub(crate) closed: bool,
    /// The answer to the request on the next connection.
    pub(crate) after: Option<Answer>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    /// 0 for a stream of HTTP/2 that was reset.
    pub(crate) status: u16,
    /// `METHOD TARGET`, where the backend tells which request it answers.
    pub(crate) seen: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    for payload in Payload::read_all(&options.corpus)? {
        let exchange = exchange(&payload, options).with_context(|| payload.id.clone())?;
        println!("{}", serde_json::to_string(&exchange)?);
    }
    Ok(())
}

fn exchange(payload: &Payload, options: &Options) -> Result<Exchange> {
    let host = &options.host;
    let stream = connect(host)?;
    let (answers, closed) = if payload.is_http2 {
        frames::exchange(stream, &payload.http2(host)?, host, &payload.id)?
    } else {
        let mut bytes = payload.http1(host)?;
        bytes.extend(request(host, &payload.id, "marker"));
        http1(stream, &bytes, options.pieces)?
    };
    let (after, _) = http1(connect(host)?, &request(host, &payload.id, "after"), None)?;
    Ok(Exchange { id: payload.id.clone(), answers, closed, after: after.into_iter().next() })
}

fn connect(host: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect((host, 80)).context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request that is what it seems to be.
fn request(host: &str, id: &str, what: &str) -> Vec<u8> {
    format!("GET /{id}/{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Sends, and reads until the sidecar closes; ends its own side when nothing more comes.
fn http1(
    mut stream: TcpStream,
    bytes: &[u8],
    pieces: Option<usize>,
) -> Result<(Vec<Answer>, bool)> {
    // What is refused early may be reset while the rest is being sent.
    for piece in bytes.chunks(pieces.unwrap_or(bytes.len())) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let (received, closed) = read_to_end(&mut stream)?;
    Ok((answers(&received), closed))
}

/// What came until the sidecar closed, and whether it did.
fn read_to_end(stream: &mut TcpStream) -> Result<(Vec<u8>, bool)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((received, true)),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Ok((received, true));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if start.elapsed() > LIMIT {
                    return Ok((received, false));
                }
                let _already_closed = stream.shutdown(Shutdown::Write);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("receive"),
        }
    }
}

/// The answers in what came, found by their status lines: no body of a server here has one.
fn answers(received: &[u8]) -> Vec<Answer> {
    let text = String::from_utf8_lossy(received);
    let starts: Vec<usize> = ["HTTP/1.1 ", "HTTP/1.0 "]
        .into_iter()
        .flat_map(|version| text.match_indices(version).map(|(at, _)| at))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let all = starts.iter().zip(ends).map(|(start, end)| answer(&text[*start..end]));
    all.flatten().filter(|answer| answer.status >= 200).collect()
}

fn answer(text: &str) -> Option<Answer> {
    let status = text.get(9..12)?.parse().ok()?;
    let seen = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-seen").then(|| value.trim().to_owned())
    });
    Some(Answer { status, seen })
}
