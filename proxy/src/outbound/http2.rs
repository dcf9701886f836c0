//! A client's HTTP/2 connection: hyper serves it within limits, and what hyper does not bound is bounded
//! by [`super::stream`] and [`super::clients`].

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::activity::{Activity, Verdict};
use super::stream::ClientStream;
use crate::backend::{LocalExecutor, error_chain};
use crate::prefixed::Prefixed;
use crate::request::{self, Connection};
use crate::worker::Worker;

/// What one HTTP/2 client may have on its way to the proxy, and what waits for it there: a stream
/// whose client does not read costs as much.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;

/// Requests whose reset is there before they are begun: each is begun nevertheless, to be given up at
/// once.
const UNREAD_RESETS: usize = 64;

/// Serves the connection to its end; returns why, where it is the proxy that has ended it.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    stream: Prefixed,
    connection: Rc<Connection>,
    activity: Arc<Activity>,
) -> Option<Verdict> {
    worker.clients.add_http2(&activity);
    let limits = &worker.shared.limits;
    let client = connection.client;
    let max_header_bytes = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
    let max_resets = limits.http2_max_resets as usize;
    let max_unread = max_resets.min(UNREAD_RESETS);
    let stream = ClientStream::new(stream, activity.clone());
    let heads = activity.clone();
    let serving = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(max_header_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(max_unread)
        .max_local_error_reset_streams(max_resets)
        .auto_date_header(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request: Request<Incoming>| {
                heads.has_head(request.headers().values().map(HeaderValue::len).sum());
                request::serve(connection.clone(), request)
            }),
        );
    let mut serving = pin!(serving);
    let mut watch = worker.shared.drain.watch();
    let result = tokio::select! {
        result = in_turns(serving.as_mut(), &activity) => result,
        () = watch.draining() => {
            serving.as_mut().graceful_shutdown();
            in_turns(serving, &activity).await
        }
    };
    let verdict = activity.verdict();
    let mut is_misuse = activity.is_slow() || verdict.is_some_and(|it| !it.is_friendly());
    if let Err(error) = result {
        tracing::debug!(%client, error = error_chain(&error), "HTTP/2 connection ended");
        is_misuse |= has_broken_the_protocol(&error);
    }
    if is_misuse {
        activity.pace.is_misused();
    }
    verdict
}

/// Serves, and notes each poll as a turn of the connection.
async fn in_turns<S: Future>(mut serving: Pin<&mut S>, activity: &Activity) -> S::Output {
    poll_fn(|cx| {
        activity.turn_begins();
        serving.as_mut().poll(cx)
    })
    .await
}

/// Whether it is h2 that has ended the connection: for frames that are wrong, or its own bounds.
fn has_broken_the_protocol(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<h2::Error>());
    cause.is_some_and(|it| it.is_library() && it.is_go_away())
}
