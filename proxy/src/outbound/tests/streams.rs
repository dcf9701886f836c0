//! Connections under TLSRoutes and TCPRoutes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{exchange, pair};
use crate::testing::{End, Mesh, Peer, RawBackend, eventually, refusing, run};

/// A ClientHello in three records, as a client may send it; without a name where that is empty.
fn hello(name: &str) -> Vec<u8> {
    let length = |more: usize| u16::try_from(name.len() + more).unwrap().to_be_bytes();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    if !name.is_empty() {
        body.extend(length(9)); // extensions
        body.extend([0, 0]);
        body.extend(length(5));
        body.extend(length(3));
        body.push(0);
        body.extend(length(0));
        body.extend(name.as_bytes());
    }
    let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let (first, rest) = message.split_at(1);
    let (second, third) = rest.split_at(40);
    let record =
        |content: &[u8]| [&[22, 3, 1, 0, u8::try_from(content.len()).unwrap()], content].concat();
    [record(first), record(second), record(third)].concat()
}

/// A server with a certificate for `name`, which is also what it says to every client; and the
/// certificate.
async fn tls_server(name: &'static str) -> (SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.write_all(name.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (addr, certificate)
}

/// What the server of that name says, whose certificate is one of `trusted`.
async fn tls_get(
    mesh: &Mesh,
    service: SocketAddr,
    name: &'static str,
    trusted: &[CertificateDer<'static>],
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = mesh.connect(service).await;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::try_from(name).unwrap(), client.stream).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

fn to(backend: &str) -> String {
    format!("[{{name: only, backendRefs: [{{name: {backend}, port: 80}}]}}]")
}

/// The client finds its connection reset, without a byte.
async fn is_refused(mut client: Peer) {
    assert_eq!(client.end().await, (Vec::new(), End::Reset));
}

/// How many connections ended for that reason, with these labels.
fn ended(mesh: &Mesh, reason: &str, labels: &[&str]) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    mesh.count("weft_tcp_connections_total", &[&[&*reason], labels].concat())
}

#[test]
fn tls_goes_where_its_server_name_says_and_is_not_read() {
    run(async {
        let mesh = Mesh::new();
        let (a, certificate_a) = tls_server("a.example").await;
        let (b, certificate_b) = tls_server("b.c.wild.example").await;
        let service = mesh.service("default/svc", "tls", &[refusing()]);
        mesh.service("default/one", "tls", &[a]);
        mesh.service("default/two", "tls", &[b]);
        mesh.tls_route("default/exact", "default/svc", &["x.example", "a.example"], &to("one"));
        mesh.tls_route("default/wild", "default/svc", &["*.wild.example"], &to("two"));
        let trusted = [certificate_a, certificate_b];
        // The certificates are theirs, so that nobody has been in between.
        let said = tls_get(&mesh, service, "a.example", &trusted).await.unwrap();
        assert_eq!(said, "a.example");
        let said = tls_get(&mesh, service, "b.c.wild.example", &trusted).await.unwrap();
        assert_eq!(said, "b.c.wild.example");
        let refused = tls_get(&mesh, service, "wild.example", &trusted).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);

        let labels = ["parent_namespace=\"default\",parent_name=\"svc\",parent_port=\"80\",\
             route_kind=\"TLSRoute\",route_namespace=\"default\",route_name=\"wild\",rule=\"0\",\
             rule_name=\"only\",backend_namespace=\"default\",backend_name=\"two\",backend_port=\"80\""];
        eventually("it is counted", || ended(&mesh, "", &labels) == 1).await;
        assert!(mesh.count("weft_tcp_sent_bytes_total", &labels) > 100, "the ClientHello too");
        assert!(mesh.count("weft_tcp_received_bytes_total", &labels) > 500);
        let unmatched = ["parent_name=\"svc\"", "route_kind=\"none\"", "backend_name=\"\""];
        assert_eq!(ended(&mesh, "no_rule_matched", &unmatched), 1);
        assert_eq!(mesh.count("weft_outbound_connections_total", &["protocol=\"tls\""]), 3);
        assert_eq!(mesh.count("weft_tcp_open_connections", &[]), 0);
    });
}

