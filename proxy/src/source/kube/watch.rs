//! One watch: lists, follows from there, lists anew when the server has forgotten where that was
//! (410), for as long as it is wanted.
//!
//! The loop is our own and not `kube::runtime::watcher`, which does not tell when a watch has been
//! taken up again or that the server has sent a bookmark: without these nobody could say whether the
//! API server is there, and how old what is known is.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use weft_gamma::object::ObjectKey;

use super::lean::LeanObject;
use super::selection::{Decoded, Selection};
use super::{events, list};

/// How long the API server may take for a page of a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may say nothing before it is taken up again: the server sends a bookmark about once a
/// minute. (That the connection is dead is noticed much sooner, by [`super::connections`].)
const SILENCE: Duration = Duration::from_secs(120);
/// A watch that the server ends sooner is taken up again after a pause only.
const SHORT: Duration = Duration::from_secs(1);
/// A page is in memory as text.
const PAGE: u32 = 100;

/// Of a pause after a failure: the bound of the first one, and the bound of all. So short that all
/// watches are back within seconds when the API server is. Whichever is the first wakes the others.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same where there is nothing to be had: that changes when somebody installs something.
const LONGEST_UNAVAILABLE: Duration = Duration::from_secs(30);
/// The same for a kind that many clusters do without: a cluster has many sidecars. Below [`CALM`], so that
/// it stays long.
const LONGEST_NOT_INSTALLED: Duration = Duration::from_secs(100);
/// A failure that comes so long after the last one has nothing to do with it.
const CALM: Duration = Duration::from_secs(120);

/// What a watch says.
#[derive(Debug)]
pub(super) enum Change {
    /// All that there is.
    Listed(Vec<Decoded>),
    Applied(Box<Decoded>),
    Deleted(ObjectKey),
    /// What is known is up to date: the watch has begun, or a bookmark has come.
    Current,
    /// There is nothing to be had, now: what was wanted counts as empty.
    Unavailable(Unavailable),
    /// The server could not be asked: what is known stays.
    Failed(String),
}

/// Why there is nothing to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// 403: a rule is missing in the RBAC of the pod's ServiceAccount.
    Forbidden,
    /// 404: the cluster does not have the kind.
    NotInstalled,
}

/// A change with the watch that it comes from: one that was ended may still have said something.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) watch: u64,
    pub(super) selection: Selection,
    pub(super) change: Change,
}

/// A selection that is followed.
pub(super) struct Watch {
    pub(super) client: kube::Client,
    /// Which of all watches this is.
    pub(super) id: u64,
    pub(super) selection: Selection,
    pub(super) updates: mpsc::UnboundedSender<Update>,
    /// Changes when the API server, which did not answer, does again.
    pub(super) back: watch::Receiver<()>,
}

/// Why a watch did not go on.
enum Interrupted {
    /// By the server, as usual, or because it was silent.
    Ended,
    /// 410: what came after the place that is known has been forgotten.
    Gone,
    Unavailable(Unavailable),
    Failed(String),
    /// Nobody listens.
    Unwanted,
}

