//! A client's HTTP/1 connection: hyper serves it, and here it is told to finish, or has taken too long
//! for a head.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Sleep;

use super::activity::Verdict;
use crate::backend::{HTTP1_BUFFER, error_chain};
use crate::prefixed::{Handle, Phase, Prefixed};
use crate::request::{self, Connection, Unread};
use crate::worker::Worker;

/// The most headers that hyper takes where nothing else is said.
const HYPER_MAX_HEADERS: usize = 100;

/// Serves the connection to its end; returns why, where it is the proxy that has ended it.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    stream: Prefixed,
    connection: Rc<Connection>,
) -> Option<Verdict> {
    let limits = &worker.shared.limits;
    let client = connection.client;
    let mut builder = http1::Builder::new();
    // To be told its own default, hyper fills room for so many headers for each message it reads.
    if limits.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    let handle = stream.handle().clone();
    let mut late = HeadDeadline::new(handle.clone(), limits.header_timeout);
    let serving = builder
        // HeadDeadline's: hyper's makes a timer for each request, and ends idle connections too.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(HTTP1_BUFFER))
        // The backend's, or none.
        .auto_date_header(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request: Request<Incoming>| {
                let (head, body) = request.into_parts();
                connection.stream.request_begins(!body.is_end_stream());
                request::serve(connection.clone(), head, Unread::Http1(body))
            }),
        )
        .with_upgrades();
    let mut serving = pin!(serving);
    let mut watch = worker.shared.drain.watch();
    let mut draining = pin!(watch.draining());
    let mut told = false;
    poll_fn(|cx| {
        worker.clients.add_http1(&handle, cx.waker());
        Poll::Ready(())
    })
    .await;
    let result = poll_fn(|cx| {
        loop {
            // First: a connection that comes while draining has its first request read before it is
            // told.
            if let Poll::Ready(result) = serving.as_mut().poll(cx) {
                return Poll::Ready(Ok(result));
            }
            if told || draining.as_mut().poll(cx).is_pending() {
                return late.poll(cx).map(Err);
            }
            told = true;
            serving.as_mut().graceful_shutdown();
        }
    });
    match result.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::debug!(%client, error = error_chain(&error), "HTTP/1 connection ended");
            None
        }
        Err(verdict) => {
            tracing::debug!(%client, reason = verdict.reason(), "HTTP/1 connection closed");
            Some(verdict)
        }
    }
}

/// How long a head may take, from its first byte on; the first head from the connection's beginning
/// on. Heads that come at once set no timer and read no clock.
struct HeadDeadline {
    stream: Handle,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// What the timer was set for.
    awaited: Option<Phase>,
}

impl HeadDeadline {
    fn new(stream: Handle, timeout: Duration) -> Self {
        Self { stream, timeout, timer: None, awaited: None }
    }

    /// Ready once a head has taken too long, or [`super::clients`] says that there was no request for too
    /// long. To be polled after whoever reads the stream.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        if self.stream.is_over() {
            return Poll::Ready(Verdict::IdleTimeout);
        }
        let phase = self.stream.phase();
        if !phase.is_head() {
            return Poll::Pending;
        }
        let timeout = self.timeout;
        let at = || (Instant::now() + timeout).into();
        let is_set = self.awaited.replace(phase) == Some(phase);
        let timer = match &mut self.timer {
            Some(timer) => {
                if !is_set {
                    timer.as_mut().reset(at());
                }
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(at()))),
        };
        timer.as_mut().poll(cx).map(|()| Verdict::HeaderTimeout)
    }
}
