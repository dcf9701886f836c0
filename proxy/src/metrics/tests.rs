use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Samples by name and labels as they are written, `name{labels}`.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let before = samples.insert(series.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{series} is written twice");
    }
    samples
}

fn new(max_series: usize) -> Arc<Metrics> {
    Metrics::new(&MetricsSettings { max_series, ..MetricsSettings::default() })
}

fn reviews(rule: usize, backend: &str) -> RouteLabels {
    RouteLabels {
        parent_namespace: "default".into(),
        parent_name: "reviews".into(),
        parent_port: 9080,
        route_kind: "HTTPRoute",
        route_namespace: "default".into(),
        route_name: "reviews-jason".into(),
        rule: rule.to_string(),
        rule_name: "canary".into(),
        backend_namespace: "default".into(),
        backend_name: backend.into(),
        backend_port: "9080".into(),
    }
}

fn mysql() -> RouteLabels {
    RouteLabels {
        parent_namespace: "db".into(),
        parent_name: "mysql".into(),
        parent_port: 3306,
        route_kind: "TCPRoute",
        route_namespace: "db".into(),
        route_name: "primary".into(),
        rule: "0".into(),
        rule_name: "all".into(),
        backend_namespace: "db".into(),
        backend_name: "mysql".into(),
        backend_port: "3306".into(),
    }
}

fn ok() -> Outcome {
    Outcome { status: 200, grpc_status: None, reason: "" }
}

const REVIEWS: &str = "parent_namespace=\"default\",parent_name=\"reviews\",parent_port=\"9080\",\
                       route_kind=\"HTTPRoute\",route_namespace=\"default\",\
                       route_name=\"reviews-jason\",rule=\"0\",rule_name=\"canary\",\
                       backend_namespace=\"default\",backend_name=\"reviews-v2\",\
                       backend_port=\"9080\"";

#[test]
fn requests_are_counted_by_outcome_and_duration() {
    let metrics = new(10);
    let series = metrics.route(reviews(0, "reviews-v2"));
    series.record(ok(), Duration::from_micros(500));
    series.record(ok(), Duration::from_micros(501));
    series.record(
        Outcome { status: 200, grpc_status: Some(14), reason: "connect" },
        Duration::from_secs(61),
    );
    series.retried(RetryOutcome::Failure);
    series.retried(RetryOutcome::Success);
    series.retried(RetryOutcome::Success);
    metrics.set_weights(vec![
        (reviews(0, "reviews-v2"), 0.5),
        (reviews(0, "reviews-v3"), 0.25),
        (reviews(0, "reviews-v2"), 0.25),
    ]);

    let samples = samples(&metrics.encode());
    let requests = |rest: &str| samples[&format!("weft_route_requests_total{{{REVIEWS},{rest}}}")];
    assert_eq!(requests("status=\"200\",grpc_status=\"\",reason=\"\""), 2.0);
    assert_eq!(requests("status=\"200\",grpc_status=\"14\",reason=\"connect\""), 1.0);
    let retries = |outcome: &str| {
        samples[&format!("weft_route_retries_total{{{REVIEWS},outcome=\"{outcome}\"}}")]
    };
    assert_eq!((retries("success"), retries("failure")), (2.0, 1.0));
    assert_eq!(samples[&format!("weft_route_backend_weight_ratio{{{REVIEWS}}}")], 0.75);

    let duration = |name: &str| samples[&format!("weft_route_request_duration_seconds{name}")];
    let bucket = |le: &str| duration(&format!("_bucket{{le=\"{le}\",{REVIEWS}}}"));
    // A bound is of its bucket.
    assert_eq!((bucket("0.0005"), bucket("0.001"), bucket("60.0")), (1.0, 2.0, 2.0));
    assert_eq!((bucket("+Inf"), duration(&format!("_count{{{REVIEWS}}}"))), (3.0, 3.0));
    let sum = duration(&format!("_sum{{{REVIEWS}}}"));
    assert!((sum - 61.001_001).abs() < 1e-9, "{sum}");
}

