//! Anonymous namespaces: the lab's own, and one network namespace for each client pod.
//!
//! A namespace lives exactly as long as its keeper, a `cat` that waits for the end of its standard
//! input. Only this process holds the other end of that pipe: whatever ends this process, a panic,
//! Ctrl-C or `kill -9`, closes it, the keeper leaves, and as the lab's keeper is process 1 of its
//! process namespace the kernel ends everything that was started inside. Nothing has a name on the
//! host, so nothing can be left behind and any number of labs can stand beside each other.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::process::child_of;

/// Where the lab's folder is seen from inside of it. The tmpfs goes with the namespace.
pub const FOLDER: &str = "/run/weft";

/// Debian keeps iptables and ip where an ordinary user's PATH does not reach.
const PATH: &str = "/run/weft/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As whom a command runs inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The namespace's root with every capability: what lays the network.
    Root,
    /// Root with NET_ADMIN and NET_RAW only: what `weft-init` has in a pod.
    Init,
    /// uid and gid 65101 without any capability: what `weft-proxy` has in a pod.
    Proxy,
    /// An ordinary user: the application's container.
    Application,
}

impl User {
    /// The words before the command that make it run as this user.
    fn prefix(self) -> &'static [&'static str] {
        match self {
            User::Root => &[],
            User::Init => {
                &["setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_admin,+net_raw"]
            }
            User::Proxy => &[
                "setpriv",
                "--reuid=65101",
                "--regid=65101",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--no-new-privs",
            ],
            User::Application => &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"],
        }
    }
}

/// A set of namespaces that commands can enter; ended when dropped.
pub(super) struct Namespace {
    keeper: Child,
    /// The keeper inside, by its pid on this side.
    pid: u32,
    /// The keeper by its pid inside.
    inner_pid: u32,
    rootless: bool,
}

impl Namespace {
    /// New network, mount and process namespaces with a bridge and a tmpfs folder; as an ordinary
    /// user inside a new user namespace.
    pub(super) fn isolated(setup: &str) -> Result<Namespace> {
        let rootless = !nix::unistd::geteuid().is_root();
        let mut command = Command::new("unshare");
        if rootless {
            // Ranges from /etc/subuid: the proxy and the application have uids of their own.
            command.args(["--user", "--map-root-user", "--map-auto"]);
        }
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        clean_environment(&mut command);
        Namespace::keep(command, setup, rootless).with_context(|| privilege_hint(rootless))
    }

    /// A client pod's namespaces inside this lab: its own network and mounts, the same processes.
    pub(super) fn pod(&self, setup: &str) -> Result<Namespace> {
        let mut command = self.command(User::Root, "unshare");
        command.args(["--net", "--mount"]);
        Namespace::keep(command, setup, self.rootless)
    }

    /// Starts the keeper and waits until its set-up script has passed.
    fn keep(mut command: Command, setup: &str, rootless: bool) -> Result<Namespace> {
        // `cat` and not the shell: it never reads ahead and has nothing else to do.
        let script = format!("set -e\n{setup}\necho ready $$\nexec cat >/dev/null\n");
        let mut keeper = command
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start unshare (Debian package util-linux)")?;
        let stdout = keeper.stdout.take().context("no standard output")?;
        let Some(inner_pid) = ready_line(stdout) else {
            drop(keeper.stdin.take());
            let mut message = String::new();
            if let Some(mut stderr) = keeper.stderr.take() {
                let _unreadable = stderr.read_to_string(&mut message);
            }
            let status = keeper.wait()?;
            bail!("the namespace was not made ({status}): {}", message.trim());
        };
        let pid = child_of(keeper.id()).context("the keeper has left already")?;
        Ok(Namespace { keeper, pid, inner_pid, rootless })
    }

    /// A command that runs in these namespaces as `user`, with an environment of its own.
    pub(super) fn command(&self, user: User, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", "--mount", "--pid"]);
        if self.rootless {
            command.arg("--user");
        }
        command.arg("--").args(user.prefix()).arg(program);
        clean_environment(&mut command);
        command
    }

    /// Runs a shell script as root inside and returns what it printed.
    pub(super) fn script(&self, script: &str) -> Result<String> {
        let output = self
            .command(User::Root, "sh")
            .args(["-e", "-c", script])
            .stdin(Stdio::null())
            .output()
            .context("cannot start nsenter (Debian package util-linux)")?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            bail!("{}\nfailed with {}: {}", script.trim(), output.status, message.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The lab's folder as this process reaches it.
    pub(super) fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{FOLDER}", self.pid))
    }

    /// The keeper's pid as processes inside see it: names the namespace for `ip link`.
    pub(super) fn inner_pid(&self) -> u32 {
        self.inner_pid
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _already_gone = self.keeper.wait();
    }
}

/// The keeper's `ready PID` line; `None` when it left without one.
fn ready_line(stdout: ChildStdout) -> Option<u32> {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).ok()?;
    line.trim().strip_prefix("ready ")?.parse().ok()
}

/// The caller's environment stays outside: an `http_proxy` would send curl elsewhere.
fn clean_environment(command: &mut Command) {
    command.env_clear().env("PATH", PATH).env("HOME", "/tmp").env("LANG", "C.UTF-8");
    if let Ok(backtrace) = std::env::var("RUST_BACKTRACE") {
        command.env("RUST_BACKTRACE", backtrace);
    }
    command.current_dir("/");
}

fn privilege_hint(rootless: bool) -> &'static str {
    if rootless {
        "the lab needs network namespaces: as an ordinary user it takes user namespaces \
         (kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0), the packages uidmap, \
         util-linux and iproute2, and a range for you in /etc/subuid and /etc/subgid; \
         or run the same command with sudo"
    } else {
        "the lab needs network namespaces: root without CAP_SYS_ADMIN (in a container, say) cannot \
         make them; run the container with --privileged, or the packages util-linux and iproute2 \
         are missing"
    }
}
