//! An HTTP/2 client's stream as h2 has it: what passes is noted for the connection's deadlines and
//! budgets, and it ends when one of them is used up.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::activity::Activity;
use super::frames::{BYTES_PER_FRAME, Frames};
use crate::prefixed::Prefixed;

const NO_ERROR: u8 = 0x0;
const ENHANCE_YOUR_CALM: u8 = 0xb;

#[derive(Debug)]
pub(super) struct ClientStream {
    stream: Prefixed,
    activity: Rc<Activity>,
    frames: Frames,
    /// What was read beyond the end of a turn, from `held_at` on.
    held: Vec<u8>,
    held_at: usize,
    /// Until its turn, of a connection that is slow.
    wait: Option<Pin<Box<Sleep>>>,
    /// All that was to be written has been: the next byte is a frame's first.
    is_between_frames: bool,
}

impl ClientStream {
    pub(super) fn new(stream: Prefixed, activity: Rc<Activity>) -> Self {
        // Where there was misuse lately, who comes anew may be who has just been ended.
        let wait = activity.pace.is_strict().then(|| wait(&activity));
        Self {
            stream,
            activity,
            frames: Frames::new(),
            held: Vec::new(),
            held_at: 0,
            wait,
            is_between_frames: true,
        }
    }

    /// Ready when the connection may read on: a turn that is over is followed by the next one once others
    /// have had theirs, and where it is slow, once it has waited for it.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wait.is_none() && self.activity.is_turn_over() {
            if !self.activity.is_slow() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.wait = Some(wait(&self.activity));
        }
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
            self.activity.slow_turn_begins();
        }
        Poll::Ready(())
    }

    /// Reads what the turn has room for; the rest of what has come is held.
    fn poll_read_turn(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let held = &self.held[self.held_at..];
        if !held.is_empty() {
            let offered = &held[..held.len().min(buf.remaining())];
            let taken = self.frames.read(offered, &self.activity);
            buf.put_slice(&offered[..taken]);
            self.held_at += taken;
            if self.held_at == self.held.len() {
                (self.held, self.held_at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            self.activity.has_read(cx.waker());
            let taken = self.frames.read(read, &self.activity);
            if taken < read.len() {
                self.held = read[taken..].to_vec();
                buf.set_filled(before + taken);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says why the connection ends, where it can be said, and ends it for h2.
    fn end(&self, friendly: bool) -> io::Error {
        if self.is_between_frames {
            let code = if friendly { NO_ERROR } else { ENHANCE_YOUR_CALM };
            // A peer that does not read is not waited for.
            let _ = self.stream.stream().try_write(&goaway(self.frames.last_stream(), code));
        }
        io::Error::new(io::ErrorKind::TimedOut, "ended by the proxy")
    }

    fn wrote(&mut self, written: usize, offered: usize) {
        self.is_between_frames = written == offered;
        // In short turns answers to nothing but frames take a write each: there only content accounts.
        let by_itself = u32::from(!self.activity.is_slow());
        self.activity.earn_frames(by_itself + (written / BYTES_PER_FRAME) as u32);
    }
}

/// The wait for the connection's next turn, of all those that are slow.
fn wait(activity: &Activity) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(activity.pace.turn(Instant::now()).into()))
}

/// RFC 9113, section 6.8.
fn goaway(last_stream: u32, code: u8) -> [u8; 17] {
    let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code];
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(verdict) = this.activity.verdict() {
            return Poll::Ready(Err(this.end(verdict.is_friendly())));
        }
        ready!(this.poll_turn(cx));
        this.poll_read_turn(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.wrote(written, buf.len());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.wrote(written, bufs.iter().map(|buf| buf.len()).sum());
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
