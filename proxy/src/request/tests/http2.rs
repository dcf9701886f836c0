//! HTTP/2 with prior knowledge, towards clients and towards backends.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::testing::{
    Body, LocalExecutor, Mesh, RawBackend, Server, empty, eventually, run, text, with_trailers,
};

/// An HTTP/2 connection of a client.
pub(super) async fn connect(mesh: &Mesh, original: std::net::SocketAddr) -> SendRequest<Body> {
    let stream = TokioIo::new(mesh.connect(original).await.stream);
    let (sender, connection) = http2::handshake(LocalExecutor, stream).await.unwrap();
    tokio::task::spawn_local(async move {
        // How it ends shows in the requests.
        let _ = connection.await;
    });
    sender
}

/// The whole answer: its head, its body, its trailers.
pub(super) async fn whole(response: Response<Incoming>) -> (Response<Bytes>, Option<HeaderMap>) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (Response::from_parts(parts, body.to_bytes()), trailers)
}

#[test]
fn a_client_of_http_2_reaches_a_backend_of_http_1() {
    run(async {
        let mesh = Mesh::new();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "http", &[backend.addr]);
        let mut client = connect(&mesh, service).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "4".parse().unwrap());
        let request = Request::post("http://svc.example:8080/path?q=1")
            .header("cookie", "a=1")
            .header("x-many", "1")
            .header("cookie", "b=2")
            .header("x-many", "2")
            .header("cookie", "c=3")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .body(with_trailers("ping", trailers))
            .unwrap();
        let answer = tokio::task::spawn_local(client.send_request(request));

        let mut server = backend.accept().await;
        let request = server.message().await;
        assert_eq!(request.head.line, "POST /path?q=1 HTTP/1.1");
        assert_eq!(request.head.get("host"), Some("svc.example:8080"));
        // RFC 9113, section 8.2.3: crumbs are joined before they leave HTTP/2.
        assert_eq!(request.head.all("cookie"), ["a=1; b=2; c=3"]);
        assert_eq!(request.head.all("x-many"), ["1", "2"]);
        assert_eq!(request.head.get("te"), Some("trailers"));
        assert_eq!((request.text(), &*request.trailers), ("ping", "x-sum: 4"));
        server
            .send(
                "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\
                 trailer: x-end\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n\
                 4\r\npong\r\n0\r\nx-end: yes\r\n\r\n",
            )
            .await;
        let (response, trailers) = whole(answer.await.unwrap().unwrap()).await;
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.headers().get("connection"), None);
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(response.body(), "pong");
        assert_eq!(trailers.unwrap()["x-end"], "yes");
    });
}

#[test]
fn requests_of_one_connection_run_side_by_side_and_are_balanced() {
    run(async {
        let mesh = Mesh::new();
        let (one, other) = (Server::http1("one").await, Server::http1("other").await);
        let service = mesh.service("default/svc", "http", &[one.addr, other.addr]);
        let client = connect(&mesh, service).await;
        let mut answers = Vec::new();
        for n in 0..100 {
            let mut client = client.clone();
            let request = Request::get(format!("http://svc/{n}")).body(empty()).unwrap();
            answers.push(tokio::task::spawn_local(async move {
                whole(client.send_request(request).await.unwrap()).await.0
            }));
        }
        for (n, answer) in answers.into_iter().enumerate() {
            let answer = answer.await.unwrap();
            assert_eq!(answer.headers()["seen-target"], format!("/{n}"));
        }
        assert!(one.requests.get() > 20 && other.requests.get() > 20, "{}", one.requests.get());
        assert_eq!(mesh.requests(&["status=\"200\""]), 100);
    });
}

#[test]
fn a_client_of_http_1_reaches_a_backend_that_declares_http_2() {
    run(async {
        let mesh = Mesh::new();
        let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::start(true, move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                seen.send((parts, body)).unwrap();
                Response::builder().header("x-answer", "yes").body(text("pong")).unwrap()
            }
        })
        .await;
        let service = mesh.service("default/svc", "http2", &[server.addr]);
        let mut client = mesh.connect(service).await;
        for path in ["/1", "/2"] {
            client
                .send(format!(
                    "POST {path} HTTP/1.1\r\nhost: svc:80\r\nconnection: keep-alive\r\n\
                     te: trailers\r\ntransfer-encoding: chunked\r\n\r\n4\r\nping\r\n0\r\n\r\n"
                ))
                .await;
            let answer = client.message().await;
            assert_eq!(answer.head.line, "HTTP/1.1 200 OK");
            assert_eq!((answer.header("x-answer"), answer.text()), (Some("yes"), "pong"));
            let (parts, body) = requests.recv().await.unwrap();
            assert_eq!(parts.uri.to_string(), format!("http://svc:80{path}"));
            assert_eq!(parts.headers.get("host"), None);
            assert_eq!(parts.headers.get("connection"), None);
            assert_eq!(parts.headers["te"], "trailers");
            assert_eq!(body, "ping");
        }
        assert_eq!(server.open.get(), 1);
    });
}

#[test]
fn the_preface_alone_tells_http_2() {
    run(async {
        for port in ["http", "http2", "web"] {
            let mesh = Mesh::new();
            let server = Server::start(port == "http2", |_| async { Response::new(text("ok")) });
            let service = mesh.service("default/svc", port, &[server.await.addr]);
            let mut client = connect(&mesh, service).await;
            let request = Request::get("http://svc/").body(empty()).unwrap();
            let (answer, _) = whole(client.send_request(request).await.unwrap()).await;
            assert_eq!(answer.body(), "ok", "{port}");
            assert_eq!(mesh.count("weft_outbound_connections_total", &["\"http2\""]), 1);
        }
    });
}

