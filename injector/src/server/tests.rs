use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::client::conn::{http1, http2};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::certificate::{Generation, Keeper, bundle};
use crate::health::Readiness;
use crate::testing::{self, Cluster};

const START: u64 = 1_800_000_000;

/// The time of day that servers and clients of a test agree on.
#[derive(Clone, Debug)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(START)))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

/// The webhook on a port of its own.
struct Server {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), rustls::Error>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start(served: Served) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::default());
    let admissions = Arc::new(Admissions {
        settings: testing::settings(),
        service_cidrs: ServiceCidrs::fixed("10.96.0.0/12".parse().unwrap()),
        metrics: Arc::clone(&metrics),
    });
    let (end, ended) = oneshot::channel();
    let end_of_serving = async move {
        let _ = ended.await;
    };
    let drain = Duration::from_secs(5);
    let task = tokio::spawn(serve(listener, served, admissions, end_of_serving, drain));
    Server { address, metrics, end: Some(end), task }
}

/// A server with a certificate, and the CA that clients need.
async fn start_with_certificate() -> (Server, Vec<u8>) {
    let now = Clock::new().now();
    let host = testing::names().host();
    let generation = Generation::issue(1, &host, now, Duration::from_secs(3600)).unwrap();
    let served = Served::default();
    served.set(generation.certified_key.clone());
    (start(served).await, generation.ca_pem.into_bytes())
}

/// A TLS connection as an API server makes it: to the Service's name, trusting the bundle.
async fn connect(
    address: SocketAddr,
    bundle: &[u8],
    clock: &Clock,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for ca in bundle::authorities(bundle) {
        roots.add(ca).unwrap();
    }
    let provider = generation::provider();
    let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from(testing::names().host()).unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "demo",
            "operation": "CREATE",
            "object": {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web"}]}},
        },
    })
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/inject?timeout=10s")
        .header("host", "weft-injector.weft-system.svc")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// Sends requests over one connection of HTTP/1.1.
struct Client(http1::SendRequest<Full<Bytes>>);

impl Client {
    async fn new(address: SocketAddr, bundle: &[u8], clock: &Clock) -> Client {
        let stream = connect(address, bundle, clock, "http/1.1").await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client(sender)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value =
            serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
        (status, value)
    }

    async fn admits(&mut self) {
        let (status, answer) = self.send(post(review().to_string())).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
    }
}

