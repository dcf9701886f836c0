//! Processes of a run: started, measured through /proc, ended with their handle.

use std::fs;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::namespace::FOLDER;

/// How long a process may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running program with its children; ended when dropped.
pub struct Process {
    pub name: String,
    child: Child,
}

impl Process {
    /// Starts a program; what it prints goes to a log that an error shows the end of.
    pub fn start(name: &str, mut command: Command) -> Result<Process> {
        let log = File::create(log_file(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Process { name: name.to_owned(), child })
    }

    /// Waits until `ready` says so.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !ready() {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} is not ready:\n{}", self.name, self.log());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// An error with what it has said, where it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended, {status}:\n{}", self.name, self.log()),
            None => Ok(()),
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(&self.name)).unwrap_or_default()
    }

    /// What it and its children have used of CPUs so far, in seconds, of the user's and the kernel's
    /// time. By the processes' clocks, which count what runs just now too: the files of proc(5) are up to
    /// a tick behind.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut used = Duration::ZERO;
        for pid in self.tree() {
            let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into()?))?;
            used += Duration::from(clock.now()?);
        }
        Ok(used.as_secs_f64())
    }

    /// Its resident memory with that of its children, in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        self.memory_mib("VmRSS:")
    }

    /// What of that is its own and no file's, in MiB: the program's pages are shared by all who run it.
    pub fn private_mib(&self) -> Result<f64> {
        self.memory_mib("RssAnon:")
    }

    /// The most that it and its children have had resident so far, in MiB.
    pub fn peak_mib(&self) -> Result<f64> {
        self.memory_mib("VmHWM:")
    }

    /// The sum of a line of proc(5), status.
    fn memory_mib(&self, field: &str) -> Result<f64> {
        let mut kib = 0;
        for pid in self.tree() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let figure = line.and_then(|line| line.split_whitespace().next());
            kib += figure.with_context(|| format!("no {field}"))?.parse::<u64>()?;
        }
        Ok(kib as f64 / 1024.0)
    }

    /// It and its children, and theirs.
    fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while next < pids.len() {
            let pid = pids[next];
            next += 1;
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        pids
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SIGTERM: nginx ends its worker then. What does not end is ended with the namespace.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}

fn log_file(name: &str) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/logs/{name}.log"))
}