/// HTTP/2 has no Host but an authority; to a route both are the header Host.
#[test]
fn an_authority_is_matched_as_the_host() {
    run(async {
        let mesh = Mesh::new();
        mesh.service("default/shop", "http", &[Server::http1("shop").await.addr]);
        let service = mesh.service("default/svc", "http", &[]);
        let rules = "[{matches: [{headers: [{name: Host, value: shop.example}]}], \
                     backendRefs: [{name: shop, port: 80}]}]";
        mesh.http_route("default/route", "default/svc", rules);
        let mut client = connect(&mesh, service).await;
        for (host, status) in [("shop.example", 200), ("www.shop.example", 404)] {
            let request = Request::get(format!("http://{host}/")).body(empty()).unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), status, "{host}");
            let mut client = mesh.connect(service).await;
            client.send(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            assert_eq!(client.message().await.status(), status, "{host}");
        }
    });
}

/// Between two sides of HTTP/2 a Host is written only for rules that read it; the backend sees the
/// authority either way, and filters find what the client has sent.
#[test]
fn an_authority_reaches_a_backend_of_http_2() {
    run(async {
        const TO_SVC: &str = "backendRefs: [{name: svc, port: 80}]";
        let rewrite = "filters: [{type: URLRewrite, urlRewrite: {hostname: new.example}}]";
        let add = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: \
                   {add: [{name: x-added, value: a}]}}]";
        let redirect = "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]";
        for (rule, seen) in [
            (TO_SVC.to_owned(), "http://old.example/a?b"),
            (format!("{add}, {TO_SVC}"), "http://old.example/a?b"),
            (format!("{rewrite}, {TO_SVC}"), "http://new.example/a?b"),
            (
                format!("backendRefs: [{{name: svc, port: 80, {rewrite}}}]"),
                "http://new.example/a?b",
            ),
            (redirect.to_owned(), "location: http://old.example/a?b"),
        ] {
            let mesh = Mesh::new();
            let server = Server::start(true, |request: Request<Incoming>| async move {
                let host = if request.headers().contains_key("host") { " Host" } else { "" };
                Response::new(text(format!("{}{host}", request.uri())))
            })
            .await;
            let service = mesh.service("default/svc", "http2", &[server.addr]);
            mesh.http_route("default/route", "default/svc", &format!("[{{{rule}}}]"));
            let mut client = connect(&mesh, service).await;
            let request = Request::get("http://old.example/a?b").body(empty()).unwrap();
            let (answer, _) = whole(client.send_request(request).await.unwrap()).await;
            let location = answer.headers().get("location");
            let location = location.map(|it| format!("location: {}", it.to_str().unwrap()));
            let body = String::from_utf8(answer.body().to_vec()).unwrap();
            assert_eq!(location.unwrap_or(body), seen, "{rule}");
        }
    });
}

#[test]
fn a_host_beside_another_authority_is_refused() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("one").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        let mut client = connect(&mesh, service).await;
        for (host, status) in [("a", 200), ("b", 400)] {
            let request = Request::get("http://a/").header("host", host).body(empty()).unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), status, "{host}");
        }
    });
}

#[test]
fn too_many_headers_are_answered_431() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("one").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        let mut client = connect(&mesh, service).await;
        for (count, length, status) in [(90, 1, 200), (101, 1, 431), (2, 40 * 1024, 431)] {
            let mut request = Request::get("http://svc/").body(empty()).unwrap();
            for n in 0..count {
                let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
                request.headers_mut().insert(name, "y".repeat(length).parse().unwrap());
            }
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), status, "{count} headers of {length} bytes");
        }
        // The connection has survived, and so have the backend's.
        assert_eq!(server.open.get(), 1);
    });
}

#[test]
fn a_stream_that_the_client_resets_ends_at_the_backend() {
    run(async {
        for port in ["http", "http2"] {
            let mesh = Mesh::new();
            let dropped = std::rc::Rc::new(std::cell::Cell::new(0));
            let counted = dropped.clone();
            let server = Server::start(port == "http2", move |request: Request<Incoming>| {
                let (path, guard) = (request.uri().path().to_owned(), OnDrop(counted.clone()));
                async move {
                    if path == "/never" {
                        std::future::pending::<()>().await;
                    }
                    std::mem::forget(guard);
                    Response::new(text("ok"))
                }
            })
            .await;
            let service = mesh.service("default/svc", port, &[server.addr]);
            let mut client = connect(&mesh, service).await;
            let request = Request::get("http://svc/never").body(empty()).unwrap();
            let never = tokio::task::spawn_local(client.send_request(request));
            eventually("the request is there", || server.requests.get() == 1).await;
            never.abort();
            eventually("the backend has been told", || dropped.get() == 1).await;
            let closed = || mesh.requests(&["status=\"0\"", "reason=\"client_closed\""]) == 1;
            eventually("it is counted", closed).await;
            // The client's connection goes on.
            let request = Request::get("http://svc/").body(empty()).unwrap();
            assert_eq!(client.send_request(request).await.unwrap().status(), 200, "{port}");
        }
    });
}

pub(super) struct OnDrop(pub(super) std::rc::Rc<std::cell::Cell<u32>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn the_proxys_own_answer_to_head_has_no_content() {
    run(async {
        let mesh = Mesh::new();
        let service = mesh.service("default/svc", "http", &[]);
        let mut client = connect(&mesh, service).await;
        let request = Request::head("http://svc/").body(empty()).unwrap();
        // Content would be an error of the stream.
        let (response, _) = whole(client.send_request(request).await.unwrap()).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["x-weft-reason"], "no_ready_endpoint");
        assert_eq!(response.body(), "");
    });
}
