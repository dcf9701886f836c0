//! Sends a request to an endpoint of a backend, and to another one where [`super::retry`] says so.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::body::{Received, RequestBody};
use super::deadline::{Deadline, Expired};
use super::gate::Gate;
use super::grpc;
use super::record::Record;
use super::retry::{Ended, Retries, Stop};
use crate::backend::local::{Http1, Lease, LocalBackend, LocalEndpoint};
use crate::fault::{Fault, Kind};
use crate::metrics::RetryOutcome;
use crate::table::Retry;
use crate::worker::Worker;
use crate::{http1, http2};

/// The largest answer that is read to its end, and how long that may take, so that its connection can
/// be used again when the request is sent once more.
const DISCARD_BYTES: u64 = 64 * 1024;
const DISCARD_WAIT: Duration = Duration::from_secs(1);

/// A request that is being forwarded: where it goes, on which terms, and what has become of it. Request
/// and answer stay in here while attempts come and go: to hand them on would be to move them, each time.
pub(crate) struct Forward<'r> {
    /// In the form of the backend's protocol. Over HTTP/2, None while an attempt has it and once it was sent;
    /// over HTTP/1 the head stays.
    request: Option<Request<RequestBody>>,
    /// What the last attempt yielded.
    answer: Option<Answer>,
    terms: Terms<'r>,
}

/// Where a request goes, and on which terms.
pub(crate) struct Terms<'r> {
    pub(crate) worker: &'r Rc<Worker>,
    pub(crate) backend: Rc<LocalBackend>,
    /// The digest of the endpoint that it is to go to at first, if that is still there.
    pub(crate) wanted: Option<u64>,
    pub(crate) http2: bool,
    pub(crate) is_grpc: bool,
    /// `timeouts.backendRequest` of the rule.
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) retry: Option<&'r Retry>,
    /// Opened when the backend asks for the body, of a request that waits for that.
    pub(crate) gate: Option<Rc<Gate>>,
}

/// A response head, and the place at the endpoint that the rest comes from.
struct Answer {
    response: Response<Received>,
    lease: Lease,
    /// When the head was there.
    at: Instant,
}

/// How an attempt ended without a response head.
struct Failed {
    fault: Fault,
    ended: Ended,
    /// The connection came from the pool and was closed: a new one may well work.
    stale: bool,
}

impl<'r> Forward<'r> {
    /// The request is in the form of the backend's protocol.
    pub(crate) fn new(request: Request<RequestBody>, terms: Terms<'r>) -> Self {
        Self { request: Some(request), answer: None, terms }
    }

    /// Sends the request to one of the backend's endpoints, as often as it takes and may; returns the
    /// response head, with the connection noted in `record`. `deadline` is then what is left for the
    /// body.
    pub(crate) async fn run(
        &mut self,
        deadline: &mut Deadline,
        record: &mut Record,
    ) -> Result<Response<Received>, Fault> {
        let request = self.request.as_ref().expect("it is made with a request");
        let mut retries = Retries::new(self.terms.retry, request, !self.terms.http2);
        let mut tried: Vec<Rc<LocalEndpoint>> = Vec::new();
        let mut fresh = false;
        let mut now = record.routed();
        self.terms.backend.budget.request(now);
        loop {
            let wanted =
                self.terms.wanted.and_then(|digest| self.terms.backend.named(digest, &tried));
            let Some(lease) = wanted.or_else(|| self.terms.backend.pick(&tried, now)) else {
                return Err(self.terms.backend.no_endpoint());
            };
            let endpoint = lease.endpoint().clone();
            if let Some(access) = record.access() {
                access.endpoint = Some(endpoint.endpoint.addr);
            }
            let attempt = self.attempt(lease, fresh, now, deadline).await?;
            let ended = match &attempt {
                Ok(()) => self.objection(),
                Err(failed) => Some(failed.ended),
            };
            let Some(ended) = ended else { return self.conclude(attempt, record) };
            let stale = match &attempt {
                Ok(()) => false,
                Err(failed) => {
                    if !failed.stale {
                        self.terms.backend.failed(&endpoint);
                    }
                    failed.stale
                }
            };
            let request = &mut self.request;
            let pause = match retries.next(ended, request, stale, &self.terms.backend, deadline) {
                Ok(pause) => pause,
                Err(Stop::OverBudget) if self.terms.retry.is_some() => {
                    record.retry_refused();
                    return Err(self.over_budget(attempt));
                }
                Err(_) => {
                    record.retry_ended(RetryOutcome::Failure);
                    return self.conclude(attempt, record);
                }
            };
            if let Some(answer) = self.answer.take() {
                discard(self.terms.worker, answer);
            }
            // Whoever closed a connection of the pool's may well take a new one, and a session is kept.
            let was_idle = stale && matches!(ended, Ended::Unsent | Ended::Broken);
            if !was_idle || self.terms.http2 {
                // Once all have been tried, another round begins.
                if tried.len() + 1 >= self.terms.backend.len() {
                    tried.clear();
                }
                tried.push(endpoint);
            }
            // The pool's other connections may be as old as the one that was closed.
            fresh = stale;
            record.retry_begins();
            deadline.pause(pause).await;
            now = Instant::now();
        }
    }

