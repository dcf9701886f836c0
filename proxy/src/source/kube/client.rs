//! The API server's client: kube's, over few connections.

use std::sync::Arc;

use kube::client::ConfigExt;
use tower::{BoxError, ServiceBuilder};

use super::connections::{Connections, Times};

/// Connects as `config` says. Nothing but a connection's own making has a time limit here:
/// [`super::watch`] and [`super::find`] have.
///
/// # Errors
///
/// A certificate, a key, a name or a header that `config` has is none.
pub fn client(config: kube::Config) -> kube::Result<kube::Client> {
    with_times(config, Times::default())
}

pub(super) fn with_times(config: kube::Config, times: Times) -> kube::Result<kube::Client> {
    let connections = Arc::new(Connections::new(&config, times)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service_fn(move |request| connections.clone().send(request));
    Ok(kube::Client::new(service, config.default_namespace))
}
