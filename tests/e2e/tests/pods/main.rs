//! What injection makes of a pod: the redirect, for everything that runs in it, from its first init
//! container to the last request that it sends on its way out; the sidecar, its life, its death and
//! what it tells; and how little Weft's containers may do, on their node and in the API.

mod access;
mod death;
mod explain;
mod families;
mod hardening;
mod lifecycle;
mod rules;
mod sidecar;

use anyhow::Result;
use weft_e2e::{Cluster, Namespace, Server};

/// A meshed namespace with `reviews`, whose requests a route sends to v2 alone: an answer of v1 has
/// not met the sidecar.
async fn reviews_to_v2(cluster: &Cluster) -> Result<Namespace> {
    let shop = cluster.namespace("shop").await?;
    shop.apply(
        "apiVersion: gateway.networking.k8s.io/v1\n\
         kind: HTTPRoute\n\
         metadata: {name: reviews-v2-only}\n\
         spec:\n  \
           parentRefs: [{group: '', kind: Service, name: reviews, port: 80}]\n  \
           rules: [{backendRefs: [{name: reviews-v2, port: 80}]}]\n",
    )
    .await?;
    shop.servers(&[Server::new("reviews", "v1"), Server::new("reviews", "v2")]).await?;
    Ok(shop)
}
