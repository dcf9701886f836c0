//! One process inside the lab: its pid, its output, its end.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// A long-running process inside the lab; ended when dropped.
pub struct Process {
    name: String,
    /// `nsenter`, which waits for the process and hands on its exit status.
    outer: Child,
    /// The process itself, by its pid on this side; None where it had left before that was known.
    pid: Option<u32>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, which enters a namespace, with its output in the files
    /// `<log>.out` and `<log>.err`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let (stdout, stderr) = (log.with_added_extension("out"), log.with_added_extension("err"));
        let file = |path: &PathBuf| File::create(path).with_context(|| path.display().to_string());
        let outer = command
            .stdin(Stdio::null())
            .stdout(file(&stdout)?)
            .stderr(file(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut process = Process { name: name.to_owned(), outer, pid: None, stdout, stderr };
        let started = poll(Duration::from_secs(10), || {
            process.pid = child_of(process.outer.id());
            // It may have left already: that is for whoever waits for it.
            let left = process.outer.try_wait().is_ok_and(|status| status.is_some());
            (process.pid.is_some() || left).then_some(())
        });
        started.with_context(|| format!("{name} did not start: {}", process.stderr()))?;
        Ok(process)
    }

    /// What it has printed on standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has printed on standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Its pid on this side.
    pub fn pid(&self) -> Result<u32> {
        self.pid.with_context(|| format!("{} has left already", self.name))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        kill(pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Whether it still runs; its exit status when it does not.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.outer.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let outer = &mut self.outer;
        poll(limit, || outer.try_wait().ok().flatten())
            .with_context(|| format!("{} still runs after {limit:?}", self.name))
    }

    /// Waits until `ready` says so, or until the process has left.
    pub fn wait_until(&mut self, limit: Duration, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        while !ready(self) {
            if let Some(status) = self.exit_status()? {
                bail!("{} left with {status}:\n{}", self.name, tail(&self.stderr(), 30));
            }
            if start.elapsed() > limit {
                bail!("{} is not ready after {limit:?}:\n{}", self.name, tail(&self.stderr(), 30));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let value = self.status("VmRSS:")?;
        Ok(value.strip_suffix(" kB").context("VmRSS in kB")?.trim().parse::<u64>()? * 1024)
    }

    /// How many threads it has.
    pub fn threads(&self) -> Result<u64> {
        Ok(self.status("Threads:")?.parse()?)
    }

    /// The value of a line of /proc/PID/status.
    fn status(&self, name: &str) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.with_context(|| format!("no {name}"))?.trim().to_owned())
    }

    /// User and system CPU time spent so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        Ok(Duration::from(clock_getcpuclockid(pid)?.now()?).as_secs_f64())
    }

    /// How many descriptors it has open.
    pub fn open_descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()?))?.count())
    }

    /// The effective capabilities and the user ids of the process, as /proc tells them.
    pub fn credentials(&self) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let wanted = |line: &&str| line.starts_with("Cap") || line.starts_with("Uid");
        Ok(status.lines().filter(wanted).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.outer.try_wait(), Ok(None)) {
            if self.pid.is_some() {
                let _already_gone = self.signal(Signal::SIGKILL);
            } else {
                let _already_gone = self.outer.kill();
            }
            let _already_gone = self.outer.wait();
        }
    }
}

/// What a finished command has left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit status; 128 + n when signal n ended it.
    pub code: i32,
}

impl Output {
    /// Runs a command to its end.
    pub fn of(mut command: Command) -> Result<Output> {
        let output = command.stdin(Stdio::null()).output().context("cannot start nsenter")?;
        let signal = output.status.signal().unwrap_or(0);
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(128 + signal),
        })
    }

    /// Standard output when the command has succeeded.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit status {}: {}{}", self.code, self.stdout, self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

/// Asks again, with pauses that grow to 50 ms, until there is an answer or the time is over.
pub fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The first child of a process. `nsenter` and `unshare --fork` have exactly one.
pub(super) fn child_of(parent: u32) -> Option<u32> {
    let parent = parent.to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // `PID (name) STATE PPID …`: the name may hold spaces and parentheses.
        let ppid = stat.rsplit(')').next()?.split_whitespace().nth(1)?;
        (ppid == parent).then_some(pid)
    })
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A file's text; empty when there is none.
pub(super) fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
