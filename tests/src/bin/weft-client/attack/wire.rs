//! One connection of an attacker: never blocks for long, reads and throws away what comes, and notices
//! the end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// No answer within this time: the other side is not going to end it.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Wire {
    pub(super) stream: TcpStream,
    /// What was sent, as the attack counts it.
    pub(super) frames: u64,
    /// The code with which the other side has announced the end.
    pub(super) told: Option<u32>,
    pub(super) has_ended: bool,
    pub(super) pongs: u64,
    /// Bytes of frames that have come and are not whole.
    rest: Vec<u8>,
    is_http2: bool,
}

impl Wire {
    pub(super) fn connect(address: &str) -> io::Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Wire {
            stream,
            frames: 0,
            told: None,
            has_ended: false,
            pongs: 0,
            rest: Vec::new(),
            is_http2: false,
        })
    }

    pub(super) fn speak_http2(&mut self) {
        self.is_http2 = true;
    }

    /// Sends all of it; an error when the other side has ended the connection.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.receive()? && Instant::now() > deadline {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(error) => {
                    // What was said before the end may still be there.
                    let _ended = self.receive();
                    return Err(error);
                }
            }
        }
        self.receive().map(|_| ())
    }

    /// Reads what is there; false where there is nothing.
    pub(super) fn receive(&mut self) -> io::Result<bool> {
        let mut any = false;
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    self.has_ended = true;
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(read) => {
                    any = true;
                    self.rest.extend_from_slice(&bytes[..read]);
                    if self.is_http2 {
                        self.frames_received();
                    } else {
                        self.answer_received();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
                Err(error) => {
                    self.has_ended = true;
                    return Err(error);
                }
            }
        }
    }

    /// Waits until `there` says so, or the connection has ended.
    pub(super) fn wait(&mut self, there: impl Fn(&Wire) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !there(self) && Instant::now() < deadline {
            if !self.receive()? {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    fn frames_received(&mut self) {
        const PING: u8 = 6;
        const GOAWAY: u8 = 7;
        let mut at = 0;
        while let Some(head) = self.rest.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = self.rest.get(at + 9..at + 9 + length) else { break };
            match kind {
                PING if flags & 1 != 0 => self.pongs += 1,
                GOAWAY => {
                    let code = payload.get(4..8).and_then(|code| code.try_into().ok());
                    self.told = code.map(u32::from_be_bytes);
                }
                _ => {}
            }
            at += 9 + length;
        }
        self.rest.drain(..at);
    }

    fn answer_received(&mut self) {
        let status = self.rest.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        self.told = status.filter(|status| *status >= 400);
        self.rest.truncate(64);
    }
}
