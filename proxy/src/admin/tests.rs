use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use futures_util::FutureExt;
use weft_gamma::object::Objects;

use super::*;
use crate::explain::offline::Offline;
use crate::metrics::MetricsSettings;

/// Both servers on ports of their own.
struct Servers {
    admin: SocketAddr,
    metrics: SocketAddr,
    readiness: Arc<Readiness>,
    drained: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
    /// The log's filter lives here.
    _log: Box<dyn std::any::Any>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn start() -> Servers {
    let (log, layer) = crate::log::test_handle("info");
    let drained = Arc::new(AtomicUsize::new(0));
    let drain = Arc::clone(&drained);
    let state = AdminState {
        metrics: Metrics::new(&MetricsSettings::default()),
        readiness: Arc::default(),
        log,
        config: Arc::new(|| serde_json::json!({"generation": 7})),
        explain: Arc::new(|question| {
            async move {
                match question.host() {
                    "away" => Err(Unexplained::Unavailable("nobody is there".into())),
                    _ => Offline::new(Objects::default(), Vec::new(), "default".into())
                        .explain(&question),
                }
            }
            .boxed()
        }),
        drain: Arc::new(move || {
            drain.fetch_add(1, Ordering::Relaxed);
        }),
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin = listen(any, "admin", "--admin-port").unwrap();
    let metrics = listen(any, "metrics", "--metrics-port").unwrap();
    Servers {
        admin: admin.local_addr().unwrap(),
        metrics: metrics.local_addr().unwrap(),
        readiness: Arc::clone(&state.readiness),
        drained,
        tasks: [
            tokio::spawn(serve_admin(admin, state.clone())),
            tokio::spawn(serve_metrics(metrics, state)),
        ],
        _log: Box::new(layer),
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    read.await.expect("no answer").unwrap();
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, method: &str, path: &str, extra: &str, body: &str) -> String {
    let length = body.len();
    exchange(
        address,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:15000\r\nContent-Length: {length}\r\n\
             {extra}\r\n{body}"
        ),
    )
    .await
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path, "", "").await
}

#[tokio::test]
async fn ready_once_listeners_and_source_are_there() {
    let servers = start().await;
    let answer = get(servers.metrics, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("listeners are not up") && answer.contains("source of routes"));
    servers.readiness.listeners_are_up();
    let answer = get(servers.metrics, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(!answer.contains("listeners") && answer.contains("source of routes"), "{answer}");
    servers.readiness.source_has_answered();
    let answer = get(servers.metrics, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ready\n"), "{answer}");
    assert!(get(servers.metrics, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for() {
    let servers = start().await;
    let plain = get(servers.metrics, "/metrics").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
    assert!(plain.contains("\nweft_table_generation 0\n"));
    assert!(plain.contains("cache-control: no-store"));
    let accept = "Accept: application/openmetrics-text\r\n";
    let open = ask(servers.metrics, "GET", "/metrics", accept, "").await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.ends_with("# EOF\n"));
    assert!(get(servers.admin, "/metrics").await.contains("\nweft_table_generation 0\n"));
    let head = ask(servers.metrics, "HEAD", "/metrics", "", "").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn the_configuration_is_shown() {
    let servers = start().await;
    let answer = get(servers.admin, "/config").await;
    assert!(answer.contains("content-type: application/json"), "{answer}");
    assert!(answer.ends_with("{\n  \"generation\": 7\n}\n"), "{answer}");
    let list = get(servers.admin, "/").await;
    for path in ["/config", "/log-level", "/drain", "/metrics"] {
        assert!(list.contains(path), "{list}");
    }
}

#[tokio::test]
async fn the_log_level_is_shown_and_changed() {
    let servers = start().await;
    assert!(get(servers.admin, "/log-level").await.ends_with("\r\n\r\ninfo\n"));
    let answer = ask(servers.admin, "PUT", "/log-level", "", "warn,weft_proxy=debug\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(get(servers.admin, "/log-level").await.ends_with("\r\n\r\nweft_proxy=debug,warn\n"));
    let answer = ask(servers.admin, "PUT", "/log-level", "", "loud").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("is no log level"), "{answer}");
    let answer = ask(servers.admin, "PUT", "/log-level", "", &"x".repeat(200_000)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(get(servers.admin, "/log-level").await.ends_with("\r\n\r\nweft_proxy=debug,warn\n"));
}

/// The answers are tested where they are made.
#[tokio::test]
async fn questions_are_answered_with_a_status_that_says_whose_turn_it_is() {
    let servers = start().await;
    for (body, expected, message) in [
        ("{\"request\": [\"http://a/\"]}", 422, "there is no Service default/a"),
        ("{\"request\": [\"http://away/\"]}", 503, "nobody is there"),
        ("{\"request\": [\"ftp://a/\"]}", 400, "write it as in http://"),
        ("{\"request\": [\"http://a/\"], \"header\": []}", 400, "unknown field `header`"),
        ("GET http://a/", 400, "the body is not a question in JSON"),
    ] {
        let answer = ask(servers.admin, "POST", "/explain", "", body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{body}: {answer}");
        assert!(answer.contains(message), "{body}: {answer}");
    }
    assert!(get(servers.admin, "/explain").await.contains("allow: POST\r\n"));
}

#[tokio::test]
async fn draining_needs_a_post() {
    let servers = start().await;
    let answer = get(servers.admin, "/drain").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    assert_eq!(servers.drained.load(Ordering::Relaxed), 0);
    let answer = ask(servers.admin, "POST", "/drain", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(servers.drained.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let servers = start().await;
    let answer = get(servers.metrics, "/config").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("/readyz"), "{answer}");
    let answer = get(servers.admin, "/nothing").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("/log-level"), "{answer}");
    let answer = ask(servers.admin, "DELETE", "/log-level", "", "").await;
    assert!(answer.contains("allow: GET, HEAD, PUT\r\n"), "{answer}");
    let answer = ask(servers.metrics, "POST", "/metrics", "", "").await;
    assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
}

#[tokio::test]
async fn the_admin_port_answers_local_names_only() {
    let servers = start().await;
    for (host, expected) in [
        ("localhost", 200),
        ("LOCALHOST:15000", 200),
        ("127.0.0.1:15000", 200),
        ("127.0.0.1", 200),
        ("[::1]:15000", 200),
        ("[::1]", 200),
        ("rebound.example", 403),
        ("rebound.example:15000", 403),
        ("localhost.example", 403),
        ("127.0.0.1.example:15000", 403),
        ("localhost:15000.example", 403),
        ("", 403),
    ] {
        let request = format!("GET /config HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = exchange(servers.admin, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
    }
    let absent = exchange(servers.admin, "GET /config HTTP/1.0\r\n\r\n").await;
    assert!(absent.starts_with("HTTP/1.0 200 "), "{absent}");
    let two = "GET /config HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n";
    assert!(exchange(servers.admin, two).await.starts_with("HTTP/1.1 403 "));
    let absolute = "GET http://rebound.example/config HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(exchange(servers.admin, absolute).await.starts_with("HTTP/1.1 403 "));
    // The metrics port is for the cluster, under whatever name.
    let request = "GET /livez HTTP/1.1\r\nHost: pod.example\r\n\r\n";
    assert!(exchange(servers.metrics, request).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn web_pages_cannot_change_anything() {
    let servers = start().await;
    let origin = "Origin: http://page.example\r\n";
    let answer = ask(servers.admin, "POST", "/drain", origin, "").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(servers.drained.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn big_heads_are_refused() {
    let servers = start().await;
    let extra: String = (0..200).map(|index| format!("x-{index}: y\r\n")).collect();
    let answer = ask(servers.metrics, "GET", "/livez", &extra, "").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(get(servers.metrics, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn slow_heads_are_given_up() {
    let servers = start().await;
    let begun = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(servers.metrics).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn idle_connections_do_not_lock_scrapes_out() {
    let servers = start().await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(servers.metrics).await.unwrap());
    }
    assert!(get(servers.metrics, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_metrics_port_has_both_families() {
    let listener = listen_on_all(0, "metrics", "--metrics-port").unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if listener.local_addr().unwrap().is_ipv6() {
        TcpStream::connect(("::1", port)).await.unwrap();
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = listen(SocketAddr::from(([127, 0, 0, 1], 0)), "admin", "--admin-port").unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen(address, "admin", "--admin-port").unwrap_err().to_string();
    let port = address.port();
    for part in [
        format!("cannot listen on 127.0.0.1:{port} for admin"),
        "--admin-port or WEFT_ADMIN_PORT".into(),
    ] {
        assert!(error.contains(&part), "{error}");
    }
    let both = listen_on_all(port, "metrics", "--metrics-port").unwrap_err().to_string();
    assert!(both.contains(&format!("another process of the pod has port {port}")), "{both}");
}
