//! The TLS port: a certificate of the pod's own, so that a client that trusts only this one knows
//! that nobody has opened the connection on the way.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::http::{self, Service};

/// An acceptor with a fresh self-signed certificate, and that certificate as PEM.
pub(crate) fn acceptor() -> Result<(TlsAcceptor, String)> {
    // Several, so that a route can tell them apart by the name that a client asks for.
    let names =
        ["secure", "secure.default.svc.cluster.local", "secure.example", "*.secure.example"];
    let names = names.map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).context("the certificate")?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), made.cert.pem()))
}

/// Serves one connection: the handshake, then HTTP as on the plain port.
pub(crate) async fn serve(
    acceptor: TlsAcceptor,
    service: Arc<Service>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    match acceptor.accept(stream).await {
        Ok(stream) => http::serve(service, stream, peer).await,
        Err(error) => println!("handshake with {peer}: {error}"),
    }
}
