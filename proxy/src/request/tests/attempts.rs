//! A rule's `retry`: what is sent again, how often, where to, and within which budget.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::http2::{connect, whole};
use super::pool::OK;
use crate::testing::{
    Body, Mesh, Peer, RawBackend, Server, empty, eventually, refusing, run, text, with_trailers,
    yaml,
};

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

/// A mesh whose Service `svc` has these endpoints and a route with one rule.
fn routed(port: &str, endpoints: &[SocketAddr], rule: &str) -> (Mesh, SocketAddr) {
    let mesh = Mesh::new();
    let service = mesh.service("default/svc", port, endpoints);
    let rules = format!("- {{{rule}, backendRefs: [{{name: svc, port: 80}}]}}");
    mesh.http_route("default/route", "default/svc", &rules);
    (mesh, service)
}

/// A client, and a backend that it reaches under a rule with this `retry`.
async fn pair(retry: &str) -> (Mesh, Peer, RawBackend) {
    let backend = RawBackend::listen().await;
    let (mesh, service) = routed("http", &[backend.addr], &format!("retry: {{{retry}}}"));
    let client = mesh.connect(service).await;
    (mesh, client, backend)
}

fn retries(mesh: &Mesh, outcome: &str) -> u64 {
    mesh.count("weft_route_retries_total", &[&format!("outcome=\"{outcome}\"")])
}

#[test]
fn a_listed_code_is_asked_again_on_the_same_connection() {
    run(async {
        for method in ["GET", "POST", "PATCH", "X-OWN"] {
            let (mesh, mut client, backend) = pair("codes: [503], attempts: 2").await;
            let request = format!("{method} /x HTTP/1.1\r\nhost: svc\r\nx-id: 1\r\n\r\n");
            client.send(request).await;
            let mut server = backend.accept().await;
            for _ in 0..2 {
                let head = server.head().await;
                assert_eq!(head.line, format!("{method} /x HTTP/1.1"));
                assert_eq!(head.get("x-id"), Some("1"));
                server.send(UNAVAILABLE).await;
            }
            server.head().await;
            server.send(OK).await;
            assert_eq!(client.message().await.text(), "ok", "{method}");
            assert_eq!((retries(&mesh, "failure"), retries(&mesh, "success")), (1, 1));
            assert_eq!(mesh.requests(&["status=\"200\"", "reason=\"\""]), 1);
            assert_eq!(
                mesh.requests(&[]),
                1,
                "the client's requests are counted, not the attempts"
            );
        }
    });
}

#[test]
fn the_last_answer_is_the_clients_with_all_that_is_in_it() {
    run(async {
        let (mesh, mut client, backend) = pair("codes: [503, 418]").await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(UNAVAILABLE).await;
        server.head().await;
        server.send("HTTP/1.1 418 Teapot\r\nx-tea: green\r\ncontent-length: 5\r\n\r\nshort").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (418, "short"));
        assert_eq!(answer.header("x-tea"), Some("green"));
        assert_eq!(answer.header("x-weft-reason"), None);
        assert_eq!((retries(&mesh, "failure"), retries(&mesh, "success")), (1, 0));
    });
}

#[test]
fn an_answer_that_is_being_passed_on_is_never_asked_for_again() {
    run(async {
        let (mesh, mut client, backend) = pair("codes: [500, 503], attempts: 5").await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1").await;
        assert_eq!(client.head().await.status(), 200);
        server.reset();
        client.end().await;
        assert!(!backend.has_connection().await);
        assert_eq!(mesh.requests(&["reason=\"backend_reset\""]), 1);
    });
}

#[test]
fn each_retry_prefers_another_endpoint() {
    run(async {
        let servers = [answering(503).await, answering(503).await, answering(503).await];
        let rule = "retry: {codes: [503], attempts: 2, backoff: 1ms}";
        let (mesh, service) = routed("http", &servers.each_ref().map(|it| it.addr), rule);
        for round in 1..=3 {
            assert_eq!(mesh.get(service, "/").await.status(), 503);
            for server in &servers {
                assert_eq!(server.requests.get(), round);
            }
        }
    });
}

