//! Writes all metrics for a scrape, by prometheus-client's encoder.
//!
//! Prometheus' own text format and OpenMetrics differ in little, but a checker of the one rejects
//! the other: OpenMetrics names a counter's family without the `_total` of its samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabel, EncodeLabelSet,
    EncodeLabelValue, LabelSetEncoder, LabelValueEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;

use super::series::Histogram;
use super::{Metrics, Outcome, RetryOutcome, RouteLabels, Series, TcpSeries, lock, process};

/// The formats in which metrics can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, for whoever does not ask for another.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for.
    pub fn negotiate(accept: &str) -> Format {
        let quality = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media_type = parts.next()?;
                let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
                media_type.eq_ignore_ascii_case(wanted).then_some(quality.unwrap_or(1.0))
            });
            ranges.fold(0.0, f64::max)
        };
        let open_metrics = quality("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= quality("text/plain") {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    /// The value of `Content-Type` for it.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn encode(metrics: &Arc<Metrics>, format: Format) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(Scrape { metrics: Arc::clone(metrics), format }));
    let mut out = String::new();
    let written = match format {
        Format::Text => text::encode_registry(&mut out, &registry),
        Format::OpenMetrics => text::encode(&mut out, &registry),
    };
    if written.is_err() {
        // Writing to a string does not fail, and no value here is one that cannot be encoded.
        tracing::error!("metrics could not be encoded");
    }
    out
}

#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    format: Format,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> std::fmt::Result {
        let mut families = Families { encoder, format: self.format };
        let metrics = self.metrics.as_ref();
        routes(&mut families, metrics)?;
        mirrors(&mut families, metrics)?;
        tcp(&mut families, metrics)?;
        connections(&mut families, metrics)?;
        source(&mut families, metrics)?;
        table(&mut families, metrics)?;
        sidecar(&mut families, metrics)
    }
}

fn routes(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    let (mut series, other, held, overflows) = {
        let registry = lock(&metrics.routes);
        (registry.snapshot(), registry.other(), registry.len(), registry.overflows())
    };
    series.push((other_route(), other));
    // A rule that has seen no request yet costs a scrape nothing.
    series.retain(|(_, series)| series.requests().total() > 0);

    families.counter(
        "weft_route_requests",
        "Requests by the rule that matched and the backend it chose, by how they ended.",
        series.iter().flat_map(|(labels, series)| request_counts(labels, series)),
    )?;
    families.histogram(
        "weft_route_request_duration_seconds",
        "Time from a request's head to the last byte of its response.",
        series.iter().map(|(labels, series)| (RouteSet(labels), &series.durations)),
    )?;
    families.counter(
        "weft_route_retries",
        "Requests sent once more, to the same or another endpoint, by what became of it.",
        series.iter().flat_map(|(route, series)| {
            series.retries().map(move |(outcome, count)| (RetrySet { route, outcome }, count))
        }),
    )?;
    {
        let weights = lock(&metrics.weights);
        families.gauges(
            "weft_route_backend_weight_ratio",
            "Configured share of a rule's requests that a backend is to get, from 0 to 1.",
            weights.iter().map(|(labels, weight)| (RouteSet(labels), *weight)),
        )?;
    }
    families.gauge("weft_metrics_series", "Label sets of routes that are kept.", held as u64)?;
    families.total(
        "weft_metrics_series_overflows",
        "Label sets of routes that found no room and were counted as \"other\".",
        overflows,
    )?;
    families.total(
        "weft_access_log_dropped",
        "Lines of the access log that were dropped because they were not read fast enough.",
        load(&metrics.access_log_dropped),
    )
}

