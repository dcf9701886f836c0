//! A client that makes a connection for each request, on the backend's own thread: as many a second as the
//! proxy takes. The core of the load has to have time left for that, or its own cost is measured. So nothing
//! is waited for: the kernel connects on loopback while it is asked to, and who has answered is looked for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::work::{SMALL, small_request};

/// Under way at a time.
const CONNECTIONS: usize = 32;

/// Longer no answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections were served in so many seconds, all of them to their end.
pub(super) async fn connect(target: &str, seconds: &str) -> Result<usize> {
    let length = Duration::try_from_secs_f64(seconds.parse()?)?;
    let request = small_request(target, "connection: close\r\n");
    let start = Instant::now();
    let mut served = 0;
    let mut under_way = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let is_over = start.elapsed() > length;
        while !is_over && under_way.len() < CONNECTIONS {
            under_way.push_back(Client::ask(target, &request)?);
        }
        // The oldest alone: looking costs time too, and behind it most are done.
        while let Some(oldest) = under_way.front_mut()
            && oldest.is_done()?
        {
            served += 1;
            under_way.pop_front();
        }
        if is_over && under_way.is_empty() {
            return Ok(served);
        }
        ensure!(start.elapsed() < length + PATIENCE, "{target} does not answer");
        tokio::task::yield_now().await;
    }
}

/// A connection whose request is sent.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn ask(target: &str, request: &[u8]) -> Result<Client> {
        let mut stream = TcpStream::connect(target).with_context(|| target.to_owned())?;
        stream.write_all(request)?;
        stream.set_nonblocking(true)?;
        Ok(Client { stream, answer: Vec::with_capacity(1024) })
    }

    /// Whether the answer is there, and the stream at its end behind it.
    fn is_done(&mut self) -> Result<bool> {
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => self.answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        if !self.answer.starts_with(b"HTTP/1.1 200 ") || !self.answer.ends_with(SMALL) {
            bail!("not answered 200: {}", String::from_utf8_lossy(&self.answer));
        }
        Ok(true)
    }
}
