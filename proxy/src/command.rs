//! The command line: what the program is asked to do. Without a command it is the sidecar.

pub(crate) mod explain;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

pub use self::explain::ExplainOptions;

use crate::check::CheckOptions;
use crate::config::Config;

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Be the sidecar.
    Run(Box<Config>),
    Explain(ExplainOptions),
    Check(CheckOptions),
}

impl Command {
    /// From the command line and the environment; prints what is wrong, or the help, and exits.
    pub fn from_environment() -> Self {
        Self::of(&definition().get_matches()).unwrap_or_else(|error| error.exit())
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some(("explain", matches)) => {
                ExplainOptions::from_arg_matches(matches).map(Self::Explain)
            }
            Some((_, matches)) => CheckOptions::from_arg_matches(matches).map(Self::Check),
            None => Config::from_arg_matches(matches).map(|config| Self::Run(Box::new(config))),
        }
    }
}

/// The sidecar's options, and the commands beside it.
fn definition() -> clap::Command {
    Config::command()
        .subcommand(ExplainOptions::command())
        .subcommand(CheckOptions::command())
        .subcommand_help_heading("Instead of running")
        .disable_help_subcommand(true)
        // What the sidecar needs, they do not.
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
}

#[cfg(test)]
mod tests;
