//! Binds a port on all addresses of the pod, or says what stands in the way.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

/// A port that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on port {port}: {source}; free it, or choose another with {option}")]
pub struct ListenError {
    port: u16,
    option: &'static str,
    source: io::Error,
}

/// Listens on all addresses, of IPv4 and IPv6, or of IPv4 where there is no IPv6. `option` (as in
/// `--metrics-port`) is for the message.
///
/// Has to be called within a tokio runtime.
pub fn listen(port: u16, option: &'static str) -> Result<TcpListener, ListenError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let bound = bind(both).or_else(|error| match error.kind() {
        // IPv4 alone could not do better.
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
    });
    bound.map_err(|source| ListenError { port, option, source })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted process must not wait for the connections of the last one to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 1024;

/// Waits for a connection; out of file descriptors, say, it waits until there are some again.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                let pause = std::time::Duration::from_millis(fastrand::u64(50..150));
                tokio::time::sleep(pause).await;
            }
        }
    }
}
