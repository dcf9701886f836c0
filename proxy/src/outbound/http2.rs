//! A client's HTTP/2 connection: h2 reads and writes it within limits, and what h2 does not bound is bounded
//! by [`super::stream`] and [`super::clients`].

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderValue, Request};

use super::activity::{Activity, Verdict};
use super::stream::ClientStream;
use crate::backend::error_chain;
use crate::http2;
use crate::prefixed::Prefixed;
use crate::request::{self, Connection, Unread};
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
    activity: Rc<Activity>,
) -> Option<Verdict> {
    worker.clients.add_http2(&activity);
    let limits = &worker.shared.limits;
    let client = connection.client;
    let max_resets = limits.http2_max_resets as usize;
    let handshake = Builder::new()
        .max_concurrent_streams(limits.http2_max_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(max_resets.min(UNREAD_RESETS))
        .max_local_error_reset_streams(Some(max_resets))
        .handshake::<_, Bytes>(ClientStream::new(stream, activity.clone()));
    let mut watch = worker.shared.drain.watch();
    let result = async {
        let mut requests = {
            let mut handshake = pin!(handshake);
            in_turns(&activity, |cx| handshake.as_mut().poll(cx)).await?
        };
        let mut draining = pin!(watch.draining());
        let mut told = false;
        in_turns(&activity, |cx| {
            if !told && draining.as_mut().poll(cx).is_ready() {
                told = true;
                requests.graceful_shutdown();
            }
            while let Some(request) = ready!(requests.poll_accept(cx)) {
                begin(&connection, &activity, request?);
            }
            Poll::Ready(Ok(()))
        })
        .await
    };
    let result = result.await;
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

/// Polls, each time as a turn of the connection.
async fn in_turns<T>(
    activity: &Activity,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, h2::Error>>,
) -> Result<T, h2::Error> {
    poll_fn(|cx| {
        activity.turn_begins();
        poll(cx)
    })
    .await
}

/// Answers a request on a task of its own.
fn begin(
    connection: &Rc<Connection>,
    activity: &Activity,
    (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
) {
    let (head, stream) = request.into_parts();
    activity.has_head(head.headers.values().map(HeaderValue::len).sum());
    let answering = request::serve(connection.clone(), head, Unread::Http2(stream));
    let client = connection.client;
    let answered = async move {
        if let Err(error) = http2::answer(respond, answering).await {
            tracing::debug!(%client, error = error_chain(&error), "an answer did not get to its end");
        }
    };
    // Boxed: on its way into a task tokio moves a future half a dozen times.
    tokio::task::spawn_local(Box::pin(answered));
}

/// Whether it is h2 that has ended the connection: for frames that are wrong, or its own bounds.
fn has_broken_the_protocol(error: &h2::Error) -> bool {
    error.is_library() && error.is_go_away()
}
