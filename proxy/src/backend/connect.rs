//! Connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::socket::set_options;

/// How connections to endpoints are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectSettings {
    /// How long the TCP handshake may take.
    pub(crate) timeout: Duration,
}

/// What a side of an HTTP/1 connection may hold, each way: a body passes three such buffers, so that
/// a peer that stalls costs a few hundred KiB. (hyper's own choice is 400 KiB for each.)
pub(crate) const HTTP1_BUFFER: usize = 128 * 1024;

/// Opens a TCP connection to an endpoint.
pub(crate) async fn tcp(addr: SocketAddr, settings: &ConnectSettings) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As long as nothing was sent on it: one that is given up leaves no port behind (see
    // [`super::stream`]).
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let connect = socket.connect(addr);
    let stream = tokio::time::timeout(settings.timeout, connect).await.map_err(|_elapsed| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no TCP handshake within {} ms", settings.timeout.as_millis()),
        )
    })??;
    SockRef::from(&stream).set_linger(None)?;
    set_options(&stream)?;
    Ok(stream)
}

/// An error with its causes: hyper's own words alone seldom say what happened.
pub(crate) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
