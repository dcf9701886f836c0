//! The port for metrics and health.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// Requests that are answered at once; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// From accept to close, whatever the client does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens on all addresses, of IPv4 and IPv6, or of IPv4 where there is no IPv6.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_no_ipv6) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

/// Answers for as long as it is polled.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut http = http1::Builder::new();
    // A connection for each request: one a scrape costs nothing, idle ones would hold a place.
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics or health");
                tokio::time::sleep(Duration::from_millis(fastrand::u64(50..150))).await;
                continue;
            }
        };
        let metrics = Arc::clone(&metrics);
        let service = service_fn(move |request| {
            let answer = answer(&request, &metrics);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // Whoever went away has no need of an answer.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

fn answer<B>(request: &Request<B>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.encode());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
            response
        }
        "/livez" => text(StatusCode::OK, "alive\n"),
        // A replica that waits for its turn is as ready as the one that leads.
        "/readyz" if metrics.is_ready() => text(StatusCode::OK, "ready\n"),
        "/readyz" => {
            let why = "not ready: the API server has not answered about the lease yet\n";
            text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        _ => text(StatusCode::NOT_FOUND, "there is /metrics, /livez and /readyz\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_the_api_server_and_liveness_does_not() {
        let metrics = Metrics::new();
        let ask = |path: &str| {
            let request = Request::get(path).body(()).expect("a request");
            answer(&request, &metrics).status()
        };
        assert_eq!(ask("/livez"), StatusCode::OK);
        assert_eq!(ask("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        metrics.set_ready();
        assert_eq!(ask("/readyz"), StatusCode::OK);
        assert_eq!(ask("/metrics"), StatusCode::OK);
        assert_eq!(ask("/elsewhere"), StatusCode::NOT_FOUND);
    }
}
