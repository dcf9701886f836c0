//! The place where everything runs: namespaces of the bench's own, a pod's redirect rules, two cores.
//!
//! ```text
//!   load ──► 10.96.0.10:8001 ──REDIRECT by weft-init──────► weft-proxy 127.0.0.1:15001 ──┐
//!   load ──► 10.97.0.N:8001  ──REDIRECT, one for a port───► a peer     127.0.0.1:1N001 ──┤
//!   load ──► 10.244.0.1:9012 (nothing between) ──────────────────────────────────────────┴► backend
//! ```
//!
//! All proxies are reached through a REDIRECT, as a sidecar is, so that what the kernel does for it
//! is in everybody's figures. The namespace has no uplink.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::proxy::Proxy;

/// Where the files of a run lie. A tmpfs of the namespace's own, gone with it.
pub(crate) const FOLDER: &str = "/run/weft-bench";

/// The Service that Weft's clients dial.
pub(crate) const SERVICE: &str = "10.96.0.10";

/// Debian keeps iptables and the servers where an ordinary user's PATH does not reach.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The two cores that a bench needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// Of the proxy that is measured.
    pub(crate) proxy: usize,
}

/// Runs this program again inside of new namespaces; they end with it.
pub(crate) fn enter() -> Result<ExitCode> {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        // Ranges from /etc/subuid: weft-proxy has a uid of its own.
        command.args(["--user", "--map-root-user", "--map-auto"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg("--inside");
    command.env("PATH", PATH);
    let status = command.status().context("cannot start unshare (Debian package util-linux)")?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => bail!("ended by signal {}", status.signal().unwrap_or(0)),
    }
}

/// Lays network and files, and moves this process, and with it all that it starts, to the core of
/// the load.
pub(crate) fn lay() -> Result<Cores> {
    let cores = cores()?;
    shell(&format!(
        "mount -t tmpfs -o mode=0755 weft /run\n\
         mkdir -p -m 0755 {FOLDER}/nginx {FOLDER}/weft {FOLDER}/logs\n\
         ip link set lo up\n\
         ip link add eth0 type veth peer name eth1\n\
         ip addr add 10.244.0.1/16 dev eth0\n\
         ip link set eth0 up\n\
         ip link set eth1 up\n\
         ip route add 10.96.0.0/15 dev eth0\n\
         echo 1024 65000 > /proc/sys/net/ipv4/ip_local_port_range\n\
         echo 4096 > /proc/sys/net/core/somaxconn\n\
         ulimit -n"
    ))
    .context("laying the bench's network")?;
    Ok(cores)
}

/// Redirects each peer's address to it, a port for each kind of work.
pub(crate) fn redirect(proxies: &[Proxy]) -> Result<()> {
    let mut rules = String::from("*nat\n");
    for proxy in proxies {
        let Some(base) = proxy.ports() else { continue };
        for port in 1..=5 {
            rules += &format!(
                "-A OUTPUT -d {}/32 -p tcp --dport {} -j REDIRECT --to-ports {}\n",
                proxy.address(),
                8000 + port,
                base + port
            );
        }
    }
    rules += "COMMIT\n";
    std::fs::write(Path::new(FOLDER).join("rules"), rules)?;
    shell(&format!("iptables-restore --noflush < {FOLDER}/rules")).context("redirecting peers")
}

/// Runs a script to its end.
pub(crate) fn shell(script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-euc", script]).output().context("cannot start sh")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn cores() -> Result<Cores> {
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own)?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    let (Some(load), Some(proxy)) = (cores.next(), cores.next()) else {
        bail!("two cores are needed: one for the proxy, one for load and backend");
    };
    let mut set = CpuSet::new();
    set.set(load)?;
    sched_setaffinity(own, &set)?;
    Ok(Cores { proxy })
}
