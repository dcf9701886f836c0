//! The chart, by the script that `make e2e` itself installs it with; and kubectl.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The folder of this checkout.
pub fn checkout() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs `tests/cluster/helm.sh`: `install`, `uninstall`, or `run` and arguments of helm's. `values`
/// are further arguments of an installation, after those of the run; its output, both streams.
pub async fn helm(arguments: &[&str], values: &str) -> Result<String> {
    let of_run = std::env::var("HELM_ARGS").unwrap_or_default();
    let output = Command::new(checkout().join("tests/cluster/helm.sh"))
        .args(arguments)
        .current_dir(checkout())
        .env("HELM_ARGS", format!("{of_run} {values}"))
        .kill_on_drop(true)
        .output();
    let output = output.await.context("tests/cluster/helm.sh")?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("helm.sh {} {values}: {}: {text}", arguments.join(" "), output.status);
    }
    Ok(text.into_owned())
}

/// What kubectl prints.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(checkout().join("tests/cluster/kubectl"));
    let output = command.args(arguments).kill_on_drop(true).output();
    let output = output.await.context("tests/cluster/kubectl")?;
    if !output.status.success() {
        bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
