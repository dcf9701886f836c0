//! Joins two TCP streams that nobody reads, until both have ended.
//!
//! A connection has no buffer of its own: what comes is read into one of the thread's and written at
//! once, and kept only as far as the other side does not take it. Where much passes, it goes from
//! socket to socket through one of the thread's pipes and never through this process (splice(2)).

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop;

use crate::prefixed::Prefixed;
use crate::socket;

/// The thread's buffer, in bytes.
const BUFFER: usize = 64 * 1024;
/// What passes one way before it goes through pipes, which are worth it for much at a time only, in bytes.
const BULK: u64 = 1024 * 1024;
/// What a pipe holds at most, in bytes: what passes at a time. All pipes of a user, on all of a node's pods, may
/// hold 64 MiB together (pipe(7), pipe-user-pages-soft).
const PIPE: usize = 256 * 1024;
/// Pipes of a thread that wait for the next who needs one, as long as anybody does.
const SPARE_PIPES: usize = 4;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    /// Empty ones.
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    /// Of [`Bulk`].
    static STREAMS: Cell<usize> = const { Cell::new(0) };
}

/// A stream that goes through pipes, for as long as this lives. With the last one the spare pipes go.
struct Bulk;

/// Where what was taken from one socket is until another one takes it.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
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
    let begun = passed.get();
    let mut bulk = None;
    loop {
        // Both sides may be ready for as long as this connection lives; others want their turn.
        coop::consume_budget().await;
        from.readable().await?;
        if bulk.is_none() && passed.get() - begun > BULK {
            bulk = Some(Bulk::begin());
        }
        // Out of descriptors, there is no pipe.
        if bulk.is_some()
            && let Some(pipe) = Pipe::take()
        {
            if !splice_through(pipe, from, to, passed).await? {
                return end(to);
            }
        } else {
            let Some(rest) = pass(from, to, passed)? else { return end(to) };
            write(to, &rest, passed).await?;
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

/// Passes on what `from` has, and waits until `to` has taken it; false where `from` has ended.
async fn splice_through(
    pipe: Pipe,
    from: &TcpStream,
    to: &TcpStream,
    passed: &Cell<u64>,
) -> io::Result<bool> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    // The pipe is empty: what would block is the socket.
    let fill = || Ok(splice(from, None, &pipe.into, None, PIPE, flags)?);
    let filled = unless_blocked(from.try_io(Interest::READABLE, fill))?;
    let mut left = filled.unwrap_or(0);
    while left > 0 {
        to.writable().await?;
        let drain = || Ok(splice(&pipe.out, None, to, None, left, flags)?);
        match unless_blocked(to.try_io(Interest::WRITABLE, drain))? {
            None => {}
            Some(0) => return Err(ErrorKind::WriteZero.into()),
            Some(written) => {
                count(passed, written);
                left -= written;
            }
        }
    }
    pipe.give_back();
    Ok(filled != Some(0))
}

impl Bulk {
    fn begin() -> Self {
        STREAMS.set(STREAMS.get() + 1);
        Self
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        STREAMS.set(STREAMS.get() - 1);
        if STREAMS.get() == 0 {
            PIPES.take();
        }
    }
}

impl Pipe {
    fn take() -> Option<Self> {
        PIPES.with_borrow_mut(Vec::pop).or_else(|| Self::open().ok())
    }

    fn open() -> io::Result<Self> {
        let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A smaller one will do.
        let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(PIPE as i32));
        Ok(Self { out, into })
    }

    /// Of an empty one.
    fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < SPARE_PIPES {
                pipes.push(self);
            }
        });
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
