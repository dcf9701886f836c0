//! Headers on their way: what passes as it is, and what belongs to one connection only.

use crate::testing::{Head, Mesh, RawBackend, run};

/// Sends a request's headers and a response's through the proxy; returns what arrives.
async fn pass(request: &[u8], response: &[u8]) -> (Head, Head) {
    let mesh = Mesh::new();
    let backend = RawBackend::listen().await;
    let service = mesh.service("default/svc", "http", &[backend.addr]);
    let mut client = mesh.connect(service).await;
    client.send([b"GET / HTTP/1.1\r\n", request, b"\r\n"].concat()).await;
    let mut server = backend.accept().await;
    let seen = server.head().await;
    server.send([b"HTTP/1.1 200 OK\r\n", response, b"\r\n"].concat()).await;
    (seen, client.head().await)
}

#[test]
fn nothing_is_added() {
    run(async {
        let (request, response) = pass(b"host: svc\r\n", b"content-length: 0\r\n").await;
        assert_eq!(request.sorted(), ["host: svc"]);
        assert_eq!(response.sorted(), ["content-length: 0"]);
    });
}

#[test]
fn what_the_caller_says_of_itself_survives() {
    run(async {
        let sent = "accept: */*\r\n\
            baggage: a=b;c, d=e\r\n\
            date: Tue, 15 Nov 1994 08:12:31 GMT\r\n\
            forwarded: for=192.0.2.60;proto=http\r\n\
            host: svc\r\n\
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
            tracestate: a=1,b=2\r\n\
            user-agent: curl/8.0 (x; y)\r\n\
            via: 1.1 edge\r\n\
            x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\r\n\
            x-forwarded-for: 192.0.2.1, 10.0.0.7\r\n\
            x-forwarded-host: www.example.com\r\n\
            x-forwarded-proto: https\r\n\
            x-request-id: 8f1c; (a)=<b> and  two spaces\r\n";
        let answer = "content-length: 0\r\nserver: theirs\r\nvia: 1.0 x\r\nx-request-id: a\r\n";
        let (request, response) = pass(sent.as_bytes(), answer.as_bytes()).await;
        assert_eq!(request.sorted(), sent.lines().collect::<Vec<_>>());
        assert_eq!(response.sorted(), answer.lines().collect::<Vec<_>>());
    });
}

#[test]
fn repeated_headers_stay_apart_and_in_order() {
    run(async {
        let (request, response) = pass(
            b"host: svc\r\nx-many: 1\r\nother: x\r\nx-many: 2\r\nX-Many: 3, 4\r\n",
            b"set-cookie: a=1; Path=/\r\ncontent-length: 0\r\nset-cookie: b=2, c\r\nset-cookie: \
              a=3\r\n",
        )
        .await;
        assert_eq!(request.all("x-many"), ["1", "2", "3, 4"]);
        assert_eq!(response.all("set-cookie"), ["a=1; Path=/", "b=2, c", "a=3"]);
    });
}

#[test]
fn bytes_above_ascii_survive() {
    run(async {
        let (request, response) = pass(
            b"host: svc\r\nx-latin: caf\xe9\r\nx-utf8: caf\xc3\xa9\r\nx-tab: a\tb\r\nx-empty:\r\n",
            b"content-length: 0\r\nx-all: \x80\xfe\xff\r\n",
        )
        .await;
        assert_eq!(
            request.sorted(),
            [
                "host: svc",
                "x-empty: ",
                "x-latin: caf\\xe9",
                "x-tab: a\\tb",
                "x-utf8: caf\\xc3\\xa9"
            ]
        );
        assert_eq!(response.sorted()[1], "x-all: \\x80\\xfe\\xff");
    });
}

#[test]
fn what_belongs_to_one_connection_is_removed() {
    run(async {
        for (sent, expected) in [
            ("connection: keep-alive\r\nkeep-alive: timeout=5\r\n", &[][..]),
            ("connection: x-one, X-Two\r\nx-one: 1\r\nx-two: 2\r\nx-three: 3\r\n", &["x-three: 3"]),
            ("connection: x-one\r\nconnection: x-two\r\nx-one: 1\r\nx-two: 2\r\n", &[]),
            ("proxy-connection: keep-alive\r\n", &[]),
            ("te: trailers\r\nconnection: te\r\n", &["te: trailers"]),
            ("te: gzip;q=0.5, trailers\r\n", &["te: trailers"]),
            ("te: gzip\r\nconnection: te\r\n", &[]),
            ("upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAA\r\n", &[]),
            // Without `connection: upgrade` it says nothing (RFC 9110, section 7.8).
            ("upgrade: websocket\r\n", &[]),
            ("connection: host, close\r\n", &[]),
        ] {
            let request = format!("host: svc\r\n{sent}");
            let (request, response) =
                pass(request.as_bytes(), format!("content-length: 0\r\n{sent}").as_bytes()).await;
            let with = |first: &str| {
                let mut all = vec![first.to_owned()];
                all.extend(expected.iter().map(ToString::to_string));
                all
            };
            assert_eq!(request.sorted(), with("host: svc"), "{sent}");
            let mut answered = response.sorted();
            // The proxy's own word to the client, where the client asked for it.
            answered.retain(|line| line != "connection: close");
            assert_eq!(answered, with("content-length: 0"), "{sent}");
        }
    });
}
