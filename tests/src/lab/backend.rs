//! A backend pod: one `weft-echo`, or a server of somebody else's, with a pod address of its own.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::manifest::PodRecord;
use super::namespace::User;
use super::process::Process;
use super::{Lab, START_LIMIT};

/// How long a pod may take to end in order.
const END_LIMIT: Duration = Duration::from_secs(60);

/// What a Deployment says: which pods to start.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The label `app`.
    pub app: String,
    /// The label `version`.
    pub version: String,
    /// The namespace of its pods.
    pub namespace: String,
    /// The port for HTTP/1, h2c and gRPC. The others are fixed: see [`Workload::ports`].
    pub http_port: u16,
    /// How long what is under way may take to finish after SIGTERM; with 0 the pod leaves at once.
    pub drain_seconds: u32,
}

impl Workload {
    /// A workload that serves HTTP on 8080.
    pub fn new(app: &str, version: &str, namespace: &str) -> Workload {
        let (app, version, namespace) = (app.to_owned(), version.to_owned(), namespace.to_owned());
        Workload { app, version, namespace, http_port: 8080, drain_seconds: 0 }
    }

    /// The same on another HTTP port.
    #[must_use]
    pub fn on_port(mut self, http_port: u16) -> Workload {
        self.http_port = http_port;
        self
    }

    /// The same with an orderly end.
    #[must_use]
    pub fn draining(mut self, seconds: u32) -> Workload {
        self.drain_seconds = seconds;
        self
    }

    /// The container's ports by the names that a Service's `targetPort` may use.
    pub fn ports(&self) -> BTreeMap<String, u16> {
        let fixed = [("tls", 8443), ("raw", 8081), ("tcp-banner", 9090), ("tcp-echo", 9091)];
        let http = [("http", self.http_port), ("grpc", self.http_port)];
        fixed.iter().chain(&http).map(|(name, port)| ((*name).to_owned(), *port)).collect()
    }
}

/// A running backend pod; ended when dropped.
pub struct Backend {
    /// The pod's name, which `weft-echo` puts into its answers.
    pub name: String,
    /// Its IPv4 and its IPv6 address.
    pub addresses: [String; 2],
    process: Mutex<Process>,
}

impl Backend {
    /// Starts `weft-echo` as the pod's process.
    pub(super) fn start(lab: &Lab, workload: &Workload, record: &PodRecord) -> Result<Backend> {
        let mut command = lab.command(User::Application, "weft-echo");
        command.args(["--service", &workload.app, "--version", &workload.version]);
        command.args(["--namespace", &workload.namespace, "--pod", &record.name]);
        command.args(["--bind", &record.addresses.join(",")]);
        command.args(["--drain-seconds", &workload.drain_seconds.to_string()]);
        for (name, port) in workload.ports() {
            if name != "grpc" {
                command.args([format!("--{name}"), port.to_string()]);
            }
        }
        Backend::run(lab, record, command)
    }

    /// Starts the pod's process; its addresses are on the bridge already.
    pub(super) fn run(lab: &Lab, record: &PodRecord, command: Command) -> Result<Backend> {
        let log = lab.folder().join("logs").join(format!("pod-{}", record.addresses[0]));
        let process = Process::start(&record.name, command, &log)?;
        let (name, addresses) = (record.name.clone(), record.addresses.clone());
        Ok(Backend { name, addresses, process: Mutex::new(process) })
    }

    /// Waits for `weft-echo`'s one line that says that all its ports listen.
    pub fn wait_ready(&self) -> Result<()> {
        self.process().wait_until(START_LIMIT, |process| process.stdout().contains("listening"))
    }

    /// Waits until somebody listens on a port of the lab's namespace.
    pub(super) fn wait_listening(&self, lab: &Lab, port: u16) -> Result<()> {
        let script = format!("ss --no-header --tcp --numeric --listening 'sport = :{port}'");
        let listens = |_: &Process| lab.world.script(&script).is_ok_and(|lines| !lines.is_empty());
        self.process().wait_until(START_LIMIT, listens)
    }

    /// Ends the process at once, as a crash does: its address stays and refuses connections.
    pub fn crash(&self) -> Result<()> {
        let mut process = self.process();
        process.signal(Signal::SIGKILL)?;
        process.wait(START_LIMIT)?;
        Ok(())
    }

    /// Asks the process to end, as the kubelet does, and waits until it has.
    pub fn terminate(&self) -> Result<()> {
        let mut process = self.process();
        process.signal(Signal::SIGTERM)?;
        process.wait(END_LIMIT)?;
        Ok(())
    }

    /// Its process's pid on this side.
    pub fn pid(&self) -> Result<u32> {
        self.process().pid()
    }

    /// What the process has printed; `weft-echo`: one line for each connection that it accepted.
    pub fn log(&self) -> String {
        self.process().stdout()
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