#[test]
fn when_all_endpoints_were_tried_the_last_one_is_not_the_next() {
    run(async {
        let last = Rc::new(Cell::new(usize::MAX));
        let mut addrs = Vec::new();
        for index in 0..2 {
            let last = last.clone();
            let server = Server::start(false, move |_| {
                assert_ne!(last.replace(index), index, "twice in a row");
                async { Response::builder().status(503).body(empty()).unwrap() }
            });
            addrs.push(server.await.addr);
        }
        let rule = "retry: {codes: [503], attempts: 9, backoff: 0s}";
        let (mesh, service) = routed("http", &addrs, rule);
        assert_eq!(mesh.get(service, "/").await.status(), 503);
        assert_eq!(retries(&mesh, "failure"), 9);
    });
}

#[test]
fn the_choice_among_weighted_backends_stands_for_all_attempts() {
    run(async {
        let mesh = Mesh::new();
        let servers = [answering(503).await, answering(503).await];
        let parent = mesh.service("default/svc", "http", &[]);
        mesh.service("default/one", "http", &[servers[0].addr]);
        mesh.service("default/other", "http", &[servers[1].addr]);
        let rules = "- {retry: {codes: [503], backoff: 1ms}, backendRefs: [\
             {name: one, port: 80}, {name: other, port: 80}]}";
        mesh.http_route("default/route", "default/svc", rules);
        mesh.apply(policy(&["one", "other"], "{budget: {percent: 100}}"));
        for _ in 0..32 {
            assert_eq!(mesh.get(parent, "/").await.status(), 503);
        }
        for (server, name) in servers.iter().zip(["one", "other"]) {
            let requests = mesh.requests(&[&format!("backend_name=\"{name}\"")]);
            assert!((1..=31).contains(&requests), "{requests} of 32 to {name}");
            assert_eq!(server.requests.get() as u64, 2 * requests, "{name}");
        }
    });
}

/// A policy for Services of the namespace `default`.
fn policy(services: &[&str], constraint: &str) -> Value {
    let target = |name: &&str| json!({ "group": "", "kind": "Service", "name": name });
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XBackendTrafficPolicy",
        "metadata": { "name": "policy" },
        "spec": {
            "targetRefs": services.iter().map(target).collect::<Vec<_>>(),
            "retryConstraint": yaml(constraint),
        },
    })
}

/// A server that always answers with this status and nothing else.
async fn answering(status: u16) -> Server {
    let response = move |_: Request<Incoming>| async move {
        Response::builder().status(status).body(empty()).unwrap()
    };
    Server::start(false, response).await
}

#[test]
fn attempts_of_0_disable_every_retry() {
    run(async {
        let (mesh, mut client, backend) = pair("codes: [503], attempts: 0").await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(UNAVAILABLE).await;
        assert_eq!(client.message().await.text(), "busy");
        // Not even where the connection broke.
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        server.head().await;
        drop(server);
        assert_eq!(client.message().await.header("x-weft-reason"), Some("backend_closed"));
        assert!(!backend.has_connection().await);
        assert_eq!(mesh.count("weft_route_retries_total", &[]), 0);

        let dead = [refusing(), refusing()];
        let (mesh, service) = routed("http", &dead, "retry: {attempts: 0}");
        assert_eq!(mesh.get(service, "/").await.header("x-weft-reason"), Some("connect_failed"));
        assert_eq!(mesh.count("weft_route_retries_total", &[]), 0);
    });
}

#[test]
fn refused_connections_are_retried_as_often_as_the_route_says() {
    run(async {
        for attempts in [1, 6] {
            let rule = format!("retry: {{attempts: {attempts}, backoff: 1ms}}");
            let (mesh, service) = routed("http", &[refusing(), refusing()], &rule);
            let answer = mesh.get(service, "/").await;
            assert_eq!(answer.header("x-weft-reason"), Some("connect_failed"));
            assert_eq!(retries(&mesh, "failure"), attempts);
        }
    });
}

