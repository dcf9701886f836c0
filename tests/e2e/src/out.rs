//! What a run leaves for people to read: the figures that it measured, and files.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// The folder that `make e2e` collects a run's output in; without it, nothing is kept.
const FOLDER: &str = "WEFT_E2E_OUT";

/// A line of the table that a run ends with: what was measured, of which `asked` says what it should
/// be (empty where nothing is asked).
pub fn figure(what: &str, measured: &str, asked: &str) -> Result<()> {
    println!("{what}: {measured} (asked: {asked})");
    add("figures.tsv", &format!("{what}\t{measured}\t{asked}\n"))
}

/// How long a test took.
pub(crate) fn took(test: &str, time: Duration) -> Result<()> {
    println!("{test}: {:.1} s", time.as_secs_f32());
    add("seconds.tsv", &format!("{:.1}\t{test}\n", time.as_secs_f32()))
}

/// Keeps a file, in place of an earlier run's.
pub fn keep(name: &str, text: &str) -> Result<()> {
    let Some(path) = path(name) else { return Ok(()) };
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}

fn add(name: &str, line: &str) -> Result<()> {
    let Some(path) = path(name) else { return Ok(()) };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    // One write: tests run side by side.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.with_context(|| path.display().to_string())
}

fn path(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os(FOLDER)?).join(name))
}