#[test]
fn a_hello_may_come_one_byte_at_a_time_and_reaches_the_backend_whole() {
    run(async {
        for port in ["tls", "web", "http", "tcp"] {
            let (mesh, service, backend) = pair(port).await;
            mesh.tls_route("default/r", "default/svc", &["a.example"], &to("svc"));
            let mut client = mesh.connect(service).await;
            let bytes = hello("a.EXAMPLE");
            for byte in &bytes {
                client.send([*byte]).await;
                tokio::task::yield_now().await;
            }
            let mut server = backend.accept().await;
            server.expect(&bytes).await;
            exchange(&mut client, &mut server).await;
        }
    });
}

#[test]
fn what_no_tls_route_can_take_is_reset() {
    run(async {
        let endless = [&[22, 3, 1, 64, 0, 1, 0, 63, 0][..], &[0; 20_000]].concat();
        let table: [(&str, &[u8], &str); 6] = [
            ("another name", &hello("b.example"), "no_rule_matched"),
            ("no name", &hello(""), "no_rule_matched"),
            ("HTTP", b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", "not_tls"),
            ("another protocol", b"\0\0\0\x08\x04\xd2\x16\x2f", "not_tls"),
            ("a broken hello", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "client_hello_invalid"),
            ("one without an end", &endless, "client_hello_invalid"),
        ];
        for (what, bytes, reason) in table {
            let (mesh, service, backend) = pair("tls").await;
            mesh.tls_route("default/r", "default/svc", &["a.example"], &to("svc"));
            let mut client = mesh.connect(service).await;
            // The end may come before all of it is sent.
            let _ = client.stream.write_all(bytes).await;
            is_refused(client).await;
            assert_eq!(ended(&mesh, reason, &["route_kind=\"none\""]), 1, "{what}");
            assert!(!backend.has_connection().await, "{what}");
        }
    });
}

#[test]
fn a_client_that_does_not_finish_its_hello_is_given_up() {
    run(async {
        for (sent, closes, reason) in [
            (0, false, "client_hello_timeout"),
            (20, false, "client_hello_timeout"),
            (0, true, "client_closed"),
            (20, true, "client_closed"),
        ] {
            let mesh = Mesh::with("default", |limits| {
                limits.header_timeout =
                    if closes { Duration::from_secs(60) } else { Duration::from_millis(50) };
            });
            let service = mesh.service("default/svc", "tls", &[refusing()]);
            mesh.tls_route("default/r", "default/svc", &["a.example"], &to("svc"));
            let mut client = mesh.connect(service).await;
            client.send(&hello("a.example")[..sent]).await;
            if closes {
                client.finish().await;
            }
            is_refused(client).await;
            assert_eq!(ended(&mesh, reason, &["parent_name=\"svc\""]), 1, "{sent} {closes}");
        }
    });
}

/// Whatever else a port declares or carries, a TCPRoute takes it, and waits for none of its bytes.
#[test]
fn a_tcp_route_takes_every_connection_unread() {
    run(async {
        for port in ["web", "http", "grpc", "tcp", "https", "mysql"] {
            let (mesh, service, own) = pair(port).await;
            let routed = RawBackend::listen().await;
            mesh.service("default/one", "tcp", &[routed.addr]);
            mesh.tcp_route("default/r", "default/svc", &to("one"));
            let mut client = mesh.connect(service).await;
            let mut server = routed.accept().await;
            server.send("220 ready\r\n").await;
            client.expect("220 ready\r\n").await;
            exchange(&mut client, &mut server).await;
            assert!(!own.has_connection().await, "{port}");
            let open = ["route_kind=\"TCPRoute\"", "route_name=\"r\"", "backend_name=\"one\""];
            assert_eq!(mesh.count("weft_tcp_open_connections", &open), 1);
            drop(client);
            server.end().await;
            drop(server);
            let closed = || mesh.count("weft_tcp_open_connections", &open) == 0;
            eventually("it is closed", closed).await;
        }
    });
}

/// "If an invalid backend is requested to have 80% of connections, then 80% of connections must be
/// rejected instead."
#[test]
fn connections_are_split_by_weight_and_an_invalid_backend_rejects_its_share() {
    run(async {
        let mesh = Mesh::new();
        let (one, two) = (RawBackend::listen().await, RawBackend::listen().await);
        let service = mesh.service("default/svc", "tcp", &[refusing()]);
        mesh.service("default/one", "tcp", &[one.addr]);
        mesh.service("default/two", "tcp", &[two.addr]);
        let rules = "[{backendRefs: [{name: one, port: 80, weight: 1}, {name: ghost, port: 80, \
                     weight: 8}, {name: two, port: 80, weight: 1}, {name: gone, port: 80, weight: 0}]}]";
        mesh.tcp_route("default/r", "default/svc", rules);
        let (mut at_one, mut at_two, mut refused) = (0, 0, 0);
        for _ in 0..320 {
            let mut client = mesh.connect(service).await;
            tokio::select! {
                _server = one.accept() => at_one += 1,
                _server = two.accept() => at_two += 1,
                end = client.end() => {
                    assert_eq!(end, (Vec::new(), End::Reset));
                    refused += 1;
                }
            }
        }
        // Draws go in blocks of 64, in each of which a share is off by two at most.
        assert!((246..=266).contains(&refused), "{at_one} {refused} {at_two}");
        assert!((22..=42).contains(&at_one) && (22..=42).contains(&at_two), "{at_one} {at_two}");
        let labels = ["route_name=\"r\"", "backend_name=\"ghost\""];
        assert_eq!(ended(&mesh, "backend_invalid", &labels), refused);
        let weight = |backend: &str| {
            let label = format!("backend_name=\"{backend}\"");
            let text = mesh.shared.metrics.encode();
            let line = text.lines().find(|line| {
                line.starts_with("weft_route_backend_weight_ratio") && line.contains(&label)
            });
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        assert_eq!((weight("one"), weight("ghost")), (Some(0.1), Some(0.8)));
    });
}

#[test]
fn a_rule_that_leads_nowhere_resets_its_connections() {
    run(async {
        let table = [
            ("no backends", "[{}]", "no_backend", ""),
            (
                "weights of 0",
                "[{backendRefs: [{name: svc, port: 80, weight: 0}]}]",
                "no_backend",
                "",
            ),
            ("a field from the future", "[{timeouts: {idle: 5s}}]", "rule_refused", ""),
            (
                "an empty Service",
                "[{backendRefs: [{name: empty, port: 80}]}]",
                "no_ready_endpoint",
                "empty",
            ),
            (
                "nobody listens",
                "[{backendRefs: [{name: deaf, port: 80}]}]",
                "connect_failed",
                "deaf",
            ),
            (
                "no Service",
                "[{backendRefs: [{name: ghost, port: 80}]}]",
                "backend_invalid",
                "ghost",
            ),
        ];
        for kind in ["TLSRoute", "TCPRoute"] {
            for (what, rules, reason, backend) in table {
                let (mesh, service, own) = pair("tls").await;
                mesh.service("default/empty", "tls", &[]);
                mesh.service("default/deaf", "tls", &[refusing()]);
                match kind {
                    "TLSRoute" => mesh.tls_route("default/r", "default/svc", &["a.example"], rules),
                    _ => mesh.tcp_route("default/r", "default/svc", rules),
                }
                let mut client = mesh.connect(service).await;
                // Of a connection that is reset at once, the bytes may find no taker.
                let _ = client.stream.write_all(&hello("a.example")).await;
                is_refused(client).await;
                let labels = [
                    &*format!("route_kind=\"{kind}\""),
                    "route_name=\"r\"",
                    &*format!("backend_name=\"{backend}\""),
                ];
                assert_eq!(ended(&mesh, reason, &labels), 1, "{kind}: {what}");
                assert_eq!(mesh.count("weft_tcp_open_connections", &[]), 0, "{kind}: {what}");
                assert!(!own.has_connection().await, "{kind}: {what}");
            }
        }
    });
}

/// A TLSRoute without a port is for all of a Service's ports; where one declares HTTP, and speaks it, the
/// route has nothing to say.
#[test]
fn http_on_a_port_that_declares_it_is_not_a_tls_routes_business() {
    run(async {
        let mesh = Mesh::new();
        let server = crate::testing::Server::http1("own").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        mesh.tls_route("default/r", "default/svc", &["a.example"], &to("ghost"));
        let answer = mesh.get(service, "/").await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"own"[..]));
        let mut client = mesh.connect(service).await;
        client.send(hello("a.example")).await;
        is_refused(client).await;
        assert_eq!(ended(&mesh, "backend_invalid", &["route_kind=\"TLSRoute\""]), 1);
    });
}

