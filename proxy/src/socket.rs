//! What the standard library does not offer of sockets: listeners that workers share, options, and the
//! address that a connection was redirected from.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

/// Connections that wait to be accepted, at most; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Data that is not acknowledged for so long ends the connection (RFC 5482), and so does a silent
/// peer that does not answer keep-alive probes: what a half-open connection would otherwise hide.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// A listener on `addr` that shares its port with others of this process: the kernel spreads
/// connections over them.
///
/// What is accepted has the listener's options, without a system call for each.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    set_options(&socket)?;
    // Between a pod's application and its sidecar there is no network to find a share of. Reno does the least
    // for a segment; a node's BBR would pace what never leaves the pod. Every kernel has it; if one has not,
    // the node's own serves.
    let _ = socket.set_tcp_congestion(b"reno");
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    // A first request is acknowledged by its answer, which is a segment less. See `acknowledge` for who would
    // wait for that. To listen resets it.
    socket.set_tcp_quickack(false)?;
    Ok(socket.into())
}

/// The options of every connection, towards clients and towards endpoints.
pub(crate) fn set_options(stream: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(3),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Acknowledges at once what a client has sent and will send, which what [`listen`] has accepted does not: 40 ms
/// later, unless something is sent before. A client that holds back small segments until those before are
/// acknowledged (RFC 9293, section 3.7.4) has to be, where what it has sent is not all that is waited for.
pub(crate) fn acknowledge(stream: &TcpStream) {
    // If it fails the stream has an error already.
    let _ = SockRef::from(stream).set_tcp_quickack(true);
}

/// Makes closing `stream` a reset: its peer learns that something broke, and does not take the end
/// of the stream for the end of what it carries.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // If it fails the stream has an error already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The most that is written as one piece, in bytes.
const ONE_PIECE: usize = 1024;

/// Writes what there is in pieces, as `writev` does. Few bytes are put together for it: to copy them costs a
/// fraction of what the kernel takes for a list (0.25 µs of 7 for a head of 91 bytes and a body of 64).
pub(crate) fn poll_write_pieces(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    as_one(pieces, |one| match one {
        Some(one) => Pin::new(stream).poll_write(cx, one),
        None => Pin::new(stream).poll_write_vectored(cx, pieces),
    })
}

/// The same before the stream's end: both go out in one segment, where they are small (send(2), MSG_MORE).
/// An end that does not follow at once holds back what is written, for 200 ms.
pub(crate) fn poll_write_last(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    as_one(pieces, |one| match one {
        Some(one) => poll_send(stream, cx, one, libc::MSG_MORE),
        None => Pin::new(stream).poll_write_vectored(cx, pieces),
    })
}

/// Hands the pieces on as one, if there are few bytes or only one piece.
fn as_one<T>(pieces: &[IoSlice<'_>], then: impl FnOnce(Option<&[u8]>) -> T) -> T {
    let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
    if let (Some(piece), None) = (filled.next(), filled.next()) {
        return then(Some(piece));
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > ONE_PIECE {
        return then(None);
    }
    let mut one = [0; ONE_PIECE];
    let mut length = 0;
    for piece in pieces {
        one[length..length + piece.len()].copy_from_slice(piece);
        length += piece.len();
    }
    then(Some(&one[..length]))
}

/// Writes with flags of send(2).
fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
    flags: i32,
) -> Poll<io::Result<usize>> {
    let send = || SockRef::from(stream).send_with_flags(bytes, flags | libc::MSG_NOSIGNAL);
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Where a redirected connection was meant to go (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST); None for one that
/// was not redirected. `client` is its other end, `port` the one that it was accepted on.
pub(crate) fn original_destination(
    stream: &TcpStream,
    client: SocketAddr,
    port: u16,
) -> io::Result<Option<SocketAddr>> {
    let original = match client {
        SocketAddr::V4(_) => getsockopt(stream, sockopt::OriginalDst).map(|addr| {
            // The kernel's fields are in network order.
            let ip = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
            SocketAddr::new(IpAddr::V4(ip), u16::from_be(addr.sin_port))
        }),
        SocketAddr::V6(_) => getsockopt(stream, sockopt::Ip6tOriginalDst).map(|addr| {
            let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
            SocketAddr::new(IpAddr::V6(ip), u16::from_be(addr.sin6_port))
        }),
    };
    match original {
        // What is not redirected was dialled as it is: at its own address, of which the port is known.
        Ok(original) if original.port() == port && original == stream.local_addr()? => Ok(None),
        Ok(original) => Ok(Some(original)),
        // No entry in the connection table: nobody redirected it.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOPROTOOPT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
