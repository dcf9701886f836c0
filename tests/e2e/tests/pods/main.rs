//! The redirect inside pods: for everything that runs in one, from its first init container to the
//! last request that it sends on its way out.

mod access;
mod families;
mod lifecycle;
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
