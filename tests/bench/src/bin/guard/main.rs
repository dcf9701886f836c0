//! `make bench-guard`: how many instructions a request takes in the proxy, beside a recorded figure.
//!
//! Times tell little on a machine that does other things too; instructions stay the same. The proxy
//! runs under valgrind, which counts those of the user's side, and client and backend are another
//! process, which it does not count ([`peer`]). Each kind of work runs twice, with few requests and
//! with many: the difference is the requests' alone. One request is under way at a time, so that
//! nothing depends on what arrives together.

mod peer;
mod serve;
#[path = "../../work.rs"]
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How far a figure may be from the recorded one, in per cent.
const TOLERANCE: f64 = 3.0;
const FEW: u32 = 300;
const MANY: u32 = 1300;

/// Counts instructions per request and compares them with recorded figures.
#[derive(Debug, Parser)]
#[command(name = "weft-bench-guard")]
struct Options {
    /// The recorded figures.
    #[arg(long, value_name = "FILE", default_value = "tests/bench/instructions.json")]
    recorded: PathBuf,
    /// Record the figures instead of comparing them.
    #[arg(long)]
    record: bool,
    /// Folder for callgrind's files, which callgrind_annotate shows.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// The part that is counted, for so many requests.
    #[arg(long, hide = true, num_args = 2, value_names = ["WORK", "REQUESTS"])]
    serve: Vec<String>,
    /// The part that is not counted.
    #[arg(long, hide = true, num_args = 2, value_names = ["WORK", "REQUESTS"])]
    peer: Vec<String>,
}

/// A kind of work; all match a header and are split 90/10, and every option is at its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Work {
    Http1,
    Http2ToHttp1,
    Http2,
    Grpc,
}

impl Work {
    fn client_http2(self) -> bool {
        self != Work::Http1
    }

    fn backend_http2(self) -> bool {
        matches!(self, Work::Http2 | Work::Grpc)
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The file of recorded figures.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    /// What `rustc --version` says: another compiler makes other code, whose figures say nothing.
    compiler: String,
    architecture: String,
    /// User-space instructions of the proxy per request.
    instructions: BTreeMap<Work, u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (options.serve.as_slice(), options.peer.as_slice()) {
        ([work, requests], _) => part(work, requests).and_then(|(w, r)| serve::serve(w, r)),
        (_, [work, requests]) => part(work, requests).and_then(|(w, r)| peer::run(w, r)),
        _ => guard(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-bench-guard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn part(work: &str, requests: &str) -> Result<(Work, u32)> {
    let work = Work::from_str(work, false).map_err(anyhow::Error::msg)?;
    Ok((work, requests.parse()?))
}

fn guard(options: &Options) -> Result<()> {
    let compiler = compiler()?;
    let architecture = std::env::consts::ARCH.to_owned();
    let mut instructions = BTreeMap::new();
    for work in Work::value_variants().iter().copied() {
        let (few, many) = (count(work, FEW, options)?, count(work, MANY, options)?);
        let each = many.saturating_sub(few) / u64::from(MANY - FEW);
        eprintln!("{:<16} {each:>8} instructions per request", work.name());
        instructions.insert(work, each);
    }
    let seen = Recorded { compiler, architecture, instructions };
    if options.record {
        std::fs::write(&options.recorded, serde_json::to_string_pretty(&seen)? + "\n")?;
        println!("recorded in {}", options.recorded.display());
        return Ok(());
    }
    let recorded = std::fs::read(&options.recorded);
    let recorded = recorded.with_context(|| options.recorded.display().to_string())?;
    let recorded: Recorded = serde_json::from_slice(&recorded)?;
    if (&recorded.compiler, &recorded.architecture) != (&seen.compiler, &seen.architecture) {
        println!(
            "not compared: the figures were recorded with {} for {}, and this is {} for {}",
            recorded.compiler, recorded.architecture, seen.compiler, seen.architecture
        );
        return Ok(());
    }
    compare(&recorded, &seen)
}

fn compare(recorded: &Recorded, seen: &Recorded) -> Result<()> {
    let mut off = Vec::new();
    for (work, now) in &seen.instructions {
        let Some(before) = recorded.instructions.get(work) else {
            off.push(format!("{} was never recorded", work.name()));
            continue;
        };
        let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
        if change.abs() > TOLERANCE {
            off.push(format!("{}: {before} before, {now} now ({change:+.1} %)", work.name()));
        }
    }
    ensure!(
        off.is_empty(),
        "instructions per request are more than {TOLERANCE} % off what was recorded:\n  {}\n\
         Where that is meant, or better than before: make bench-guard RECORD=1, and say why in the \
         commit.",
        off.join("\n  ")
    );
    println!("all within {TOLERANCE} % of what was recorded");
    Ok(())
}

/// All instructions of a run, its start included.
fn count(work: Work, requests: u32, options: &Options) -> Result<u64> {
    std::fs::create_dir_all(&options.out)?;
    let file = options.out.join(format!("callgrind.{}-{requests}", work.name()));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["--serve", &work.name(), &requests.to_string()])
        .output()
        .context("cannot start valgrind (Debian package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: the run has failed:\n{said}", work.name());
    total(&file)
}

/// `summary: 123456`, or `totals: 123456`, in callgrind's file.
fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:")));
    Ok(line.context("callgrind's file has no total")?.trim().parse()?)
}

fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
