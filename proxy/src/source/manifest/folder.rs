//! Lists the manifests below a folder, without reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What there is below a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files that look like manifests, by path, in the order in which they count.
    pub(super) files: BTreeMap<PathBuf, io::Result<Stamp>>,
    /// The folders that could be listed, the topmost among them.
    pub(super) folders: BTreeMap<PathBuf, FolderId>,
    /// Folders below it that could not: nothing is known of what is in them.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
    /// Why the folder itself could not be listed.
    pub(super) error: Option<io::Error>,
}

impl Listing {
    /// Whether nothing changed between the two.
    pub(super) fn agrees_with(&self, other: &Listing) -> bool {
        let stamps = |listing: &Listing| {
            let files = listing.files.iter();
            files.map(|(path, stamp)| (path.clone(), stamp.as_ref().ok().copied())).collect()
        };
        let (mine, theirs): (Vec<_>, Vec<_>) = (stamps(self), stamps(other));
        mine == theirs
            && self.folders == other.folders
            && self.unreadable.len() == other.unreadable.len()
            && self.error.is_some() == other.error.is_some()
    }
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Seconds since 1970 of the last change that the file system knows of.
    pub(super) fn last_change(&self) -> i64 {
        self.modified.0.max(self.changed.0)
    }
}

/// Device and inode: a folder's identity, whatever its path.
pub(super) type FolderId = (u64, u64);

/// Lists a folder and all below it, following symbolic links. Names that begin with a dot are left
/// out: editors leave such files behind, and a mounted ConfigMap keeps its true files in such a
/// folder, to which the visible names are links.
pub(super) fn list(folder: &Path) -> Listing {
    let mut listing = Listing::default();
    let mut seen = BTreeSet::new();
    if let Err(error) = list_into(folder, 0, &mut seen, &mut listing) {
        listing.error = Some(error);
    }
    listing
}

/// Whether a name is one of a manifest.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let is_one = |ending: &&[u8]| name.len() > ending.len() && name.ends_with(ending);
    let endings: [&[u8]; 3] = [b".yaml", b".yml", b".json"];
    !name.starts_with(b".") && endings.iter().any(is_one)
}

fn list_into(
    folder: &Path,
    depth: usize,
    seen: &mut BTreeSet<FolderId>,
    listing: &mut Listing,
) -> io::Result<()> {
    let metadata = fs::metadata(folder)?;
    let id = (metadata.dev(), metadata.ino());
    // A link can lead to a folder that is read already, or back up.
    if !seen.insert(id) {
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Err(io::Error::other("it is too many folders deep"));
    }
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    listing.folders.insert(folder.to_owned(), id);
    // Which of two paths to the same folder counts shall not depend on the file system.
    let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
    names.sort();
    for name in names {
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let path = folder.join(&name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                match list_into(&path, depth + 1, seen, listing) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        listing.unreadable.push((path, error));
                    }
                    // Deleted meanwhile.
                    Ok(()) | Err(_) => {}
                }
            }
            _ if !is_manifest(&name) => {}
            Ok(metadata) if metadata.is_file() => {
                listing.files.insert(path, Ok(Stamp::of(&metadata)));
            }
            Ok(_) => {
                // To open a pipe would wait for its writer.
                let error = io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file");
                listing.files.insert(path, Err(error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(&path).is_ok() {
                    let message = "is a symbolic link that leads nowhere";
                    let error = io::Error::new(io::ErrorKind::NotFound, message);
                    listing.files.insert(path, Err(error));
                }
            }
            Err(error) => {
                listing.files.insert(path, Err(error));
            }
        }
    }
    // Else what was not found in it may only have moved away together with it.
    let metadata = fs::metadata(folder)?;
    if (metadata.dev(), metadata.ino()) == id {
        Ok(())
    } else {
        Err(io::Error::other("it was replaced while it was read"))
    }
}

const MAX_DEPTH: usize = 32;
