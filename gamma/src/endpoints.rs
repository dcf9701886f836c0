//! The endpoints of a Service's port that take one pod's requests, from its EndpointSlices: those that
//! kube-proxy on the pod's node would send it to. The proxy's compiler calls it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::object::{EndpointSlice, InternalTraffic, SliceEndpoint, Transport};

/// An address that takes requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address and target port.
    pub addr: SocketAddr,
    /// Who is behind the address (the pod's uid): a new one means a new endpoint.
    pub target: Option<Arc<str>>,
}

/// Where the pod runs whose requests they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The node's name. Without it no endpoint is local.
    pub node: Option<String>,
    /// The node's zone (its label `topology.kubernetes.io/zone`). Without it hints for zones are
    /// ignored, as kube-proxy does on a node without the label.
    pub zone: Option<String>,
}

/// Whether an endpoint takes requests, wherever they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It is on its way out but still serves: it does where none is ready.
    Leaving,
    /// It does not.
    NotReady,
}

/// An endpoint of the port in question, as its slice has it.
struct Candidate<'a> {
    addr: SocketAddr,
    slice: &'a SliceEndpoint,
}

/// The endpoints of the TCP port named `port_name` that take requests of a pod at `place`, in the
/// order of their addresses, each address once: those that are ready, and where none is, those that
/// are on their way out but still serve. Of these
///
/// * with [`InternalTraffic::Local`], those on the pod's node: "the proxy will assume that pods only
///   want to talk to endpoints of the service on the same node as the pod, dropping the traffic if
///   there are no local endpoints" (Service's `internalTrafficPolicy`);
/// * otherwise those that are hinted for the pod's node, or else for its zone, but only where every
///   ready endpoint has such a hint and one of them is for this pod (KEP-2433, KEP-3015); else all.
///
/// `slices` are those of one Service; which they are is the caller's to know.
pub fn for_pod<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
    internal_traffic: InternalTraffic,
    place: &Place,
) -> Vec<Endpoint> {
    let mut candidates = candidates(slices, port_name);
    if internal_traffic == InternalTraffic::Local {
        candidates.retain(|it| place.node.is_some() && it.slice.node == place.node);
    }
    let of = |it: &Candidate<'_>| Readiness::of(it.slice);
    let (ready, rest): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|it| of(it) == Readiness::Ready);
    let chosen: Vec<_> = if ready.is_empty() {
        rest.into_iter().filter(|it| of(it) == Readiness::Leaving).collect()
    } else if internal_traffic == InternalTraffic::Cluster {
        by_hints(ready, place)
    } else {
        ready
    };
    let mut endpoints: Vec<Endpoint> = chosen
        .into_iter()
        .map(|it| Endpoint { addr: it.addr, target: it.slice.target.clone() })
        .collect();
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

/// The zone of a node, as the endpoints on it tell.
pub fn zone_of_node<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: &str,
) -> Option<&'a str> {
    slices
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.node.as_deref() == Some(node))
        .find_map(|endpoint| endpoint.zone.as_deref())
}

/// All endpoints of the TCP port named `port_name`, wherever they are and those that take no requests
/// among them, in the order of their addresses, each address once: for people who ask.
pub fn all<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
) -> BTreeMap<SocketAddr, Readiness> {
    let mut all = BTreeMap::new();
    for candidate in candidates(slices, port_name) {
        let readiness = Readiness::of(candidate.slice);
        // While an endpoint moves from one slice to another it may be in both.
        let known = all.entry(candidate.addr).or_insert(readiness);
        *known = readiness.min(*known);
    }
    all
}

fn candidates<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for slice in slices {
        let ports = slice.ports.iter();
        for port in ports.filter(|it| it.name == port_name && it.transport == Transport::Tcp) {
            candidates.extend(slice.endpoints.iter().map(|endpoint| Candidate {
                addr: SocketAddr::new(endpoint.address, port.port),
                slice: endpoint,
            }));
        }
    }
    candidates
}

/// Those of the ready endpoints that the hints mean for a pod at `place`.
fn by_hints<'a>(ready: Vec<Candidate<'a>>, place: &Place) -> Vec<Candidate<'a>> {
    let hints: [fn(&SliceEndpoint) -> &[String]; 2] =
        [|endpoint| &endpoint.hints.nodes, |endpoint| &endpoint.hints.zones];
    for (hints, own) in hints.into_iter().zip([&place.node, &place.zone]) {
        let Some(own) = own else { continue };
        let is_own = |it: &Candidate<'_>| hints(it.slice).contains(own);
        if ready.iter().all(|it| !hints(it.slice).is_empty()) && ready.iter().any(is_own) {
            return ready.into_iter().filter(is_own).collect();
        }
    }
    ready
}

impl Readiness {
    fn of(endpoint: &SliceEndpoint) -> Self {
        match endpoint {
            SliceEndpoint { ready: true, .. } => Readiness::Ready,
            SliceEndpoint { serving: true, terminating: true, .. } => Readiness::Leaving,
            _ => Readiness::NotReady,
        }
    }
}

#[cfg(test)]
mod tests;