fn mirrors(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    let (mut series, other) = {
        let registry = lock(&metrics.mirrors);
        (registry.snapshot(), registry.other())
    };
    series.push((other_route(), other));
    let counts = series.iter().flat_map(|(labels, series)| {
        let tally = series.copies();
        let rest = (tally.overflow() > 0).then_some((OTHER, tally.overflow()));
        let counts = tally.counts().chain(rest);
        counts.map(|(outcome, count)| (MirrorSet { route: labels, outcome }, count))
    });
    families.counter(
        "weft_route_mirrors",
        "Copies of requests that went to a mirror, the backend named here, by how they ended.",
        counts,
    )
}

fn request_counts<'a>(
    labels: &'a RouteLabels,
    series: &'a Series,
) -> impl Iterator<Item = (RequestSet<'a>, u64)> {
    let tally = series.requests();
    let known = tally.counts().map(|(outcome, count)| (Some(outcome), count));
    let rest = (tally.overflow() > 0).then_some((None, tally.overflow()));
    known.chain(rest).map(|(outcome, count)| (RequestSet { route: labels, outcome }, count))
}

fn tcp(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    let (mut series, other) = {
        let registry = lock(&metrics.tcp);
        (registry.snapshot(), registry.other())
    };
    series.push((other_route(), other));
    series.retain(|(_, series)| series.connections().total() > 0 || series.open() != 0);

    families.counter(
        "weft_tcp_connections",
        "Connections that passed unread and have ended, by rule, backend and how they ended.",
        series.iter().flat_map(|(labels, series)| connection_counts(labels, series)),
    )?;
    families.gauges(
        "weft_tcp_open_connections",
        "Connections that pass unread and are open now, by rule and backend.",
        series.iter().map(|(labels, series)| (RouteSet(labels), series.open())),
    )?;
    families.counter(
        "weft_tcp_sent_bytes",
        "Bytes that went to the backend, of ended connections that passed unread.",
        series.iter().map(|(labels, series)| (RouteSet(labels), series.sent_bytes())),
    )?;
    families.counter(
        "weft_tcp_received_bytes",
        "Bytes that came from the backend, of ended connections that passed unread.",
        series.iter().map(|(labels, series)| (RouteSet(labels), series.received_bytes())),
    )?;
    families.histogram(
        "weft_tcp_connection_duration_seconds",
        "How long connections that passed unread were open.",
        series.iter().map(|(labels, series)| (RouteSet(labels), &series.durations)),
    )
}

fn connection_counts<'a>(
    labels: &'a RouteLabels,
    series: &'a TcpSeries,
) -> impl Iterator<Item = (TcpReasonSet<'a>, u64)> {
    let tally = series.connections();
    let rest = (tally.overflow() > 0).then_some((OTHER, tally.overflow()));
    tally
        .counts()
        .chain(rest)
        .map(|(reason, count)| (TcpReasonSet { route: labels, reason }, count))
}

fn connections(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    let connections = metrics.connections();
    let tally = connections.by_protocol();
    let rest = (tally.overflow() > 0).then_some((OTHER, tally.overflow()));
    families.counter(
        "weft_outbound_connections",
        "Connections of the pod that came to the sidecar, by what they spoke.",
        tally.counts().chain(rest).map(|(protocol, count)| (Pair("protocol", protocol), count)),
    )?;
    families.gauge(
        "weft_outbound_open_connections",
        "Connections of the pod that are open now.",
        connections.open() as u64,
    )?;
    let tally = connections.by_reason();
    let rest = (tally.overflow() > 0).then_some((OTHER, tally.overflow()));
    families.counter(
        "weft_outbound_connections_ended",
        "Connections that the sidecar ended because a deadline had passed or a budget was used up.",
        tally.counts().chain(rest).map(|(reason, count)| (Pair("reason", reason), count)),
    )?;
    families.total(
        "weft_outbound_loops_refused",
        "Connections refused because they would have led back to the sidecar.",
        connections.loops(),
    )?;
    families.total(
        "weft_outbound_accept_errors",
        "Failures to accept a connection, for want of file descriptors for example.",
        connections.accept_errors(),
    )
}

