//! `weft-init`: see [`weft_init::config::Args`] for what it does and is told.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use weft_init::config::{Args, LogFormat};
use weft_init::run::run;

fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.log_format());
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: it is what `kubectl describe pod` shows of a container that failed.
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Args) -> Result<()> {
    let job = args.job().context("wrong options")?;
    run(&job, &mut io::stdout().lock())?;
    Ok(())
}

/// To standard error: standard output is for what `--dry-run` prints.
fn start_log(format: LogFormat) {
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
