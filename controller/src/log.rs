//! Logs, to standard error.

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{Config, LogFormat};

/// Starts to log as the configuration says. `main` calls it once.
pub fn init(config: &Config) -> anyhow::Result<()> {
    // The client library tells every failed attempt; we tell what it means, once.
    let levels = format!("kube_client=off,kube_runtime=off,{}", config.log_level);
    let filter = EnvFilter::builder().parse(levels).context("--log-level")?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(colours()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry().with(filter).with(lines);
    registry.try_init().context("the log was started twice")
}

/// Checks a level, or levels by module.
pub(crate) fn level(text: &str) -> Result<String, String> {
    for directive in text.split(',').map(str::trim) {
        // The filter takes a lone word that is no level for the name of a module, and logs nothing
        // else from then on: a misspelt level would silence the log.
        let is_lone_word = !directive.contains(['=', '[', ':']);
        if is_lone_word && (directive.is_empty() || directive.parse::<LevelFilter>().is_err()) {
            let levels = "error, warn, info, debug, trace or off";
            return Err(format!(
                "write {levels}, or levels by module as in info,weft_controller::watch=debug"
            ));
        }
    }
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn colours() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
