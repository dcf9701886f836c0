//! The iptables programs of one rule engine and one family: find them, read with them, write with
//! them.
//!
//! `run` calls this, with inputs made by `plan`. The kernel has two engines, nft and legacy, and a
//! rule in either takes effect whatever the other one holds; so which programs were run matters,
//! and plain `iptables-restore` is used only after it has said which of the two it is.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;

use crate::capability::Capability;
use crate::cidr::Family;
use crate::diagnose::{advice, denied, one_line};
use crate::rules::OWN_CHAINS;
use crate::saved::Saved;

/// How long legacy iptables waits for another one to let go of its lock, in seconds. nft needs no
/// lock: its transactions are the kernel's.
const LOCK_WAIT_SECONDS: u32 = 10;

/// Where legacy iptables keeps its lock unless it is told otherwise.
const LOCK_FILE: &str = "/run/xtables.lock";

/// Where programs are looked for when the image sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// One of the kernel's two rule engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Nft,
    Legacy,
}

impl Backend {
    pub const ALL: [Backend; 2] = [Backend::Nft, Backend::Legacy];

    pub fn name(self) -> &'static str {
        match self {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The programs that read and write one family's rules in one engine.
#[derive(Debug)]
pub struct Tools {
    backend: Backend,
    save: PathBuf,
    restore: PathBuf,
}

impl Tools {
    /// Finds `iptables-nft-save` and the like, or plain `iptables-save` if it is of this engine.
    pub fn find(backend: Backend, family: Family) -> Result<Tools, ToolError> {
        let program = match family {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        };
        let pair = |stem: &str| {
            Some((
                find_program(&format!("{stem}-save"))?,
                find_program(&format!("{stem}-restore"))?,
            ))
        };
        let named = pair(&format!("{program}-{backend}"));
        let plain = || pair(program).filter(|(_, restore)| engine_of(restore) == Some(backend));
        let (save, restore) =
            named.or_else(plain).ok_or(ToolError::Missing { backend, program })?;
        Ok(Tools { backend, save, restore })
    }

    /// Every table that has been used. Does not make the kernel set up one, as asking for a
    /// table by name would.
    pub fn save(&self) -> Result<Saved, ToolError> {
        self.check_privilege()?;
        let output = command(&self.save)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ToolError::Run { program: self.save.clone(), source })?;
        check(&self.save, &output, "")?;
        let text = String::from_utf8_lossy(&output.stdout);
        // nft prints this for a table that it cannot put into iptables' words, and succeeds.
        let unreadable = OWN_CHAINS.map(|(table, _)| format!("`{table}' is incompatible"));
        if let Some(line) = text.lines().find(|line| unreadable.iter().any(|it| line.contains(it)))
        {
            return Err(ToolError::Incompatible {
                program: self.save.clone(),
                line: line.trim_start_matches('#').trim().to_owned(),
            });
        }
        Ok(Saved::parse(&text))
    }

    /// Carries out `input`: each table's part as a whole, or not at all.
    pub fn restore(&self, input: &str) -> Result<(), ToolError> {
        self.check_privilege()?;
        let run = |source| ToolError::Run { program: self.restore.clone(), source };
        let mut command = command(&self.restore);
        command.arg("--noflush");
        let lock = match self.backend {
            Backend::Nft => None,
            Backend::Legacy => {
                command.arg(format!("--wait={LOCK_WAIT_SECONDS}"));
                substitute_lock().map_err(ToolError::Lock)?
            }
        };
        if let Some(descriptor) = &lock {
            let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
            command.env("XTABLES_LOCKFILE", path);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(run)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()) {
                // It has ended early, and its error output says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                result => result.map_err(run)?,
            }
        }
        let output = child.wait_with_output().map_err(run)?;
        // Until here the program may have wanted to open it.
        drop(lock);
        check(&self.restore, &output, input)
    }

    /// Legacy iptables speaks to the kernel through a raw socket, nft does not.
    fn check_privilege(&self) -> Result<(), ToolError> {
        if self.backend == Backend::Legacy && !Capability::NetRaw.is_effective() {
            return Err(ToolError::NetRaw);
        }
        Ok(())
    }
}

/// Why rules could not be read or written.
#[derive(Debug, Error)]
pub enum ToolError {
    #[error(
        "{program}-{backend}-save and {program}-{backend}-restore are not in PATH: install \
         iptables in the image, or use weft-init's own image"
    )]
    Missing { backend: Backend, program: &'static str },
    #[error("{} could not be run: {source}", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error(
        "legacy iptables needs the capability NET_RAW, which this container lacks: add it, or use \
         --iptables nft"
    )]
    NetRaw,
    #[error("there is no place for the lock of legacy iptables, not even in memory: {0}")]
    Lock(nix::Error),
    #[error(
        "{} cannot read rules that another program wrote through nft itself ({line}): let that \
         program keep to tables of its own, or use --iptables legacy", program.display()
    )]
    Incompatible { program: PathBuf, line: String },
    #[error("{} failed: {message}{}", program.display(), behind(advice.as_deref()))]
    Failed { program: PathBuf, message: String, advice: Option<String>, denied: bool },
}

impl ToolError {
    /// Whether the other engine would answer the same.
    pub fn is_denied(&self) -> bool {
        matches!(self, ToolError::Failed { denied: true, .. })
    }
}

fn behind(advice: Option<&str>) -> String {
    advice.map(|advice| format!("; {advice}")).unwrap_or_default()
}

/// Messages are looked at by `diagnose`, and those are English.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    command
}

fn check(program: &Path, output: &Output, input: &str) -> Result<(), ToolError> {
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = match one_line(&stderr) {
        silent if silent.is_empty() => output.status.to_string(),
        message => message,
    };
    Err(ToolError::Failed {
        program: program.to_owned(),
        message,
        advice: advice(&stderr, input),
        denied: denied(&stderr),
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// `iptables-restore v1.8.9 (nf_tables)`; versions before 1.8 had the older engine only and name
/// none.
fn engine_of(restore: &Path) -> Option<Backend> {
    let output = Command::new(restore).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("(nf_tables)") {
        Some(Backend::Nft)
    } else if text.contains(" v1.") {
        Some(Backend::Legacy)
    } else {
        None
    }
}

/// A lock file in memory where the usual one cannot be opened, as on a read-only root file system.
/// Nothing is lost by it: the usual one is this container's too, and locks out nobody else.
///
/// The descriptor is inherited by the program that is started next, which is the only way for it
/// to open the file again.
fn substitute_lock() -> Result<Option<OwnedFd>, nix::Error> {
    let told = std::env::var_os("XTABLES_LOCKFILE").is_some();
    // With iptables' own mode: a lock that anybody may open is one that anybody may hold.
    let mut usual = OpenOptions::new();
    usual.append(true).create(true).mode(0o600);
    if told || usual.open(LOCK_FILE).is_ok() {
        return Ok(None);
    }
    memfd_create("xtables.lock", MFdFlags::empty()).map(Some)
}
