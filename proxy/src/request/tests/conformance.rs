//! The official suite's cases for timeouts and retries, with a Service as the parent: the inputs and
//! expectations of conformance/tests/httproute-timeout-*.go and httproute-retry*.go of the Gateway API
//! v1.7.0, whose own tests need a Gateway.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::testing::{Body, Mesh, Server, empty, refusing, run, text};

const NAMESPACE: &str = "gateway-conformance-infra";

/// The suite's backend, as far as these tests ask: echoes after `delay`; under /retry/ it first fails
/// `succeedAfter` times for each `uuid`, with `responseCode` and after `delayRetry`.
async fn echo_basic(name: &'static str) -> Server {
    let failed: Rc<RefCell<HashMap<String, u32>>> = Rc::default();
    Server::start(false, move |request: Request<Incoming>| {
        let failed = failed.clone();
        async move { simulate(name, &request, &failed).await }
    })
    .await
}

async fn simulate(
    name: &'static str,
    request: &Request<Incoming>,
    failed: &RefCell<HashMap<String, u32>>,
) -> Response<Body> {
    let query = |key: &str| {
        let mut pairs = request.uri().query().unwrap_or("").split('&');
        pairs.find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    };
    if request.uri().path().starts_with("/retry/") {
        let is_due = {
            let mut failed = failed.borrow_mut();
            let failed = failed.entry(query("uuid").unwrap().to_owned()).or_default();
            let is_due = *failed < query("succeedAfter").unwrap().parse().unwrap();
            *failed += u32::from(is_due);
            is_due
        };
        if is_due {
            delay(query("delayRetry")).await;
            let code: u16 = query("responseCode").unwrap().parse().unwrap();
            return Response::builder().status(code).body(empty()).unwrap();
        }
    }
    delay(query("delay")).await;
    Response::new(text(name))
}

async fn delay(duration: Option<&str>) {
    let Some(duration) = duration else { return };
    let duration = match duration.strip_suffix("ms") {
        Some(milliseconds) => Duration::from_millis(milliseconds.parse().unwrap()),
        None => Duration::from_secs(duration.strip_suffix('s').unwrap().parse().unwrap()),
    };
    tokio::time::sleep(duration).await;
}

/// Asks until the answer is as expected, as the suite does: on a busy machine a backend that answers
/// at once may still be too late. Each time with another uuid.
async fn expect(mesh: &Mesh, service: std::net::SocketAddr, target: &str, status: u16) {
    let separator = if target.contains('?') { '&' } else { '?' };
    let mut last = 0;
    for uuid in 0..10 {
        last = mesh.get(service, &format!("{target}{separator}uuid={uuid}")).await.status();
        if last == status {
            return;
        }
    }
    panic!("{target}: {last} instead of {status}");
}

/// A mesh with one Service, to which the route is attached and which is its own backend.
async fn mesh(backend: &str, rules: &str) -> (Mesh, std::net::SocketAddr) {
    let mesh = Mesh::with(NAMESPACE, |_| {});
    let server = echo_basic("echo").await;
    let service = mesh.service(&format!("{NAMESPACE}/{backend}"), "http", &[server.addr]);
    mesh.http_route(&format!("{NAMESPACE}/route"), &format!("{NAMESPACE}/{backend}"), rules);
    (mesh, service)
}

/// HTTPRouteTimeoutRequest
#[test]
fn a_request_timeout() {
    run(async {
        let rules = r#"
- matches: [{path: {type: PathPrefix, value: /request-timeout}}]
  backendRefs: [{name: infra-backend-v1, port: 80}]
  timeouts: {request: 500ms}
- matches: [{path: {type: PathPrefix, value: /disable-request-timeout}}]
  backendRefs: [{name: infra-backend-v1, port: 80}]
  timeouts: {request: "0s"}
"#;
        let (mesh, service) = mesh("infra-backend-v1", rules).await;
        expect(&mesh, service, "/request-timeout", 200).await;
        expect(&mesh, service, "/request-timeout?delay=1s", 504).await;
        expect(&mesh, service, "/disable-request-timeout?delay=1s", 200).await;
    });
}

/// HTTPRouteTimeoutBackendRequest
#[test]
fn a_backend_request_timeout() {
    run(async {
        let rules = r#"
- matches: [{path: {type: PathPrefix, value: /backend-timeout}}]
  backendRefs: [{name: infra-backend-v1, port: 80}]
  timeouts: {backendRequest: 500ms}
- matches: [{path: {type: PathPrefix, value: /disable-backend-timeout}}]
  backendRefs: [{name: infra-backend-v1, port: 80}]
  timeouts: {backendRequest: "0s"}
"#;
        let (mesh, service) = mesh("infra-backend-v1", rules).await;
        expect(&mesh, service, "/backend-timeout", 200).await;
        expect(&mesh, service, "/backend-timeout?delay=1s", 504).await;
        expect(&mesh, service, "/disable-backend-timeout?delay=1s", 200).await;
    });
}

