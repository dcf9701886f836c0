//! RequestMirror: which requests mirrors get, and in which form.

mod failing;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::http2::{connect, whole};
use super::suite::Echo;
use crate::testing::{
    Body, Mesh, Peer, RawBackend, Server, empty, eventually, run, text, with_trailers,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const MIRROR: &str = "{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}";

/// A Service whose only rule leads to `primary`, and is mirrored to `mirror`.
fn mirrored(primary: SocketAddr, mirror: &[SocketAddr]) -> (Mesh, SocketAddr) {
    with_filters(primary, mirror, &format!("filters: [{MIRROR}]"))
}

fn with_filters(primary: SocketAddr, mirror: &[SocketAddr], filters: &str) -> (Mesh, SocketAddr) {
    let mesh = Mesh::new();
    mesh.service("default/primary", "http", &[primary]);
    mesh.service("default/mirror", "http", mirror);
    let service = mesh.service("default/svc", "http", &[]);
    let rules = format!("[{{{filters}, backendRefs: [{{name: primary, port: 80}}]}}]");
    mesh.http_route("default/route", "default/svc", &rules);
    (mesh, service)
}

/// How many copies ended so.
fn ended(mesh: &Mesh, outcome: &str) -> u64 {
    mesh.count("weft_route_mirrors_total", &[&format!("outcome=\"{outcome}\"")])
}

/// Waits for the copy's end, of which there must be no other.
async fn one_ended(mesh: &Mesh, outcome: &str) {
    let labels = ["route_name=\"route\"", "rule=\"0\"", "backend_name=\"mirror\""];
    eventually(outcome, || ended(mesh, outcome) == 1).await;
    assert_eq!(mesh.count("weft_route_mirrors_total", &labels), 1);
    assert_eq!(mesh.count("weft_route_mirrors_total", &[]), 1);
}

async fn get(client: &mut Peer) {
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(client.message().await.status(), 200);
}

#[test]
fn a_mirror_gets_what_the_backend_gets_and_its_answer_goes_nowhere() {
    run(async {
        let (primary, mirror) = (RawBackend::listen().await, RawBackend::listen().await);
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        for (round, framing) in [
            "content-length: 4\r\n\r\nbody",
            "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            client
                .send(format!(
                    "POST /p?q={round} HTTP/1.1\r\nhost: svc:80\r\nx-a: 1\r\nx-a: 2\r\nconnection: x-hop\r\n\
                     x-hop: 1\r\ntrailer: x-sum\r\nte: trailers\r\n{framing}"
                ))
                .await;
            let (mut one, mut other) = (primary.accept().await, mirror.accept().await);
            let (got, copied) = (one.message().await, other.message().await);
            assert_eq!(copied.head.line, format!("POST /p?q={round} HTTP/1.1"));
            assert_eq!(copied.head.get("host"), Some("svc:80"));
            assert_eq!(copied.head.all("x-a"), ["1", "2"]);
            assert_eq!(copied.head.get("x-hop"), None);
            assert_eq!(copied.head.sorted(), got.head.sorted());
            assert_eq!((copied.text(), &copied.trailers), ("body", &got.trailers));
            other.send("HTTP/1.1 503 Oh\r\nx-mirror: 1\r\ncontent-length: 5\r\n\r\nnever").await;
            eventually("the copy is done", || ended(&mesh, "completed") == round as u64 + 1).await;
            assert!(client.is_silent());
            one.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
            let answer = client.message().await;
            assert_eq!((answer.status(), answer.text()), (200, "ok"));
            assert_eq!(answer.header("x-mirror"), None);
            // Used for one copy only, so that both rounds begin alike.
            drop((one, other));
        }
        assert_eq!(mesh.requests(&[]), 2);
        assert_eq!(mesh.requests(&["status=\"200\"", "backend_name=\"primary\""]), 2);
    });
}

#[test]
fn one_endpoint_gets_the_copy_and_its_connection_is_used_again() {
    run(async {
        let primary = Server::http1("primary").await;
        let (one, other) = (Server::http1("one").await, Server::http1("other").await);
        let (mesh, service) = mirrored(primary.addr, &[one.addr, other.addr]);
        let mut client = mesh.connect(service).await;
        for round in 1..=100 {
            get(&mut client).await;
            eventually("the copy is done", || ended(&mesh, "completed") == round).await;
        }
        assert_eq!(one.requests.get() + other.requests.get(), 100);
        assert!(one.open.get() <= 1 && other.open.get() <= 1);
        // The route's weights and shares have nothing to do with it.
        assert_eq!(mesh.requests(&["backend_name=\"primary\""]), 100);
        assert_eq!(mesh.requests(&["backend_name=\"mirror\""]), 0);
    });
}

/// A server that answers with the number of bytes that it got, or not at all.
async fn counting() -> Server {
    Server::start(false, |request: Request<Incoming>| async {
        let mut body = request.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Err(_) => return Response::builder().status(400).body(empty()).unwrap(),
            }
        }
        Response::builder().header("bytes", bytes.to_string()).body(empty()).unwrap()
    })
    .await
}

