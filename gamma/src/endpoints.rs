//! The addresses of a backend's port, from its EndpointSlices. The proxy's endpoint watches call it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::object::{EndpointSlice, SliceEndpoint, Transport};

/// An address that takes requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address and target port.
    pub addr: SocketAddr,
    /// Who is behind the address (the pod's uid): a new one means a new endpoint.
    pub target: Option<Arc<str>>,
}

/// The endpoints of the TCP port named `port_name` that take requests, in the order of their
/// addresses, each address once: those that are ready, and where none is, those that are on their way
/// out but still serve.
///
/// `slices` are those of one Service; which they are is the caller's to know.
pub fn ready<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
) -> Vec<Endpoint> {
    let (mut ready, mut leaving) = (Vec::new(), Vec::new());
    for slice in slices {
        let ports = slice.ports.iter();
        for port in ports.filter(|it| it.name == port_name && it.transport == Transport::Tcp) {
            for endpoint in &slice.endpoints {
                let list = match endpoint {
                    SliceEndpoint { ready: true, .. } => &mut ready,
                    SliceEndpoint { serving: true, terminating: true, .. } => &mut leaving,
                    _ => continue,
                };
                let addr = SocketAddr::new(endpoint.address, port.port);
                list.push(Endpoint { addr, target: endpoint.target.clone() });
            }
        }
    }
    let mut endpoints = if ready.is_empty() { leaving } else { ready };
    endpoints.sort_unstable();
    // While an endpoint moves from one slice to another it may be in both. Of two that differ in
    // their target the one with a target stays.
    endpoints.dedup_by(|later, kept| {
        let same = later.addr == kept.addr;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    endpoints
}

#[cfg(test)]
mod tests;
