//! Sends copies of requests to mirrors, and forgets their answers.
//!
//! "Requests are sent to the specified destination, but responses from that destination are ignored."
//! (HTTPRouteFilter.requestMirror). A copy is a task of its own: whatever becomes of it, the request
//! and its answer are as they would be without, and all that remains of it is a count.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::EXPECT;
use http::{Request, Version};
use http_body_util::BodyExt;

use super::body::{Received, RequestBody};
use super::head;
use super::tee::{End, Place, Queue};
use crate::backend::local::{Http1, Lease, LocalBackend};
use crate::drain::Watch;
use crate::filter::Mirrored;
use crate::http1;
use crate::worker::Worker;

/// How long a mirror may take once it has the whole request.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same while the process ends: nobody waits for what is forgotten anyway.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// Endpoints that are tried. The copy goes to one: a connection that cannot be made carries nothing.
const ATTEMPTS: usize = 3;

/// How a copy ended: the label `outcome` of `weft_route_mirrors_total`.
mod outcome {
    /// Answered, and the answer read to its end, whatever it says.
    pub(super) const COMPLETED: &str = "completed";
    pub(super) const CONNECT_FAILED: &str = "connect_failed";
    /// The mirror closed the connection before its answer was complete, or answered no HTTP.
    pub(super) const BACKEND_CLOSED: &str = "backend_closed";
    /// It took the body more slowly than the request's own backend did.
    pub(super) const FELL_BEHIND: &str = "fell_behind";
    pub(super) const TIMED_OUT: &str = "timed_out";
    /// The client or the request's own backend ended the request within its body, or the request is
    /// one that cannot be sent.
    pub(super) const REQUEST_BROKEN: &str = "request_broken";
    /// So many copies are under way to this mirror that none was made.
    pub(super) const TOO_MANY: &str = "too_many";
    /// The process ends.
    pub(super) const DRAINED: &str = "drained";
}

/// Begins to send the copies, whose body is that of the request. `grpc` says that the request is one
/// of gRPC over HTTP/2, which is spoken to a mirror as to any backend.
pub(super) fn start(
    worker: &Rc<Worker>,
    copies: Vec<Mirrored<'_>>,
    grpc: bool,
    body: &mut RequestBody,
) {
    for copy in copies {
        let series = copy.mirror.series.clone();
        let backend = worker.backend(&copy.mirror.target.backend);
        let Some(place) = Place::take(&backend) else {
            series.ended(outcome::TOO_MANY);
            continue;
        };
        let http2 = copy.mirror.target.http2 || grpc;
        let (body, queue) = body.copy(&backend);
        let request = request(copy, http2, body);
        let (worker, watch) = (worker.clone(), worker.shared.drain.watch());
        tokio::task::spawn_local(async move {
            let _place = place;
            let outcome = tokio::select! {
                // Why a copy was given up is known before its connection breaks over it.
                biased;
                outcome = given_up(queue, watch) => outcome,
                outcome = exchange(&worker, &backend, http2, request) => outcome,
            };
            series.ended(outcome);
        });
    }
}

/// Reads a body that nobody wants but the mirrors, and no longer than they do.
pub(super) fn read_for_mirrors(mut body: RequestBody) {
    tokio::task::spawn_local(async move {
        while body.is_copied()
            && let Some(Ok(_)) = body.frame().await
        {}
    });
}

fn request(copy: Mirrored<'_>, http2: bool, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = copy.method;
    *request.uri_mut() = copy.uri;
    *request.headers_mut() = copy.headers;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    // The body comes when the request's own backend asks for it.
    request.headers_mut().remove(EXPECT);
    request
}

