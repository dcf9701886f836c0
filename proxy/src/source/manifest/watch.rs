//! Learns from the kernel when something below a folder changes, and waits bursts out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::folder::{FolderId, is_manifest};

/// Tells that something changed, not what: the folder is listed then.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Arc<Notify>);

impl Changes {
    fn tell(&self) {
        self.0.notify_one();
    }

    /// Until something has changed and then nothing for `quiet`, or `at_most` after the change; or
    /// until `patience` is over without one.
    pub(super) async fn wait(&self, patience: Duration, quiet: Duration, at_most: Duration) {
        if timeout(patience, self.0.notified()).await.is_err() {
            return;
        }
        let end = Instant::now() + at_most;
        while Instant::now() < end {
            let calm = end.min(Instant::now() + quiet);
            if timeout_at(calm, self.0.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// A watch on a folder and all below it.
#[derive(Debug)]
pub(super) struct Watch {
    folder: PathBuf,
    changes: Changes,
    /// None where the kernel does not tell: the folder is polled then.
    watcher: Option<RecommendedWatcher>,
    /// The folders that are watched.
    watched: BTreeMap<PathBuf, FolderId>,
    refused: bool,
}

impl Watch {
    pub(super) fn new(folder: &Path, changes: Changes) -> Watch {
        Watch {
            folder: folder.to_owned(),
            changes,
            watcher: None,
            watched: BTreeMap::new(),
            refused: false,
        }
    }

    /// Sees to it that these folders are watched. The kernel watches a folder, not its path: one
    /// that came anew under the same path, or that a symbolic link now leads to, is watched anew.
    /// True where that happened: changes before it have not been told.
    pub(super) fn follow(&mut self, folders: &BTreeMap<PathBuf, FolderId>) -> bool {
        if *folders == self.watched {
            return false;
        }
        self.watched.clone_from(folders);
        self.watcher = None;
        if folders.is_empty() {
            return false;
        }
        match self.start() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.refused = false;
                true
            }
            Err(error) => {
                if !self.refused {
                    tracing::warn!(
                        folder = %self.folder.display(),
                        %error,
                        "no events for changed manifests: looking every few seconds instead"
                    );
                }
                self.refused = true;
                false
            }
        }
    }

    fn start(&self) -> notify::Result<RecommendedWatcher> {
        let changes = self.changes.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What an error means is seen when the folder is listed.
            if event.as_ref().map_or(true, matters) {
                changes.tell();
            }
        })?;
        watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}

/// Whether an event can mean that a manifest says something else. Reading does not: it would make
/// each reading the cause of the next. Nor does writing to a file of another kind, a log for
/// example. Whatever else comes, renamed links among it, is worth a look.
fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Data(_)) => {
            event.paths.iter().any(|path| is_manifest(path.file_name().unwrap_or(OsStr::new(""))))
        }
        EventKind::Access(_) => false,
        _ => true,
    }
}
