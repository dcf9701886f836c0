//! Two small HTTP servers of the control thread: for the cluster, metrics and health; for whoever
//! may enter the pod, a look inside and a few handles.
//!
//! `main` binds both ports with [`listen`] and runs [`serve_metrics`] and [`serve_admin`] until the
//! process ends: they answer while the sidecar drains. Nothing here is on the path of a request
//! through the sidecar.

mod listen;
mod serve;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;

pub use self::listen::{ListenError, listen, listen_on_all};

use crate::explain::{Explanation, Question, Unexplained};
use crate::log::LogHandle;
use crate::metrics::{Format, Metrics};

/// What both servers answer from. Clones share everything.
#[derive(Clone)]
pub struct AdminState {
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub log: LogHandle,
    /// The compiled table and whatever else explains what the sidecar does.
    pub config: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Says why a request goes where it goes.
    pub explain: Explain,
    /// Begins to drain, as SIGTERM does; returns at once.
    pub drain: Arc<dyn Fn() + Send + Sync>,
}

/// Answers a question of [`crate::explain`].
pub type Explain = Arc<dyn Fn(Question) -> Explaining + Send + Sync>;

/// An answer under way.
pub type Explaining = BoxFuture<'static, Result<Explanation, Unexplained>>;

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Whether the pod can have traffic: once true, it stays so. A source that goes away later does not
/// make a sidecar useless that knows where to send requests.
#[derive(Debug, Default)]
pub struct Readiness {
    listeners: AtomicBool,
    source: AtomicBool,
}

impl Readiness {
    /// Every worker accepts connections.
    pub fn listeners_are_up(&self) {
        self.listeners.store(true, Ordering::Release);
    }

    /// The source has said once what there is, and a table of that is in force.
    pub fn source_has_answered(&self) {
        self.source.store(true, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.waiting_for().is_empty()
    }

    /// What is not there yet, in words.
    fn waiting_for(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.listeners.load(Ordering::Acquire) {
            missing.push("the outbound listeners are not up yet");
        }
        if !self.source.load(Ordering::Acquire) {
            missing.push("the source of routes has not answered yet");
        }
        missing
    }
}

/// Answers on the metrics port, for as long as it is polled.
pub async fn serve_metrics(listener: TcpListener, state: AdminState) {
    serve::serve(listener, move |request| {
        let answer = metrics_port(&state, &request);
        async move { Ok::<_, Infallible>(answer) }
    })
    .await;
}

/// Answers on the admin port, for as long as it is polled.
pub async fn serve_admin(listener: TcpListener, state: AdminState) {
    serve::serve(listener, move |request| {
        let state = state.clone();
        async move {
            let answer = match refuse_foreigner(&request) {
                Some(refusal) => refusal,
                None => admin_port(&state, request).await,
            };
            Ok::<_, Infallible>(answer)
        }
    })
    .await;
}

/// Something that can be asked for.
struct Endpoint {
    path: &'static str,
    methods: &'static [Method],
    what: &'static str,
}

const GET: &[Method] = &[Method::GET, Method::HEAD];

const METRICS_PORT: &[Endpoint] = &[
    Endpoint { path: "/metrics", methods: GET, what: "metrics for Prometheus" },
    Endpoint { path: "/livez", methods: GET, what: "200 while the process works" },
    Endpoint { path: "/readyz", methods: GET, what: "200 once the pod can have traffic" },
];

const ADMIN_PORT: &[Endpoint] = &[
    Endpoint { path: "/", methods: GET, what: "this list" },
    Endpoint { path: "/config", methods: GET, what: "the routing table in force, as JSON" },
    Endpoint {
        path: "/explain",
        methods: &[Method::POST],
        what: "why a request goes where it goes; the body is as in \
               {\"request\": [\"GET\", \"http://reviews:9080/\"], \"headers\": [\"end-user: jason\"]}",
    },
    Endpoint {
        path: "/log-level",
        methods: &[Method::GET, Method::HEAD, Method::PUT],
        what: "what is logged; PUT changes it, with a body such as debug or \
               info,weft_proxy::source=debug",
    },
    Endpoint {
        path: "/drain",
        methods: &[Method::POST],
        what: "take no more requests, finish those in flight, exit",
    },
    Endpoint { path: "/metrics", methods: GET, what: "metrics for Prometheus" },
];

fn metrics_port<B>(state: &AdminState, request: &Request<B>) -> Answer {
    match find(METRICS_PORT, request) {
        Err(answer) => *answer,
        Ok("/metrics") => metrics(state, request),
        Ok("/livez") => text(StatusCode::OK, "alive\n"),
        Ok(_) => ready(state),
    }
}

async fn admin_port<B>(state: &AdminState, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: fmt::Display,
{
    match find(ADMIN_PORT, &request) {
        Err(answer) => *answer,
        Ok("/config") => config(state),
        Ok("/explain") => explain(state, request).await,
        Ok("/log-level") if request.method() == Method::PUT => set_log_level(state, request).await,
        Ok("/log-level") => text(StatusCode::OK, state.log.current() + "\n"),
        Ok("/drain") => {
            tracing::info!("draining, as the admin port was told to");
            (state.drain)();
            text(StatusCode::ACCEPTED, "draining\n")
        }
        Ok("/metrics") => metrics(state, &request),
        Ok(_) => text(StatusCode::OK, list(ADMIN_PORT)),
    }
}

/// The path of the endpoint that is asked for, or the answer that says what there is.
fn find<B>(endpoints: &[Endpoint], request: &Request<B>) -> Result<&'static str, Box<Answer>> {
    let path = request.uri().path();
    let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.path == path) else {
        let there_is = format!("nothing at this path; there is:\n{}", list(endpoints));
        return Err(Box::new(text(StatusCode::NOT_FOUND, there_is)));
    };
    if endpoint.methods.contains(request.method()) {
        return Ok(endpoint.path);
    }
    let allowed: Vec<&str> = endpoint.methods.iter().map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let message = format!("{} does not go with {path}; use {allowed}\n", request.method());
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, message);
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        answer.headers_mut().insert(ALLOW, value);
    }
    Err(Box::new(answer))
}

