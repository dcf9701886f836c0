use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::metrics::MetricsSettings;

fn record() -> AccessRecord<'static> {
    AccessRecord {
        time: UNIX_EPOCH + Duration::from_millis(1_709_210_096_007),
        method: "GET",
        path: "/reviews/1?full=yes",
        host: "reviews:9080",
        protocol: "HTTP/1.1",
        client: Some("10.0.0.5:41234".parse().unwrap()),
        destination: Some("[fd00::1]:9080".parse().unwrap()),
        parent_namespace: "default",
        parent_name: "reviews",
        parent_port: 9080,
        route_kind: "HTTPRoute",
        route_namespace: "default",
        route_name: "reviews-jason",
        rule: "0",
        rule_name: "jason",
        backend_namespace: "default",
        backend_name: "reviews-v2",
        backend_port: "9080",
        endpoint: Some("10.0.1.7:9080".parse().unwrap()),
        retries: 2,
        status: 200,
        grpc_status: None,
        reason: "",
        duration: Duration::from_micros(1234),
        request_bytes: 0,
        response_bytes: 512,
        request_id: "",
    }
}

/// What is left of a request to a destination that nothing is known of.
fn bare() -> AccessRecord<'static> {
    AccessRecord {
        host: "",
        client: None,
        destination: None,
        parent_namespace: "",
        parent_name: "",
        route_kind: "none",
        route_namespace: "",
        route_name: "",
        rule: "",
        rule_name: "",
        backend_namespace: "",
        backend_name: "",
        backend_port: "",
        endpoint: None,
        retries: 0,
        grpc_status: Some(14),
        ..record()
    }
}

#[test]
fn text_lines() {
    assert_eq!(
        text_line(fields(&record())),
        "time=2024-02-29T12:34:56.007Z method=GET path=/reviews/1?full=yes host=reviews:9080 \
         protocol=HTTP/1.1 client=10.0.0.5:41234 destination=[fd00::1]:9080 \
         parent_namespace=default parent_name=reviews parent_port=9080 route_kind=HTTPRoute \
         route_namespace=default route_name=reviews-jason rule=0 rule_name=jason \
         backend_namespace=default backend_name=reviews-v2 backend_port=9080 \
         endpoint=10.0.1.7:9080 retries=2 status=200 \
         duration_ms=1.234 request_bytes=0 response_bytes=512\n"
    );
    assert_eq!(
        text_line(fields(&bare())),
        "time=2024-02-29T12:34:56.007Z method=GET path=/reviews/1?full=yes protocol=HTTP/1.1 \
         route_kind=none status=200 grpc_status=14 duration_ms=1.234 request_bytes=0 \
         response_bytes=512\n"
    );
}

#[test]
fn lines_of_connections() {
    let record = ConnectionRecord {
        time: record().time,
        protocol: "TLS",
        server_name: "a.example",
        client: "10.0.0.5:41234".parse().unwrap(),
        destination: "10.96.0.1:443".parse().unwrap(),
        parent_namespace: "default",
        parent_name: "secure",
        parent_port: 443,
        route_kind: "TLSRoute",
        route_namespace: "default",
        route_name: "by-name",
        rule: "0",
        rule_name: "canary",
        backend_namespace: "default",
        backend_name: "secure-v2",
        backend_port: "443",
        endpoint: Some("10.0.1.7:8443".parse().unwrap()),
        reason: "",
        duration: Duration::from_millis(1500),
        sent_bytes: 517,
        received_bytes: 4096,
    };
    let line = text_line(connection::fields(&record));
    assert_eq!(
        line,
        "time=2024-02-29T12:34:56.007Z protocol=TLS server_name=a.example client=10.0.0.5:41234 \
         destination=10.96.0.1:443 parent_namespace=default parent_name=secure parent_port=443 \
         route_kind=TLSRoute route_namespace=default route_name=by-name rule=0 rule_name=canary \
         backend_namespace=default backend_name=secure-v2 backend_port=443 endpoint=10.0.1.7:8443 \
         duration_ms=1500.000 sent_bytes=517 received_bytes=4096\n"
    );
    let refused = ConnectionRecord {
        protocol: "TCP",
        server_name: "",
        route_kind: "none",
        route_namespace: "",
        route_name: "",
        rule: "",
        rule_name: "",
        backend_namespace: "",
        backend_name: "",
        backend_port: "",
        endpoint: None,
        reason: "not_tls",
        sent_bytes: 0,
        received_bytes: 0,
        ..record
    };
    let json: serde_json::Value =
        serde_json::from_str(&json_line(connection::fields(&refused))).unwrap();
    let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(!names.contains(&"server_name") && !names.contains(&"status"), "{names:?}");
    assert_eq!((&json["protocol"], &json["reason"]), (&"TCP".into(), &"not_tls".into()));
}