/// Resolves when there is no more point in sending the copy.
async fn given_up(queue: Option<Rc<Queue>>, mut watch: Watch) -> &'static str {
    let too_late = async {
        if let Some(queue) = queue {
            match queue.ended().await {
                End::Complete => {}
                End::BrokenOff => return outcome::REQUEST_BROKEN,
                End::FellBehind => return outcome::FELL_BEHIND,
            }
        }
        tokio::time::sleep(PATIENCE).await;
        outcome::TIMED_OUT
    };
    tokio::select! {
        outcome = too_late => outcome,
        () = async {
            watch.draining().await;
            tokio::time::sleep(DRAIN_PATIENCE).await;
        } => outcome::DRAINED,
    }
}

/// Sends the copy to one endpoint, and reads the answer to its end.
async fn exchange(
    worker: &Worker,
    backend: &LocalBackend,
    http2: bool,
    request: Request<RequestBody>,
) -> &'static str {
    let (mut parts, body) = request.into_parts();
    if http2 && head::to_http2(&mut parts, None).is_err() {
        // A Host that HTTP/2 has no place for.
        return outcome::REQUEST_BROKEN;
    }
    let mut request = Request::from_parts(parts, body);
    let mut tried = Vec::new();
    let mut fresh = false;
    loop {
        let Some(lease) = backend.pick(&tried, Instant::now()) else {
            return backend.no_endpoint().reason();
        };
        let endpoint = lease.endpoint().clone();
        let failed = match send(worker, lease, http2, fresh, request).await {
            Ok(outcome) => return outcome,
            Err(failed) => failed,
        };
        if !failed.stale {
            backend.failed(&endpoint);
        }
        tried.push(endpoint);
        match failed.unsent {
            Some(unsent) if tried.len() < ATTEMPTS => request = unsent,
            _ => return failed.outcome,
        }
        // The pool's other connections may be as old as the one that was closed.
        fresh = failed.stale;
    }
}

/// How an attempt ended without an answer.
struct Failed {
    outcome: &'static str,
    /// The copy, where nothing of it was sent.
    unsent: Option<Request<RequestBody>>,
    /// The connection was an old one: that it was closed says nothing of the endpoint.
    stale: bool,
}

async fn send(
    worker: &Worker,
    lease: Lease,
    http2: bool,
    fresh: bool,
    request: Request<RequestBody>,
) -> Result<&'static str, Failed> {
    let unconnected = |request, error: &dyn std::error::Error| {
        tracing::debug!(endpoint = %lease.endpoint().endpoint.addr, %error, "mirror: no connection");
        Failed { outcome: outcome::CONNECT_FAILED, unsent: Some(request), stale: false }
    };
    let unanswered = |error: &(dyn std::error::Error + 'static), unsent, stale| {
        let error = crate::backend::error_chain(error);
        tracing::debug!(endpoint = %lease.endpoint().endpoint.addr, error, "mirror: no answer");
        Failed { outcome: outcome::BACKEND_CLOSED, unsent, stale }
    };
    let sent = Instant::now();
    let mut body = if http2 {
        let connection = match lease.http2(&worker.connect).await {
            Ok(connection) => connection,
            Err(error) => return Err(unconnected(request, &error)),
        };
        let mut request = Some(request);
        match connection.send(&mut request).await {
            Ok(response) => Received::Http2(response.into_body()),
            // One connection carries many requests: it has always been used before.
            Err(error) => return Err(unanswered(&error, request, true)),
        }
    } else {
        let Http1 { connection, reused } = match lease.http1(fresh, &worker.connect).await {
            Ok(connection) => connection,
            Err(error) => return Err(unconnected(request, &error)),
        };
        let mut request = request;
        match connection.send(&mut request, || ()).await {
            Ok(response) => Received::Http1(response.into_body()),
            Err(error) => {
                let unsent = matches!(error, http1::Error::Unsent(_)).then_some(request);
                return Err(unanswered(&error, unsent, reused));
            }
        }
    };
    lease.succeeded(sent);
    loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Ok(outcome::BACKEND_CLOSED),
            None => break,
        }
    }
    if let Some(connection) = body.take_connection() {
        lease.give_back(connection, &worker.pool, Instant::now());
    }
    Ok(outcome::COMPLETED)
}
