//! Sends a request to an endpoint of a backend, and to another one where that is safe.

use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::body::{BodyError, RequestBody};
use super::head;
use super::record::{Record, Upstream};
use crate::backend::local::{ConnectError, Lease, LocalBackend, LocalEndpoint};
use crate::fault::{Fault, Kind};
use crate::worker::Worker;

/// Attempts in all, the first one included.
const ATTEMPTS: usize = 4;

/// How an attempt ended without a response head.
struct Failed {
    fault: Fault,
    /// The request, where it is certain that sending it again is safe.
    again: Option<Request<RequestBody>>,
    /// The connection came from the pool and was closed: a new one may well work.
    stale: bool,
}

/// What it takes to send a request again: kept only of requests without a body.
struct Replay {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

/// Sends the request to one of the backend's endpoints; returns the response head, with the
/// connection noted in `record`.
///
/// Sent again, to another endpoint, is only what certainly was not processed (no connection, or
/// nothing of it was written), and requests without a body whose method is idempotent.
pub(crate) async fn forward(
    worker: &Rc<Worker>,
    backend: &Rc<LocalBackend>,
    http2: bool,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<Incoming>, Fault> {
    let mut tried: Vec<Rc<LocalEndpoint>> = Vec::new();
    let mut fresh = false;
    loop {
        let Some(lease) = backend.pick(&tried) else {
            return Err(Fault::new(Kind::NoReadyEndpoint, "the backend has no ready endpoint"));
        };
        let endpoint = lease.endpoint().clone();
        if let Some(access) = record.access() {
            access.endpoint = Some(endpoint.endpoint.addr);
        }
        let attempt = if http2 {
            send_http2(worker, lease, request, record).await
        } else {
            send_http1(worker, lease, fresh, request, record).await
        };
        let failed = match attempt {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        if !failed.stale {
            backend.failed(&endpoint);
        }
        tried.push(endpoint);
        match failed.again {
            Some(again) if tried.len() < ATTEMPTS => request = again,
            _ => return Err(failed.fault),
        }
        // The pool's other connections may be as old as the one that was closed.
        fresh = failed.stale;
        record.retried();
    }
}

async fn send_http1(
    worker: &Worker,
    lease: Lease,
    fresh: bool,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<Incoming>, Failed> {
    let mut connection = match lease.http1(fresh, &worker.connect).await {
        Ok(connection) => connection,
        Err(error) => return Err(Failed::to_connect(&lease, &error, request)),
    };
    let replay = Replay::of(&request);
    let sent = Instant::now();
    match connection.sender.try_send_request(request).await {
        Ok(response) => {
            lease.succeeded(sent.elapsed());
            record.set_upstream(Upstream { lease, http1: Some(connection.sender) });
            Ok(response)
        }
        Err(error) => Err(Failed::to_answer(&lease, error, replay, connection.reused)),
    }
}

async fn send_http2(
    worker: &Worker,
    lease: Lease,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<Incoming>, Failed> {
    let mut sender = match lease.http2(&worker.connect).await {
        Ok(sender) => sender,
        Err(error) => return Err(Failed::to_connect(&lease, &error, request)),
    };
    let (mut parts, body) = request.into_parts();
    if let Err(fault) = head::to_http2(&mut parts) {
        return Err(Failed { fault, again: None, stale: true });
    }
    let request = Request::from_parts(parts, body);
    let replay = Replay::of(&request);
    let sent = Instant::now();
    match sender.try_send_request(request).await {
        Ok(response) => {
            lease.succeeded(sent.elapsed());
            record.set_upstream(Upstream { lease, http1: None });
            Ok(response)
        }
        // One connection carries many requests: it has always been used before.
        Err(error) => {
            let mut failed = Failed::to_answer(&lease, error, replay, true);
            failed.again = failed.again.map(from_http2);
            Err(failed)
        }
    }
}

/// Undoes [`head::to_http2`], so that each attempt begins with the same form.
fn from_http2(request: Request<RequestBody>) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = http::HeaderValue::try_from(authority.as_str())
    {
        parts.headers.insert(http::header::HOST, host);
    }
    Request::from_parts(parts, body)
}

impl Failed {
    fn to_connect(lease: &Lease, error: &ConnectError, request: Request<RequestBody>) -> Self {
        let addr = lease.endpoint().endpoint.addr;
        tracing::debug!(endpoint = %addr, %error, "no connection");
        Self {
            fault: Fault::new(
                Kind::ConnectFailed,
                format!("no connection to the endpoint {addr}: {error}"),
            ),
            again: Some(request),
            stale: false,
        }
    }

    fn to_answer(
        lease: &Lease,
        mut error: TrySendError<Request<RequestBody>>,
        replay: Option<Replay>,
        reused: bool,
    ) -> Self {
        let addr = lease.endpoint().endpoint.addr;
        let unsent = error.take_message();
        let error = error.into_error();
        let chain = crate::backend::error_chain(&error);
        tracing::debug!(endpoint = %addr, error = chain, "no answer");
        let kind = if error.is_parse() {
            Kind::BackendProtocol
        } else if error.is_user() || is_body_error(&error) {
            Kind::ClientBody
        } else {
            Kind::BackendClosed
        };
        let message = match kind {
            Kind::BackendProtocol => format!("the endpoint {addr} answered no HTTP: {chain}"),
            Kind::ClientBody => format!("the request's body broke off: {chain}"),
            _ => format!("the endpoint {addr} closed the connection before it answered: {chain}"),
        };
        let again = match kind {
            Kind::BackendClosed => unsent.or_else(|| replay.map(Replay::into_request)),
            _ => None,
        };
        Self {
            fault: Fault::new(kind, message),
            again,
            // A broken client is no fault of the endpoint's.
            stale: reused || kind == Kind::ClientBody,
        }
    }
}

/// Whether the error comes from the body that the client sends, which is then among its causes.
fn is_body_error(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<BodyError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

impl Replay {
    /// RFC 9110, section 9.2.2: "a client can automatically retry" idempotent methods.
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let safe = request.body().is_empty()
            && matches!(
                *request.method(),
                Method::GET
                    | Method::HEAD
                    | Method::OPTIONS
                    | Method::TRACE
                    | Method::PUT
                    | Method::DELETE
            )
            && !request.headers().contains_key(http::header::UPGRADE);
        safe.then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
        })
    }

    fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::EMPTY);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request
    }
}
