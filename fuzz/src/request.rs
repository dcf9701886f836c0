//! Any bytes from a client on a connection, through the sidecar, to a backend that reads to the letter.
//!
//! Everything is on one thread: the client, the proxy's worker and the [`backend`]. A run has a world of
//! its own, so that what is found depends on the bytes alone.

mod backend;

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use weft_gamma::object::{Objects, decode};
use weft_proxy::bench::Proxy;
use weft_proxy::config::Config;
use weft_proxy::socket;

use self::backend::Backend;

/// The Service that the client dials.
const SERVICE: ([u8; 4], u16) = ([10, 96, 0, 1], 80);
/// What is not over by then, on however busy a machine, waits for something that nobody sends.
const PATIENCE: Duration = Duration::from_secs(30);
/// The proxy's own deadline for a head must not be what ends it.
const HEADER_TIMEOUT: &str = "60";
/// So often in a row nothing has come for anybody: then nothing will. All peers are on this thread, and
/// what the kernel does for a loopback connection it does at once.
const QUIET_TURNS: usize = 30;
/// The size of the pieces of input that comes in pieces.
const PIECE: usize = 7;

const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nhost: svc\r\nconnection: close\r\n\r\n";

pub fn run(data: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        // Sockets are looked at with every turn: turns are what is counted here.
        .event_interval(1)
        .build_local(LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let exchange = pin!(exchange(data));
        let ended = tokio::time::timeout(PATIENCE, exchange).await;
        assert!(ended.is_ok(), "hangs: {}", data.escape_ascii());
    });
}

async fn exchange(data: &[u8]) {
    let backend = Backend::start().await;
    let proxy = Rc::new(Proxy::with(&options(), &objects(backend.address())));
    let listener = socket::listen(([127, 0, 0, 1], 0).into()).expect("a listener");
    let listener = TcpListener::from_std(listener).expect("a listener");

    let client = connect(&listener, &proxy).await;
    let received = converse(client, data, &backend).await;
    // Whoever has read too much or too little of the connection to the backend loses this one.
    let mut client = connect(&listener, &proxy).await;
    client.write_all(PROBE).await.expect("the probe is sent");
    let mut answer = Vec::new();
    let _may_be_reset = client.read_to_end(&mut answer).await;
    let told = || data.escape_ascii();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}\n{}", answer.escape_ascii(), told());
    assert_eq!(seen(&answer), ["GET /probe"], "{}\n{}", answer.escape_ascii(), told());

    let read = backend.take();
    assert!(read.malformed.is_empty(), "{:?}\n{}", read.malformed, told());
    // Each request that the backend has read is one that the proxy has counted, and what it has counted
    // as answered has been read.
    let metrics = proxy.metrics();
    let counted = requests(&metrics, &["backend_name=\"svc\""]);
    let answered = requests(&metrics, &["backend_name=\"svc\"", "reason=\"\""]);
    let whole = read.whole.len();
    assert!(whole <= counted, "{counted} were counted, {:?} read\n{}", read.whole, told());
    assert!(answered <= whole, "{answered} were answered, {:?} read\n{}", read.whole, told());
    if !data.starts_with(b"PRI * HTTP/2") {
        // In order, on one connection: the answers are to what has been read.
        let answers = seen(&received);
        assert_eq!(answers, read.whole[..answers.len().min(whole)], "{}", told());
        assert_eq!(answers.len() + 1, answered, "{}\n{}", received.escape_ascii(), told());
    }
}

/// A connection to the Service, as one that was redirected.
async fn connect(listener: &TcpListener, proxy: &Rc<Proxy>) -> TcpStream {
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (client, (stream, from)) = (client.expect("connected"), accepted.expect("accepted"));
    // Closed at the end without a rest, of which there would be many.
    client.set_zero_linger().expect("an option");
    let proxy = proxy.clone();
    tokio::task::spawn_local(async move {
        let _its_end = proxy.serve(stream, from, SERVICE.into()).await;
    });
    client
}

