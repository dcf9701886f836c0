//! The node of the cluster that Weft's scripts bring up, as somebody sees it who is logged in there.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const ENTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/enter");
const COMPONENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/node/component.sh");

/// Whether the cluster is the one that Weft's scripts bring up, and may be taken apart.
pub fn is_own() -> bool {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/cluster/kubeconfig");
    let same = |path: &str| std::fs::canonicalize(path).ok();
    std::env::var("KUBECONFIG")
        .is_ok_and(|path| same(&path).is_some_and(|it| Some(it) == same(own)))
}

/// Starts or stops a component: `component("stop", "apiserver")`.
pub fn component(action: &str, name: &str) -> Result<()> {
    // What is started goes on, and must not hold a pipe open that is read to its end here.
    let mut command = Command::new(ENTER);
    command.args(["--node", COMPONENT, action, name]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ensure!(command.status().context(ENTER)?.success(), "cannot {action} {name}");
    Ok(())
}

/// What a command on the node prints.
pub fn run(words: &[&str]) -> Result<String> {
    let mut command = Command::new(ENTER);
    let output = command.arg("--node").args(words).stdin(Stdio::null()).output().context(ENTER)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", words.join(" "), error.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The process that a container began with, as the node numbers it.
pub fn process_of(container_id: &str) -> Result<u32> {
    let tasks = run(&["ctr", "--namespace", "k8s.io", "tasks", "list"])?;
    let mut lines = tasks.lines().map(str::split_whitespace);
    let process = lines.find_map(|mut words| {
        (words.next() == Some(container_id)).then(|| words.next()?.parse().ok()).flatten()
    });
    process.with_context(|| format!("no process of container {container_id} in:\n{tasks}"))
}

/// Sends a signal to that process.
pub fn signal(container_id: &str, signal: &str) -> Result<()> {
    run(&["ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", signal, container_id])?;
    Ok(())
}
