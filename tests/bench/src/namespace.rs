//! Namespaces of a run's own, in which everything that it starts stands and ends.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

/// Where the files of a run lie. A tmpfs of the namespace's own, gone with it.
pub const FOLDER: &str = "/run/weft-bench";

/// Debian keeps iptables and the servers where an ordinary user's PATH does not reach.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs this program again inside of new namespaces; they end with it, and it ends with this one: see
/// [`end_with_parent`].
pub fn enter() -> Result<ExitCode> {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        // Ranges from /etc/subuid: weft-proxy has a uid of its own.
        command.args(["--user", "--map-root-user", "--map-auto"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg("--inside");
    command.env("PATH", PATH);
    let child = command.stdin(Stdio::piped()).spawn();
    let mut child = child.context("cannot start unshare (Debian package util-linux)")?;
    // Open as long as this program runs, however it ends.
    let _held = child.stdin.take();
    let status = child.wait()?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => bail!("ended by signal {}", status.signal().unwrap_or(0)),
    }
}

/// Has the program inside end when the one outside does, by Ctrl-C for instance: what is first in a process
/// namespace gets no signal that it has no handler for, and `unshare` none while it waits.
pub fn end_with_parent() {
    thread::spawn(|| {
        // Nobody writes: it ends when its other end is closed.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        eprintln!("interrupted");
        std::process::exit(130);
    });
}

/// Runs a script to its end.
pub fn shell(script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-euc", script]).output().context("cannot start sh")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