/// And the other way round: an HTTPRoute has nothing to say of TLS.
#[test]
fn tls_under_an_http_route_goes_to_the_service_itself() {
    run(async {
        let (mesh, service, backend) = pair("web").await;
        mesh.http_route("default/r", "default/svc", &to("ghost"));
        let mut client = mesh.connect(service).await;
        client.send(hello("a.example")).await;
        let mut server = backend.accept().await;
        server.expect(hello("a.example")).await;
        exchange(&mut client, &mut server).await;
    });
}

#[test]
fn a_change_of_a_route_is_for_the_connections_to_come() {
    run(async {
        let mesh = Mesh::new();
        let (one, two) = (RawBackend::listen().await, RawBackend::listen().await);
        let service = mesh.service("default/svc", "tcp", &[refusing()]);
        mesh.service("default/one", "tcp", &[one.addr]);
        mesh.service("default/two", "tcp", &[two.addr]);
        mesh.tcp_route("default/r", "default/svc", &to("one"));
        let mut old = mesh.connect(service).await;
        let mut old_server = one.accept().await;
        mesh.tcp_route("default/r", "default/svc", &to("two"));
        let mut new = mesh.connect(service).await;
        let mut new_server = two.accept().await;
        exchange(&mut new, &mut new_server).await;
        exchange(&mut old, &mut old_server).await;
    });
}

