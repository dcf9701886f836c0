//! A stream to an endpoint that speaks HTTP/1, as hyper has it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket;

/// Closes with a reset where a request was given up: its connection is of no use to anybody, the endpoint
/// learns at once that nobody waits, and no port is kept for it. (The kernel keeps the port of a connection
/// that was closed in order for a minute. A client that gives up many requests would use up all ports
/// towards an endpoint.)
#[derive(Debug)]
pub(crate) struct EndpointStream {
    stream: TcpStream,
    /// Something was written, and nothing read since.
    is_unanswered: bool,
    /// The endpoint has ended what it sends. What is written after that, into a tunnel, has to arrive.
    has_ended: bool,
}

impl EndpointStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, is_unanswered: false, has_ended: false }
    }
}

impl Drop for EndpointStream {
    fn drop(&mut self) {
        if self.is_unanswered && !self.has_ended {
            socket::reset_on_close(&self.stream);
        }
    }
}

impl AsyncRead for EndpointStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        this.is_unanswered = false;
        this.has_ended |= read.is_ok() && room > 0 && buf.filled().len() == before;
        Poll::Ready(read)
    }
}

impl AsyncWrite for EndpointStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf));
        this.is_unanswered = true;
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs));
        this.is_unanswered = true;
        Poll::Ready(written)
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