#[test]
fn opaque_connections_are_counted() {
    let metrics = new(10);
    let series = metrics.tcp(mysql());
    series.opened();
    series.opened();
    series.closed(Duration::from_secs(2), 10, 2000, "");
    let samples = samples(&metrics.encode());
    let labels = "parent_namespace=\"db\",parent_name=\"mysql\",parent_port=\"3306\",\
                  route_kind=\"TCPRoute\",route_namespace=\"db\",route_name=\"primary\",\
                  rule=\"0\",rule_name=\"all\",backend_namespace=\"db\",backend_name=\"mysql\",backend_port=\"3306\"";
    let value = |name: &str| samples[&format!("weft_tcp_{name}{{{labels}}}")];
    assert_eq!(samples[&format!("weft_tcp_connections_total{{{labels},reason=\"\"}}")], 1.0);
    assert_eq!(value("open_connections"), 1.0);
    assert_eq!((value("sent_bytes_total"), value("received_bytes_total")), (10.0, 2000.0));
    assert_eq!(value("connection_duration_seconds_sum"), 2.0);
}

#[test]
fn mirrors_are_counted_by_outcome_and_bounded_and_let_go() {
    let metrics = new(1);
    let mirror = metrics.mirror(reviews(0, "reviews-v2"));
    assert!(Arc::ptr_eq(&mirror, &metrics.mirror(reviews(0, "reviews-v2"))));
    mirror.ended("completed");
    mirror.ended("completed");
    mirror.ended("fell_behind");
    metrics.mirror(reviews(1, "reviews-v2")).ended("completed");
    let text = metrics.encode();
    let counted = |labels: &str| samples(&text)[&format!("weft_route_mirrors_total{{{labels}}}")];
    assert_eq!(counted(&format!("{REVIEWS},outcome=\"completed\"")), 2.0);
    assert_eq!(counted(&format!("{REVIEWS},outcome=\"fell_behind\"")), 1.0);
    assert!(text.contains("backend_port=\"other\",outcome=\"completed\"} 1\n"), "{text}");
    drop(mirror);
    let later = |minutes: u64| Instant::now() + Duration::from_secs(minutes * 60);
    assert_eq!((metrics.sweep(later(1)), metrics.sweep(later(17))), (0, 1));
}

#[test]
fn the_same_labels_are_the_same_series() {
    let metrics = new(10);
    let first = metrics.route(reviews(0, "reviews-v2"));
    assert!(Arc::ptr_eq(&first, &metrics.route(reviews(0, "reviews-v2"))));
    assert!(!Arc::ptr_eq(&first, &metrics.route(reviews(1, "reviews-v2"))));
}

#[test]
fn what_is_beyond_the_limit_is_other() {
    let metrics = new(2);
    for rule in 0..5 {
        metrics.route(reviews(rule, "reviews-v2")).record(ok(), Duration::from_millis(1));
        metrics.tcp(RouteLabels { parent_port: 1 + rule as u16, ..mysql() }).opened();
    }
    let text = metrics.encode();
    let samples = samples(&text);
    let requests: Vec<_> =
        samples.iter().filter(|(name, _)| name.starts_with("weft_route_requests_total")).collect();
    assert_eq!(requests.len(), 3);
    let other = "weft_route_requests_total{parent_namespace=\"other\",parent_name=\"other\",\
                 parent_port=\"other\",route_kind=\"other\",route_namespace=\"other\",\
                 route_name=\"other\",rule=\"other\",rule_name=\"other\",\
                 backend_namespace=\"other\",backend_name=\"other\",backend_port=\"other\",\
                 status=\"200\",grpc_status=\"\",reason=\"\"}";
    assert_eq!(samples[other], 3.0);
    assert_eq!(samples["weft_metrics_series_overflows_total"], 3.0);
    let open: Vec<_> =
        samples.iter().filter(|(name, _)| name.starts_with("weft_tcp_open")).collect();
    assert_eq!(open.iter().map(|(_, value)| **value).collect::<Vec<_>>(), [1.0, 1.0, 3.0]);
}

#[test]
fn more_outcomes_than_slots_are_other() {
    let metrics = new(2);
    let series = metrics.route(reviews(0, "reviews-v2"));
    for status in 200..240 {
        let outcome = Outcome { status, grpc_status: None, reason: "" };
        series.record(outcome, Duration::from_millis(1));
    }
    let samples = samples(&metrics.encode());
    let requests = |status: &str, rest: &str| {
        samples.get(&format!("weft_route_requests_total{{{REVIEWS},status=\"{status}\",{rest}}}"))
    };
    assert_eq!(requests("223", "grpc_status=\"\",reason=\"\""), Some(&1.0));
    assert_eq!(requests("224", "grpc_status=\"\",reason=\"\""), None);
    assert_eq!(requests("other", "grpc_status=\"other\",reason=\"other\""), Some(&16.0));
}