fn source(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    let source = metrics.source();
    families.gauge(
        "weft_source_connected",
        "Whether the source of routes and Services can be reached: 1 or 0.",
        u64::from(source.connected()),
    )?;
    families.gauge(
        "weft_source_last_sync_timestamp_seconds",
        "When what is known of routes and Services was last known to be current; 0 means never.",
        source.last_sync(),
    )?;
    families.total(
        "weft_source_relists",
        "How often the source was read anew: a relist, or manifests that changed.",
        source.relists(),
    )?;
    families.total("weft_source_errors", "Failures to reach the source.", source.errors())?;
    families.gauge(
        "weft_source_problems",
        "Problems in what the source holds now, unreadable files and objects among them.",
        source.problems(),
    )
}

fn table(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    let table = &metrics.table;
    families.gauge(
        "weft_table_generation",
        "Generation of the routing table in force.",
        load(&table.generation),
    )?;
    families.total(
        "weft_table_publishes",
        "Routing tables that came into force since the start.",
        load(&table.publishes),
    )?;
    families.gauge(
        "weft_table_last_publish_timestamp_seconds",
        "When the routing table in force was published; 0 means never.",
        load(&table.published_milliseconds) as f64 / 1e3,
    )?;
    families.gauge(
        "weft_table_last_compile_duration_seconds",
        "How long it took to compile the routing table in force.",
        load(&table.took_microseconds) as f64 / 1e6,
    )?;
    families.gauge(
        "weft_table_routes",
        "Routes in the routing table in force.",
        load(&table.routes),
    )?;
    families.gauge(
        "weft_table_destinations",
        "Service ports that the routing table in force knows.",
        load(&table.destinations),
    )?;
    families.gauge(
        "weft_table_problems",
        "Parts of routes that the routing table in force answers with an error.",
        load(&table.problems),
    )
}

fn sidecar(families: &mut Families, metrics: &Metrics) -> std::fmt::Result {
    families.gauges(
        "weft_build_info",
        "The version that runs.",
        [(Pair("version", env!("CARGO_PKG_VERSION")), 1u64)].into_iter(),
    )?;
    families.gauge(
        "weft_process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        super::counters::milliseconds(metrics.started) as f64 / 1e3,
    )?;
    // What cannot be read is left out: a 0 would be a lie.
    if let Some(seconds) = process::cpu_seconds() {
        families.total(
            "weft_process_cpu_seconds",
            "CPU time that the process has used, in user and system mode.",
            seconds,
        )?;
    }
    if let Some(bytes) = process::resident_memory_bytes() {
        families.gauge(
            "weft_process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            bytes,
        )?;
    }
    if let Some(open) = process::open_fds() {
        families.gauge("weft_process_open_fds", "File descriptors that are open.", open)?;
    }
    if let Some(max) = process::max_fds() {
        families.gauge(
            "weft_process_max_fds",
            "File descriptors that may be open at once.",
            max,
        )?;
    }
    Ok(())
}

/// Writes metric families, each with all of its samples, as the format wants them.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
    format: Format,
}

impl Families<'_> {
    /// A counter with labels; `name` is without `_total`.
    fn counter<L: EncodeLabelSet, V: EncodeCounterValue + EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, V)>,
    ) -> std::fmt::Result {
        match self.format {
            Format::OpenMetrics => {
                let mut family =
                    self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                for (labels, value) in samples {
                    family
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                }
            }
            Format::Text => {
                let name = format!("{name}_total");
                let mut family =
                    self.encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
                for (labels, value) in samples {
                    // Writes the sample under the family's own name, as this format has it.
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }

    /// A counter without labels; `name` is without `_total`.
    fn total<V: EncodeCounterValue + EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: V,
    ) -> std::fmt::Result {
        match self.format {
            Format::OpenMetrics => self
                .encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None),
            Format::Text => self
                .encoder
                .encode_descriptor(&format!("{name}_total"), help, None, MetricType::Counter)?
                .encode_gauge(&value),
        }
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, V)>,
    ) -> std::fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: V) -> std::fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histogram<'a, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, &'a Histogram)>,
    ) -> std::fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let buckets = histogram.buckets();
            // Of the same reading as the buckets: workers go on counting meanwhile.
            let count = buckets.iter().map(|(_, count)| count).sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                histogram.sum_seconds(),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// Stands in every label of what is beyond a limit.
