//! What the controller counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A pass takes from a tenth of a millisecond (one route) to some tenths of a second (all of ten
/// thousand).
const BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// All metrics, named `weft_controller_…`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ready: AtomicBool,
    status_writes: Family<Labels<2>, Counter>,
    reconcile_seconds: Histogram,
    routes: Gauge,
    leader: Gauge,
    watch_errors: Family<Labels<1>, Counter>,
    uninjected_pods: Family<Labels<1>, Gauge>,
}

/// How a write of a status ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// The API server took it.
    Written,
    /// Somebody had written the same meanwhile.
    Unchanged,
    /// The object changed or went meanwhile: what is right now comes with its next event.
    Superseded,
    /// It failed, and will be tried again.
    Failed,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Metrics> {
        let mut registry = Registry::with_prefix("weft_controller");
        let status_writes = Family::default();
        let help = "Writes of a status, by the object's kind and how they ended \
                    (written, unchanged, superseded, failed)";
        registry.register("status_writes", help, status_writes.clone());
        let reconcile_seconds = Histogram::new(BUCKETS);
        let help = "How long it took to find out what changed routes deserve";
        registry.register("reconcile_duration_seconds", help, reconcile_seconds.clone());
        let routes = Gauge::default();
        registry.register("routes", "Routes that are known to the leader", routes.clone());
        let leader = Gauge::default();
        registry.register("leader", "Whether this replica leads: 1 or 0", leader.clone());
        let watch_errors = Family::default();
        let help = "Lists and watches that failed, by kind";
        registry.register("watch_errors", help, watch_errors.clone());
        let uninjected_pods = Family::default();
        let help = "Pods that run without the sidecar though their namespace is labelled";
        registry.register("uninjected_pods", help, uninjected_pods.clone());
        Arc::new(Metrics {
            registry,
            ready: AtomicBool::new(false),
            status_writes,
            reconcile_seconds,
            routes,
            leader,
            watch_errors,
            uninjected_pods,
        })
    }

    /// A write of the status of an object of this kind has ended.
    pub fn status_write(&self, kind: &'static str, result: WriteResult) {
        let result = match result {
            WriteResult::Written => "written",
            WriteResult::Unchanged => "unchanged",
            WriteResult::Superseded => "superseded",
            WriteResult::Failed => "failed",
        };
        let labels = [("kind", kind.to_owned()), ("result", result.to_owned())];
        self.status_writes.get_or_create(&labels).inc();
    }

    /// A pass has ended.
    pub fn reconciled(&self, took: Duration, routes: usize) {
        self.reconcile_seconds.observe(took.as_secs_f64());
        self.routes.set(i64::try_from(routes).unwrap_or(i64::MAX));
    }

    /// Whether this replica leads. Who does not lead knows nothing of routes and pods.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
        if !leader {
            self.routes.set(0);
            self.uninjected_pods.clear();
        }
    }

    /// A list or a watch of this kind failed.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// How many pods of each labelled namespace run without the sidecar; other namespaces are let
    /// go.
    pub fn set_uninjected_pods<'a>(&self, counts: impl Iterator<Item = (&'a str, usize)>) {
        self.uninjected_pods.clear();
        for (namespace, count) in counts {
            let labels = [("namespace", namespace.to_owned())];
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.uninjected_pods.get_or_create(&labels).set(count);
        }
    }

    /// The API server has answered: from now on the replica counts as ready.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether the API server has answered once.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// In the text format of OpenMetrics.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_documented_ones() {
        let metrics = Metrics::new();
        metrics.status_write("HTTPRoute", WriteResult::Written);
        metrics.reconciled(Duration::from_millis(3), 7);
        metrics.set_leader(true);
        metrics.watch_failed("Service");
        metrics.set_uninjected_pods([("shop", 2)].into_iter());
        let text = metrics.encode();
        for line in [
            r#"weft_controller_status_writes_total{kind="HTTPRoute",result="written"} 1"#,
            "weft_controller_reconcile_duration_seconds_count 1",
            "weft_controller_leader 1",
            r#"weft_controller_watch_errors_total{kind="Service"} 1"#,
            r#"weft_controller_uninjected_pods{namespace="shop"} 2"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
        }
        metrics.set_leader(false);
        assert!(metrics.encode().contains("\nweft_controller_leader 0\n"));
        assert!(!metrics.encode().contains("shop"));
    }
}
