//! From what the watches tell to what is written: gather, resolve, compare, write.
//!
//! [`crate::lead`] runs it while this replica leads. One task owns the [`Store`]; writes run beside
//! it, so that a slow write delays no other route's verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weft_gamma::object::ObjectKey;
use weft_gamma::resolve::Settings;

use crate::metrics::{Metrics, WriteResult};
use crate::retry::Backoff;
use crate::status::Report;
use crate::store::Store;
use crate::watch::Update;
use crate::write::{WriteError, Writer, differs};

/// How long a change waits for others that come with it, as a `kubectl apply` of several objects.
const GATHER: Duration = Duration::from_millis(5);

/// The least time between two passes.
const BETWEEN_PASSES: Duration = Duration::from_millis(50);

/// Writes that run at once.
const WRITES: usize = 16;

/// How long the first lists may take before it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the status of routes and policies as [`weft_gamma`] resolves them.
pub struct Reconciler {
    store: Store,
    settings: Settings,
    writer: Writer,
    metrics: Arc<Metrics>,
    /// What is to be written; the newest report wins.
    pending: BTreeMap<ObjectKey, Report>,
    /// Objects that are being written.
    writing: BTreeSet<ObjectKey>,
    /// Objects whose last write failed.
    failed: BTreeMap<ObjectKey, Backoff>,
    /// When the last pass began.
    last_pass: Option<Instant>,
}

/// What has ended of what runs beside the reconciler.
enum Ended {
    Write(ObjectKey, Result<WriteResult, WriteError>),
    /// The wait after a write that failed.
    Wait(ObjectKey),
}

type Jobs = FuturesUnordered<BoxFuture<'static, Ended>>;

impl Reconciler {
    /// One that knows nothing yet.
    pub fn new(settings: Settings, writer: Writer, metrics: Arc<Metrics>) -> Reconciler {
        Reconciler {
            store: Store::default(),
            settings,
            writer,
            metrics,
            pending: BTreeMap::new(),
            writing: BTreeSet::new(),
            failed: BTreeMap::new(),
            last_pass: None,
        }
    }

    /// Works until nobody sends updates any more.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        let mut jobs = Jobs::new();
        let mut pass_at: Option<Instant> = None;
        let mut patience = Box::pin(tokio::time::sleep(PATIENCE));
        let mut is_patient = true;
        loop {
            self.start_writes(&jobs);
            let at = pass_at.unwrap_or_else(Instant::now);
            tokio::select! {
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    self.store.apply(update);
                    while let Ok(update) = updates.try_recv() {
                        self.store.apply(update);
                    }
                }
                () = tokio::time::sleep_until(at), if pass_at.is_some() => {
                    pass_at = None;
                    self.pass();
                }
                Some(ended) = jobs.next(), if !jobs.is_empty() => match ended {
                    Ended::Write(key, result) => self.written(key, result, &jobs),
                    Ended::Wait(key) => self.store.look_again(&key),
                },
                () = &mut patience, if is_patient => {
                    is_patient = false;
                    self.tell_missing();
                }
            }
            if pass_at.is_none() && self.store.is_complete() && self.store.has_changed() {
                pass_at = Some(self.next_pass());
            }
        }
    }

    /// When what has just changed is looked at.
    fn next_pass(&self) -> Instant {
        let gathered = Instant::now() + GATHER;
        self.last_pass.map_or(gathered, |last| gathered.max(last + BETWEEN_PASSES))
    }

    /// Resolves what a change concerns, and notes the objects whose status differs.
    fn pass(&mut self) {
        self.last_pass = Some(Instant::now());
        // Durations are measured by the real clock, which tests do not pause.
        let begin = std::time::Instant::now();
        let concerned = self.store.take_concerned();
        let reports = self.store.reports(&concerned, &self.settings);
        for (key, report) in reports {
            let key = &key;
            let Some(reported) = self.store.reported(key) else { continue };
            if differs(reported, &report) {
                self.pending.insert(key.clone(), report);
            } else {
                self.pending.remove(key);
                self.failed.remove(key);
            }
        }
        self.metrics.reconciled(begin.elapsed(), self.store.route_count());
        tracing::debug!(
            concerned = concerned.len(),
            to_write = self.pending.len(),
            microseconds = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            "resolved",
        );
    }

    fn start_writes(&mut self, jobs: &Jobs) {
        while self.writing.len() < WRITES {
            let ready = self.pending.keys().find(|key| !self.writing.contains(*key)).cloned();
            let Some((key, report)) = ready.and_then(|key| self.pending.remove_entry(&key)) else {
                return;
            };
            // Deleted by now.
            let Some(reported) = self.store.reported(&key).cloned() else { continue };
            self.writing.insert(key.clone());
            let writer = self.writer.clone();
            jobs.push(Box::pin(async move {
                let result = writer.write(&key, &reported, &report).await;
                Ended::Write(key, result)
            }));
        }
    }

    fn written(&mut self, key: ObjectKey, result: Result<WriteResult, WriteError>, jobs: &Jobs) {
        self.writing.remove(&key);
        let Some(reported) = self.store.reported(&key) else {
            self.failed.remove(&key);
            return;
        };
        let kind = reported.kind.kind;
        match result {
            Ok(result) => {
                tracing::debug!(object = %key, ?result, "status");
                self.metrics.status_write(kind, result);
                self.failed.remove(&key);
            }
            Err(error) => {
                self.metrics.status_write(kind, WriteResult::Failed);
                let new = || Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
                let wait = self.failed.entry(key.clone()).or_insert_with(new).wait();
                match error.is_refusal() {
                    true => tracing::debug!(object = %key, "status not written: not permitted"),
                    false => {
                        tracing::warn!(object = %key, %error, "status not written; trying again")
                    }
                }
                jobs.push(Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    Ended::Wait(key)
                }));
            }
        }
    }

    fn tell_missing(&self) {
        let missing = self.store.missing();
        if !missing.is_empty() {
            tracing::warn!(
                kinds = missing.join(", "),
                "no status is written before these could be listed: see the errors above",
            );
        }
    }
}

#[cfg(test)]
mod tests;
