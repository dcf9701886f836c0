//! `make bench`: Weft and its peers on the same work, in a network namespace of its own.
//!
//! One core for the proxy that is measured, one for everything else. Runs of the proxies are
//! interleaved and repeated, each is checked for right answers, and what is compared are medians,
//! or quartiles of the slowest.

mod asked;
mod check;
mod load;
mod measure;
mod plot;
mod proxy;
mod report;
mod run;
mod work;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Runs Weft and its peers on the same work and writes what was seen.
#[derive(Debug, Parser)]
#[command(name = "weft-bench")]
struct Options {
    /// A few minutes instead of a quarter of an hour: fewer runs.
    #[arg(long)]
    quick: bool,
    /// Only measures whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Folder of the programs that were built.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// The sidecar, where it is not in that folder.
    #[arg(long, value_name = "FILE")]
    weft: Option<PathBuf>,
    /// Envoy's program.
    #[arg(long, value_name = "FILE")]
    envoy: PathBuf,
    /// Folder to write report.md, report.json and the plots to.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The second half, inside the namespaces.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.inside { inside(&options) } else { weft_bench::namespace::enter() };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn inside(options: &Options) -> Result<ExitCode> {
    weft_bench::namespace::end_with_parent();
    let cores = world::lay()?;
    let length = if options.quick { run::Length::QUICK } else { run::Length::FULL };
    let results = run::run(options, cores, length)?;
    report::write(&results, &options.out)?;
    Ok(ExitCode::SUCCESS)
}
