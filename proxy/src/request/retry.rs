//! Whether a request is sent once more. [`super::forward`] asks after every attempt that did not end
//! with the answer that the client gets.
//!
//! | how the attempt ended | without `retry` | with `retry`, while attempts are left |
//! |---|---|---|
//! | nothing of it was sent | again, 3 times | again |
//! | the endpoint refused it unprocessed | again, 3 times (¹) | again |
//! | the connection broke | again, 3 times (¹) | again if idempotent |
//! | an answer of a code, a timeout (504), no HTTP (502) | never | again where `codes` has it |
//!
//! (¹) without a body and idempotent. What puts load on the backend draws on its budget: everything but
//! what was not sent, and what went to a connection of the pool that was closed.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, StatusCode, header};

use super::body::RequestBody;
use super::deadline::Deadline;
use super::replay::Replay;
use crate::backend::local::LocalBackend;
use crate::table::Retry;

/// Retries that need no `retry` in a route.
const OWN_RETRIES: u32 = 3;

/// How an attempt ended that did not yield the answer for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing of the request was written: no connection, or one that was closed already.
    Unsent,
    /// The endpoint said that it has not processed it: REFUSED_STREAM, GOAWAY, gRPC's UNAVAILABLE.
    Refused,
    /// The connection broke: nobody knows how much of it was processed.
    Broken,
    /// With this code, the backend's or, for a timeout or an answer that is not HTTP, the proxy's.
    Code(StatusCode),
    /// The client broke it off.
    ByClient,
}

/// Why no other attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The last attempt's answer or fault is the request's.
    Final,
    /// It would be sent again, but the backend's retries are used up.
    OverBudget,
}

/// The retries of one request.
pub(super) struct Retries<'r> {
    policy: Option<&'r Retry>,
    is_idempotent: bool,
    replay: Option<Replay>,
    done: u32,
    /// The last attempt went to a new connection because the pool's was closed.
    reconnected: bool,
}

impl<'r> Retries<'r> {
    /// `stays` says that the head of the request stays in its place when it is sent.
    pub(super) fn new(
        policy: Option<&'r Retry>,
        request: &Request<RequestBody>,
        stays: bool,
    ) -> Self {
        let is_idempotent = is_idempotent(request.method(), request.headers());
        let may_replay = match policy {
            Some(policy) => policy.attempts > 0,
            None => is_idempotent && request.body().is_empty(),
        };
        let replay = may_replay.then(|| Replay::of(request, stays)).flatten();
        Self { policy, is_idempotent, replay, done: 0, reconnected: false }
    }

    /// How long to wait before another attempt, after one that ended like this; it is counted, and
    /// `request` is then what to send.
    ///
    /// `stale` says whether its connection had been used before.
    pub(super) fn next(
        &mut self,
        ended: Ended,
        request: &mut Option<Request<RequestBody>>,
        stale: bool,
        backend: &LocalBackend,
        deadline: &Deadline,
    ) -> Result<Duration, Stop> {
        // What was not sent is as it was.
        let replay = self.replay.as_ref().filter(|replay| replay.is_complete());
        if ended != Ended::Unsent && replay.is_none() {
            return Err(Stop::Final);
        }
        let pause = self.pause(ended, stale, backend, deadline)?;
        if let Some(replay) = self.replay.as_ref().filter(|_| ended != Ended::Unsent) {
            replay.restore(request);
        }
        if request.is_some() { Ok(pause) } else { Err(Stop::Final) }
    }

    fn pause(
        &mut self,
        ended: Ended,
        stale: bool,
        backend: &LocalBackend,
        deadline: &Deadline,
    ) -> Result<Duration, Stop> {
        // A closed connection of the pool is no attempt: the first one has yet to begin.
        if ended == Ended::Unsent && stale && !std::mem::replace(&mut self.reconnected, true) {
            return Ok(Duration::ZERO);
        }
        self.reconnected = false;
        let is_wanted = match ended {
            Ended::Unsent | Ended::Refused => true,
            // HTTPRouteRetry: "Implementations SHOULD NOT retry by default on failures where the
            // request may have been processed (e.g., a connection reset after the request was sent)."
            // RFC 9110, section 9.2.2, allows it of idempotent methods.
            Ended::Broken => self.is_idempotent,
            Ended::Code(code) => self.policy.is_some_and(|policy| policy.names(code)),
            Ended::ByClient => false,
        };
        // "An explicit zero value MUST disable retries."
        let most = self.policy.map_or(OWN_RETRIES, |policy| policy.attempts);
        if !is_wanted || self.done >= most {
            return Err(Stop::Final);
        }
        let is_free = ended == Ended::Unsent || (ended == Ended::Broken && stale);
        let pause = match self.policy {
            // Another endpoint may well be there at once.
            Some(policy) if !is_free || self.done >= OWN_RETRIES => policy.pause(self.done),
            _ => Duration::ZERO,
        };
        let now = Instant::now();
        if !deadline.allows(now, pause) {
            return Err(Stop::Final);
        }
        if !is_free && !backend.budget.retry(now) {
            return Err(Stop::OverBudget);
        }
        self.done += 1;
        Ok(pause)
    }
}

/// RFC 9110, section 9.2.2. An upgrade is what its protocol makes of it.
pub(crate) fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    ) && !headers.contains_key(header::UPGRADE)
}
