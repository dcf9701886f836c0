//! The pod that the sidecar stands in.

use std::net::IpAddr;

use weft_gamma::endpoints::Place;

/// What the sidecar knows of its pod. The injector sets it by the downward API.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Whose consumer routes apply.
    pub namespace: String,
    /// What decides which endpoints are near.
    pub place: Place,
    /// By which a Service with `sessionAffinity: ClientIP` chooses.
    pub address: Option<IpAddr>,
}