#[test]
fn a_body_of_any_size_reaches_a_mirror_that_keeps_up() {
    run(async {
        const BODY: usize = 64 * 1024 * 1024;
        let (primary, mirror) = (counting().await, counting().await);
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        let head = format!("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: {BODY}\r\n\r\n");
        client.send(head).await;
        for _ in 0..BODY / 65_536 {
            client.send(vec![b'x'; 65_536]).await;
        }
        assert_eq!(client.message().await.header("bytes"), Some(&*BODY.to_string()));
        one_ended(&mesh, "completed").await;
        assert_eq!(mirror.requests.get(), 1);
    });
}

#[test]
fn a_body_reaches_the_mirror_as_it_comes() {
    run(async {
        let (primary, mirror) = (RawBackend::listen().await, RawBackend::listen().await);
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        client.send("POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let (mut one, mut other) = (primary.accept().await, mirror.accept().await);
        one.head().await;
        other.head().await;
        for round in 0..3 {
            client.send(format!("1\r\n{round}\r\n")).await;
            one.expect(format!("1\r\n{round}\r\n")).await;
            other.expect(format!("1\r\n{round}\r\n")).await;
        }
        client.send("0\r\n\r\n").await;
        other.expect("0\r\n\r\n").await;
        other.send(OK).await;
        one_ended(&mesh, "completed").await;
    });
}

#[test]
fn a_mirror_that_does_not_exist_is_left_out() {
    run(async {
        let primary = Server::http1("primary").await;
        let ghost = MIRROR.replace("name: mirror", "name: ghost");
        let mirror = Echo::start(false).await;
        let filters = format!("filters: [{ghost}, {MIRROR}]");
        let (mesh, service) = with_filters(primary.addr, &[mirror.addr()], &filters);
        let mut client = mesh.connect(service).await;
        get(&mut client).await;
        one_ended(&mesh, "completed").await;
        assert_eq!(mirror.count(), 1);
    });
}

#[test]
fn upgrades_are_not_mirrored() {
    run(async {
        let (primary, mirror) = (RawBackend::listen().await, RawBackend::listen().await);
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        client
            .send(
                "GET /chat HTTP/1.1\r\nhost: svc\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            )
            .await;
        let mut server = primary.accept().await;
        assert_eq!(server.head().await.get("upgrade"), Some("websocket"));
        server
            .send("HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
            .await;
        assert_eq!(client.head().await.status(), 101);
        client.expect("hello").await;
        assert_eq!(mesh.count("weft_route_mirrors_total", &[]), 0);
        assert!(!mirror.has_connection().await);
    });
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_copied_when_it_comes() {
    run(async {
        let (primary, mirror) = (RawBackend::listen().await, RawBackend::listen().await);
        let (mesh, service) = mirrored(primary.addr, &[mirror.addr]);
        let mut client = mesh.connect(service).await;
        client
            .send(
                "POST / HTTP/1.1\r\nhost: svc\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
            )
            .await;
        let (mut one, mut other) = (primary.accept().await, mirror.accept().await);
        assert_eq!(one.head().await.get("expect"), Some("100-continue"));
        // Nobody would ask the mirror.
        assert_eq!(other.head().await.get("expect"), None);
        assert!(client.is_silent() && other.is_silent());
        one.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send("body").await;
        one.expect("body").await;
        other.expect("body").await;
        other.send(OK).await;
        one_ended(&mesh, "completed").await;
    });
}

/// "Wherever possible, implementations SHOULD implement filters in the order they are specified."
#[test]
fn a_copy_is_what_the_filters_before_it_have_made_of_the_request() {
    run(async {
        let set = |value: &str| {
            format!(
                "{{type: RequestHeaderModifier, requestHeaderModifier: \
                 {{set: [{{name: x-by, value: {value}}}]}}}}"
            )
        };
        let rewrite = "{type: URLRewrite, urlRewrite: {hostname: new.example, \
                       path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}";
        let to = |name: &str| MIRROR.replace("name: mirror", &format!("name: {name}"));
        let mesh = Mesh::new();
        let mut all = Vec::new();
        for name in ["primary", "first", "second", "third", "fourth"] {
            let echo = Echo::start(false).await;
            mesh.service(&format!("default/{name}"), "http", &[echo.addr()]);
            all.push((name, echo));
        }
        let service = mesh.service("default/svc", "http", &[]);
        let rules = format!(
            "[{{matches: [{{path: {{value: /old}}}}], \
               filters: [{}, {}, {}, {rewrite}], \
               backendRefs: [{{name: primary, port: 80, filters: [{}, {}, {}]}}]}}]",
            to("first"),
            set("rule"),
            to("second"),
            to("third"),
            set("backend"),
            to("fourth"),
        );
        mesh.http_route("default/route", "default/svc", &rules);
        assert_eq!(mesh.get(service, "/old/x?q=1").await.status(), 200);
        for (name, echo) in all {
            eventually(name, || echo.count() == 1).await;
            let seen = echo.take().remove(0);
            let (target, host, by) = match name {
                "first" => ("/old/x?q=1", "svc", None),
                "second" => ("/old/x?q=1", "svc", Some("rule")),
                "third" => ("/new/x?q=1", "new.example", Some("rule")),
                _ => ("/new/x?q=1", "new.example", Some("backend")),
            };
            assert_eq!(
                (seen.uri().to_string(), &seen.headers()["host"]),
                (target.into(), &host.parse().unwrap())
            );
            assert_eq!(seen.headers().get("x-by").map(|it| it.to_str().unwrap()), by, "{name}");
        }
    });
}

#[test]
fn a_backends_mirror_gets_that_backends_share() {
    run(async {
        let mesh = Mesh::new();
        let (v1, v2) = (Server::http1("v1").await, Server::http1("v2").await);
        let mirror = Echo::start(false).await;
        mesh.service("default/v1", "http", &[v1.addr]);
        mesh.service("default/v2", "http", &[v2.addr]);
        mesh.service("default/mirror", "http", &[mirror.addr()]);
        let service = mesh.service("default/svc", "http", &[]);
        let rules = format!(
            "[{{backendRefs: [{{name: v1, port: 80}}, {{name: v2, port: 80, filters: [{MIRROR}]}}]}}]"
        );
        mesh.http_route("default/route", "default/svc", &rules);
        for _ in 0..50 {
            mesh.get(service, "/").await;
        }
        assert!(v1.requests.get() > 0 && v2.requests.get() > 0);
        eventually("all came", || mirror.count() == v2.requests.get()).await;
        eventually("all done", || ended(&mesh, "completed") == v2.requests.get() as u64).await;
        assert_eq!(mesh.count("weft_route_mirrors_total", &[]), v2.requests.get() as u64);
    });
}

#[test]
fn what_the_proxy_refuses_is_not_mirrored() {
    run(async {
        let mirror = Echo::start(false).await;
        for (more, status) in [
            ("backendRefs: [{name: missing, port: 80}]", 500),
            ("backendRefs: []", 500),
            ("backendRefs: [{name: mirror, port: 80, weight: 0}]", 500),
            // Half of a rule is another rule.
            ("backendRefs: [{name: mirror, port: 80, filters: [{type: Magic}]}]", 500),
        ] {
            let mesh = Mesh::new();
            mesh.service("default/mirror", "http", &[mirror.addr()]);
            let service = mesh.service("default/svc", "http", &[]);
            let rules = format!("[{{filters: [{MIRROR}], {more}}}]");
            mesh.http_route("default/route", "default/svc", &rules);
            assert_eq!(mesh.get(service, "/").await.status(), status, "{more}");
            eventually("nothing is under way", || mesh.shared.drain.open() == 0).await;
            assert_eq!(mirror.count(), 0, "{more}");
        }
    });
}

#[test]
fn a_redirected_request_is_mirrored_with_its_body() {
    run(async {
        let mirror = Echo::start(false).await;
        let mesh = Mesh::new();
        mesh.service("default/mirror", "http", &[mirror.addr()]);
        let service = mesh.service("default/svc", "http", &[]);
        let rules = format!(
            "[{{filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https}}}}, {MIRROR}]}}]"
        );
        mesh.http_route("default/route", "default/svc", &rules);
        let mut client = mesh.connect(service).await;
        client.send("POST /a HTTP/1.1\r\nhost: svc\r\ncontent-length: 8\r\n\r\npart").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.header("location")), (302, Some("https://svc/a")));
        client.send("rest").await;
        eventually("the copy is there", || mirror.count() == 1).await;
        assert_eq!(mirror.take()[0].body(), "partrest");
        one_ended(&mesh, "completed").await;
        // One whose body does not come.
        client.send("POST /a HTTP/1.1\r\nhost: svc\r\ncontent-length: 8\r\n\r\npart").await;
        assert_eq!(client.message().await.status(), 302);
        drop(client);
        eventually("it is counted", || ended(&mesh, "request_broken") == 1).await;
    });
}

#[test]
fn http_2_reaches_mirrors_of_both_versions() {
    run(async {
        for (port, is_http2, version) in
            [("http", false, Version::HTTP_11), ("h2c", true, Version::HTTP_2)]
        {
            let primary = Server::http1("primary").await;
            let mirror = Echo::start(is_http2).await;
            let mesh = Mesh::new();
            mesh.service("default/primary", "http", &[primary.addr]);
            mesh.service("default/mirror", port, &[mirror.addr()]);
            let service = mesh.service("default/svc", "http", &[]);
            let rules =
                format!("[{{filters: [{MIRROR}], backendRefs: [{{name: primary, port: 80}}]}}]");
            mesh.http_route("default/route", "default/svc", &rules);
            let mut client = connect(&mesh, service).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "4".parse().unwrap());
            let request = Request::post("http://svc.example:8080/path?q=1")
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .body(with_trailers("ping", trailers))
                .unwrap();
            let (answer, _) = whole(client.send_request(request).await.unwrap()).await;
            assert_eq!(answer.body(), "primary");
            one_ended(&mesh, "completed").await;
            let seen = mirror.take().remove(0);
            assert_eq!((seen.version(), &seen.body()[..]), (version, &b"ping"[..]), "{port}");
            let host = seen.uri().authority().map_or_else(
                || seen.headers()["host"].to_str().unwrap(),
                http::uri::Authority::as_str,
            );
            assert_eq!((host, seen.uri().path()), ("svc.example:8080", "/path"));
        }
    });
}

/// A body that a test writes as it goes.
fn written() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

#[test]
fn grpc_streams_are_mirrored_over_http_2() {
    run(async {
        // What the primary answers is the answer, whatever the mirror's status.
        let serve = |name: &'static str,
                     status: &'static str,
                     log: mpsc::UnboundedSender<(&'static str, Bytes)>| {
            Server::start(true, move |request: Request<Incoming>| {
                let log = log.clone();
                async move {
                    assert_eq!(request.version(), Version::HTTP_2);
                    assert_eq!(request.uri().path(), "/s/Chat");
                    assert_eq!(request.headers()["te"], "trailers");
                    let mut body = request.into_body();
                    tokio::task::spawn_local(async move {
                        while let Some(Ok(frame)) = body.frame().await {
                            if let Ok(data) = frame.into_data() {
                                let _ = log.send((name, data));
                            }
                        }
                    });
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", status.parse().unwrap());
                    Response::builder()
                        .header("content-type", "application/grpc")
                        .header("served-by", name)
                        .body(with_trailers("reply", trailers))
                        .unwrap()
                }
            })
        };
        let (log, mut logged) = mpsc::unbounded_channel();
        let (primary, mirror) =
            (serve("primary", "0", log.clone()).await, serve("mirror", "13", log).await);
        let mesh = Mesh::new();
        // Nothing says that the mirror's port speaks HTTP/2.
        mesh.service("default/primary", "web", &[primary.addr]);
        mesh.service("default/mirror", "web", &[mirror.addr]);
        let service = mesh.service("default/svc", "grpc", &[]);
        let rules = format!(
            "[{{matches: [{{method: {{service: s}}}}], filters: [{MIRROR}], \
               backendRefs: [{{name: primary, port: 80}}]}}]"
        );
        mesh.grpc_route("default/route", "default/svc", &rules);
        let mut client = connect(&mesh, service).await;
        let (message, body) = written();
        let call = Request::post("http://svc/s/Chat")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let answer = client.send_request(call).await.unwrap();
        assert_eq!(answer.headers()["served-by"], "primary");
        for round in ["one", "two", "three"] {
            message.send(Bytes::from_static(round.as_bytes())).unwrap();
            let mut both = [logged.recv().await.unwrap(), logged.recv().await.unwrap()];
            both.sort_unstable();
            assert_eq!(both, [("mirror", round.into()), ("primary", round.into())]);
        }
        drop(message);
        let (answer, trailers) = whole(answer).await;
        assert_eq!(
            (&answer.body()[..], &trailers.unwrap()["grpc-status"]),
            (&b"reply"[..], &"0".parse().unwrap())
        );
        eventually("the copy is counted", || ended(&mesh, "completed") == 1).await;
        let labels = ["route_kind=\"GRPCRoute\"", "backend_name=\"mirror\""];
        assert_eq!(mesh.count("weft_route_mirrors_total", &labels), 1);
        assert_eq!(mesh.requests(&["grpc_status=\"0\""]), 1);
    });
}

#[test]
fn a_share_of_none_and_of_all() {
    run(async {
        let primary = Server::http1("primary").await;
        for (share, copies) in [
            ("percent: 0", 0),
            ("percent: 100", 20),
            ("fraction: {numerator: 0, denominator: 7}", 0),
            ("fraction: {numerator: 7, denominator: 7}", 20),
            // "denominator […] default=100"
            ("fraction: {numerator: 100}", 20),
        ] {
            let filter = MIRROR.replace("port: 80}", &format!("port: 80}}, {share}"));
            let mirror = Server::start(false, |_| async { Response::new(text("m")) }).await;
            let filters = format!("filters: [{filter}]");
            let (mesh, service) = with_filters(primary.addr, &[mirror.addr], &filters);
            for _ in 0..20 {
                assert_eq!(mesh.get(service, "/").await.text(), "primary");
            }
            eventually("nothing is under way", || mesh.shared.drain.open() == 0).await;
            assert_eq!(mirror.requests.get(), copies, "{share}");
        }
    });
}
