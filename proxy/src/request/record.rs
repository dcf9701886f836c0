//! What is noted of a request, and written into metrics and the access log once, at its end:
//! whichever way it ends, a record that is dropped is written.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;

use super::Connection;
use super::access::AccessEntry;
use super::gate::Gate;
use super::grpc;
use crate::backend::local::Lease;
use crate::http1;
use crate::metrics::{Outcome, RetryOutcome, Series};

/// An answer that is no longer than this, and is there when it is asked for, was there with its head: what is
/// read at once. Until it has gone to the client may take longer.
const AT_ONCE: u64 = 8 * 1024;

/// A request under way.
pub(crate) struct Record {
    connection: Rc<Connection>,
    series: Arc<Series>,
    start: Instant,
    routed: Instant,
    outcome: Outcome,
    is_grpc: bool,
    bytes: u64,
    /// The place at the endpoint that the answer comes from.
    upstream: Option<Lease>,
    /// When its head was there, if none of its body has been waited for.
    at_once: Option<Instant>,
    /// Of a request whose body the backend did not ask for. Let go with the record, and not before
    /// the answer's end: an error of the body ends the connection that the answer comes from.
    closed: Option<Rc<Gate>>,
    /// The connection's end may be the body's to the client.
    reset_on_failure: bool,
    access: Option<Box<AccessEntry>>,
    retries: u32,
    /// A retry is under way.
    retrying: bool,
    written: bool,
}

impl Record {
    /// Boxed: it goes with the answer, from hand to hand.
    pub(crate) fn new(
        connection: Rc<Connection>,
        series: Arc<Series>,
        [start, routed]: [Instant; 2],
        is_grpc: bool,
        access: Option<Box<AccessEntry>>,
    ) -> Box<Self> {
        if let Some(activity) = &connection.http2 {
            activity.request_begins();
        }
        let outcome = Outcome { status: 0, grpc_status: None, reason: "client_closed" };
        Box::new(Self {
            connection,
            series,
            start,
            routed,
            outcome,
            is_grpc,
            bytes: 0,
            upstream: None,
            at_once: None,
            closed: None,
            reset_on_failure: false,
            access,
            retries: 0,
            retrying: false,
            written: false,
        })
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// When the request's head had been read.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// When its destination was known: the same moment, unless that had to be asked for.
    pub(crate) fn routed(&self) -> Instant {
        self.routed
    }

    /// A response head is there. Until the body has ended, the client's leaving is what would end
    /// the request.
    pub(crate) fn answered(&mut self, status: u16, headers: &HeaderMap) {
        self.outcome.status = status;
        if self.is_grpc {
            // A response of trailers only has them in its head, and may end with an empty body.
            self.outcome.grpc_status = grpc::status(headers);
        }
    }

    /// From now on another rule or backend is what the request counts for.
    pub(crate) fn set_series(&mut self, series: &Arc<Series>) {
        self.series = series.clone();
    }

    /// The answer's head came from there, at that moment.
    pub(crate) fn set_upstream(&mut self, upstream: Lease, at: Instant) {
        self.upstream = Some(upstream);
        self.at_once = Some(at);
    }

    /// More of the answer's body has to be waited for.
    pub(crate) fn waits(&mut self) {
        self.at_once = None;
    }

    /// The digest of the endpoint that the answer comes from.
    pub(crate) fn endpoint(&self) -> Option<u64> {
        self.upstream.as_ref().map(|upstream| upstream.endpoint().digest)
    }

    /// The body behind this gate is not to be sent.
    pub(crate) fn keep_closed(&mut self, gate: Rc<Gate>) {
        self.closed = Some(gate);
    }

    /// A response that breaks off resets the client's connection: HTTP/1.0 knows no chunks, and a
    /// body of unknown length would look complete.
    pub(crate) fn reset_on_failure(&mut self) {
        self.reset_on_failure = true;
    }

    /// The request is about to be sent once more.
    pub(crate) fn retry_begins(&mut self) {
        self.retry_ended(RetryOutcome::Failure);
        self.retries += 1;
        self.retrying = true;
    }

    /// The retry that is under way, if there is one, has ended.
    pub(crate) fn retry_ended(&mut self, outcome: RetryOutcome) {
        if std::mem::replace(&mut self.retrying, false) {
            self.series.retried(outcome);
        }
    }

    /// The request would have been sent once more, but for the backend's budget.
    pub(crate) fn retry_refused(&mut self) {
        self.retry_ended(RetryOutcome::Failure);
        self.series.retried(RetryOutcome::OverBudget);
    }

    pub(crate) fn access(&mut self) -> Option<&mut AccessEntry> {
        self.access.as_deref_mut()
    }

    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The gRPC status that the proxy ends the answer with.
    pub(crate) fn see_grpc_status(&mut self, status: u8) {
        self.outcome.grpc_status = Some(status);
    }

    pub(crate) fn see_trailers(&mut self, trailers: &HeaderMap) {
        if self.is_grpc {
            self.outcome.grpc_status = grpc::status(trailers);
        }
    }

    /// The proxy's own answer.
    pub(crate) fn own_answer(
        &mut self,
        status: u16,
        grpc_status: Option<u8>,
        reason: &'static str,
    ) {
        self.outcome = Outcome { status, grpc_status, reason };
        self.write(Instant::now());
    }

    /// The response was read to its end; with the connection that it came from, if another request can
    /// follow on it.
    pub(crate) fn complete(&mut self, connection: Option<http1::Connection>) {
        // Each look at the clock is a hundredth of what a request costs in user space.
        let at_once = self.at_once.filter(|_| self.bytes <= AT_ONCE);
        let now = at_once.unwrap_or_else(Instant::now);
        self.outcome.reason = "";
        if let (Some(lease), Some(connection)) = (&self.upstream, connection) {
            lease.give_back(connection, &self.connection.worker.pool, now);
        }
        self.write(now);
    }

    /// The response broke off.
    pub(crate) fn fail(&mut self, reason: &'static str) {
        self.outcome.reason = reason;
        if self.reset_on_failure {
            self.connection.stream.reset();
        }
        self.write(Instant::now());
    }

    fn write(&mut self, now: Instant) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        self.connection.stream.request_ends();
        self.retry_ended(RetryOutcome::Cancelled);
        if let Some(activity) = &self.connection.http2 {
            // No status is that of a request without an answer: the client did not wait for it.
            activity.request_ends(self.outcome.status == 0);
        }
        let took = now.saturating_duration_since(self.start);
        self.series.record(self.outcome, took);
        if let Some(mut access) = self.access.take() {
            access.retries = self.retries;
            access.write(&self.connection.worker.shared.access_log, self.outcome, took, self.bytes);
        }
        self.upstream = None;
        self.closed = None;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.written {
            self.write(Instant::now());
        }
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}
