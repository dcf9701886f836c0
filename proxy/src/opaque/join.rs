//! Joins two TCP streams that nobody reads, until both have ended.
//!
//! A connection has no buffer of its own: what comes is read into one of the thread's and written at
//! once, and kept only as far as the other side does not take it. Where much passes, it goes from
//! socket to socket through a pipe and never through this process (splice(2)).

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop;

use crate::prefixed::Prefixed;
use crate::socket;

/// The thread's buffer, in bytes.
const BUFFER: usize = 64 * 1024;
/// What passes one way before a pipe is worth its two descriptors, in bytes.
const BULK: u64 = 1024 * 1024;
/// The most that is asked of one splice, in bytes; the pipe takes what it has room for.
const SPLICE: usize = 1024 * 1024;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// What has passed, in bytes; also where the joining ends with an error.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// From the client.
    pub(super) sent: Cell<u64>,
    /// To the client.
    pub(super) received: Cell<u64>,
}

/// Copies both ways until both have ended; an end of one side is passed on as such, and a reset of
/// one side is a reset of the other. Of the client's that is the caller's to see to.
pub(super) async fn join(
    client: &mut Prefixed,
    backend: &TcpStream,
    passed: &Passed,
) -> io::Result<()> {
    let first = client.take_first();
    let client = client.stream();
    let there = async move {
        write(backend, &first, &passed.sent).await?;
        drop(first);
        copy(client, backend, &passed.sent).await
    };
    let joined = tokio::try_join!(there, copy(backend, client, &passed.received));
    if joined.is_err() {
        socket::reset_on_close(backend);
    }
    joined.map(|_both| ())
}

/// Copies one way until `from` has ended, and ends `to` then.
async fn copy(from: &TcpStream, to: &TcpStream, passed: &Cell<u64>) -> io::Result<()> {
    let mut begun = passed.get();
    loop {
        // Both sides may be ready for as long as this connection lives; others want their turn.
        coop::consume_budget().await;
        from.readable().await?;
        let Some(rest) = pass(from, to, passed)? else { return end(to) };
        write(to, &rest, passed).await?;
        if passed.get() - begun > BULK {
            match pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
                Ok(pipe) => return splice_all(from, to, passed, &pipe).await,
                // Out of descriptors, say.
                Err(_) => begun = passed.get(),
            }
        }
    }
}

/// Passes on what `from` has, as far as `to` takes it, and returns the rest; None where `from` has
/// ended.
fn pass(from: &TcpStream, to: &TcpStream, passed: &Cell<u64>) -> io::Result<Option<Vec<u8>>> {
    SHARED.with_borrow_mut(|buffer| {
        let read = match unless_blocked(from.try_read(buffer))? {
            None => return Ok(Some(Vec::new())),
            Some(0) => return Ok(None),
            Some(read) => read,
        };
        let written = unless_blocked(to.try_write(&buffer[..read]))?.unwrap_or(0);
        count(passed, written);
        Ok(Some(buffer[written..read].to_vec()))
    })
}

async fn write(to: &TcpStream, mut bytes: &[u8], passed: &Cell<u64>) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        if let Some(written) = unless_blocked(to.try_write(bytes))? {
            count(passed, written);
            bytes = &bytes[written..];
        }
    }
    Ok(())
}

/// As [`copy`], through a pipe, which is its end to read from and its end to write to.
async fn splice_all(
    from: &TcpStream,
    to: &TcpStream,
    passed: &Cell<u64>,
    (out, into): &(OwnedFd, OwnedFd),
) -> io::Result<()> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        coop::consume_budget().await;
        from.readable().await?;
        // The pipe is empty: what would block is the socket.
        let fill = || Ok(splice(from, None, into, None, SPLICE, flags)?);
        let mut left = match unless_blocked(from.try_io(Interest::READABLE, fill))? {
            None => continue,
            Some(0) => return end(to),
            Some(length) => length,
        };
        while left > 0 {
            to.writable().await?;
            let drain = || Ok(splice(out, None, to, None, left, flags)?);
            match unless_blocked(to.try_io(Interest::WRITABLE, drain))? {
                None => {}
                Some(0) => return Err(ErrorKind::WriteZero.into()),
                Some(written) => {
                    count(passed, written);
                    left -= written;
                }
            }
        }
    }
}

/// Ends what is sent to `to`. That it is gone is for whoever reads from it to say.
fn end(to: &TcpStream) -> io::Result<()> {
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        ended => ended,
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn count(passed: &Cell<u64>, bytes: usize) {
    passed.set(passed.get() + bytes as u64);
}

#[cfg(test)]
mod tests;