/// HTTPRouteRetry
#[test]
fn retries_by_code() {
    run(async {
        let rules = r#"
- matches: [{path: {type: PathPrefix, value: /retry/code-500-attempts-3}}]
  retry: {codes: [500], attempts: 3}
  backendRefs: [{name: infra-backend-v3, port: 80}]
- matches: [{path: {type: PathPrefix, value: /retry/code-all-attempts-2}}]
  retry: {codes: [500, 502, 503, 504], attempts: 2}
  backendRefs: [{name: infra-backend-v3, port: 80}]
- matches: [{path: {type: PathPrefix, value: /retry/code-all-attempts-0}}]
  retry: {codes: [500, 502, 503, 504], attempts: 0}
  backendRefs: [{name: infra-backend-v3, port: 80}]
"#;
        for (path, code, succeed_after, status) in [
            ("code-500-attempts-3", 500, 2, 200),
            ("code-500-attempts-3", 500, 4, 500),
            ("code-500-attempts-3", 503, 2, 503),
            ("code-all-attempts-2", 500, 1, 200),
            ("code-all-attempts-2", 500, 3, 500),
            ("code-all-attempts-2", 502, 1, 200),
            ("code-all-attempts-2", 502, 3, 502),
            ("code-all-attempts-2", 503, 1, 200),
            ("code-all-attempts-2", 503, 3, 503),
            ("code-all-attempts-2", 504, 1, 200),
            ("code-all-attempts-2", 504, 3, 504),
            ("code-all-attempts-0", 500, 1, 500),
            ("code-all-attempts-0", 502, 1, 502),
            ("code-all-attempts-0", 503, 1, 503),
            ("code-all-attempts-0", 504, 1, 504),
        ] {
            // Of its own, as no timing is involved: the first answer must be it.
            let (mesh, service) = mesh("infra-backend-v3", rules).await;
            let target =
                format!("/retry/{path}?responseCode={code}&succeedAfter={succeed_after}&uuid=1");
            let answer = mesh.get(service, &target).await;
            assert_eq!(answer.status(), status, "{target}");
            // The backend's own answer, also where retries are exhausted.
            assert_eq!(answer.header("x-weft-reason"), None, "{target}");
        }
    });
}

const WITH_TIMEOUTS: &str = r#"
- matches: [{path: {type: PathPrefix, value: /retry/request-timeout-500ms}}]
  retry: {codes: [500], attempts: 5}
  timeouts: {request: 500ms}
  backendRefs: [{name: infra-backend-v3, port: 80}]
- matches: [{path: {type: PathPrefix, value: /retry/backend-timeout-500ms}}]
  retry: {codes: [500], attempts: 3}
  timeouts: {backendRequest: 500ms, request: 15s}
  backendRefs: [{name: infra-backend-v3, port: 80}]
"#;

/// HTTPRouteRetryWithRequestTimeout
#[test]
fn retries_within_a_request_timeout() {
    run(async {
        let (mesh, service) = mesh("infra-backend-v3", WITH_TIMEOUTS).await;
        let target = "/retry/request-timeout-500ms?responseCode=500&succeedAfter=";
        expect(&mesh, service, &format!("{target}1"), 200).await;
        expect(&mesh, service, &format!("{target}2&delayRetry=300ms"), 504).await;
    });
}

/// HTTPRouteRetryWithBackendTimeout
#[test]
fn retries_within_a_backend_request_timeout() {
    run(async {
        let (mesh, service) = mesh("infra-backend-v3", WITH_TIMEOUTS).await;
        let target = "/retry/backend-timeout-500ms?responseCode=500&succeedAfter=2";
        expect(&mesh, service, &format!("{target}&delayRetry=100ms&delay=100ms"), 200).await;
        let target = "/retry/request-timeout-500ms?responseCode=500&succeedAfter=2";
        expect(&mesh, service, &format!("{target}&delayRetry=1s&delay=1s"), 504).await;
    });
}

/// HTTPRouteRetryConnectionError
#[test]
fn retries_on_connection_errors() {
    run(async {
        let mesh = Mesh::with(NAMESPACE, |_| {});
        let healthy = echo_basic("infra-backend-connection-error-healthy").await;
        let backend = format!("{NAMESPACE}/infra-backend-connection-error");
        let service = mesh.service(&backend, "http", &[refusing(), healthy.addr]);
        let rules = r#"
- matches: [{path: {type: PathPrefix, value: /retry-on-connection-errors}}]
  retry: {attempts: 100}
  backendRefs: [{name: infra-backend-connection-error, port: 80}]
"#;
        mesh.http_route(&format!("{NAMESPACE}/retries-connection-error"), &backend, rules);
        for _ in 0..10 {
            let answer = mesh.get(service, "/retry-on-connection-errors").await;
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.text(), "infra-backend-connection-error-healthy");
        }
    });
}
