//! The cases of the Gateway API's conformance suite (v1.7.0, conformance/tests) for filters, whose
//! parents there are Gateways, for a Service as the parent: the same routes, the same requests, the
//! same expectations, and what the suite does not look at as well: the Location in full, and what the
//! backend received.

mod cors;
mod grpc;
mod headers;
mod mirror;
mod redirect;
mod rewrite;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::testing::{Body, Mesh, Message, Server, empty, eventually};

/// The suite's backends, and a Service that routes can be attached to.
pub(super) struct Infra {
    pub(super) mesh: Mesh,
    pub(super) parent: SocketAddr,
    backends: Vec<(&'static str, Echo)>,
}

/// A server that keeps what it gets.
pub(super) struct Echo {
    server: Server,
    seen: Rc<RefCell<Vec<Request<Bytes>>>>,
}

/// A request and what is expected of it. What is empty is not looked at, or as it always is: GET,
/// the Host `svc`, the path that was sent.
#[derive(Clone, Copy, Default)]
pub(super) struct Case<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
    /// Who answers.
    pub(super) backend: &'a str,
    /// What the backend got, and so each of `mirrored`.
    pub(super) seen_path: &'a str,
    pub(super) seen_host: &'a str,
    pub(super) seen: &'a [(&'a str, &'a str)],
    pub(super) unseen: &'a [&'a str],
    pub(super) mirrored: &'a [&'a str],
    /// Headers that the backend answers with.
    pub(super) answers: &'a [(&'a str, &'a str)],
    /// What came back; 200 unless it says otherwise.
    pub(super) status: u16,
    pub(super) got: &'a [(&'a str, &'a str)],
    pub(super) missing: &'a [&'a str],
}

impl Infra {
    /// With the routes of that name, each with the YAML of its rules.
    pub(super) async fn new(routes: &[(&str, &str)]) -> Self {
        let mesh = Mesh::new();
        let mut backends = Vec::new();
        for name in ["infra-backend-v1", "infra-backend-v2", "infra-backend-v3"] {
            let echo = Echo::start(false).await;
            mesh.service(&format!("default/{name}"), "http", &[echo.server.addr]);
            backends.push((name, echo));
        }
        let parent = mesh.service("default/same-namespace", "http", &[]);
        for (name, rules) in routes {
            mesh.http_route(&format!("default/{name}"), "default/same-namespace", rules);
        }
        Self { mesh, parent, backends }
    }

    pub(super) fn backend(&self, name: &str) -> &Echo {
        &self.backends.iter().find(|(other, _)| *other == name).unwrap().1
    }

    /// Sends the request; returns the answer.
    pub(super) async fn send(&self, case: &Case<'_>) -> Message {
        let answers =
            case.answers.iter().map(|(name, value)| ("x-answer", format!("{name}: {value}")));
        let headers = case.headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let length =
            (!case.body.is_empty()).then(|| ("content-length", case.body.len().to_string()));
        let headers: String = answers
            .chain(headers)
            .chain(length)
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let (method, host) = (or(case.method, "GET"), or(case.host, "svc"));
        let mut client = self.mesh.connect(self.parent).await;
        let head = format!("{method} {} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n", case.path);
        client.send(head + case.body).await;
        client.message().await
    }

    /// Sends the request and looks at everything that is expected of it.
    pub(super) async fn check(&self, case: &Case<'_>) {
        let what = format!("{} {} {:?}", or(case.method, "GET"), case.path, case.headers);
        let answer = self.send(case).await;
        let expected = if case.status == 0 { 200 } else { case.status };
        assert_eq!(answer.status(), expected, "{what}: {answer:?}");
        for (name, value) in case.got {
            let values = answer.head.all(&name.to_ascii_lowercase()).join(",");
            assert_eq!(values, *value, "{what}: {name}");
        }
        for name in case.missing {
            let values = answer.head.all(&name.to_ascii_lowercase());
            assert!(values.is_empty(), "{what}: {name}: {values:?}");
        }
        for name in case.mirrored.iter().chain((!case.backend.is_empty()).then_some(&case.backend))
        {
            let echo = self.backend(name);
            eventually("the request is there", || !echo.seen.borrow().is_empty()).await;
            let seen = echo.seen.borrow_mut().remove(0);
            check_seen(&seen, case, &format!("{what}: {name}"));
        }
        for (name, echo) in &self.backends {
            assert!(echo.seen.borrow().is_empty(), "{what}: came to {name} too");
        }
    }
}

fn check_seen(seen: &Request<Bytes>, case: &Case<'_>, what: &str) {
    assert_eq!(seen.method().as_str(), or(case.method, "GET"), "{what}");
    let target = seen.uri().path_and_query().unwrap().as_str();
    assert_eq!(target, or(case.seen_path, case.path), "{what}");
    let host = seen.headers()["host"].to_str().unwrap();
    assert_eq!(host, or(case.seen_host, or(case.host, "svc")), "{what}");
    assert_eq!(seen.body(), case.body, "{what}");
    for (name, value) in case.seen {
        let values = seen.headers().get_all(*name).iter().map(|it| it.to_str().unwrap());
        assert_eq!(values.collect::<Vec<_>>().join(","), *value, "{what}: {name}");
    }
    for name in case.unseen {
        assert!(!seen.headers().contains_key(*name), "{what}: {name}");
    }
}

impl Echo {
    pub(super) async fn start(is_http2: bool) -> Self {
        let seen: Rc<RefCell<Vec<Request<Bytes>>>> = Rc::default();
        let keep = seen.clone();
        let server = Server::start(is_http2, move |request: Request<Incoming>| {
            let keep = keep.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes);
                let response = answer(&parts.headers);
                // A body that broke off is none that was received.
                if let Ok(body) = body {
                    keep.borrow_mut().push(Request::from_parts(parts, body));
                }
                response
            }
        })
        .await;
        Self { server, seen }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// How many whole requests came.
    pub(super) fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Takes what has come.
    pub(super) fn take(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut self.seen.borrow_mut())
    }
}

/// An answer with the headers that the request asks for.
fn answer(asked: &http::HeaderMap) -> Response<Body> {
    let mut response = Response::builder();
    for line in asked.get_all("x-answer") {
        let (name, value) = line.to_str().unwrap().split_once(": ").unwrap();
        response = response.header(name, value);
    }
    response.body(empty()).unwrap()
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
