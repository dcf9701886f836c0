//! Upgrades: WebSocket and whatever else HTTP/1.1's Upgrade names, and CONNECT. Once both sides
//! have agreed, bytes pass unread both ways.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use super::body::{Received, ResponseError, Unread};
use super::head::Present;
use super::{Connection, head};
use crate::backend::EndpointStream;
use crate::drain::Watch;
use crate::outbound::UnderWay;

/// How much is read of an endpoint at once, for a client of HTTP/2: a frame, unless the client wants larger ones.
const PIECE: usize = 16 * 1024;

/// A request that asks its connection, or its stream of HTTP/2, to become something else.
pub(crate) struct Upgrade {
    client: Client,
    /// None for CONNECT.
    protocol: Option<HeaderValue>,
}

/// The client's side of it.
enum Client {
    Http1(OnUpgrade),
    /// What the client sends; what is sent to it is the answer's body (RFC 9113, section 8.5).
    Http2(RecvStream),
}

impl Upgrade {
    /// Takes the client's side of an upgrade out of a request that asks for one.
    pub(crate) fn asked(parts: &mut Parts, body: &mut Unread, present: Present) -> Option<Self> {
        let protocol = if present.upgrade { head::upgrade(parts) } else { None };
        if protocol.is_none() && parts.method != Method::CONNECT {
            return None;
        }
        *body = match std::mem::replace(body, Unread::Taken) {
            Unread::Http2(stream) => {
                return Some(Self { client: Client::Http2(stream), protocol: None });
            }
            other => other,
        };
        let extensions = std::mem::take(&mut parts.extensions);
        let mut carrier = Request::new(());
        *carrier.extensions_mut() = extensions;
        let client = hyper::upgrade::on(&mut carrier);
        parts.extensions = std::mem::take(carrier.extensions_mut());
        Some(Self { client: Client::Http1(client), protocol })
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.protocol.is_none()
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
        let Some((backend, first)) = response.body_mut().take_tunnel() else { return };
        let open = Open {
            _drain: connection.worker.shared.drain.watch(),
            _activity: connection.http2.as_ref().map(|activity| activity.tunnel()),
        };
        match self.client {
            Client::Http1(client) => spawn(async move {
                let _open = open;
                join(client, backend, first).await
            }),
            Client::Http2(client) => {
                // RFC 9110, section 9.3.6: "A server MUST NOT send any Transfer-Encoding or Content-Length
                // header fields in a 2xx (Successful) response to CONNECT."
                response.headers_mut().remove(CONTENT_LENGTH);
                let (read, write) = tokio::io::split(backend);
                let open = Rc::new(open);
                *response.body_mut() =
                    Received::Tunnel(Tunnel { read, first: first.freeze(), _open: open.clone() });
                spawn(async move {
                    let _open = open;
                    pass_on(client, write).await
                });
            }
        }
    }
}

/// What waits for a tunnel's end.
#[derive(Debug)]
struct Open {
    _drain: Watch,
    _activity: Option<UnderWay>,
}

/// What an endpoint sends into a tunnel, as the body of the answer.
#[derive(Debug)]
pub(crate) struct Tunnel {
    read: ReadHalf<EndpointStream>,
    /// What was read of it before.
    first: Bytes,
    _open: Rc<Open>,
}

impl Tunnel {
    /// The next piece; None at the end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        let read = ready!(Pin::new(&mut self.read).poll_read(cx, &mut piece));
        // RFC 9113, section 8.5: "A proxy treats any error in the TCP connection […] as a stream error of
        // type CONNECT_ERROR."
        let broken = |error| {
            tracing::debug!(%error, "the endpoint's side of a tunnel broke");
            ResponseError::Http2(Reason::CONNECT_ERROR.into())
        };
        read.map_err(broken)?;
        let data = piece.filled();
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(data)))))
    }
}

fn spawn(tunnel: impl Future<Output = anyhow::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = tunnel.await {
            tracing::debug!(error = %error, "an upgraded connection ended");
        }
    });
}

/// `first` is what was already read of the backend's.
async fn join(
    client: OnUpgrade,
    mut backend: EndpointStream,
    first: BytesMut,
) -> anyhow::Result<()> {
    // The client's side is there once the response has been written to it.
    let mut client = TokioIo::new(client.await?);
    client.write_all(&first).await?;
    tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}

/// Writes what a client's stream brings, to its end.
async fn pass_on(
    mut client: RecvStream,
    mut backend: WriteHalf<EndpointStream>,
) -> anyhow::Result<()> {
    while let Some(data) = client.data().await {
        let data = data?;
        backend.write_all(&data).await?;
        // It fails where the stream has ended, which needs no window any more.
        let _ = client.flow_control().release_capacity(data.len());
    }
    backend.shutdown().await?;
    Ok(())
}
