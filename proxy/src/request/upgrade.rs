//! Upgrades: WebSocket and whatever else HTTP/1.1's Upgrade names, and CONNECT. Once both sides
//! have agreed, bytes pass unread both ways.

use bytes::BytesMut;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::body::Received;
use super::head::Present;
use super::{Connection, head};
use crate::backend::EndpointStream;

/// A request that asks its connection to become something else.
pub(crate) struct Upgrade {
    client: OnUpgrade,
    /// None for CONNECT.
    protocol: Option<HeaderValue>,
}

impl Upgrade {
    /// Takes the client's side of an upgrade out of a request that asks for one.
    pub(crate) fn asked(parts: &mut Parts, present: Present) -> Option<Self> {
        let protocol = if present.upgrade { head::upgrade(parts) } else { None };
        if protocol.is_none() && parts.method != Method::CONNECT {
            return None;
        }
        let extensions = std::mem::take(&mut parts.extensions);
        let mut carrier = Request::new(());
        *carrier.extensions_mut() = extensions;
        let client = hyper::upgrade::on(&mut carrier);
        parts.extensions = std::mem::take(carrier.extensions_mut());
        Some(Self { client, protocol })
    }

    /// Asks the backend for the same.
    pub(crate) fn request(&self, parts: &mut Parts) {
        if let Some(protocol) = &self.protocol {
            head::restore_upgrade(&mut parts.headers, protocol.clone());
        }
    }

    /// Joins both sides if the backend has agreed; otherwise the response is one like any other.
    /// What is joined keeps a drain waiting, as other streams of unknown protocol do.
    pub(crate) fn response(self, response: &mut Response<Received>, connection: &Connection) {
        let agreed = match self.protocol {
            Some(_) => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            // RFC 9110, section 9.3.6: any 2xx switches to tunnel mode.
            None => response.status().is_success(),
        };
        if !agreed {
            return;
        }
        // None where the backend has agreed before it had the whole request.
        let Some(backend) = response.body_mut().take_tunnel() else { return };
        let open = connection.worker.shared.drain.watch();
        let tunnel = connection.http2.as_ref().map(|activity| activity.tunnel());
        tokio::task::spawn_local(async move {
            let (_open, _tunnel) = (open, tunnel);
            if let Err(error) = join(self.client, backend).await {
                tracing::debug!(error = %error, "an upgraded connection ended");
            }
        });
    }
}

/// `first` is what was already read of the backend's.
async fn join(
    client: OnUpgrade,
    (mut backend, first): (EndpointStream, BytesMut),
) -> anyhow::Result<()> {
    // The client's side is there once the response has been written to it.
    let mut client = TokioIo::new(client.await?);
    client.write_all(&first).await?;
    tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}
