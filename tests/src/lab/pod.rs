//! A client pod: a network namespace of its own in which `weft-init` has run and `weft-proxy` runs,
//! with the users and capabilities that they have in a real pod.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};

use super::manifest::MARK;
use super::namespace::{FOLDER, Namespace, User};
use super::process::{Output, Process, poll, read_lossy, tail};
use super::tools::shell_quote;
use super::{SERVICE_CIDRS, START_LIMIT};

/// How a client pod is made.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// More arguments for `weft-init`.
    pub init: Vec<String>,
    /// More arguments for `weft-proxy`.
    pub proxy: Vec<String>,
    /// How many files `weft-proxy` may have open.
    pub files: Option<u32>,
    /// No `weft-init` and no `weft-proxy`: a pod outside of the mesh.
    pub plain: bool,
}

impl ClientOptions {
    /// With these arguments for `weft-proxy`.
    pub fn proxy(arguments: &[&str]) -> ClientOptions {
        let proxy = arguments.iter().map(|word| (*word).to_owned()).collect();
        ClientOptions { proxy, ..ClientOptions::default() }
    }

    /// With these arguments for `weft-init`.
    pub fn init(arguments: &[&str]) -> ClientOptions {
        let init = arguments.iter().map(|word| (*word).to_owned()).collect();
        ClientOptions { init, ..ClientOptions::default() }
    }
}

/// A client pod; its processes end when it is dropped.
pub struct Client {
    /// The Kubernetes namespace that the pod stands in.
    pub namespace: String,
    /// Its IPv4 and its IPv6 address.
    pub addresses: [String; 2],
    /// Above the namespace, so that it goes first.
    proxy: Mutex<Option<Process>>,
    pod: Namespace,
    log: PathBuf,
    hosts: PathBuf,
    logs: AtomicU32,
    options: ClientOptions,
}

impl Client {
    /// Lays the pod's network. `number` tells pods of a lab apart.
    pub(super) fn start(
        lab: &Namespace,
        namespace: &str,
        number: u8,
        options: &ClientOptions,
    ) -> Result<Client> {
        let name = format!("client-{number}");
        let hosts = format!("{FOLDER}/logs/{name}.hosts");
        let nobody_to_ask = format!("{FOLDER}/logs/resolv.conf");
        let pod = lab.pod(&format!(
            "touch {hosts} {nobody_to_ask}\n\
             mount --bind {hosts} /etc/hosts\n\
             mount --bind {nobody_to_ask} /etc/resolv.conf 2>/dev/null || true\n\
             echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || true\n\
             ip link set lo up"
        ))?;
        let addresses = [format!("10.244.2.{number}"), format!("fd00:10:244::2:{number:x}")];
        let [v4, v6] = &addresses;
        lab.script(&format!(
            "ip link add veth{number} type veth peer name eth0 netns {}\n\
             ip link set veth{number} master br0 up",
            pod.inner_pid()
        ))?;
        pod.script(&format!(
            "ip addr add {v4}/16 dev eth0\n\
             ip -6 addr add {v6}/64 dev eth0 nodad\n\
             ip link set eth0 up\n\
             ip route add default via 10.244.0.1\n\
             ip -6 route add default via fd00:10:244::1"
        ))?;
        let (log, hosts) = (lab.folder().join("logs").join(&name), lab.folder().join("logs"));
        Ok(Client {
            namespace: namespace.to_owned(),
            addresses,
            pod,
            proxy: Mutex::new(None),
            log,
            hosts: hosts.join(format!("{name}.hosts")),
            logs: AtomicU32::new(0),
            options: options.clone(),
        })
    }

    /// Runs `weft-init` as the pod's init container does.
    pub fn run_init(&self, more: &[&str]) -> Result<Output> {
        let mut command = self.pod.command(User::Init, "weft-init");
        command.args(["--service-cidrs", SERVICE_CIDRS]).args(&self.options.init).args(more);
        Output::of(command)
    }

    /// Starts `weft-proxy` as the pod's sidecar does, without waiting for it.
    pub fn start_proxy(&self) -> Result<()> {
        let mut command = match self.options.files {
            None => self.pod.command(User::Proxy, "weft-proxy"),
            Some(files) => {
                let mut command = self.pod.command(User::Proxy, "prlimit");
                command.args([&format!("--nofile={files}:{files}"), "weft-proxy"]);
                command
            }
        };
        command.args(["--manifests", &format!("{FOLDER}/manifests")]);
        command.args(["--namespace", &self.namespace]).args(&self.options.proxy);
        *self.slot() = Some(Process::start("weft-proxy", command, &self.log)?);
        Ok(())
    }

