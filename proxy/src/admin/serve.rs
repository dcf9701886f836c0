//! Accepts connections and answers one request on each, within bounds that hold against whoever
//! can reach the port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::{DefaultOnFailure, TraceLayer};
use tracing::Level;

/// The body of a request that has at most [`MAX_BODY_BYTES`].
pub(super) type RequestBody = tower_http::body::Limited<Incoming>;

/// Requests that are answered at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Enough for a question about a request with all the headers that one may have.
const MAX_BODY_BYTES: usize = 128 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// From accept to close, whatever the client does: a scrape that is read slowly too.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers for as long as it is polled; connections go on by themselves.
pub(super) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<RequestBody>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let service = ServiceBuilder::new()
        // A probe that comes before the sidecar is ready has its answer, 503, and is no error of anybody's.
        .layer(TraceLayer::new_for_http().on_failure(DefaultOnFailure::new().level(Level::DEBUG)))
        .layer(header(CACHE_CONTROL, "no-store"))
        .layer(header(http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_TIMEOUT))
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .service_fn(handler);
    let service = TowerToHyperService::new(service);

    let mut http = http1::Builder::new();
    // A connection for each request: one a scrape costs nothing, idle ones would hold a place.
    http.keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .max_headers(64);

    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = accept(&listener).await;
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "admin or metrics connection broke"),
                Err(_) => tracing::debug!("admin or metrics connection took too long"),
            }
            drop(place);
        });
    }
}

/// Waits for a connection; out of file descriptors, say, it waits until there are some again.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin or metrics connection");
                tokio::time::sleep(Duration::from_millis(fastrand::u64(50..150))).await;
            }
        }
    }
}

fn header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}