const OTHER: &str = "other";

fn other_route() -> RouteLabels {
    RouteLabels {
        parent_namespace: OTHER.into(),
        parent_name: OTHER.into(),
        parent_port: 0,
        route_kind: OTHER,
        route_namespace: OTHER.into(),
        route_name: OTHER.into(),
        rule: OTHER.into(),
        rule_name: OTHER.into(),
        backend_namespace: OTHER.into(),
        backend_name: OTHER.into(),
        backend_port: OTHER.into(),
    }
}

struct RouteSet<'a>(&'a RouteLabels);

impl EncodeLabelSet for RouteSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> std::fmt::Result {
        let labels = self.0;
        label(encoder, "parent_namespace", labels.parent_namespace.as_str())?;
        label(encoder, "parent_name", labels.parent_name.as_str())?;
        label(encoder, "parent_port", Port(labels.parent_port))?;
        label(encoder, "route_kind", labels.route_kind)?;
        label(encoder, "route_namespace", labels.route_namespace.as_str())?;
        label(encoder, "route_name", labels.route_name.as_str())?;
        label(encoder, "rule", labels.rule.as_str())?;
        label(encoder, "rule_name", labels.rule_name.as_str())?;
        label(encoder, "backend_namespace", labels.backend_namespace.as_str())?;
        label(encoder, "backend_name", labels.backend_name.as_str())?;
        label(encoder, "backend_port", labels.backend_port.as_str())
    }
}

struct RequestSet<'a> {
    route: &'a RouteLabels,
    /// None for what found no room.
    outcome: Option<Outcome>,
}

impl EncodeLabelSet for RequestSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> std::fmt::Result {
        RouteSet(self.route).encode(encoder)?;
        match self.outcome {
            Some(outcome) => {
                label(encoder, "status", outcome.status)?;
                label(encoder, "grpc_status", outcome.grpc_status)?;
                label(encoder, "reason", outcome.reason)
            }
            None => {
                label(encoder, "status", OTHER)?;
                label(encoder, "grpc_status", OTHER)?;
                label(encoder, "reason", OTHER)
            }
        }
    }
}

struct RetrySet<'a> {
    route: &'a RouteLabels,
    outcome: RetryOutcome,
}

impl EncodeLabelSet for RetrySet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> std::fmt::Result {
        RouteSet(self.route).encode(encoder)?;
        label(encoder, "outcome", self.outcome.as_str())
    }
}

struct MirrorSet<'a> {
    route: &'a RouteLabels,
    outcome: &'static str,
}

impl EncodeLabelSet for MirrorSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> std::fmt::Result {
        RouteSet(self.route).encode(encoder)?;
        label(encoder, "outcome", self.outcome)
    }
}

struct TcpReasonSet<'a> {
    route: &'a RouteLabels,
    reason: &'static str,
}

impl EncodeLabelSet for TcpReasonSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> std::fmt::Result {
        RouteSet(self.route).encode(encoder)?;
        label(encoder, "reason", self.reason)
    }
}

struct Pair(&'static str, &'static str);

impl EncodeLabelSet for Pair {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> std::fmt::Result {
        label(encoder, self.0, self.1)
    }
}

struct Port(u16);

impl EncodeLabelValue for Port {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        match self.0 {
            0 => OTHER.encode(encoder),
            port => port.encode(encoder),
        }
    }
}

fn label(
    encoder: &mut LabelSetEncoder,
    name: &'static str,
    value: impl EncodeLabelValue,
) -> std::fmt::Result {
    (name, value).encode(encoder.encode_label())
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