    /// Waits until the proxy listens and its source has answered once.
    pub fn wait_ready(&self) -> Result<()> {
        let ready = |_: &Process| {
            self.get("http://127.0.0.1:15020/readyz").is_ok_and(|output| output.code == 0)
        };
        self.with_proxy(|proxy| proxy.wait_until(START_LIMIT, ready))
    }

    /// A command of the application in this pod, not started yet.
    pub fn command(&self, program: &str) -> Command {
        self.pod.command(User::Application, program)
    }

    /// Starts a program of the application that goes on, with its output in a file of its own.
    pub fn start_program(&self, name: &str, words: &[impl AsRef<OsStr>]) -> Result<Process> {
        let mut command = self.command(name);
        command.args(words);
        Process::start(name, command, &self.fresh_log(name))
    }

    /// A command of the pod's root, not started yet.
    pub fn root_command(&self, program: &str) -> Command {
        self.pod.command(User::Root, program)
    }

    /// Runs a command of the application to its end, a minute at most.
    pub fn exec(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.command("timeout");
        command.args(["--kill-after=1", "60"]).args(words);
        Output::of(command)
    }

    /// Runs a shell script as the application.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.exec(&["sh", "-c", script])
    }

    /// Runs curl, quietly, as the application.
    pub fn curl(&self, arguments: &[&str]) -> Result<Output> {
        let mut words = vec!["curl", "--silent", "--show-error", "--max-time", "30"];
        words.extend(arguments);
        self.exec(&words)
    }

    /// The proxy's logs and access log, both streams.
    pub fn proxy_log(&self) -> String {
        read_lossy(&self.log.with_added_extension("err")) + &self.access_log()
    }

    /// What the proxy has printed on standard output: the access log.
    pub fn access_log(&self) -> String {
        read_lossy(&self.log.with_added_extension("out"))
    }

    /// The proxy's metrics as a scrape sees them.
    pub fn metrics(&self) -> Result<String> {
        self.get("http://127.0.0.1:15020/metrics")?.success().context("/metrics")
    }

    /// An answer of the proxy's admin port.
    pub fn admin(&self, path: &str) -> Result<String> {
        self.get(&format!("http://127.0.0.1:15000{path}"))?.success().context("admin port")
    }

    /// Whether the proxy's table was made from manifests with this mark or a later one.
    pub(super) fn serves_mark(&self, mark: u16) -> Result<bool> {
        let config: serde_json::Value = serde_json::from_str(&self.admin("/config")?)?;
        let destinations = config["destinations"].as_array().context("/config: destinations")?;
        Ok(destinations.iter().any(|one| {
            one["parent"] == MARK && one["port"].as_u64().is_some_and(|port| port >= mark.into())
        }))
    }

    /// Waits until the proxy's log holds a text.
    pub fn wait_log(&self, text: &str) -> Result<()> {
        poll(START_LIMIT, || self.proxy_log().contains(text).then_some(()))
            .with_context(|| format!("the log has no {text:?}:\n{}", tail(&self.proxy_log(), 40)))
    }

    /// Works with the proxy's process.
    pub fn with_proxy<T>(&self, work: impl FnOnce(&mut Process) -> Result<T>) -> Result<T> {
        work(self.slot().as_mut().context("no proxy runs in this pod")?)
    }

    /// Whether a proxy has been started in this pod.
    pub fn has_proxy(&self) -> bool {
        self.slot().is_some()
    }

    /// Writes the names that the cluster's DNS would know. In place, as the file is bind-mounted, and
    /// never emptied first: somebody may be looking a name up.
    pub(super) fn write_hosts(&self, text: &str) -> Result<()> {
        if read_lossy(&self.hosts) == text {
            return Ok(());
        }
        let mut hosts = fs::OpenOptions::new().write(true).open(&self.hosts)?;
        hosts.write_all(text.as_bytes()).context("the pod's /etc/hosts")?;
        Ok(hosts.set_len(text.len() as u64)?)
    }

    /// A log file of its own for one more process in this pod.
    pub(super) fn fresh_log(&self, name: &str) -> PathBuf {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        self.log.with_added_extension(format!("{name}-{number}"))
    }

    /// Runs an interactive shell in the pod, as its root.
    pub fn shell(&self, startup: &str) -> Result<()> {
        let mut command = self.pod.command(User::Root, "bash");
        let script = format!("exec bash --rcfile <(printf %s {}) -i", shell_quote(startup));
        command.args(["-c", &script]);
        command.env("TERM", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()));
        let status = command.status().context("cannot start a shell")?;
        ensure!(status.code().is_some(), "the shell was ended: {status}");
        Ok(())
    }

    fn get(&self, url: &str) -> Result<Output> {
        self.curl(&["--fail", "--max-time", "5", url])
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- weft-proxy in {} ({}), last lines ---\n{}",
                self.namespace,
                self.addresses[0],
                tail(&self.proxy_log(), 40)
            );
        }
    }
}
