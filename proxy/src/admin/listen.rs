//! Binds a port, or says what stands in the way.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}; {advice}")]
pub struct ListenError {
    address: SocketAddr,
    purpose: &'static str,
    advice: String,
    source: io::Error,
}

/// Listens on one address. `purpose` and `option` (as in `--admin-port`) are for the message.
///
/// Has to be called within a tokio runtime, as has [`listen_on_all`].
pub fn listen(
    address: SocketAddr,
    purpose: &'static str,
    option: &'static str,
) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| explain(address, purpose, option, source))
}

/// Listens on all addresses of the pod, of IPv4 and IPv6, or of IPv4 where there is no IPv6.
pub fn listen_on_all(
    port: u16,
    purpose: &'static str,
    option: &'static str,
) -> Result<TcpListener, ListenError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match bind(both) {
        Ok(listener) => Ok(listener),
        Err(error) if is_final(&error) => Err(explain(both, purpose, option, error)),
        Err(error) => {
            tracing::debug!(%error, "no IPv6: listening on IPv4 alone");
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), purpose, option)
        }
    }
}

/// Whether IPv4 alone could not do better.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A restarted sidecar must not wait for the connections of the last one to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 128;

fn explain(
    address: SocketAddr,
    purpose: &'static str,
    option: &'static str,
    source: io::Error,
) -> ListenError {
    let variable = option.trim_start_matches('-').replace('-', "_").to_uppercase();
    let another = format!("choose another with {option} or WEFT_{variable}");
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process of the pod has port {}: {another}", address.port())
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a privilege: {another}")
        }
        _ => another,
    };
    ListenError { address, purpose, advice, source }
}