#[test]
fn consumer_routes_are_for_the_clients_of_their_namespace() {
    run(async {
        for (namespace, expected) in [("client", "consumer"), ("elsewhere", "producer")] {
            let mesh = Mesh::with(namespace, |_| {});
            let (producer, consumer) = (RawBackend::listen().await, RawBackend::listen().await);
            let service = mesh.service("default/svc", "tcp", &[refusing()]);
            mesh.service("default/producer", "tcp", &[producer.addr]);
            mesh.service("client/consumer", "tcp", &[consumer.addr]);
            mesh.tcp_route("default/r", "default/svc", &to("producer"));
            mesh.tcp_route("client/r", "default/svc", &to("consumer"));
            let _client = mesh.connect(service).await;
            let at = tokio::select! {
                _server = producer.accept() => "producer",
                _server = consumer.accept() => "consumer",
            };
            assert_eq!(at, expected);
        }
    });
}

#[test]
fn the_bytes_of_a_connection_that_is_reset_are_counted() {
    run(async {
        let (mesh, service, backend) = pair("tcp").await;
        let mut client = mesh.connect(service).await;
        let mut server = backend.accept().await;
        client.send("question").await;
        server.expect("question").await;
        server.send("an answer").await;
        client.expect("an answer").await;
        server.reset();
        assert_eq!(client.end().await.1, End::Reset);
        eventually("it is counted", || ended(&mesh, "reset", &[]) == 1).await;
        let counted = |name: &str| mesh.count(&format!("weft_tcp_{name}_bytes_total"), &[]);
        assert_eq!((counted("sent"), counted("received")), (8, 9));
    });
}
