//! The plain port for the cluster: `/metrics`, `/livez`, `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::listen::accept;
use crate::metrics::Metrics;
use crate::service_cidr::ServiceCidrs;

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// From accept to close, whatever the client does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether API servers may send admissions here: the certificate is served and trusted, and the
/// Service ranges are known. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    trusted: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    service_cidrs: ServiceCidrs,
}

impl Readiness {
    pub fn new(service_cidrs: ServiceCidrs) -> Readiness {
        Readiness { service_cidrs, ..Readiness::default() }
    }

    /// A certificate is served whose CA the webhook configuration has.
    pub fn certificate_is_trusted(&self) {
        self.trusted.store(true, Ordering::Release);
    }

    /// The process is about to end: no new requests, please.
    pub fn ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.waiting_for().is_empty()
    }

    /// What is not there, in words.
    fn waiting_for(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.trusted.load(Ordering::Acquire) {
            missing.push("the webhook configuration does not have the certificate's CA yet");
        }
        if self.service_cidrs.current().is_none() {
            missing.push("the cluster's Service ranges are not known yet");
        }
        if self.ending.load(Ordering::Acquire) {
            missing.push("the process is ending");
        }
        missing
    }
}

/// Answers for as long as it is polled; connections go on by themselves.
pub async fn serve(listener: TcpListener, readiness: Readiness, metrics: Arc<Metrics>) {
    let service = ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_TIMEOUT))
        .service_fn(move |request: Request<hyper::body::Incoming>| {
            let answer = answer(&request, &readiness, &metrics);
            async move { Ok::<_, Infallible>(answer) }
        });
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
                Ok(Err(error)) => tracing::debug!(%error, "metrics connection broke"),
                Err(_) => tracing::debug!("metrics connection took too long"),
            }
            drop(place);
        });
    }
}

fn answer<B>(
    request: &Request<B>,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut answer = Response::new(Full::from(metrics.encode()));
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            answer
        }
        "/livez" => text(StatusCode::OK, "alive\n"),
        "/readyz" => {
            let missing = readiness.waiting_for();
            if missing.is_empty() {
                text(StatusCode::OK, "ready\n")
            } else {
                let message = format!("not ready: {}\n", missing.join("; "));
                text(StatusCode::SERVICE_UNAVAILABLE, message)
            }
        }
        _ => text(StatusCode::NOT_FOUND, "there is /metrics, /livez and /readyz\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, readiness: &Readiness) -> (StatusCode, String) {
        let request = Request::builder().uri(path).body(()).unwrap();
        let answer = answer(&request, readiness, &Metrics::default());
        (answer.status(), format!("{:?}", answer.body()))
    }

    #[test]
    fn ready_once_trusted_and_told_the_ranges() {
        let readiness = Readiness::default();
        let (status, body) = get("/readyz", &readiness);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("CA yet; the cluster's Service ranges are not known yet"), "{body}");
        let readiness = Readiness::new(ServiceCidrs::fixed("10.96.0.0/12".parse().unwrap()));
        assert!(!readiness.is_ready());
        readiness.certificate_is_trusted();
        assert_eq!(get("/readyz", &readiness).0, StatusCode::OK);
        readiness.ending();
        assert_eq!(get("/readyz", &readiness).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/livez", &readiness).0, StatusCode::OK);
    }

    #[test]
    fn shows_metrics_and_nothing_else() {
        let readiness = Readiness::default();
        let (status, body) = get("/metrics", &readiness);
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("weft_injector_admission_duration_seconds"), "{body}");
        assert_eq!(get("/", &readiness).0, StatusCode::NOT_FOUND);
        let post = Request::post("/readyz").body(()).unwrap();
        let answer = answer(&post, &readiness, &Metrics::default());
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