fn list(endpoints: &[Endpoint]) -> String {
    let line = |endpoint: &Endpoint| {
        let methods: Vec<&str> = endpoint.methods.iter().map(Method::as_str).collect();
        format!("{:<15} {:<11} {}\n", methods.join(" "), endpoint.path, endpoint.what)
    };
    endpoints.iter().map(line).collect()
}

fn metrics<B>(state: &AdminState, request: &Request<B>) -> Answer {
    let accepts = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::negotiate(&accepts.collect::<Vec<_>>().join(","));
    answer(StatusCode::OK, format.content_type(), state.metrics.encode_as(format))
}

fn ready(state: &AdminState) -> Answer {
    let missing = state.readiness.waiting_for();
    if missing.is_empty() {
        text(StatusCode::OK, "ready\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
    }
}

fn config(state: &AdminState) -> Answer {
    json(StatusCode::OK, &(state.config)())
}

/// Text for people, unless JSON is asked for.
async fn explain<B>(state: &AdminState, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: fmt::Display,
{
    let wants_json = request.headers().get_all(ACCEPT).iter().any(|it| it == "application/json");
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("no body: {error}\n")),
    };
    let explained = match serde_json::from_slice(&body) {
        Ok(words) => match Question::parse(&words) {
            Ok(question) => (state.explain)(question).await,
            Err(bad) => Err(bad.into()),
        },
        Err(error) => {
            let message = format!("the body is not a question in JSON: {error}\n");
            return text(StatusCode::BAD_REQUEST, message);
        }
    };
    match explained {
        Ok(explanation) if wants_json => json(StatusCode::OK, &explanation),
        Ok(explanation) => text(StatusCode::OK, explanation.to_string()),
        Err(error) => {
            let status = match &error {
                Unexplained::BadQuestion(_) => StatusCode::BAD_REQUEST,
                Unexplained::UnknownHost(_) | Unexplained::NoSuchPort(_) => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
                Unexplained::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            text(status, format!("{error}\n"))
        }
    }
}

async fn set_log_level<B>(state: &AdminState, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: fmt::Display,
{
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("no body: {error}\n")),
    };
    match state.log.set(String::from_utf8_lossy(&body).trim()) {
        Ok(()) => {
            let level = state.log.current();
            tracing::info!(level, "log level changed");
            text(StatusCode::OK, level + "\n")
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// The admin port trusts whoever reaches loopback. A browser reaches it (through a port-forward)
/// for any page that it shows: by a name of the page's own domain that resolves to loopback, or by a
/// request that needs no permission. The first shows in the host, the second in the origin.
fn refuse_foreigner<B>(request: &Request<B>) -> Option<Answer> {
    let mut hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let is_local = hosts.all(is_loopback_host)
        && request.uri().authority().is_none_or(|host| is_loopback_host(host.as_str().as_bytes()));
    if !is_local {
        let message = "the admin port answers to localhost, 127.0.0.1 and [::1] only\n";
        return Some(text(StatusCode::FORBIDDEN, message));
    }
    if request.headers().contains_key(ORIGIN) && !request.method().is_safe() {
        return Some(text(StatusCode::FORBIDDEN, "the admin port does not serve web pages\n"));
    }
    None
}

fn is_loopback_host(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

type Answer = Response<Full<Bytes>>;

fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(json) => answer(status, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests;
