//! A client's stream with the bytes that were already read from it put back in front, and what is to
//! be known and said of it while hyper owns it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket;

/// Reads `first`, then the stream.
#[derive(Debug)]
pub(crate) struct Prefixed {
    stream: TcpStream,
    first: Vec<u8>,
    read: usize,
    /// Something was read of the stream.
    has_read: bool,
    /// See [`socket::acknowledge`].
    acknowledges: bool,
    handle: Handle,
}

/// A stream that something else owns by now: what it carries at the moment, and how it is to end.
/// (What hyper owns must be `Send`, hence no cells.)
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Shared>);

/// The same, of a stream that may be gone.
#[derive(Debug)]
pub(crate) struct WeakHandle(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    reset: AtomicBool,
    over: AtomicBool,
    is_last: AtomicBool,
    /// [`Phase`]
    phase: AtomicU32,
}

/// What an HTTP/1 stream is in the middle of, and a number that grows with each head that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phase(u32);

impl Phase {
    /// A head is awaited: of the first request, or one of which bytes have come.
    const HEAD: u32 = 0;
    /// A request without a body is being answered.
    const REQUEST: u32 = 1;
    /// Between two requests.
    const IDLE: u32 = 2;
    /// A request with a body, which follows.
    const BODY: u32 = 3;
    const MASK: u32 = 3;

    fn with(self, what: u32) -> Self {
        Self(self.0 & !Self::MASK | what)
    }

    pub(crate) fn is_head(self) -> bool {
        self.0 & Self::MASK == Self::HEAD
    }

    pub(crate) fn is_idle(self) -> bool {
        self.0 & Self::MASK == Self::IDLE
    }

    /// More of a request is to come.
    fn is_within_request(self) -> bool {
        matches!(self.0 & Self::MASK, Self::HEAD | Self::BODY)
    }

    /// How many heads have begun, the first one not among them.
    pub(crate) fn number(self) -> u32 {
        self.0 / (Self::MASK + 1)
    }

    fn next_head(self) -> Self {
        Self(self.0.wrapping_add(Self::MASK + 1)).with(Self::HEAD)
    }
}

impl Default for Handle {
    /// A stream that has yet to bring its first head.
    fn default() -> Self {
        Self(Arc::new(Shared {
            reset: AtomicBool::new(false),
            over: AtomicBool::new(false),
            is_last: AtomicBool::new(false),
            phase: AtomicU32::new(0),
        }))
    }
}

impl Handle {
    /// Has the stream close with a reset, where its end would pass for the end of what it carries.
    pub(crate) fn reset(&self) {
        self.0.reset.store(true, Ordering::Relaxed);
    }

    /// Has whoever serves the stream end it, once it is polled.
    pub(crate) fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }

    /// The request that has begun is the last one: who serves the stream ends it with the answer. Not to be
    /// said of one with a body, which may not be read to its end by then.
    pub(crate) fn set_last(&self) {
        self.0.is_last.store(true, Ordering::Relaxed);
    }

    /// Whether all that is still to be written is there, and the stream's end comes behind it.
    fn is_ending(&self) -> bool {
        self.0.is_last.load(Ordering::Relaxed) && self.phase().is_idle()
    }

    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle(Arc::downgrade(&self.0))
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase(self.0.phase.load(Ordering::Relaxed))
    }

    /// A head was read to its end.
    pub(crate) fn request_begins(&self, has_body: bool) {
        let what = if has_body { Phase::BODY } else { Phase::REQUEST };
        self.set(self.phase().with(what));
    }

    pub(crate) fn request_ends(&self) {
        self.set(self.phase().with(Phase::IDLE));
    }

    fn read(&self) {
        let phase = self.phase();
        if phase.is_idle() {
            self.set(phase.next_head());
        }
    }

    fn set(&self, phase: Phase) {
        self.0.phase.store(phase.0, Ordering::Relaxed);
    }
}

impl WeakHandle {
    pub(crate) fn upgrade(&self) -> Option<Handle> {
        self.0.upgrade().map(Handle)
    }
}

impl Prefixed {
    pub(crate) fn new(stream: TcpStream, first: Vec<u8>) -> Self {
        let has_read = !first.is_empty();
        let handle = Handle::default();
        Self { stream, first, read: 0, has_read, acknowledges: false, handle }
    }

    /// What is left of the bytes that were read already; from now on only the stream is read.
    pub(crate) fn take_first(&mut self) -> Vec<u8> {
        let mut first = std::mem::take(&mut self.first);
        first.drain(..std::mem::take(&mut self.read));
        first
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Prefixed {
    fn drop(&mut self) {
        if self.handle.0.reset.load(Ordering::Relaxed) {
            socket::reset_on_close(&self.stream);
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read < this.first.len() {
            let rest = &this.first[this.read..];
            let taken = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..taken]);
            this.read += taken;
            if this.read == this.first.len() {
                this.first = Vec::new();
                this.read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if this.has_read && !this.acknowledges && this.handle.phase().is_within_request() {
            this.acknowledges = true;
            socket::acknowledge(&this.stream);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.has_read = true;
            this.handle.read();
        }
        polled
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.handle.is_ending() {
            return socket::poll_write_last(&mut this.stream, cx, bufs);
        }
        socket::poll_write_pieces(&mut this.stream, cx, bufs)
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
