//! An HTTP/2 client's stream as hyper has it: what passes is noted for the connection's deadlines and
//! budgets, and it ends when one of them is used up.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::frames::{BYTES_PER_FRAME, Frames};
use crate::prefixed::Prefixed;

const NO_ERROR: u8 = 0x0;
const ENHANCE_YOUR_CALM: u8 = 0xb;

#[derive(Debug)]
pub(super) struct ClientStream {
    stream: Prefixed,
    activity: Arc<Activity>,
    frames: Frames,
    /// All that was to be written has been: the next byte is a frame's first.
    is_between_frames: bool,
}

impl ClientStream {
    pub(super) fn new(stream: Prefixed, activity: Arc<Activity>) -> Self {
        Self { stream, activity, frames: Frames::new(), is_between_frames: true }
    }

    /// Says why the connection ends, where it can be said, and ends it for hyper.
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
        self.activity.earn_frames(1 + (written / BYTES_PER_FRAME) as u32);
    }
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
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            this.activity.has_read(cx.waker());
            this.frames.read(read, &this.activity);
        }
        Poll::Ready(Ok(()))
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
