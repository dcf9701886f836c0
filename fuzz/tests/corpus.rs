//! Every file of the corpus through its target, on the stable toolchain, and variations of each that are
//! the same in every run. `make fuzz` goes on from there for as long as one likes.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use weft_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

thread_local! {
    /// Panics of this thread, those among them that a runtime has caught in one of its tasks.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the words of every panic for [`hold`].
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|all| all.push(panic.to_string()));
            before(panic);
        }));
    });
}

/// Fails when the target panics, or one of its tasks.
fn hold(target: fn(&[u8]), data: &[u8], told: &str) {
    let ended = catch_unwind(AssertUnwindSafe(|| target(data)));
    let panics = PANICS.take();
    assert!(ended.is_ok() && panics.is_empty(), "{told}: {panics:?}\n{}", data.escape_ascii());
}

/// Runs a target with its corpus and `variations` of each file.
fn smoke(name: &str, variations: usize) {
    watch_panics();
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(corpus().join(name)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} files of {name} only", files.len());
    for file in files {
        let data = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        hold(*target, &data, name);
        // A seed of its own for each file: no file's variations change with the files beside it.
        let mut random = Random::new(name);
        for variation in 0..variations {
            let (varied, how) = random.vary(&data);
            hold(*target, &varied, &format!("{name}, variation {variation}: {how}"));
        }
    }
}

/// Numbers that are the same in every run (xorshift, seeded by FNV-1a of a name).
struct Random(u64);

impl Random {
    fn new(name: &str) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
    }

    fn vary(&mut self, data: &[u8]) -> (Vec<u8>, String) {
        let mut varied = data.to_vec();
        let at = self.below(data.len());
        if data.is_empty() {
            return (vec![b' '], "a space".to_owned());
        }
        let how = match self.below(5) {
            0 => {
                varied.truncate(at);
                format!("cut behind {at} bytes")
            }
            1 => {
                varied[at] ^= 1 << self.below(8);
                format!("a bit of byte {at}")
            }
            2 => {
                let odd = [0, b'\n', b'\r', b' ', b'"', b'/', b':', 0x7f, 0x80, 0xff];
                varied[at] = odd[self.below(odd.len())];
                format!("another byte {at}")
            }
            3 => {
                varied.remove(at);
                format!("without byte {at}")
            }
            _ => {
                let end = data.len().min(at + 1 + self.below(32));
                let to = self.below(data.len());
                varied.splice(to..to, data[at..end].iter().copied());
                format!("bytes {at}..{end} once more at {to}")
            }
        };
        (varied, how)
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(corpus()), targets);
    assert_eq!(names(corpus().join("../fuzz_targets")), targets);
}

#[test]
fn manifests() {
    smoke("manifests", 8);
}

#[test]
fn routes() {
    smoke("routes", 15);
}

#[test]
fn request() {
    smoke("request", 2);
}

#[test]
fn answer() {
    smoke("answer", 40);
}

#[test]
fn detection() {
    smoke("detection", 40);
}

#[test]
fn admission() {
    smoke("admission", 100);
}

#[test]
fn path() {
    smoke("path", 200);
}

#[test]
fn a_panic_in_a_task_is_one_of_its_target() {
    watch_panics();
    let target: fn(&[u8]) = |_| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let task = tokio::spawn(async { panic!("on purpose") });
            assert!(task.await.is_err());
        });
    };
    let held = catch_unwind(|| hold(target, b"", "on purpose"));
    PANICS.take();
    assert!(held.is_err());
}
