//! The injector's own log, and the form of the log levels that it passes on to sidecars.

use anyhow::Context;
use clap::ValueEnum;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As the options of Weft's programs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// Starts to log to standard error. Called once, by `main`.
pub fn init(level: &str, format: LogFormat) -> anyhow::Result<()> {
    // The client library tells every failed attempt; we tell what it means.
    let filter = parse_level(&format!("kube_client=off,{level}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colours).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("the log was started twice")
}

/// A level that cannot be understood.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no log level: write error, warn, info, debug, trace or off, or levels by module as \
     in info,weft_proxy::source=debug"
)]
pub struct LevelError(String);

/// Understands a level or levels by module, as the sidecar does.
pub fn parse_level(text: &str) -> Result<EnvFilter, LevelError> {
    let refuse = || LevelError(text.to_owned());
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    for directive in &directives {
        // The filter's own parser takes a lone word that is no level for the name of a module, and
        // logs nothing else from then on: a misspelt level would silence the log.
        let is_word = !directive.contains(['=', ':', '[', ']', '{', '}']);
        if is_word && directive.parse::<LevelFilter>().is_err() {
            return Err(refuse());
        }
    }
    EnvFilter::builder().parse(directives.join(",")).map_err(|_| refuse())
}