#[test]
fn a_connection_that_breaks_sends_only_idempotent_requests_again() {
    run(async {
        for (method, is_sent_again) in
            [("GET", true), ("PUT", true), ("DELETE", true), ("POST", false), ("PATCH", false)]
        {
            // 503 is what the client gets, and no code of the backend's: the list does not matter.
            let (mesh, mut client, backend) = pair("codes: [500, 502, 503, 504]").await;
            let head = format!("{method} /x HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\n");
            client.send(format!("{head}pay")).await;
            let mut server = backend.accept().await;
            assert_eq!(server.message().await.text(), "pay");
            server.reset();
            if is_sent_again {
                let mut server = backend.accept().await;
                assert_eq!(server.message().await.text(), "pay", "{method}");
                server.send(OK).await;
                assert_eq!(client.message().await.status(), 200);
                assert_eq!(retries(&mesh, "success"), 1);
            } else {
                let answer = client.message().await;
                assert_eq!(answer.header("x-weft-reason"), Some("backend_closed"), "{method}");
                assert!(!backend.has_connection().await);
            }
        }
    });
}

#[test]
fn what_the_proxy_makes_of_an_attempt_is_a_code_like_any_other() {
    run(async {
        for (codes, garbage, status, reason) in [
            ("[504]", None, 504, "backend_timeout"),
            ("[502]", Some("garbage\r\n\r\n"), 502, "backend_protocol"),
        ] {
            let rule = format!("timeouts: {{backendRequest: 1s}}, retry: {{codes: {codes}}}");
            for (rule, is_sent_again) in [(rule.clone(), true), (rule.replace("[50", "[59"), false)]
            {
                let backend = RawBackend::listen().await;
                let (mesh, service) = routed("http", &[backend.addr], &rule);
                let mut client = mesh.connect(service).await;
                client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\npay").await;
                let attempts = if is_sent_again { 2 } else { 1 };
                for _ in 0..attempts {
                    let mut server = backend.accept().await;
                    assert_eq!(server.message().await.text(), "pay", "{rule}");
                    server.send(garbage.unwrap_or_default()).await;
                    server.end().await;
                }
                let answer = client.message().await;
                assert_eq!(answer.status(), status, "{rule}");
                assert_eq!(answer.header("x-weft-reason"), Some(reason), "{rule}");
                assert_eq!(retries(&mesh, "failure"), attempts - 1, "{rule}");
                assert!(!backend.has_connection().await);
            }
        }
    });
}

#[test]
fn an_attempt_that_was_too_slow_is_made_elsewhere() {
    run(async {
        let slow = RawBackend::listen().await;
        let fast = Server::http1("fast").await;
        let rule = "timeouts: {request: 20s, backendRequest: 1s}, retry: {codes: [504]}";
        let (mesh, service) = routed("http", &[slow.addr, fast.addr], rule);
        for _ in 0..3 {
            let answer = mesh.get(service, "/").await;
            assert_eq!((answer.status(), answer.text()), (200, "fast"));
        }
        assert_eq!(fast.requests.get(), 3);
        assert_eq!(mesh.requests(&["status=\"200\""]), 3);
    });
}

#[test]
fn a_pause_that_the_requests_time_is_too_short_for_is_not_begun() {
    run(async {
        let failing = answering(500).await;
        let rule = "timeouts: {request: 20s}, retry: {codes: [500], attempts: 3, backoff: 9999h}";
        let (mesh, service) = routed("http", &[failing.addr], rule);
        // Rather what is there than nothing after all that time.
        let answer = mesh.get(service, "/").await;
        assert_eq!((answer.status(), answer.header("x-weft-reason")), (500, None));
        assert_eq!(failing.requests.get(), 1);
    });
}

#[test]
fn a_request_whose_time_is_up_between_attempts_is_over() {
    run(async {
        let (mesh, mut client, backend) = pair("codes: [500]").await;
        let rules = "- {timeouts: {request: 1s}, backendRefs: [{name: svc, port: 80}], \
             retry: {codes: [503], attempts: 9, backoff: 1ms}}";
        mesh.http_route("default/route", "default/svc", rules);
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(UNAVAILABLE).await;
        // The second attempt gets no answer.
        server.head().await;
        let answer = client.message().await;
        assert_eq!(
            (answer.status(), answer.header("x-weft-reason")),
            (504, Some("request_timeout"))
        );
        server.end().await;
        assert_eq!(retries(&mesh, "cancelled"), 1);
    });
}