#[test]
fn idle_series_that_nobody_holds_are_let_go() {
    let metrics = new(10);
    let minutes = |minutes: u64| Instant::now() + Duration::from_secs(minutes * 60);
    let held = metrics.route(reviews(0, "reviews-v2"));
    let given_up = metrics.route(reviews(1, "reviews-v2"));
    given_up.record(ok(), Duration::from_millis(1));
    drop(given_up);
    let tcp = metrics.tcp(mysql());
    tcp.opened();
    tcp.closed(Duration::from_secs(1), 1, 1, "");

    assert_eq!(metrics.sweep(minutes(1)), 0, "all of them changed since the start");
    assert_eq!(metrics.sweep(minutes(14)), 0);
    // A table that comes back within the time goes on counting where it stopped.
    metrics.route(reviews(1, "reviews-v2")).record(ok(), Duration::from_millis(1));
    assert_eq!(metrics.sweep(minutes(17)), 0, "changed since");
    assert_eq!(metrics.sweep(minutes(33)), 1, "and idle for long");
    assert!(!metrics.encode().contains("rule=\"1\""));
    drop(tcp);
    assert_eq!(metrics.sweep(minutes(47)), 0, "held until just now");
    assert_eq!(metrics.sweep(minutes(49)), 1);
    assert!(Arc::ptr_eq(&held, &metrics.route(reviews(0, "reviews-v2"))), "still held");
    drop(held);
    assert_eq!(metrics.sweep(minutes(100)), 1);
}

#[test]
fn series_that_were_never_used_go_with_whoever_held_them() {
    let metrics = new(10);
    let held = metrics.route(reviews(0, "reviews-v2"));
    let used = metrics.tcp(mysql());
    used.opened();
    drop(used);
    drop(metrics.route(reviews(1, "reviews-v2")));
    drop(metrics.tcp(RouteLabels { parent_port: 1, ..mysql() }));
    drop(metrics.mirror(reviews(0, "reviews-v2")));
    assert_eq!(metrics.sweep(Instant::now()), 3);
    assert_eq!(samples(&metrics.encode())["weft_metrics_series"], 1.0, "of routes");
    drop(held);
    assert_eq!(metrics.sweep(Instant::now()), 1);
}

#[test]
fn workers_count_at_once() {
    let metrics = new(10);
    const EACH: u64 = 20_000;
    std::thread::scope(|scope| {
        for worker in 0..4u16 {
            let series = metrics.route(reviews(0, "reviews-v2"));
            scope.spawn(move || {
                for request in 0..EACH {
                    // Each worker meets the outcomes in another order.
                    let status = 200 + (request as u16 + worker * 7) % 30;
                    let outcome = Outcome { status, grpc_status: None, reason: "" };
                    series.record(outcome, Duration::from_micros(request));
                }
            });
        }
        // Scrapes meanwhile are consistent in themselves.
        for _ in 0..20 {
            let samples = samples(&metrics.encode());
            let name = "weft_route_request_duration_seconds";
            let count = samples.get(&format!("{name}_count{{{REVIEWS}}}"));
            let all = samples.get(&format!("{name}_bucket{{le=\"+Inf\",{REVIEWS}}}"));
            assert_eq!(count, all);
        }
    });
    let samples = samples(&metrics.encode());
    let requests = samples.iter().filter(|(name, _)| name.starts_with("weft_route_requests_total"));
    assert_eq!(requests.map(|(_, value)| value).sum::<f64>(), (4 * EACH) as f64);
}

