//! The times by which a request must be done: all of it, and its current attempt.
//!
//! [`crate::request`] makes a [`Deadline`] when it knows the rule, [`super::forward`] runs the
//! attempts under it, and what is left of it goes on to limit the response's body. It costs one timer,
//! made when there is something to wait for and set anew from then on; without a timeout it costs
//! nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::time::Sleep;

use super::grpc;
use crate::fault::{Fault, Kind};

/// What a client's deadline may differ from what is left of it before it is written anew.
const TOLERANCE: Duration = Duration::from_millis(1);

/// The times by which a request must be done. Not one of them need be there.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    request: Option<Limit>,
    attempt: Option<Limit>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A timeout under way.
#[derive(Clone, Copy, Debug)]
struct Limit {
    at: Instant,
    length: Duration,
    /// Who wants it, for people.
    of: &'static str,
}

/// Which of the times is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    Request,
    Attempt,
}

impl Deadline {
    /// The deadline of a request whose head was read at `start`: the rule's `timeouts.request` or the
    /// client's `grpc-timeout`, whichever is shorter.
    pub(crate) fn new(start: Instant, request: Option<Duration>, grpc: Option<Duration>) -> Self {
        let rule = request.map(|length| (length, "timeouts.request"));
        let client = grpc.map(|length| (length, "the client's grpc-timeout"));
        let shorter = [rule, client].into_iter().flatten().min_by_key(|(length, _)| *length);
        let request = shorter.and_then(|(length, of)| Limit::new(start, length, of));
        Self { request, attempt: None, timer: None }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.request.is_none() && self.attempt.is_none()
    }

    /// An attempt begins: `timeout` counts from now on.
    pub(crate) fn begin_attempt(&mut self, now: Instant, timeout: Option<Duration>) {
        self.attempt =
            timeout.and_then(|length| Limit::new(now, length, "timeouts.backendRequest"));
    }

    /// Whether the request would still have time for something after `pause`.
    pub(crate) fn allows(&self, now: Instant, pause: Duration) -> bool {
        self.request.is_none_or(|limit| now + pause < limit.at)
    }

    /// Runs `future` to its end, or until a time is up. It is pinned where it is: this function's own
    /// future would otherwise have room for it twice.
    pub(crate) async fn limit<F: Future>(
        &mut self,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Expired> {
        let Some((limit, expired)) = self.next() else { return Ok(future.await) };
        let mut timer = self.timer(limit.at);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| Err(expired)),
        })
        .await
    }

    /// Waits between two attempts.
    pub(crate) async fn pause(&mut self, length: Duration) {
        if !length.is_zero() {
            self.timer(Instant::now() + length).await;
        }
    }

    /// Waits until a time is up.
    pub(crate) async fn expired(&mut self) -> Expired {
        match self.next() {
            Some((limit, expired)) => {
                self.timer(limit.at).await;
                expired
            }
            None => std::future::pending().await,
        }
    }

    /// Tells a gRPC backend how long it has. Of a client that named no deadline nothing is told: the
    /// backend learns by the stream's end that nobody waits any more.
    ///
    /// gRPC over HTTP/2: "If Timeout is omitted a server should assume an infinite timeout."
    pub(crate) fn tell(&self, headers: &mut HeaderMap, now: Instant) {
        let Some((limit, _)) = self.next() else { return };
        let Some(client) = grpc::timeout(headers) else { return };
        let left = limit.at.saturating_duration_since(now);
        if left + TOLERANCE < client {
            grpc::set_timeout(headers, left);
        }
    }

    /// Why the proxy answers when a time is up.
    pub(crate) fn fault(&self, expired: Expired) -> Fault {
        let (kind, limit) = match expired {
            Expired::Request => (Kind::RequestTimeout, self.request),
            Expired::Attempt => (Kind::BackendTimeout, self.attempt),
        };
        let message = match limit {
            Some(Limit { length, of, .. }) => format!("no whole answer within {length:?} ({of})"),
            None => "no whole answer in time".to_owned(),
        };
        Fault::new(kind, message)
    }

    /// The time that is up first.
    fn next(&self) -> Option<(Limit, Expired)> {
        let request = self.request.map(|limit| (limit, Expired::Request));
        let attempt = self.attempt.map(|limit| (limit, Expired::Attempt));
        request.into_iter().chain(attempt).min_by_key(|(limit, _)| limit.at)
    }

    fn timer(&mut self, at: Instant) -> Pin<&mut Sleep> {
        match &mut self.timer {
            Some(timer) => {
                if timer.deadline() != at.into() {
                    timer.as_mut().reset(at.into());
                }
                timer.as_mut()
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(at.into()))).as_mut(),
        }
    }
}

impl Limit {
    /// None for one beyond what the clock can tell.
    fn new(start: Instant, length: Duration, of: &'static str) -> Option<Self> {
        Some(Self { at: start.checked_add(length)?, length, of })
    }
}

#[cfg(test)]
mod tests;
