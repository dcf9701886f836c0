//! A stream to an endpoint, and how it is closed.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket;

/// Of HTTP/1, closes with a reset where a request was given up: its connection is of no use to anybody, the
/// endpoint learns at once that nobody waits, and no port is kept for it. (The kernel keeps the port of a connection
/// that was closed in order for a minute. A client that gives up many requests would use up all ports
/// towards an endpoint.)
#[derive(Debug)]
pub(crate) struct EndpointStream {
    stream: TcpStream,
    /// It carries one request at a time.
    is_http1: bool,
    /// Something was written, and nothing read since.
    is_unanswered: bool,
    /// The endpoint has ended what it sends. What is written after that, into a tunnel, has to arrive.
    has_ended: bool,
    /// Not all of the last request was written.
    is_sending: bool,
    /// The connection was ended from this side, so that its end says nothing.
    is_broken: bool,
}

impl EndpointStream {
    pub(crate) fn http1(stream: TcpStream) -> Self {
        Self::new(stream, true)
    }

    pub(crate) fn http2(stream: TcpStream) -> Self {
        Self::new(stream, false)
    }

    fn new(stream: TcpStream, is_http1: bool) -> Self {
        Self {
            stream,
            is_http1,
            is_unanswered: false,
            has_ended: false,
            is_sending: false,
            is_broken: false,
        }
    }

    /// Whether another request may follow: the last one was written to its end, and nothing has come since,
    /// as far as is known, not even the end of the connection.
    pub(crate) fn is_ready(&self) -> bool {
        let is_silent = |read: io::Result<usize>| {
            read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        !self.is_sending && is_silent(self.stream.try_read(&mut [0]))
    }

    /// Notes whether something of a request is still to be written.
    pub(crate) fn set_sending(&mut self, is_sending: bool) {
        self.is_sending = is_sending;
    }

    /// Ends the connection both ways: whoever reads from it gets an error.
    pub(crate) fn break_off(&mut self) {
        self.is_broken = true;
        // If it fails the stream has an error already.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
    }
}

impl Drop for EndpointStream {
    fn drop(&mut self) {
        if self.is_http1 && self.is_unanswered && !self.has_ended {
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
        if this.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
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
        let written = ready!(socket::poll_write_pieces(&mut this.stream, cx, bufs));
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
