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

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use weft_bench::namespace::{FOLDER, shell};

use crate::proxy::Proxy;

/// The Service that Weft's clients dial.
pub(crate) const SERVICE: &str = "10.96.0.10";

/// The two cores that a bench needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// Of the proxy that is measured.
    pub(crate) proxy: usize,
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

/// Keeps the cores from halting as long as it is there: they poll for work, so that nobody has to wake them. To
/// wake a core of a virtual machine takes its host some ten microseconds, and a request through a proxy wakes
/// two of them twice: times would be the host's, the same for all proxies.
#[derive(Debug)]
pub(crate) struct Awake {
    _request: File,
}

impl Awake {
    /// By a request to the kernel's power management, which ends with the file: no core may take any time to
    /// be woken (<https://docs.kernel.org/power/pm_qos_interface.html>).
    pub(crate) fn request() -> Result<Awake> {
        let device = "/dev/cpu_dma_latency";
        let mut file = File::options().write(true).open(device).context(device)?;
        file.write_all(&0_i32.to_ne_bytes()).context(device)?;
        Ok(Awake { _request: file })
    }
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
