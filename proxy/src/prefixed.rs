//! A client's stream with the bytes that were already read from it put back in front.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    reset: Reset,
}

/// Makes a stream that something else owns by now close with a reset. (What hyper owns must be
/// `Send`, hence no cell.)
#[derive(Clone, Debug, Default)]
pub(crate) struct Reset(Arc<AtomicBool>);

impl Reset {
    /// Where the end of the stream would pass for the end of what it carries.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Prefixed {
    pub(crate) fn new(stream: TcpStream, first: Vec<u8>) -> Self {
        Self { stream, first, read: 0, reset: Reset::default() }
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

    pub(crate) fn reset(&self) -> &Reset {
        &self.reset
    }
}

impl Drop for Prefixed {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Relaxed) {
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
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
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
