//! A client that asks as often as a proxy takes it, on the backend's own thread. The core of the load has to
//! have time left, or its own cost is measured: so nothing is waited for. The kernel connects on loopback
//! while it is asked to, and who has answered is looked for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::work::{SMALL, small_request};

/// Requests under way at a time, each on a connection of its own.
const CONNECTIONS: usize = 32;

/// Longer no answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a connection that has had its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It has another request.
    Again,
    /// It ends, at the proxy's end first.
    Close,
}

/// How many requests `target` answers in so many seconds.
pub(super) async fn saturate(target: &str, seconds: &str, then: Then) -> Result<usize> {
    let length = Duration::try_from_secs_f64(seconds.parse()?)?;
    let more = if then == Then::Close { "connection: close\r\n" } else { "" };
    let request = small_request(target, more);
    let start = Instant::now();
    let mut answered = 0;
    let mut under_way = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let is_over = start.elapsed() > length;
        while !is_over && under_way.len() < CONNECTIONS {
            let mut client = Client::connect(target)?;
            client.stream.write_all(&request)?;
            under_way.push_back(client);
        }
        // The oldest alone: looking costs time too, and behind it most are done.
        while let Some(mut oldest) = under_way.pop_front() {
            if !oldest.is_done(then)? {
                under_way.push_front(oldest);
                break;
            }
            answered += 1;
            if then == Then::Again && !is_over {
                oldest.stream.write_all(&request)?;
                under_way.push_back(oldest);
            }
        }
        if is_over && under_way.is_empty() {
            return Ok(answered);
        }
        ensure!(start.elapsed() < length + PATIENCE, "{target} does not answer");
        tokio::task::yield_now().await;
    }
}

/// A connection of which one request is under way.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn connect(target: &str) -> Result<Client> {
        let stream = TcpStream::connect(target).with_context(|| target.to_owned())?;
        stream.set_nonblocking(true)?;
        Ok(Client { stream, answer: Vec::with_capacity(1024) })
    }

    /// Whether the answer is there, and behind it the stream's end, where it is to end.
    fn is_done(&mut self, then: Then) -> Result<bool> {
        let mut chunk = [0; 1024];
        let mut is_over = false;
        while !is_over {
            match self.stream.read(&mut chunk) {
                Ok(0) => is_over = true,
                Ok(read) => {
                    self.answer.extend_from_slice(&chunk[..read]);
                    is_over = then == Then::Again && self.answer.ends_with(SMALL);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        if !self.answer.starts_with(b"HTTP/1.1 200 ") || !self.answer.ends_with(SMALL) {
            bail!("not answered 200: {}", String::from_utf8_lossy(&self.answer));
        }
        self.answer.clear();
        Ok(true)
    }
}
