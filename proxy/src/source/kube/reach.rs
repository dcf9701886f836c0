//! Whether the API server can be reached: a metric, and a line in the log when that changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

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
    /// Marked when somebody who got no answer has one; when that was last.
    back: watch::Sender<()>,
    last_back: Option<Instant>,
}

/// Between two marks: a server that answers by fits and starts is not asked at its own pace.
const BACK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Reach {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, unanswered: BTreeSet::new(), back: watch::Sender::new(()), last_back: None }
    }

    /// Whether the last search for a Service got no answer, and nobody has had one since.
    pub(super) fn lookups_fail(&self) -> bool {
        self.unanswered.contains(&Witness::Lookup)
    }

    /// Changes when the API server may be back: those who wait with their next attempt need not.
    pub(super) fn back(&self) -> watch::Receiver<()> {
        self.back.subscribe()
    }

    pub(super) fn answered(&mut self, witness: Witness) {
        let was_away = !self.unanswered.is_empty();
        let is_back = self.unanswered.remove(&witness);
        if is_back && self.last_back.is_none_or(|last| last.elapsed() >= BACK_AGAIN_AFTER) {
            self.last_back = Some(Instant::now());
            self.back.send_replace(());
        }
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
