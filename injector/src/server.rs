//! HTTPS for the API server: `POST /inject` with an AdmissionReview, or `/inject/forbidden` where
//! the webhook configuration has found, by the namespace's labels, that its pod security standard
//! forbids `weft-init`: so no namespace has to be looked up.
//!
//! `main` calls [`serve`]. Each new connection gets the certificate that is in force when it comes;
//! a rotation closes none. At the end no new connection is accepted, and requests in flight are
//! answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::util::BoxCloneSyncService;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::certificate::{Served, generation};
use crate::container::Settings;
use crate::listen::accept;
use crate::metrics::Metrics;
use crate::pod::Standard;
use crate::review::{self, Answer, ReviewError, Summary};
use crate::service_cidr::ServiceCidrs;

/// Where the webhook configuration must point.
pub const PATH: &str = "/inject";
/// The same for namespaces whose pod security standard forbids `weft-init`.
pub const FORBIDDEN_PATH: &str = "/inject/forbidden";

/// etcd takes objects of 1.5 MiB; a review has the object, and could have an old one.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// API servers have one connection each, and some more while they start.
const MAX_CONNECTIONS: usize = 512;
/// Bounds the memory that bodies take; an answer takes far less than a millisecond.
const MAX_REQUESTS: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that an API server waits is 30 s, its default 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_PING: Duration = Duration::from_secs(30);

/// What answers need.
#[derive(Debug)]
pub struct Admissions {
    pub settings: Settings,
    pub service_cidrs: ServiceCidrs,
    pub metrics: Arc<Metrics>,
}

/// Accepts connections until `end` resolves, then waits for those that are open, at most `drain`.
pub async fn serve(
    listener: TcpListener,
    served: Served,
    admissions: Arc<Admissions>,
    end: impl Future<Output = ()>,
    drain: Duration,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(served)?));
    let metrics = Arc::clone(&admissions.metrics);
    let service = service(admissions);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut end = std::pin::pin!(end);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, stream) = tokio::select! {
            next = next => next,
            () = &mut end => break,
        };
        let connection = connection(
            stream,
            acceptor.clone(),
            service.clone(),
            graceful.watcher(),
            metrics.clone(),
        );
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time: they are cut");
    }
    Ok(())
}

fn tls(served: Served) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(generation::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(served));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: HttpService,
    watcher: Watcher,
    metrics: Arc<Metrics>,
) {
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            metrics.handshake_failure();
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            metrics.handshake_failure();
            tracing::debug!("TLS handshake took too long");
            return;
        }
    };
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .max_headers(64);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_PING)
        .max_concurrent_streams(u32::try_from(MAX_REQUESTS).ok())
        .max_header_list_size(64 * 1024);
    let service = TowerToHyperService::new(service);
    let served = http.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(error, "connection broke");
    }
}

type HttpService = BoxCloneSyncService<Request<Incoming>, Response<Full<Bytes>>, Infallible>;

fn service(admissions: Arc<Admissions>) -> HttpService {
    let service = ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_TIMEOUT))
        .layer(GlobalConcurrencyLimitLayer::new(MAX_REQUESTS))
        .service_fn(move |request| {
            let admissions = Arc::clone(&admissions);
            async move { Ok::<_, Infallible>(handle(request, &admissions).await) }
        });
    BoxCloneSyncService::new(service)
}

/// One request, from its head to its answer.
async fn handle(request: Request<Incoming>, admissions: &Admissions) -> Response<Full<Bytes>> {
    let standard = match request.uri().path() {
        PATH => Standard::Permits,
        FORBIDDEN_PATH => Standard::Forbids,
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "nothing at this path: the webhook is at /inject\n",
            );
        }
    };
    if request.method() != Method::POST {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    let body = read(request).await;
    let start = Instant::now();
    let answer = match body {
        Ok(body) => {
            review::answer(&body, &admissions.settings, &admissions.service_cidrs, standard)
        }
        Err(error) => review::refuse(&error, ""),
    };
    admissions.metrics.admission(&answer.summary, start.elapsed());
    log(&answer.summary);
    let Answer { status, body, .. } = answer;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

const JSON: &str = "application/json";

async fn read(request: Request<Incoming>) -> Result<Bytes, ReviewError> {
    let content_type = media_type(request.headers());
    if content_type != JSON {
        return Err(ReviewError::ContentType(content_type));
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    // Said before it is sent: no reason to wait for it.
    if length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|l| l > MAX_BODY_BYTES) {
        return Err(ReviewError::TooLarge(MAX_BODY_BYTES));
    }
    match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ReviewError::TooLarge(MAX_BODY_BYTES)),
        Err(error) => Err(ReviewError::Unreadable(error.to_string())),
    }
}

/// The type without its parameters; `absent` where there is none.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("not a text"));
    let bare = value.unwrap_or("absent").split(';').next().unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

fn log(summary: &Summary) {
    let Summary { result, reason, dry_run, namespace, pod, message, warnings } = summary;
    match *result {
        "injected" | "left_alone" if warnings.is_empty() => {
            tracing::debug!(namespace, pod, result, reason, dry_run, "admission");
        }
        "injected" | "left_alone" => {
            let warnings = warnings.join("; ");
            tracing::info!(namespace, pod, result, reason, dry_run, warnings, "admission");
        }
        _ => tracing::warn!(namespace, pod, result, reason, dry_run, "admission: {message}"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

#[cfg(test)]
mod tests;