/// Sends the bytes, and reads until the proxy closes. When nothing more comes for anybody, the client
/// closes its side.
async fn converse(mut client: TcpStream, data: &[u8], backend: &Backend) -> Vec<u8> {
    // In pieces, heads and chunks are read across their ends.
    let piece = if data.len().is_multiple_of(2) { data.len().max(1) } else { PIECE };
    for part in data.chunks(piece) {
        // What is refused early may be reset while the rest is being sent.
        if client.write_all(part).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut received = Vec::new();
    let (mut quiet, mut seen) = (0, 0);
    while quiet < QUIET_TURNS {
        match client.try_read_buf(&mut received) {
            Ok(0) => return received,
            Ok(_) => quiet = 0,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => quiet += 1,
            Err(_) => return received,
        }
        if seen != backend.bytes() {
            (quiet, seen) = (0, backend.bytes());
        }
        tokio::task::yield_now().await;
    }
    if client.shutdown().await.is_ok() {
        let _may_be_reset = client.read_to_end(&mut received).await;
    }
    received
}

/// What the backend's answers say of the requests that they are for.
fn seen(answers: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answers);
    let lines = text.lines().filter_map(|line| line.strip_prefix(backend::SEEN));
    lines.map(|line| line.trim_start_matches(": ").to_owned()).collect()
}

/// The sum of the requests that were counted with all of these labels.
fn requests(metrics: &str, labels: &[&str]) -> usize {
    metrics
        .lines()
        .filter(|line| line.starts_with("weft_route_requests_total{"))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
        .sum()
}

fn options() -> Config {
    thread_local! {
        static OPTIONS: Config = Config::parse_from(
            ["weft-proxy", "--namespace", "default", "--header-timeout-seconds", HEADER_TIMEOUT],
        );
    }
    OPTIONS.with(Clone::clone)
}

/// A Service for HTTP with a route: a rewrite, headers, and what has no match.
fn objects(backend: SocketAddr) -> Objects {
    let name = json!({ "namespace": "default", "name": "svc" });
    let documents = [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {
                "clusterIP": SocketAddr::from(SERVICE).ip(),
                "ports": [{ "name": "http", "port": SERVICE.1 }],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "default",
                "name": "svc-1",
                "labels": { "kubernetes.io/service-name": "svc" },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": backend.port() }],
            "endpoints": [{ "addresses": [backend.ip()] }],
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": name,
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "svc" }],
                "rules": [
                    {
                        "matches": [{ "path": { "value": "/moved" } }],
                        "filters": [{
                            "type": "RequestRedirect",
                            "requestRedirect": {
                                "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/to" },
                            },
                        }],
                    },
                    {
                        "matches": [{ "path": { "value": "/old" } }, { "method": "PUT" }],
                        "filters": [{
                            "type": "RequestHeaderModifier",
                            "requestHeaderModifier": {
                                "set": [{ "name": "x-set", "value": "1" }],
                                "add": [{ "name": "x-add", "value": "1" }],
                                "remove": ["x-remove"],
                            },
                        }],
                        "backendRefs": [{ "name": "svc", "port": SERVICE.1 }],
                    },
                    {
                        "matches": [{ "path": { "value": "/shared" } }],
                        "filters": [{ "type": "CORS", "cors": { "allowOrigins": ["*"] } }],
                        "backendRefs": [{ "name": "svc", "port": SERVICE.1 }],
                    },
                    { "backendRefs": [{ "name": "svc", "port": SERVICE.1 }] },
                ],
            },
        }),
    ];
    let mut objects = Objects::default();
    for document in documents {
        let decoded = decode(document);
        assert!(decoded.problems.is_empty(), "{:?}", decoded.problems);
        for object in decoded.objects {
            objects.insert(object);
        }
    }
    objects
}
