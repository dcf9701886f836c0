//! A client that holds connections open, on each of which one request was answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::work::{SMALL, small_request};

/// Connections that are open as long as it is there.
pub(crate) struct Held {
    _clients: Vec<Client>,
}

pub(crate) fn hold(target: &str, connections: usize) -> Result<Held> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = Client::connect(target)?;
        client.get()?;
        clients.push(client);
    }
    Ok(Held { _clients: clients })
}

/// A client that asks and waits.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    fn connect(target: &str) -> Result<Client> {
        let stream = TcpStream::connect(target).with_context(|| format!("connecting {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request = small_request(target, "");
        Ok(Client { stream, request, answer: Vec::with_capacity(4096) })
    }

    /// One request, and its answer to the last byte.
    fn get(&mut self) -> Result<()> {
        self.stream.write_all(&self.request)?;
        self.answer.clear();
        let mut chunk = [0; 4096];
        while !self.answer.ends_with(SMALL) {
            let read = self.stream.read(&mut chunk).context("waiting for an answer")?;
            ensure!(read > 0, "the connection was closed: {}", self.seen());
            self.answer.extend_from_slice(&chunk[..read]);
        }
        ensure!(self.answer.starts_with(b"HTTP/1.1 200 "), "not answered 200: {}", self.seen());
        Ok(())
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}