#[test]
fn retries_are_bounded_by_the_backends_budget() {
    run(async {
        let failing = answering(500).await;
        let rule = "retry: {codes: [500], attempts: 1, backoff: 0s}";
        let (mesh, service) = routed("http", &[failing.addr], rule);
        let mut client = mesh.connect(service).await;
        let (mut refused, count) = (0, 400);
        for n in 0..count {
            client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            let answer = client.message().await;
            if answer.status() == 503 {
                refused += 1;
                assert_eq!(answer.header("x-weft-reason"), Some("retry_budget"));
                let text = answer.text();
                assert!(text.contains("500") && text.contains("default/svc:80"), "{text}");
            } else {
                assert_eq!((answer.status(), answer.header("x-weft-reason")), (500, None));
            }
            assert!(refused == 0 || n >= 10, "the first ten retries of a second are free");
        }
        // A fifth of all attempts, and no less than the rate. The rest is told to wait.
        let sent = failing.requests.get() as u64;
        assert_eq!(sent, count + retries(&mesh, "failure"));
        assert_eq!(retries(&mesh, "over_budget"), refused);
        assert_eq!(mesh.requests(&["status=\"503\"", "reason=\"retry_budget\""]), refused);
        assert_eq!(refused + retries(&mesh, "failure"), count);
        assert!(refused > 0 && retries(&mesh, "failure") >= count / 5, "{refused} refused");
    });
}

#[test]
fn a_policy_says_how_large_the_budget_is() {
    run(async {
        let failing = answering(500).await;
        let rule = "retry: {codes: [500], attempts: 1, backoff: 0s}";
        let (mesh, service) = routed("http", &[failing.addr], rule);
        let rate = "minRetryRate: {count: 2, interval: 1h}";
        mesh.apply(policy(&["svc"], &format!("{{budget: {{percent: 0}}, {rate}}}")));
        for (n, status) in [500, 500, 503, 503].into_iter().enumerate() {
            assert_eq!(mesh.get(service, "/").await.status(), status, "{n}");
        }
        assert_eq!((retries(&mesh, "failure"), retries(&mesh, "over_budget")), (2, 2));
        // It takes effect at once, on what has been counted so far.
        mesh.apply(policy(&["svc"], &format!("{{budget: {{percent: 100}}, {rate}}}")));
        for _ in 0..20 {
            assert_eq!(mesh.get(service, "/").await.status(), 500);
        }
        assert_eq!(retries(&mesh, "failure"), 22);
    });
}

#[test]
fn what_puts_no_load_on_the_backend_draws_on_no_budget() {
    run(async {
        let alive = Server::http1("alive").await;
        let mesh = Mesh::new();
        let parent = mesh.service("default/svc", "http", &[]);
        let rules = "- {retry: {attempts: 3}, backendRefs: [{name: svc, port: 80}]}";
        mesh.http_route("default/route", "default/svc", rules);
        // Endpoints that refuse come new again and again, so that ejection does not hide them.
        for n in 0..60 {
            mesh.pods("default/svc", &[(refusing(), &format!("pod-{n}")), (alive.addr, "alive")]);
            assert_eq!(mesh.get(parent, "/").await.text(), "alive");
        }
        assert!(retries(&mesh, "success") > 15, "{}", retries(&mesh, "success"));
        assert_eq!(retries(&mesh, "over_budget"), 0);
    });
}

#[test]
fn a_client_that_leaves_ends_the_retries() {
    run(async {
        let (mesh, mut client, backend) = pair("codes: [503], attempts: 9").await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(UNAVAILABLE).await;
        server.head().await;
        drop(client);
        server.end().await;
        eventually("it is counted", || retries(&mesh, "cancelled") == 1).await;
        assert_eq!(mesh.requests(&["reason=\"client_closed\""]), 1);
    });
}

/// What a raw HTTP/2 server says before it has seen anything: SETTINGS, none.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// RST_STREAM of stream 1: REFUSED_STREAM; CANCEL.
const REFUSED: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
const CANCEL: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
/// GOAWAY: nothing was processed; stream 1 may have been. Then NO_ERROR.
const GONE: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const GOING: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

