//! What the injector counts, for Prometheus.
//!
//! `server` records admissions, `certificate` its certificate, `service_cidr` the ranges;
//! [`crate::health`] shows them.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::review::Summary;

/// In seconds: an admission takes some tens of microseconds.
const DURATION_BUCKETS: [f64; 10] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdmissionLabels {
    result: &'static str,
    reason: &'static str,
    dry_run: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    admissions: Family<AdmissionLabels, Counter>,
    warnings: Counter,
    duration: Histogram,
    handshake_failures: Counter,
    certificate_expiry: Gauge<f64, AtomicU64>,
    rotations: Counter,
    certificate_errors: Counter,
    service_cidrs: Gauge,
    source_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("weft_injector");
        let metrics = Metrics {
            registry: Registry::default(),
            admissions: Family::default(),
            warnings: Counter::default(),
            duration: Histogram::new(DURATION_BUCKETS),
            handshake_failures: Counter::default(),
            certificate_expiry: Gauge::default(),
            rotations: Counter::default(),
            certificate_errors: Counter::default(),
            service_cidrs: Gauge::default(),
            source_errors: Counter::default(),
        };
        registry.register(
            "admissions",
            "Admission requests answered: result is injected, left_alone, denied or error",
            metrics.admissions.clone(),
        );
        registry.register(
            "admission_warnings",
            "Warnings that came with answers",
            metrics.warnings.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "From a request's last byte to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Connections to the webhook that ended in their TLS handshake",
            metrics.handshake_failures.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate that is served expires, in Unix time",
            Unit::Seconds,
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            "certificate_rotations",
            "How often this replica began to serve another certificate",
            metrics.rotations.clone(),
        );
        registry.register(
            "certificate_errors",
            "Failed attempts to look after the certificate",
            metrics.certificate_errors.clone(),
        );
        registry.register(
            "service_cidrs",
            "Service ranges that are redirected",
            metrics.service_cidrs.clone(),
        );
        registry.register(
            "source_errors",
            "Failed attempts to list or watch ServiceCIDRs",
            metrics.source_errors.clone(),
        );
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// In Prometheus' text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n# EOF\n"),
        }
    }

    pub(crate) fn admission(&self, summary: &Summary, took: Duration) {
        let labels = AdmissionLabels {
            result: summary.result,
            reason: summary.reason,
            dry_run: if summary.dry_run { "true" } else { "false" },
        };
        self.admissions.get_or_create(&labels).inc();
        self.warnings.inc_by(summary.warnings.len() as u64);
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn handshake_failure(&self) {
        self.handshake_failures.inc();
    }

    /// A certificate is served from now on.
    pub(crate) fn serving(&self, expires: SystemTime, is_rotation: bool) {
        let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.certificate_expiry.set(since.as_secs_f64());
        if is_rotation {
            self.rotations.inc();
        }
    }

    pub(crate) fn certificate_error(&self) {
        self.certificate_errors.inc();
    }

    pub(crate) fn service_cidrs(&self, number: usize) {
        self.service_cidrs.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn source_error(&self) {
        self.source_errors.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_was_counted() {
        let metrics = Metrics::default();
        let summary = Summary {
            result: "denied",
            reason: "annotations",
            warnings: vec!["x".to_owned()],
            ..Summary::default()
        };
        metrics.admission(&summary, Duration::from_micros(80));
        metrics.serving(UNIX_EPOCH + Duration::from_secs(1_800_000_000), false);
        metrics.serving(UNIX_EPOCH + Duration::from_secs(1_900_000_000), true);
        metrics.service_cidrs(2);
        let text = metrics.encode();
        for line in [
            "weft_injector_admissions_total{result=\"denied\",reason=\"annotations\",dry_run=\"false\"} 1",
            "weft_injector_admission_warnings_total 1",
            "weft_injector_admission_duration_seconds_bucket{le=\"0.0001\"} 1",
            "weft_injector_certificate_expiry_timestamp_seconds 1900000000.0",
            "weft_injector_certificate_rotations_total 1",
            "weft_injector_service_cidrs 2",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
