//! The proxies, how each is started, and what each can do.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use weft_bench::namespace::{FOLDER, shell};
use weft_bench::process::Process;

use crate::Options;
use crate::measure::Work;
use crate::world::{Cores, SERVICE};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proxy {
    Weft,
    Envoy,
    Haproxy,
    Nginx,
    /// hyper's server joined to hyper's client.
    Floor,
    /// The backend itself: what there is to add to.
    Direct,
}

impl Proxy {
    /// Those that are processes, in the order in which they are shown.
    pub(crate) const PROCESSES: [Proxy; 5] =
        [Proxy::Weft, Proxy::Envoy, Proxy::Haproxy, Proxy::Nginx, Proxy::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Proxy::Weft => "weft",
            Proxy::Envoy => "envoy",
            Proxy::Haproxy => "haproxy",
            Proxy::Nginx => "nginx",
            Proxy::Floor => "floor",
            Proxy::Direct => "direct",
        }
    }

    /// Its first port, less one; None where no redirect of the bench leads to it.
    pub(crate) fn ports(self) -> Option<u16> {
        match self {
            Proxy::Envoy => Some(11000),
            Proxy::Haproxy => Some(12000),
            Proxy::Nginx => Some(13000),
            Proxy::Floor => Some(14000),
            Proxy::Weft | Proxy::Direct => None,
        }
    }

    /// The address that its clients dial.
    pub(crate) fn address(self) -> String {
        match self {
            Proxy::Weft => SERVICE.to_owned(),
            Proxy::Direct => crate::work::BACKEND.to_string(),
            peer => format!("10.97.0.{}", peer as u8),
        }
    }

    /// Where it takes a kind of work; None where it cannot do it.
    pub(crate) fn target(self, work: Work) -> Option<String> {
        let able = match (self, work) {
            (Proxy::Direct, work) => work == Work::Http1,
            // Its only HTTP/2 towards backends is gRPC's; its streams are a module of its own.
            (Proxy::Nginx, work) => !matches!(work, Work::Http2 | Work::Tcp),
            (Proxy::Floor, work) => work != Work::Tcp,
            _ => true,
        };
        let port = if self == Proxy::Direct { 9012 } else { work.port() };
        able.then(|| format!("{}:{port}", self.address()))
    }

    /// Starts it, pinned to the core that is measured.
    pub(crate) fn start(self, options: &Options, cores: Cores) -> Result<Process> {
        let core = cores.proxy.to_string();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &core]);
        let peers = peers()?;
        match self {
            Proxy::Weft => {
                // As in a pod: a uid of its own, no capabilities; every option at its default but
                // the number of threads, which is everybody's.
                command.args(["setpriv", "--reuid=65101", "--regid=65101", "--clear-groups"]);
                command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
                command.arg(format!("{FOLDER}/weft-proxy"));
                command.args(["--manifests", &format!("{FOLDER}/weft"), "--namespace", "default"]);
                command.args(["--workers", "1"]);
            }
            Proxy::Envoy => {
                command.arg(&options.envoy).arg("-c").arg(peers.join("envoy.yaml"));
                command.args(["--concurrency", "1", "--disable-hot-restart"]);
                command.args(["--log-level", "error"]);
            }
            Proxy::Haproxy => {
                command.args(["haproxy", "-db", "-f"]).arg(peers.join("haproxy.cfg"));
            }
            Proxy::Nginx => {
                command.args(["nginx", "-p", &format!("{FOLDER}/nginx"), "-c"]);
                command.arg(peers.join("nginx.conf"));
            }
            Proxy::Floor => {
                command.arg(options.programs.join("weft-bench-floor"));
            }
            Proxy::Direct => anyhow::bail!("the backend is started by itself"),
        }
        let mut process = Process::start(self.name(), command)?;
        process.wait_until(|| self.listens())?;
        Ok(process)
    }

    fn listens(self) -> bool {
        match self.ports() {
            Some(base) => is_open(base + 1),
            None => get_status("127.0.0.1:15020", "/readyz").is_ok_and(|status| status == 200),
        }
    }
}

/// The backend, on the core of the load.
pub(crate) fn start_backend(options: &Options) -> Result<Process> {
    let command = Command::new(options.programs.join("weft-bench-backend"));
    let mut process = Process::start("backend", command)?;
    process.wait_until(|| is_open(crate::work::COUNTS))?;
    Ok(process)
}

/// Puts Weft's program and manifests where its user can read them, and writes its redirect rules.
pub(crate) fn prepare_weft(options: &Options) -> Result<()> {
    let manifests = folder()?.join("weft");
    let programs = &options.programs;
    let weft = options.weft.clone().unwrap_or_else(|| programs.join("weft-proxy"));
    shell(&format!(
        "install -m 0755 '{}' {FOLDER}/weft-proxy\n\
         install -m 0644 '{}'/*.yaml {FOLDER}/weft/\n\
         '{}/weft-init' --service-cidrs 10.96.0.0/16",
        weft.display(),
        manifests.display(),
        programs.display(),
    ))
    .context("weft-init")
}

/// The files of the bench in the checkout.
fn folder() -> Result<std::path::PathBuf> {
    Path::new("tests/bench").canonicalize().context("run it at the top of the checkout")
}

fn peers() -> Result<std::path::PathBuf> {
    Ok(folder()?.join("peers"))
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// The status of a GET.
fn get_status(address: &str, path: &str) -> Result<u16> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split_whitespace().nth(1).context("no status")?;
    Ok(status.parse()?)
}
