//! What the files of a folder say and last said.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use weft_gamma::object::ObjectKey;

use super::document::{self, Content, Parsed};
use super::folder::{Listing, Stamp};
use crate::source::{Snapshot, SourceProblem};

/// The files of a folder, of which only those that changed are read again.
#[derive(Debug)]
pub(super) struct Reader {
    folder: PathBuf,
    files: BTreeMap<PathBuf, FileState>,
    /// Problems with folders rather than with files.
    problems: Vec<SourceProblem>,
    has_read: bool,
}

/// A file as it was read last.
#[derive(Debug)]
struct FileState {
    /// None where the file could not be read.
    stamp: Option<Stamp>,
    /// Of the bytes; None where the file could not be read.
    hash: Option<u64>,
    /// The file was written so shortly before it was read that another write could look the same.
    unsettled: bool,
    /// Something in it could not be read.
    unreadable: bool,
    /// What is in force: what the file says and, while it is unreadable, what it last said.
    content: Content,
}

impl Reader {
    pub(super) fn new(folder: &Path) -> Reader {
        Reader {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
            problems: Vec::new(),
            has_read: false,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads what has changed. True where there is something new to say, and the first time.
    pub(super) fn read(&mut self, listing: &Listing) -> bool {
        let problems = folder_problems(&self.folder, listing);
        let mut changed = !self.has_read || problems != self.problems;
        self.has_read = true;
        self.problems = problems;
        if listing.error.is_some() {
            // What the files last said stays in force.
            return changed;
        }
        self.files.retain(|path, _| {
            let hidden = listing.unreadable.iter().any(|(folder, _)| path.starts_with(folder));
            let stays = hidden || listing.files.contains_key(path);
            changed |= !stays;
            stays
        });
        for (path, stamp) in &listing.files {
            let stamp = stamp.as_ref().copied();
            let stamp = stamp.map_err(|error| io::Error::new(error.kind(), error.to_string()));
            changed |= self.read_file(path.clone(), stamp);
        }
        changed
    }

    /// Whether something should be tried again soon.
    pub(super) fn has_unreadable(&self) -> bool {
        !self.problems.is_empty() || self.files.values().any(|file| file.unreadable)
    }

    /// All objects; of two that have the same name, the one in the first file.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { problems: self.problems.clone(), ..Snapshot::default() };
        let mut owners: HashMap<&ObjectKey, (&Path, usize)> = HashMap::new();
        for (path, file) in &self.files {
            let Content { objects, lines, problems } = &file.content;
            snapshot.problems.extend(problems.iter().cloned());
            for (key, line) in lines {
                let owner = *owners.entry(key).or_insert((path, *line));
                if owner != (path, *line) {
                    snapshot.problems.push(document::duplicate(path, *line, key, owner));
                }
            }
            document::add_missing(&mut snapshot.objects, objects);
        }
        if owners.is_empty() && snapshot.problems.is_empty() {
            let message = "holds no Services and no routes, so everything is passed through: put \
                           manifests that end in .yaml, .yml or .json into it";
            snapshot.problems.push(of_file(&self.folder, message));
        }
        snapshot
    }

    /// The file and the line that each object in force begins in.
    pub(super) fn places(&self) -> BTreeMap<ObjectKey, (PathBuf, usize)> {
        let mut places = BTreeMap::new();
        for (path, file) in &self.files {
            for (key, line) in &file.content.lines {
                places.entry(key.clone()).or_insert_with(|| (path.clone(), *line));
            }
        }
        places
    }

    /// True where the file says something else than before.
    fn read_file(&mut self, path: PathBuf, stamp: io::Result<Stamp>) -> bool {
        let known = self.files.get_mut(&path);
        if let (Some(known), Ok(stamp)) = (&known, &stamp)
            && known.stamp == Some(*stamp)
            && !known.unsettled
            && !known.unreadable
        {
            return false;
        }
        let read = stamp.and_then(|stamp| Ok((stamp, read_bytes(&path)?)));
        let (stamp, bytes) = match read {
            Ok((stamp, bytes)) => (Some(stamp), Ok(bytes)),
            // Gone since the folder was listed, and maybe the folder with it: the next listing tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(&path) => {
                return false;
            }
            Err(error) => (None, Err(error)),
        };
        let hash = bytes.as_ref().ok().map(|bytes| hash(bytes));
        let unsettled = stamp.is_some_and(is_unsettled);
        if let Some(known) = known
            && known.hash == hash
            && hash.is_some()
        {
            known.stamp = stamp;
            known.unsettled = unsettled;
            return false;
        }
        let before = self.files.get(&path).map(|known| &known.content);
        let Parsed { content, unreadable } = parse(&path, bytes, before);
        let changed =
            hash.is_some() || before.is_none_or(|before| before.problems != content.problems);
        self.files.insert(path, FileState { stamp, hash, unsettled, unreadable, content });
        changed
    }
}

/// What a file says. While some of it cannot be read, what is missing is taken from what it said
/// before.
fn parse(path: &Path, bytes: io::Result<Vec<u8>>, before: Option<&Content>) -> Parsed {
    let held_objects = before.is_some_and(|before| !before.lines.is_empty());
    let mut parsed = match bytes {
        Err(error) => Parsed::unreadable(of_file(path, &error.to_string())),
        // Nobody wants a file without a byte: it is about to be written.
        Ok(bytes) if bytes.is_empty() && held_objects => {
            Parsed::unreadable(of_file(path, "is empty; delete it if its objects shall go"))
        }
        // A parser that panics on one file must not hide the others.
        Ok(bytes) => catch_unwind(|| document::parse(path, &bytes)).unwrap_or_else(|_| {
            let message = "cannot be read: its parser failed, which is a bug in Weft";
            Parsed::unreadable(of_file(path, message))
        }),
    };
    if let Some(before) = before
        && parsed.unreadable
    {
        parsed.content.keep(before);
    }
    parsed
}

fn folder_problems(folder: &Path, listing: &Listing) -> Vec<SourceProblem> {
    let of_folder = |folder: &Path, error: &io::Error| {
        let kept = "what its files last said stays in force";
        of_file(folder, &format!("the folder cannot be read: {error}; {kept}"))
    };
    let whole = listing.error.iter().map(|error| of_folder(folder, error));
    let parts = listing.unreadable.iter().map(|(folder, error)| of_folder(folder, error));
    whole.chain(parts).collect()
}

fn of_file(file: &Path, message: &str) -> SourceProblem {
    SourceProblem {
        file: Some(file.to_owned()),
        line: None,
        object: None,
        field: String::new(),
        message: message.to_owned(),
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("has more than {} MiB: split it", MAX_FILE_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Some ten thousand routes with their endpoints.
const MAX_FILE_BYTES: u64 = 64 << 20;

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

/// Times of files are as coarse as two seconds on some file systems, and clocks of file servers
/// differ: what may have been written once more within that time is read once more.
fn is_unsettled(stamp: Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    now.saturating_sub(stamp.last_change()) < SETTLED_AFTER_SECONDS
}

const SETTLED_AFTER_SECONDS: i64 = 3;
