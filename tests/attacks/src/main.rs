//! `make attacks`: the sidecar under attack, beside a client that behaves.
//!
//! A pod of the lab: `weft-proxy` behind the real REDIRECT with one worker, so that nobody is spared, an
//! attacker and a witness (both `weft-client`), a backend. Windows without and with the attack take turns.
//! What each cost the sidecar and the attacker, what the witness felt and what was left behind is in
//! `report.md` and `report.json`; the program fails where a figure that is asked is missed.

mod descriptors;
mod plan;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::plan::PLANS;
use crate::report::Report;
use crate::run::World;

/// Attacks the sidecar and tells what it costs.
#[derive(Debug, Parser)]
#[command(name = "weft-attacks")]
struct Options {
    /// Only attacks whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Folder to write report.md and report.json to.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weft-attacks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that is asked was met.
fn run(options: &Options) -> Result<bool> {
    let mut report = Report::begin();
    let world = World::lay()?;
    world.warm_up()?;
    for plan in PLANS.iter().filter(|plan| plan.kind.contains(&options.only)) {
        let row = world.attack(plan)?;
        eprintln!("{}", row.line());
        report.rows.push(row);
    }
    if descriptors::NAME.contains(&options.only) {
        let row = descriptors::run(&world)?;
        eprintln!("{}", row.line());
        report.rows.push(row);
    }
    report.write(&options.out)
}
