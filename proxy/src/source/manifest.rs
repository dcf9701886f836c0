//! A folder of manifests as the source: files as `kubectl get -o yaml` prints them, read again
//! when they change.
//!
//! What it guarantees:
//! - A change is handed over within 150 ms where the kernel tells of it, else within the seconds of
//!   [`Pace::poll`]. Nothing is handed over when nothing changed.
//! - A broken document hides neither the others of its file nor other files. What its file last said
//!   stays in force until it can be read or is deleted, for all objects that its readable documents
//!   do not name. That is for what is no YAML at all; a well-formed route with wrong values is handed
//!   over, to be answered as the API says.
//! - A file that is deleted takes its objects with it at once; a folder that disappears does not.
//! - Nothing here panics or gives up: whatever cannot be read is reported and tried again.

mod document;
mod folder;
mod lines;
mod reader;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_gamma::object::ObjectKey;

use self::document::Content;
use self::reader::Reader;
use self::watch::{Changes, Watch};
use super::Snapshot;
use crate::memory::GiveBack;
use crate::metrics::Metrics;

/// A folder that is read and watched.
#[derive(Debug)]
pub struct ManifestSource {
    folder: PathBuf,
    pace: Pace,
    metrics: Arc<Metrics>,
}

/// A folder that nothing can be read from at the start.
#[derive(Debug, thiserror::Error)]
#[error("the manifest folder {folder} {problem}: name an existing one")]
pub struct FolderError {
    folder: String,
    problem: String,
}

/// A folder, read once.
#[derive(Debug)]
pub struct Folder {
    pub snapshot: Snapshot,
    /// The file and the line that each object begins in.
    pub places: BTreeMap<ObjectKey, (PathBuf, usize)>,
}

/// Reads a folder once, as a source would at its start.
pub fn read(folder: &Path) -> Result<Folder, FolderError> {
    check(folder)?;
    let mut reader = Reader::new(folder);
    reader.read(&folder::list(folder));
    Ok(Folder { snapshot: reader.snapshot(), places: reader.places() })
}

/// Reads a file by itself.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Snapshot {
    let Content { objects, problems, .. } = document::parse(file, bytes).content;
    Snapshot { objects, problems, destinations: None }
}

/// How often and how soon the folder is read.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// A burst of changes is over when nothing changed for so long,
    quiet: Duration,
    /// and is not waited out for longer than this.
    at_most: Duration,
    /// File systems without events are looked at so often,
    poll: Duration,
    /// and what could not be read at first so soon.
    retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            quiet: Duration::from_millis(20),
            at_most: Duration::from_millis(100),
            poll: Duration::from_secs(5),
            retry: Duration::from_millis(250),
        }
    }
}

impl ManifestSource {
    /// A folder that does not exist is an error here; one that disappears later is waited for.
    pub fn new(
        folder: impl Into<PathBuf>,
        metrics: Arc<Metrics>,
    ) -> Result<ManifestSource, FolderError> {
        let folder = folder.into();
        check(&folder)?;
        Ok(ManifestSource { folder, pace: Pace::default(), metrics })
    }

    /// Reads the folder, calls `publish` with what it holds, and again whenever that has changed.
    /// Runs for as long as it is polled.
    pub async fn run(self, mut publish: impl FnMut(Snapshot)) {
        let ManifestSource { folder, pace, metrics } = self;
        let changes = Changes::default();
        let mut reader = Some(FolderReader::new(&folder, &changes));
        let mut published = false;
        let give_back = GiveBack::start();
        let mut retry = pace.retry;
        loop {
            let current = reader.take().unwrap_or_else(|| FolderReader::new(&folder, &changes));
            // Files are read on another thread: a network file system that hangs must not take the
            // metrics and the admin port with it.
            let read = tokio::task::spawn_blocking(move || current.read()).await;
            let seen = match read {
                Ok((current, seen)) => {
                    reader = Some(current);
                    seen
                }
                Err(error) => {
                    tracing::error!(%error, "reading the manifests failed: starting over");
                    metrics.source().failed();
                    tokio::time::sleep(pace.poll).await;
                    continue;
                }
            };
            metrics.source().set_connected(seen.reachable);
            if seen.reachable {
                metrics.source().synced(SystemTime::now());
            } else {
                metrics.source().failed();
            }
            if let Some(snapshot) = seen.snapshot {
                if published {
                    metrics.source().relisted();
                }
                published = true;
                retry = pace.retry;
                publish(snapshot);
                give_back.when_quiet();
            }

            let next = if seen.unreadable || !seen.reachable { retry } else { pace.poll };
            retry = (retry * 2).min(pace.poll);
            if !seen.again {
                changes.wait(next, pace.quiet, pace.at_most).await;
            }
        }
    }
}

/// What one reading of the folder found.
#[derive(Debug)]
struct Seen {
    /// All that is known, if it changed.
    snapshot: Option<Snapshot>,
    /// The folder itself could be read.
    reachable: bool,
    /// Something in it could not be read and should be tried again soon.
    unreadable: bool,
    /// Something may have changed while the watch was laid: read once more.
    again: bool,
}

/// Reads the folder and keeps it watched; belongs to the thread that reads.
#[derive(Debug)]
struct FolderReader {
    reader: Reader,
    watch: Watch,
}

impl FolderReader {
    fn new(folder: &Path, changes: &Changes) -> FolderReader {
        FolderReader { reader: Reader::new(folder), watch: Watch::new(folder, changes.clone()) }
    }

    fn read(mut self) -> (FolderReader, Seen) {
        let mut seen = Seen { snapshot: None, reachable: true, unreadable: false, again: false };
        let mut changed = false;
        let mut listing = folder::list(self.reader.folder());
        for _ in 0..MAX_READINGS {
            // The watch first, then the files: what is written in between is seen or told.
            seen.again |= self.watch.follow(&listing.folders);
            seen.reachable = listing.error.is_none();
            changed |= self.reader.read(&listing);
            // Files that changed together, as those of a ConfigMap do, count together.
            let after = folder::list(self.reader.folder());
            if after.agrees_with(&listing) {
                break;
            }
            listing = after;
        }
        seen.unreadable = self.reader.has_unreadable();
        seen.snapshot = changed.then(|| self.reader.snapshot());
        (self, seen)
    }
}

/// How often a folder is read at a time that goes on changing meanwhile.
const MAX_READINGS: usize = 4;

fn check(folder: &Path) -> Result<(), FolderError> {
    let problem = match std::fs::read_dir(folder) {
        Ok(_) => return Ok(()),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            std::io::ErrorKind::NotADirectory => "is not a folder".to_owned(),
            _ => format!("cannot be read ({error})"),
        },
    };
    Err(FolderError { folder: folder.display().to_string(), problem })
}

#[cfg(test)]
mod tests;