#[tokio::test]
async fn answers_over_both_versions_of_http() {
    let (server, ca) = start_with_certificate().await;
    let clock = Clock::new();
    Client::new(server.address, &ca, &clock).await.admits().await;

    let stream = connect(server.address, &ca, &clock, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = post(review().to_string());
    *request.uri_mut() = "https://weft-injector.weft-system.svc/inject".parse().unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    let text = server.metrics.encode();
    let counted =
        "weft_injector_admissions_total{result=\"injected\",reason=\"\",dry_run=\"false\"} 2";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn each_refusal() {
    let (server, ca) = start_with_certificate().await;
    let clock = Clock::new();
    let mut client = Client::new(server.address, &ca, &clock).await;

    let mut form = post("{}");
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    form.headers_mut().insert(CONTENT_TYPE, form_type);
    let (status, answer) = client.send(form).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("the content type is application/x-www-form-urlencoded"));

    let mut untyped = post("{}");
    untyped.headers_mut().remove(CONTENT_TYPE);
    let (status, answer) = client.send(untyped).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(answer.to_string().contains("the content type is absent"));

    let mut typed = post(review().to_string());
    let with_charset = HeaderValue::from_static("Application/JSON; charset=utf-8");
    typed.headers_mut().insert(CONTENT_TYPE, with_charset);
    assert_eq!(client.send(typed).await.0, StatusCode::OK);

    let (status, _) = client.send(post("no JSON")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let get = Request::get("/inject").body(Full::default()).unwrap();
    assert_eq!(client.send(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let elsewhere = Request::post("/").body(Full::default()).unwrap();
    assert_eq!(client.send(elsewhere).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_namespaces_standard_is_told_by_the_path() {
    let (server, ca) = start_with_certificate().await;
    let mut client = Client::new(server.address, &ca, &Clock::new()).await;
    let mut request = post(review().to_string());
    *request.uri_mut() = "/inject/forbidden?timeout=10s".parse().unwrap();
    let (status, answer) = client.send(request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("weft-injector: namespace demo enforces"), "{message}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (server, ca) = start_with_certificate().await;
    let clock = Clock::new();
    let mut stream = connect(server.address, &ca, &clock, "http/1.1").await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let head = "POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                connection: close\r\ncontent-length: 9000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("the body is larger than 8 MiB"), "{answer}");

    // Without a length: known once it has come.
    let mut client = Client::new(server.address, &ca, &clock).await;
    client.send(post(" ".repeat(8 * 1024 * 1024))).await;
    let mut stream = connect(server.address, &ca, &clock, "http/1.1").await.unwrap();
    let head = "POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    for _ in 0..9 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn without_a_certificate_there_is_no_connection() {
    let server = start(Served::default()).await;
    assert!(connect(server.address, b"", &Clock::new(), "h2").await.is_err());
    let failures = "weft_injector_tls_handshake_failures_total 1";
    for _ in 0..1000 {
        if server.metrics.encode().contains(failures) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the failure was not counted");
}

#[tokio::test]
async fn ends_when_the_last_connection_has() {
    let (mut server, ca) = start_with_certificate().await;
    let clock = Clock::new();
    let mut client = Client::new(server.address, &ca, &clock).await;
    client.admits().await;
    server.end.take().unwrap().send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(4), &mut server.task).await;
    ended.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// Two replicas live through two rotations. API servers with the newest bundle and ones that are
/// behind by half a minute connect all the while, and a connection from the beginning stays open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotates_under_load_without_a_failed_handshake() {
    const VALIDITY: u64 = 1200;
    const STEP: u64 = 30;
    let clock = Clock::new();
    let cluster = Cluster::with_webhooks(&["namespace.weft.mesh"]);
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let served = Served::default();
        let mut keeper = Keeper::new(
            cluster.client(),
            testing::names(),
            Duration::from_secs(VALIDITY),
            served.clone(),
            Readiness::default(),
            Arc::new(Metrics::default()),
        );
        keeper.look(clock.now()).await.unwrap();
        replicas.push((keeper, served.clone(), start(served).await));
    }
    let mut first = Client::new(replicas[0].2.address, &cluster.bundle(0), &clock).await;

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<JoinHandle<u32>> = replicas
        .iter()
        .map(|(_, _, server)| {
            let (address, cluster) = (server.address, cluster.clone());
            let (clock, stop) = (clock.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let bundle = cluster.bundle(0);
                    Client::new(address, &bundle, &clock).await.admits().await;
                    number += 1;
                }
                number
            })
        })
        .collect();

    let mut certificates = Vec::new();
    let mut stale = cluster.bundle(0);
    for _ in 0..2 * VALIDITY / STEP {
        clock.advance(STEP);
        for (keeper, served, server) in &mut replicas {
            keeper.look(clock.now()).await.unwrap();
            for bundle in [&stale, &cluster.bundle(0)] {
                Client::new(server.address, bundle, &clock).await.admits().await;
            }
            let certificate = served.current().unwrap().cert.clone();
            if !certificates.contains(&certificate) {
                certificates.push(certificate);
            }
        }
        stale = cluster.bundle(0);
        first.admits().await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    assert!(certificates.len() >= 3, "{} certificates", certificates.len());
    for (_, _, server) in &replicas {
        let text = server.metrics.encode();
        assert!(text.contains("weft_injector_tls_handshake_failures_total 0"), "{text}");
    }
}
