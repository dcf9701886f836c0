//! Logs: what happens to the sidecar (standard error) and, if wanted, a line for each request and for
//! each connection that passes unread (standard output, [`access`]).
//!
//! [`init`] is called once, by `main`. The level can be changed while the sidecar runs.

mod access;

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

pub use self::access::{AccessLog, AccessRecord, ConnectionRecord};

use crate::config::{Config, LogFormat};

/// Changes what is logged. Clones change the same log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// The level, or levels by module, in force.
    pub fn current(&self) -> String {
        self.filter.with_current(EnvFilter::to_string).unwrap_or_default()
    }

    /// Takes the level, or levels by module, from now on; changes nothing where they make no sense.
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        let filter = parse_level(level)?;
        // Fails only after the log has gone, at the process's end.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

/// A level that cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{level}\" is no log level: write error, warn, info, debug, trace or off, or levels by \
     module as in info,weft_proxy::source=debug{detail}"
)]
pub struct LevelError {
    level: String,
    detail: String,
}

/// Starts to log as the configuration says.
pub fn init(config: &Config) -> anyhow::Result<LogHandle> {
    let filter = parse_level(&config.log_level)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(colours()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let lines = lines.with_filter(filter_fn(is_news));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .context("the log was started twice")?;
    Ok(LogHandle { filter: handle })
}

/// Understands a level or levels by module.
pub(crate) fn parse_level(text: &str) -> Result<EnvFilter, LevelError> {
    let refuse = |detail: String| LevelError { level: text.to_owned(), detail };
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    for directive in &directives {
        // The filter's own parser takes a lone word that is no level for the name of a module, and
        // logs nothing else from then on: a misspelt level would silence the log.
        let is_word = !directive.contains(['=', ':', '[', ']', '{', '}']);
        let is_level = !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
        if is_word && !is_level {
            return Err(refuse(String::new()));
        }
    }
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| refuse(format!(" ({error})")))
}

/// The API server's client complains of every attempt and every connection that breaks, in each
/// sidecar of a cluster whose API server is away. The source tells what that means, once. And h2 complains
/// of every peer that misuses a connection, so that it could fill the log: metrics count them.
fn is_news(metadata: &Metadata<'_>) -> bool {
    let is_complaint = |of: &str| metadata.target().starts_with(of);
    *metadata.level() > Level::WARN || !["kube_client", "h2::"].into_iter().any(is_complaint)
}

fn colours() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
pub(crate) use self::tests::handle as test_handle;

#[cfg(test)]
mod tests;
