//! Lists and watches one kind, for as long as the controller leads.
//!
//! A list is handed on as a whole, once it is complete: whoever keeps the objects swaps them in one
//! step, so that a relist (410 Gone) is never an empty moment. A kind that is not installed is told
//! as [`Change::Absent`], and looked for again until it is there.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::kinds::WatchedKind;
use crate::metrics::Metrics;
use crate::permission::{Need, Permissions};
use crate::request::{code, told};
use crate::retry::Backoff;

/// How long to wait before a kind that is not installed is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long to wait before a kind that may not be read is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What happened to a kind's objects.
#[derive(Debug)]
pub struct Update {
    /// The kind.
    pub kind: &'static WatchedKind,
    /// The version in which its objects are read and written; empty for [`Change::Absent`].
    pub version: &'static str,
    /// What happened.
    pub change: Change,
}

/// See [`Update`].
#[derive(Debug)]
pub enum Change {
    /// These are all objects; there are no others.
    Listed(Vec<DynamicObject>),
    /// One was added or changed.
    Applied(Box<DynamicObject>),
    /// One is gone.
    Deleted(Box<DynamicObject>),
    /// There is no such kind (or it may not be read and can be done without): no objects.
    Absent,
}

/// What the watches share.
#[derive(Clone)]
pub struct Watches {
    pub client: Client,
    pub metrics: Arc<Metrics>,
    pub permissions: Arc<Permissions>,
}

/// Why a version of a kind is not watched any more.
enum Ended {
    /// The API server does not serve it.
    NotServed,
    /// It may not be read.
    Refused,
    /// Nobody listens to the updates.
    Unheard,
}

impl Watches {
    /// Tells every change of `kind` to `updates`, until nobody listens.
    pub async fn run(&self, kind: &'static WatchedKind, updates: mpsc::Sender<Update>) {
        let mut told_absent = false;
        loop {
            let mut refused = false;
            for version in kind.versions {
                match self.watch_version(kind, version, &updates, &mut told_absent).await {
                    Ended::Unheard => return,
                    Ended::NotServed => {}
                    Ended::Refused => {
                        refused = true;
                        break;
                    }
                }
            }
            if !told_absent && (!refused || kind.optional) {
                if !refused {
                    tracing::info!(
                        kind = kind.kind,
                        "not installed; looking again from time to time"
                    );
                }
                told_absent = true;
                let update = Update { kind, version: "", change: Change::Absent };
                if updates.send(update).await.is_err() {
                    return;
                }
            }
            let wait = if refused { ASK_AGAIN } else { LOOK_AGAIN };
            tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Watches one version for as long as it is served and may be read.
    async fn watch_version(
        &self,
        kind: &'static WatchedKind,
        version: &'static str,
        updates: &mpsc::Sender<Update>,
        told_absent: &mut bool,
    ) -> Ended {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.resource(version));
        let need = Need::read(kind.group, kind.plural);
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut listing = Vec::new();
        let mut events = pin!(watcher::watcher(api, watcher::Config::default()));
        while let Some(event) = events.next().await {
            let change = match event {
                Ok(Event::Init) => {
                    listing.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listing.push(object);
                    continue;
                }
                Ok(Event::InitDone) => {
                    self.permissions.granted(&need);
                    if std::mem::take(told_absent) {
                        tracing::info!(kind = kind.kind, version, "installed by now");
                    }
                    tracing::debug!(kind = kind.kind, version, objects = listing.len(), "listed");
                    Change::Listed(std::mem::take(&mut listing))
                }
                Ok(Event::Apply(object)) => Change::Applied(Box::new(object)),
                Ok(Event::Delete(object)) => Change::Deleted(Box::new(object)),
                Err(error) => match self.failed(kind, &need, &error) {
                    Some(ended) => return ended,
                    None => {
                        tokio::time::sleep(backoff.wait()).await;
                        continue;
                    }
                },
            };
            backoff.reset();
            if updates.send(Update { kind, version, change }).await.is_err() {
                return Ended::Unheard;
            }
        }
        Ended::NotServed
    }

    /// What an error means; None if it is worth trying again.
    fn failed(&self, kind: &WatchedKind, need: &Need, error: &watcher::Error) -> Option<Ended> {
        let answer = match error {
            watcher::Error::InitialListFailed(answer)
            | watcher::Error::WatchStartFailed(answer)
            | watcher::Error::WatchFailed(answer) => Some(answer),
            watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
        };
        match answer.and_then(code) {
            Some(404) => return Some(Ended::NotServed),
            Some(403) => {
                self.metrics.watch_failed(kind.kind);
                self.permissions.refused(need, &answer.map(told).unwrap_or_default());
                return Some(Ended::Refused);
            }
            _ => {}
        }
        // A watch that is too old (410) is answered by a new list: nothing went wrong.
        if !matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
            self.metrics.watch_failed(kind.kind);
            let error = answer.map(told).unwrap_or_else(|| error.to_string());
            tracing::warn!(kind = kind.kind, error, "cannot watch; what is known stays");
        }
        None
    }
}