/// Reads frames up to the HEADERS of stream 1.
async fn stream_1(server: &mut Peer) {
    server.send(SETTINGS).await;
    server.expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    loop {
        let head = server.bytes(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        server.bytes(length).await;
        if head[3] == 1 {
            return;
        }
    }
}

#[test]
fn a_refused_stream_is_sent_again_whatever_its_method() {
    run(async {
        for (frame, is_sent_again) in
            [(&REFUSED[..], true), (&GONE[..], true), (&CANCEL[..], false), (&GOING[..], false)]
        {
            let (refuses, serves) = (RawBackend::listen().await, Server::http2("serves").await);
            let (mesh, service) = routed("http2", &[refuses.addr], "retry: {attempts: 1}");
            let mut client = mesh.connect(service).await;
            client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\npay").await;
            let mut server = refuses.accept().await;
            stream_1(&mut server).await;
            mesh.endpoints("default/svc", &[serves.addr]);
            server.send(frame).await;
            server.finish().await;
            let answer = client.message().await;
            if is_sent_again {
                assert_eq!((answer.status(), answer.text()), (200, "serves"), "{frame:?}");
                assert_eq!(retries(&mesh, "success"), 1);
            } else {
                assert_eq!(answer.header("x-weft-reason"), Some("backend_closed"), "{frame:?}");
                assert_eq!(serves.requests.get(), 0);
            }
        }
    });
}

/// A gRPC server whose first answers are of this kind, and all others fine.
async fn grpc(failing: usize, fail: fn() -> Response<Body>) -> Server {
    let failed = Rc::new(Cell::new(0));
    Server::start(true, move |_| {
        failed.set(failed.get() + 1);
        let answer = if failed.get() <= failing { fail() } else { status("0") };
        async { answer }
    })
    .await
}

/// Trailers only.
fn status(status: &str) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.header("grpc-status", status).body(empty()).unwrap()
}

#[test]
fn a_grpc_call_is_sent_again_by_the_code_that_its_status_stands_for() {
    run(async {
        let unavailable: fn() -> Response<Body> = || status("14");
        let internal: fn() -> Response<Body> = || status("13");
        let deadline: fn() -> Response<Body> = || status("4");
        let bad_gateway: fn() -> Response<Body> =
            || Response::builder().status(502).body(empty()).unwrap();
        // The head says nothing yet: a message may follow.
        let late: fn() -> Response<Body> = || {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), 14.into())]);
            let response = Response::builder().header("content-type", "application/grpc");
            response.body(with_trailers("", trailers)).unwrap()
        };
        for (codes, fail, expected, requests) in [
            // Refused unprocessed: needs no code.
            ("[]", unavailable, "0", 3),
            ("[503]", unavailable, "0", 3),
            ("[500]", internal, "0", 3),
            ("[503]", internal, "13", 1),
            ("[504]", deadline, "0", 3),
            ("[502]", bad_gateway, "0", 3),
            ("[500, 503]", late, "14", 1),
        ] {
            let server = grpc(2, fail).await;
            let rule = format!("retry: {{codes: {codes}, attempts: 2, backoff: 1ms}}");
            let (mesh, service) = routed("web", &[server.addr], &rule);
            let mut client = connect(&mesh, service).await;
            let call = Request::post("http://svc/s/Do").header("content-type", "application/grpc");
            let response = client.send_request(call.body(text("message")).unwrap()).await.unwrap();
            let (response, trailers) = whole(response).await;
            let trailers = trailers.as_ref().unwrap_or(response.headers());
            assert_eq!(trailers["grpc-status"], expected, "{codes}");
            assert_eq!(server.requests.get(), requests, "{codes}");
        }
    });
}

#[test]
fn pauses_lie_between_the_attempts() {
    run(async {
        let failing = answering(500).await;
        let rule = "retry: {codes: [500], attempts: 4, backoff: 100ms}";
        let (mesh, service) = routed("http", &[failing.addr], rule);
        let start = std::time::Instant::now();
        assert_eq!(mesh.get(service, "/").await.status(), 500);
        assert_eq!(failing.requests.get(), 5);
        // Up to 100, 200, 400 and 800 ms: all of them below 30 ms once in ten million runs.
        assert!(start.elapsed() > Duration::from_millis(30));
    });
}
