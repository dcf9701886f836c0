//! The API server's client: as kube makes it, but for the room that its connections take.

use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use tower::{BoxError, ServiceBuilder};

/// What a connection may have read and not yet handed on. A list fills what it is given, up to 400 KiB
/// where nothing is said, and keeps it for the watch that follows on its connection; each watch has one.
const READ_BUFFER: usize = 16 * 1024;

/// Connects as `config` says. Nothing has a time limit here: [`super::watch`] and [`super::find`] have.
pub fn client(config: kube::Config) -> kube::Result<kube::Client> {
    let connections = legacy::Client::builder(TokioExecutor::new())
        .http1_max_buf_size(READ_BUFFER)
        .build::<_, Body>(config.rustls_https_connector()?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(connections);
    Ok(kube::Client::new(service, config.default_namespace))
}
