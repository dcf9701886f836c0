//! Whether the API server can be reached: a metric, and a line in the log when that changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::metrics::Metrics;

/// Who says that the API server does or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Witness {
    /// The search for a Service's address. It may be long until the next one.
    Lookup,
    Watch(u64),
}

#[derive(Debug)]
pub(super) struct Reach {
    metrics: Arc<Metrics>,
    /// Who got no answer the last time.
    unanswered: BTreeSet<Witness>,
}

impl Reach {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, unanswered: BTreeSet::new() }
    }

    /// Whether the last search for a Service got no answer, and nobody has had one since.
    pub(super) fn lookups_fail(&self) -> bool {
        self.unanswered.contains(&Witness::Lookup)
    }

    pub(super) fn answered(&mut self, witness: Witness) {
        let was_away = !self.unanswered.is_empty();
        self.unanswered.remove(&witness);
        // What a watch hears, a search would hear as well.
        self.unanswered.remove(&Witness::Lookup);
        if self.unanswered.is_empty() {
            self.metrics.source().set_connected(true);
            self.metrics.source().synced(SystemTime::now());
            if was_away {
                tracing::info!("the API server answers again");
            }
        }
    }

    pub(super) fn failed(&mut self, witness: Witness, error: &str) {
        self.metrics.source().failed();
        self.metrics.source().set_connected(false);
        if self.unanswered.is_empty() {
            tracing::warn!(error, "the API server does not answer: what is known stays in force");
        } else {
            tracing::debug!(?witness, error, "the API server does not answer");
        }
        self.unanswered.insert(witness);
    }

    /// The watch has ended: nothing more will be heard from it.
    pub(super) fn forget(&mut self, watch: u64) {
        self.unanswered.remove(&Witness::Watch(watch));
    }
}