#[test]
fn labels_are_escaped() {
    let metrics = new(10);
    let labels = RouteLabels { rule_name: "a\"b\\c\nd".into(), ..reviews(0, "reviews-v2") };
    metrics.route(labels).record(ok(), Duration::from_millis(1));
    assert!(metrics.encode().contains(r#"rule_name="a\"b\\c\nd""#));
}

#[test]
fn the_rest_is_there() {
    let metrics = new(10);
    metrics.table_published(7, Duration::from_micros(1500), 3, 4, 1);
    metrics.source().set_connected(true);
    metrics.source().synced(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250));
    metrics.source().relisted();
    metrics.source().failed();
    metrics.source().set_problems(2);
    metrics.connections().opened();
    metrics.connections().opened();
    metrics.connections().closed();
    metrics.connections().detected("http1");
    metrics.connections().loop_refused();
    metrics.connections().accept_failed();
    metrics.access_log_dropped(5);
    let samples = samples(&metrics.encode());
    for (name, value) in [
        ("weft_table_generation", 7.0),
        ("weft_table_publishes_total", 1.0),
        ("weft_table_last_compile_duration_seconds", 0.0015),
        ("weft_table_routes", 3.0),
        ("weft_table_destinations", 4.0),
        ("weft_table_problems", 1.0),
        ("weft_source_connected", 1.0),
        ("weft_source_last_sync_timestamp_seconds", 1_700_000_000.25),
        ("weft_source_relists_total", 1.0),
        ("weft_source_errors_total", 1.0),
        ("weft_source_problems", 2.0),
        ("weft_outbound_connections_total{protocol=\"http1\"}", 1.0),
        ("weft_outbound_open_connections", 1.0),
        ("weft_outbound_loops_refused_total", 1.0),
        ("weft_outbound_accept_errors_total", 1.0),
        ("weft_access_log_dropped_total", 5.0),
        (concat!("weft_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    assert!(samples["weft_process_resident_memory_bytes"] > 1e6);
    assert!(samples["weft_process_open_fds"] >= 3.0);
    assert!(samples["weft_process_max_fds"] >= samples["weft_process_open_fds"]);
    assert!(samples["weft_process_cpu_seconds_total"] >= 0.0);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
        - samples["weft_process_start_time_seconds"];
    assert!((-1.0..600.0).contains(&age), "{age}");
}

#[test]
fn odd_buckets_are_left_out() {
    let buckets = vec![-1.0, 0.0, 0.1, 0.1, 0.05, f64::NAN, 1.0, f64::INFINITY];
    let metrics = Metrics::new(&MetricsSettings { buckets, ..MetricsSettings::default() });
    metrics.route(reviews(0, "reviews-v2")).record(ok(), Duration::from_millis(1));
    let text = metrics.encode();
    let bounds: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("_bucket{le=\"")?.1.split_once('"'))
        .map(|(bound, _)| bound)
        .collect();
    assert_eq!(bounds, ["0.1", "1.0", "+Inf"]);
}

#[test]
fn scrapers_get_the_format_they_ask_for() {
    for (accept, format) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain;version=0.0.4", Format::Text),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("application/openmetrics-text;q=0", Format::Text),
        ("text/plain, application/openmetrics-text;q=0.5", Format::Text),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        ),
    ] {
        assert_eq!(Format::negotiate(accept), format, "{accept}");
    }
}

fn everything() -> Arc<Metrics> {
    let metrics = new(1);
    for rule in 0..2 {
        let series = metrics.route(reviews(rule, "reviews-v2"));
        series.record(ok(), Duration::from_millis(1));
        series.retried(RetryOutcome::OverBudget);
    }
    metrics.mirror(reviews(0, "reviews-v3")).ended("completed");
    let tcp = metrics.tcp(mysql());
    tcp.opened();
    tcp.opened();
    tcp.closed(Duration::from_secs(2), 10, 2000, "reset");
    metrics.set_weights(vec![(reviews(0, "reviews-v2"), 1.0)]);
    metrics.connections().detected("http1");
    metrics.table_published(1, Duration::from_millis(1), 1, 1, 0);
    metrics
}

#[test]
fn every_family_says_what_it_is() {
    let text = everything().encode();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} ")), "{family}");
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
    }
    let open_metrics = everything().encode_as(Format::OpenMetrics);
    assert!(open_metrics.ends_with("# EOF\n"));
    assert!(
        open_metrics.contains("# TYPE weft_route_requests counter\nweft_route_requests_total{")
    );
}

/// Prometheus' own opinion, where it is installed.
#[test]
fn promtool_has_nothing_to_complain_about() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("promtool is not installed (Debian: prometheus): its check is left out");
        return;
    };
    promtool.stdin.take().unwrap().write_all(everything().encode().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