#[test]
fn json_lines_have_the_same_names() {
    let json: serde_json::Value = serde_json::from_str(&json_line(fields(&record()))).unwrap();
    let text = text_line(fields(&record()));
    let names: Vec<&str> =
        text.split_whitespace().map(|pair| pair.split_once('=').unwrap().0).collect();
    assert_eq!(json.as_object().unwrap().len(), names.len());
    assert!(names.iter().all(|name| json.get(name).is_some()));
    assert_eq!(json["time"], "2024-02-29T12:34:56.007Z");
    assert_eq!((&json["status"], &json["duration_ms"]), (&200.into(), &1.234.into()));
    assert_eq!(json["endpoint"], "10.0.1.7:9080");
}

#[test]
fn what_a_client_sends_cannot_forge_a_line() {
    let path = "/a b\"\n2024 status=200 \u{7f}é\\";
    let record = AccessRecord { path, ..bare() };
    let text = text_line(fields(&record));
    assert_eq!(text.matches('\n').count(), 1);
    let quoted = text.split_once("path=").unwrap().1.split_once(" protocol=").unwrap().0;
    assert_eq!(serde_json::from_str::<String>(quoted).unwrap(), path);
    let json: serde_json::Value = serde_json::from_str(&json_line(fields(&record))).unwrap();
    assert_eq!(json["path"], path);
    assert_eq!(json_line(fields(&record)).matches('\n').count(), 1);
}

#[test]
fn long_texts_are_cut() {
    let path = "é".repeat(40_000);
    let record = AccessRecord { path: &path, ..bare() };
    for line in [text_line(fields(&record)), json_line(fields(&record))] {
        assert!(line.len() < 3000, "{}", line.len());
        assert!(line.contains("éé…"));
    }
}

#[test]
fn dates() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399, "2000-02-28T23:59:59.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_868_800, "2000-03-01T00:00:00.000Z"),
        (1_735_689_599, "2024-12-31T23:59:59.000Z"),
        (1_735_689_600, "2025-01-01T00:00:00.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    ] {
        let mut text = String::new();
        push_time(&mut text, UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(text, expected);
    }
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(&MetricsSettings::default())
}

fn dropped(metrics: &Arc<Metrics>) -> u64 {
    let text = metrics.encode();
    let line = text.lines().find(|line| line.starts_with("weft_access_log_dropped_total"));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

struct ToChannel(Sender<String>);

impl Write for ToChannel {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_are_written_in_order() {
    let (out, written) = channel();
    let metrics = metrics();
    let log = AccessLog::start_to(Box::new(ToChannel(out)), AccessLogFormat::Text, metrics.clone())
        .unwrap();
    assert!(log.is_on());
    for status in 0..1000 {
        log.write(&AccessRecord { status, ..record() });
    }
    log.flush(Duration::from_secs(20));
    let text: String = written.try_iter().collect();
    let statuses: Vec<u16> = text
        .lines()
        .map(|line| line.split_once("status=").unwrap().1.split(' ').next().unwrap())
        .map(|status| status.parse().unwrap())
        .collect();
    assert_eq!(statuses, (0..1000).collect::<Vec<_>>());
    assert_eq!(dropped(&metrics), 0);
}

#[test]
fn off_is_off() {
    let log = AccessLog::start(AccessLogFormat::Off, metrics()).unwrap();
    assert!(!log.is_on());
    log.write(&record());
    log.flush(Duration::from_secs(20));
}

/// Does not take anything until told so.
#[derive(Clone, Default)]
struct Stalled(Arc<(Mutex<bool>, Condvar)>);

impl Stalled {
    fn go_on(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let (goes_on, changed) = &*self.0;
        drop(changed.wait_while(goes_on.lock().unwrap(), |goes_on| !*goes_on).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_reader_costs_lines_and_no_time() {
    let (stalled, metrics) = (Stalled::default(), metrics());
    let log =
        AccessLog::start_to(Box::new(stalled.clone()), AccessLogFormat::Json, metrics.clone())
            .unwrap();
    for _ in 0..3 * MAX_QUEUED_LINES {
        log.write(&record());
    }
    let lost = dropped(&metrics);
    assert!(lost > 0, "nothing was dropped");
    log.flush(Duration::from_millis(1));
    stalled.go_on();
    log.flush(Duration::from_secs(20));
    assert_eq!(dropped(&metrics), lost);
    log.write(&record());
    log.flush(Duration::from_secs(20));
    assert_eq!(dropped(&metrics), lost, "there is room again");
}

#[test]
fn long_lines_do_not_fill_the_memory() {
    let (stalled, metrics) = (Stalled::default(), metrics());
    let log =
        AccessLog::start_to(Box::new(stalled.clone()), AccessLogFormat::Json, metrics.clone())
            .unwrap();
    let path = "x".repeat(60_000);
    for _ in 0..MAX_QUEUED_LINES / 2 {
        log.write(&AccessRecord { path: &path, ..record() });
    }
    let kept = MAX_QUEUED_LINES as u64 / 2 - dropped(&metrics);
    assert!(kept * 2048 <= (MAX_QUEUED_BYTES + 2 * BATCH_BYTES) as u64, "{kept}");
    stalled.go_on();
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_counted() {
    let metrics = metrics();
    let log =
        AccessLog::start_to(Box::new(Closed), AccessLogFormat::Text, metrics.clone()).unwrap();
    log.write(&record());
    log.flush(Duration::from_secs(20));
    assert_eq!(dropped(&metrics), 1);
}