    /// One attempt; Err when the whole request's time is up. A request of which nothing was sent is in its
    /// place again, or still.
    async fn attempt(
        &mut self,
        lease: Lease,
        fresh: bool,
        now: Instant,
        deadline: &mut Deadline,
    ) -> Result<Result<(), Failed>, Fault> {
        let endpoint = lease.endpoint().clone();
        deadline.begin_attempt(now, self.terms.attempt_timeout);
        if self.terms.is_grpc
            && let Some(request) = &mut self.request
        {
            deadline.tell(request.headers_mut(), now);
        }
        let is_sent = Cell::new(false);
        let send = pin!(self.send(lease, fresh, now, &is_sent));
        let expired = match deadline.limit(send).await {
            Ok(attempt) => return Ok(attempt),
            Err(expired) => expired,
        };
        let fault = deadline.fault(expired);
        tracing::debug!(endpoint = %endpoint.endpoint.addr, "{fault}");
        endpoint.timed_out(now.elapsed());
        if expired == Expired::Request {
            return Err(fault);
        }
        let is_sent = is_sent.get();
        let ended = if is_sent { Ended::Code(fault.status()) } else { Ended::Unsent };
        // An endpoint that takes its time is not broken, unless it took it to connect.
        Ok(Err(Failed { fault, ended, stale: is_sent }))
    }

    async fn send(
        &mut self,
        lease: Lease,
        fresh: bool,
        now: Instant,
        is_sent: &Cell<bool>,
    ) -> Result<(), Failed> {
        if self.terms.http2 {
            self.send_http2(lease, now, is_sent).await
        } else {
            self.send_http1(lease, fresh, now, is_sent).await
        }
    }

    async fn send_http1(
        &mut self,
        lease: Lease,
        fresh: bool,
        now: Instant,
        is_sent: &Cell<bool>,
    ) -> Result<(), Failed> {
        let Http1 { connection, reused } =
            match lease.http1(fresh, &self.terms.worker.connect).await {
                Ok(connection) => connection,
                Err(error) => return Err(Failed::to_connect(&lease, &error)),
            };
        is_sent.set(true);
        let sent = if reused { now } else { Instant::now() };
        let gate = self.terms.gate.as_deref();
        let request = self.request.as_mut().expect("an attempt begins with the request");
        match connection.send(request, || gate.into_iter().for_each(Gate::open)).await {
            Ok(response) => {
                let at = lease.succeeded(sent);
                self.answer = Some(Answer { response: response.map(Received::Http1), lease, at });
                Ok(())
            }
            Err(error) => {
                let (kind, ended) = without_answer(&error);
                Err(Failed::to_answer(&lease, kind, ended, reused, &error))
            }
        }
    }

    async fn send_http2(
        &mut self,
        lease: Lease,
        now: Instant,
        is_sent: &Cell<bool>,
    ) -> Result<(), Failed> {
        let (connection, sent) = match lease.open_http2() {
            Some(connection) => (connection, now),
            None => match lease.http2(&self.terms.worker.connect).await {
                Ok(connection) => (connection, Instant::now()),
                Err(error) => return Err(Failed::to_connect(&lease, &error)),
            },
        };
        is_sent.set(true);
        match connection.send(&mut self.request).await {
            Ok(response) => {
                let at = lease.succeeded(sent);
                self.answer = Some(Answer { response: response.map(Received::Http2), lease, at });
                Ok(())
            }
            Err(error) => {
                let (kind, ended) = without_http2_answer(&error);
                // One connection carries many requests: it has always been used before.
                Err(Failed::to_answer(&lease, kind, ended, true, &error))
            }
        }
    }

    /// Why the answer is not the client's, if the route sends such ones again.
    fn objection(&self) -> Option<Ended> {
        let (retry, Answer { response, .. }) = (self.terms.retry?, self.answer.as_ref()?);
        let code = if self.terms.is_grpc { grpc::code(response) } else { response.status() };
        // HTTPRouteRetry: retried is what "the backend explicitly rejected […] before processing it
        // (e.g., HTTP/2 REFUSED_STREAM, gRPC UNAVAILABLE)".
        if self.terms.is_grpc
            && code == StatusCode::SERVICE_UNAVAILABLE
            && response.status() == StatusCode::OK
        {
            return Some(Ended::Refused);
        }
        retry.names(code).then_some(Ended::Code(code))
    }