impl Watch {
    /// Follows the selection until it is aborted or nobody listens.
    pub(super) async fn run(mut self) {
        // Of the kind; which one is served depends on the release that the cluster has.
        let mut version = 0;
        // The resource version to go on from.
        let mut from = None;
        let mut unavailable = false;
        // Of attempts without an answer, with a refusal, and of answers that were soon over. A server
        // that is back after an hour may refuse at first, as long as it has not read its RBAC, and may
        // have forgotten where the watch was: neither makes the pauses longer that it finds here.
        let [mut failed, mut refused, mut broken] = [(); 3].map(|()| Backoff::default());
        loop {
            let api = self.selection.api(&self.client, version);
            let begun = Instant::now();
            self.back.mark_unchanged();
            let Err(interrupted) = self.go_on(&api, version, &mut from, &mut unavailable).await;
            let pause = match interrupted {
                Interrupted::Ended if begun.elapsed() >= SHORT => continue,
                Interrupted::Ended => broken.next(LONGEST_PAUSE),
                Interrupted::Gone => {
                    from = None;
                    broken.next(LONGEST_PAUSE)
                }
                Interrupted::Unavailable(why) => {
                    unavailable = true;
                    let versions = self.selection.versions();
                    if why == Unavailable::NotInstalled {
                        from = None;
                        version = (version + 1) % versions;
                        if version > 0 {
                            continue;
                        }
                    }
                    if !self.say(Change::Unavailable(why)) {
                        return;
                    }
                    refused.next(match why {
                        Unavailable::NotInstalled if self.selection.is_optional() => {
                            LONGEST_NOT_INSTALLED
                        }
                        _ => LONGEST_UNAVAILABLE,
                    })
                }
                Interrupted::Failed(error) => {
                    if !self.say(Change::Failed(error)) {
                        return;
                    }
                    let pause = failed.next(LONGEST_PAUSE);
                    // Nobody can tell any more when the source has ended; nor does it matter.
                    let _ = timeout(pause, self.back.changed()).await;
                    continue;
                }
                Interrupted::Unwanted => return,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Lists if there is nothing to go on `from`, then follows.
    async fn go_on(
        &self,
        api: &Api<LeanObject>,
        version: usize,
        from: &mut Option<String>,
        unavailable: &mut bool,
    ) -> Result<Infallible, Interrupted> {
        let start = match from {
            Some(start) => start.clone(),
            None => {
                let (listed, start) = self.list(api, version).await?;
                *unavailable = false;
                self.tell(Change::Listed(listed))?;
                from.insert(start).clone()
            }
        };
        let params = self.params(WatchParams::default(), WatchParams::fields, WatchParams::labels);
        let events = timeout(SILENCE, events::watch(&self.client, api, &params, &start));
        let mut events = events.await.map_err(|_| silent(SILENCE))?.map_err(interrupted)?;
        if *unavailable {
            // It may be read again; what was missed in between, only a list can tell.
            return Err(Interrupted::Gone);
        }
        self.tell(Change::Current)?;
        loop {
            let Ok(event) = timeout(SILENCE, events.next()).await else {
                return Err(Interrupted::Ended);
            };
            let (at, change) = match event.ok_or(Interrupted::Ended)?.map_err(interrupted)? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let at = object.metadata.resource_version.clone();
                    (at, Change::Applied(Box::new(self.selection.decode(object, version))))
                }
                WatchEvent::Deleted(object) => {
                    let key = self.selection.key(&object);
                    (object.metadata.resource_version, Change::Deleted(key))
                }
                WatchEvent::Bookmark(bookmark) => {
                    (Some(bookmark.metadata.resource_version), Change::Current)
                }
                WatchEvent::Error(status) => return Err(interrupted(kube::Error::Api(status))),
            };
            self.tell(change)?;
            // Without it, a list has to tell where to go on.
            *from = at.filter(|at| !at.is_empty());
        }
    }

    /// All that there is, and the resource version that this is of.
    async fn list(
        &self,
        api: &Api<LeanObject>,
        version: usize,
    ) -> Result<(Vec<Decoded>, String), Interrupted> {
        let params = self.params(ListParams::default(), ListParams::fields, ListParams::labels);
        let mut params = params.limit(PAGE);
        let mut listed = Vec::new();
        loop {
            let page = timeout(LIST_TIMEOUT, list::page(&self.client, api, &params)).await;
            let page = page.map_err(|_| silent(LIST_TIMEOUT))?.map_err(interrupted)?;
            let (metadata, objects) = page.read().map_err(interrupted)?;
            for object in objects {
                listed.push(self.selection.decode(object.map_err(interrupted)?, version));
            }
            match metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok((listed, metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    /// Adds what selects the objects to the parameters of a list or a watch.
    fn params<P>(&self, params: P, fields: fn(P, &str) -> P, labels: fn(P, &str) -> P) -> P {
        match &self.selection {
            Selection::Service(name) => fields(params, &format!("metadata.name={}", name.name)),
            Selection::Slices(name) => {
                labels(params, &format!("kubernetes.io/service-name={}", name.name))
            }
            Selection::Routes(..) | Selection::Grants(_) | Selection::Policies(_) => params,
        }
    }

    fn tell(&self, change: Change) -> Result<(), Interrupted> {
        self.say(change).then_some(()).ok_or(Interrupted::Unwanted)
    }

    /// False when nobody listens.
    fn say(&self, change: Change) -> bool {
        let update = Update { watch: self.id, selection: self.selection.clone(), change };
        self.updates.send(update).is_ok()
    }
}

fn interrupted(error: kube::Error) -> Interrupted {
    let code = match &error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    match code {
        403 => Interrupted::Unavailable(Unavailable::Forbidden),
        404 => Interrupted::Unavailable(Unavailable::NotInstalled),
        410 => Interrupted::Gone,
        _ => Interrupted::Failed(error.to_string()),
    }
}

fn silent(waited: Duration) -> Interrupted {
    Interrupted::Failed(format!("no answer in {} s", waited.as_secs()))
}

/// Pauses whose bound doubles, each anywhere between nothing and its bound: the sidecars of a
/// cluster must not come back all at the same moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    pub(super) fn next(&mut self, longest: Duration) -> Duration {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last > CALM) {
            self.failures = 0;
        }
        self.last = Some(now);
        let bound = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(fastrand::f64())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch {} of {}", self.id, self.selection)
    }
}