    /// XBackendTrafficPolicy: "After the retry budget has been exceeded, additional retries to the
    /// backend MUST return a 503 response to the client."
    fn over_budget(&mut self, attempt: Result<(), Failed>) -> Fault {
        let cause = match attempt {
            Err(failed) => failed.fault.to_string(),
            Ok(()) => {
                let answer = self.take_answer();
                let cause = format!("the endpoint answered {}", answer.response.status());
                discard(self.terms.worker, answer);
                cause
            }
        };
        let name = self.terms.backend.name();
        let message = format!("{cause}; not sent again: the retry budget of {name} is used up");
        Fault::new(Kind::RetryBudget, message)
    }

    /// What the last attempt yielded is what the client gets.
    fn conclude(
        &mut self,
        attempt: Result<(), Failed>,
        record: &mut Record,
    ) -> Result<Response<Received>, Fault> {
        attempt.map_err(|failed| failed.fault)?;
        let Answer { response, lease, at } = self.take_answer();
        record.retry_ended(RetryOutcome::Success);
        record.set_upstream(lease, at);
        Ok(response)
    }

    fn take_answer(&mut self) -> Answer {
        self.answer.take().expect("the attempt yielded one")
    }
}

/// Lets go of an answer that nobody gets. Its connection is of further use only if all of it is read.
fn discard(worker: &Rc<Worker>, answer: Answer) {
    let Answer { response, lease, .. } = answer;
    let mut body = response.into_body();
    if let Some(connection) = body.take_connection() {
        lease.give_back(connection, &worker.pool, Instant::now());
    } else if matches!(body, Received::Http1(_))
        && body.size_hint().exact().is_some_and(|length| length <= DISCARD_BYTES)
    {
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            let read = async { while let Some(Ok(_)) = body.frame().await {} };
            if tokio::time::timeout(DISCARD_WAIT, read).await.is_ok()
                && let Some(connection) = body.take_connection()
            {
                lease.give_back(connection, &worker.pool, Instant::now());
            }
        });
    }
}

impl Failed {
    fn to_connect(lease: &Lease, error: &dyn std::error::Error) -> Self {
        let addr = lease.endpoint().endpoint.addr;
        tracing::debug!(endpoint = %addr, %error, "no connection");
        Self {
            fault: Fault::new(
                Kind::ConnectFailed,
                format!("no connection to the endpoint {addr}: {error}"),
            ),
            ended: Ended::Unsent,
            stale: false,
        }
    }

    fn to_answer(
        lease: &Lease,
        kind: Kind,
        ended: Ended,
        reused: bool,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let addr = lease.endpoint().endpoint.addr;
        let chain = crate::backend::error_chain(error);
        tracing::debug!(endpoint = %addr, error = chain, "no answer");
        let message = match kind {
            Kind::BackendProtocol => format!("the endpoint {addr} answered no HTTP: {chain}"),
            Kind::ClientBody => format!("the request's body broke off: {chain}"),
            _ => format!("the endpoint {addr} closed the connection before it answered: {chain}"),
        };
        Self {
            fault: Fault::new(kind, message),
            ended,
            // A broken client is no fault of the endpoint's.
            stale: reused || kind == Kind::ClientBody,
        }
    }
}

/// What it means that there is no answer of HTTP/1.
fn without_answer(error: &http1::Error) -> (Kind, Ended) {
    match error {
        http1::Error::Unsent(_) => (Kind::BackendClosed, Ended::Unsent),
        http1::Error::Io(_) | http1::Error::Incomplete => (Kind::BackendClosed, Ended::Broken),
        http1::Error::NotHttp(_) => (Kind::BackendProtocol, Ended::Code(StatusCode::BAD_GATEWAY)),
        http1::Error::RequestBody(_) => (Kind::ClientBody, Ended::ByClient),
    }
}

/// The same, of HTTP/2.
fn without_http2_answer(error: &http2::Error) -> (Kind, Ended) {
    match error {
        http2::Error::Unsent(_) => (Kind::BackendClosed, Ended::Unsent),
        http2::Error::Http2(error) if is_refusal(error) => (Kind::BackendClosed, Ended::Refused),
        http2::Error::Http2(_) => (Kind::BackendClosed, Ended::Broken),
        http2::Error::RequestBody(_) => (Kind::ClientBody, Ended::ByClient),
    }
}

/// RFC 9113, section 8.7: "The GOAWAY mechanism indicates the highest stream number that can be
/// processed", "The REFUSED_STREAM error code can be included in a RST_STREAM frame to indicate that
/// the stream is being closed prior to any processing having occurred." h2 ends with the peer's GOAWAY
/// only the streams beyond that number.
fn is_refusal(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away()
            || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
}

/// Whether a cause of the error is of that kind.
pub(super) fn has_cause<E: std::error::Error + 'static>(
    error: &(dyn std::error::Error + 'static),
    is_it: impl Fn(&E) -> bool,
) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<E>().is_some_and(&is_it) {
            return true;
        }
        source = cause.source();
    }
    false
}
