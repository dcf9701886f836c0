//! Namespaces, programs and a little network for the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::{Uid, geteuid, gettid};

/// How long anything may take that does not fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Set in the process that is in the new namespace.
const INSIDE: &str = "WEFT_TEST_INSIDE_NAMESPACE";

/// Runs the test's body in a process of its own in a new network namespace, with loopback up.
///
/// The process is this test binary again, told to run the one test that the caller is; its name
/// is the path of the closure's type.
pub(crate) fn in_netns<F: FnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return body();
    }
    require_programs();
    let path = std::any::type_name::<F>();
    let name = path.split_once("::").unwrap().1.trim_end_matches("::{{closure}}");
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        // Before the network namespace and not together with it: otherwise this would not be
        // root's yet when the kernel decides who may read the names of its legacy tables.
        command.args(["--user", "--map-root-user", "--map-auto", "--", "unshare"]);
    }
    let output = command
        .arg("--net")
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "the test in its namespace failed ({}); if it could not begin: as root it needs \
         CAP_SYS_ADMIN, otherwise newuidmap (apt-get install uidmap) and a range of at least 65536 \
         ids in /etc/subuid and /etc/subgid\n{stdout}\n{stderr}",
        output.status
    );
}

/// What `weft-init` answered.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn said(self, text: &str) -> Outcome {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Outcome {
        assert!(self.success, "{self:#?}");
        self
    }

    /// Failed, and with one line that is an error.
    #[track_caller]
    pub(crate) fn failed(self) -> Outcome {
        let errors = self.stderr.lines().filter(|line| line.contains("ERROR")).count();
        assert!(!self.success && errors == 1, "{self:#?}");
        self
    }
}

pub(crate) fn weft_init(options: &[&str]) -> Outcome {
    outcome(&mut weft_init_command(options))
}

pub(crate) fn weft_init_command(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-init"));
    command.args(options);
    without_options(&mut command);
    command
}

/// `weft-init` started by another program, which is given with its own arguments.
pub(crate) fn weft_init_through(program: &str, arguments: &[&str], options: &[&str]) -> Outcome {
    let mut command = Command::new(program);
    command.args(arguments).arg(env!("CARGO_BIN_EXE_weft-init")).args(options);
    without_options(&mut command);
    outcome(&mut command)
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Outcome {
        success: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a program that has to succeed, and gives what it printed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    // Legacy iptables locks a file that only the machine's root may open; any file will do.
    command.args(arguments).env("XTABLES_LOCKFILE", std::env::current_exe().unwrap());
    let outcome = outcome(&mut command);
    assert!(outcome.success, "{program} {arguments:?}: {outcome:#?}");
    outcome.stdout
}

pub(crate) const PROGRAMS: [&str; 4] =
    ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];

/// Everything that all four iptables have, without counters and dates: a heading for each that
/// has a rule or a chain of somebody's, and its lines.
pub(crate) fn rules() -> String {
    let mut rules = String::new();
    for program in PROGRAMS {
        let lines: Vec<String> = run(&format!("{program}-save"), &[])
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| match line.split_once(" [") {
                Some((declared, _)) if line.starts_with(':') => declared.to_owned(),
                _ => line.to_owned(),
            })
            .collect();
        let written = |line: &String| line.starts_with("-A ") || line.ends_with(" -");
        if lines.iter().any(written) {
            rules += &format!("# {program}\n{}\n", lines.join("\n"));
        }
    }
    rules
}

/// How many packets Weft's rules with this text have dropped, in nft.
pub(crate) fn dropped(program: &str, text: &str) -> u64 {
    let saved = run(&format!("{program}-save"), &["-c", "-t", "filter"]);
    saved
        .lines()
        .filter(|line| line.contains(text) && line.ends_with("-j DROP"))
        .filter_map(|line| line.strip_prefix('[')?.split_once(':')?.0.parse::<u64>().ok())
        .sum()
}

/// The path of a program of this machine, for links to it.
pub(crate) fn path_of(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed: {INSTALL}"))
}

const INSTALL: &str = "apt-get install iptables iproute2 util-linux";

fn require_programs() {
    for program in ["ip", "unshare", "setpriv", "mount"] {
        path_of(program);
    }
    for program in PROGRAMS {
        path_of(&format!("{program}-save"));
        path_of(&format!("{program}-restore"));
    }
}

/// Options of whoever runs the tests are not the tests' options.
fn without_options(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEFT_") {
            command.env_remove(name);
        }
    }
}

/// Another network namespace, on the far side of a veth pair, in which every address of the
/// ranges below is a local one.
pub(crate) struct FarSide {
    pub(crate) listener: TcpListener,
}

/// Stand-ins for Service addresses, and for addresses that are none.
pub(crate) const SERVICES: [&str; 2] = ["10.96.0.0/12", "fd00:96::/108"];
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];

impl FarSide {
    pub(crate) fn new() -> FarSide {
        let (thread_id, thread_ids) = mpsc::channel();
        let (moved, moves) = mpsc::channel();
        let far = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            thread_id.send(gettid()).unwrap();
            let () = moves.recv().unwrap();
            run("ip", &["link", "set", "lo", "up"]);
            address("far0", "10.1.0.1/24", "fd00:1::1/64");
            for range in SERVICES.iter().chain(&OUTSIDE) {
                run("ip", &["route", "add", "local", range, "dev", "lo"]);
            }
            // Both families; the socket keeps the namespace when this thread has ended.
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap()
        });
        let thread_id = thread_ids.recv().unwrap().to_string();
        run("ip", &["link", "add", "near0", "type", "veth", "peer", "name", "far0"]);
        run("ip", &["link", "set", "far0", "netns", &thread_id]);
        address("near0", "10.1.0.2/24", "fd00:1::2/64");
        moved.send(()).unwrap();
        let listener = far.join().unwrap();
        patient(&listener);
        run("ip", &["route", "add", "default", "via", "10.1.0.1"]);
        run("ip", &["route", "add", "default", "via", "fd00:1::1"]);
        // IPv6 is used on a link only once the kernel has noticed that the link is up.
        let deadline = Instant::now() + PATIENCE;
        while !run("ip", &["-brief", "link", "show", "near0"]).contains(" UP ") {
            assert!(Instant::now() < deadline, "the link does not come up");
        }
        FarSide { listener }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

fn address(device: &str, ipv4: &str, ipv6: &str) {
    run("ip", &["address", "add", ipv4, "dev", device]);
    run("ip", &["address", "add", ipv6, "dev", device, "nodad"]);
    run("ip", &["link", "set", device, "up"]);
}

/// Listens where the sidecar would, on a port of the kernel's choice, the same for both families.
pub(crate) struct Sidecar {
    ipv4: TcpListener,
    ipv6: TcpListener,
}

impl Sidecar {
    pub(crate) fn new() -> Sidecar {
        let ipv4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = ipv4.local_addr().unwrap().port();
        let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).unwrap();
        patient(&ipv4);
        patient(&ipv6);
        Sidecar { ipv4, ipv6 }
    }

    /// The option that redirects to here.
    pub(crate) fn option(&self) -> String {
        format!("--outbound-port={}", self.ipv4.local_addr().unwrap().port())
    }

    pub(crate) fn accept(&self, destination: SocketAddr) -> TcpStream {
        let listener = if destination.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        listener.accept().unwrap().0
    }

    #[track_caller]
    pub(crate) fn saw_nothing(&self) {
        for listener in [&self.ipv4, &self.ipv6] {
            listener.set_nonblocking(true).unwrap();
            let error = listener.accept().map(|(_, peer)| peer).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            listener.set_nonblocking(false).unwrap();
        }
    }
}

/// `accept` fails instead of waiting for ever.
pub(crate) fn patient(listener: &TcpListener) {
    let patience = TimeVal::new(PATIENCE.as_secs().try_into().unwrap(), 0);
    setsockopt(listener, sockopt::ReceiveTimeout, &patience).unwrap();
}

#[track_caller]
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects as another user: the kernel asks for the user of the thread that makes the socket.
pub(crate) fn connect_as(uid: u32, to: SocketAddr) -> TcpStream {
    let connecting = thread::spawn(move || {
        nix::unistd::setfsuid(Uid::from_raw(uid));
        // Setting it again tells what it was: a uid that is not mapped here is not taken.
        let effective = nix::unistd::setfsuid(Uid::from_raw(uid));
        assert_eq!(effective.as_raw(), uid, "the uid {uid} is not mapped in this user namespace");
        connect(to)
    });
    connecting.join().unwrap()
}

/// The address that the connection was to before it was redirected.
pub(crate) fn original_destination(stream: &TcpStream) -> SocketAddr {
    if stream.local_addr().unwrap().is_ipv4() {
        let original = nix::sys::socket::getsockopt(stream, sockopt::OriginalDst).unwrap();
        let address = Ipv4Addr::from(u32::from_be(original.sin_addr.s_addr));
        SocketAddr::new(IpAddr::V4(address), u16::from_be(original.sin_port))
    } else {
        let original = nix::sys::socket::getsockopt(stream, sockopt::Ip6tOriginalDst).unwrap();
        let address = Ipv6Addr::from(original.sin6_addr.s6_addr);
        SocketAddr::new(IpAddr::V6(address), u16::from_be(original.sin6_port))
    }
}

/// A directory that is the whole PATH: only what is put into it is found.
pub(crate) struct Programs {
    directory: tempfile::TempDir,
}

impl Programs {
    pub(crate) fn none() -> Programs {
        Programs { directory: tempfile::tempdir().unwrap() }
    }

    /// This machine's own `iptables-nft-save` and the like, by links.
    pub(crate) fn with(self, program: &str) -> Programs {
        for part in ["save", "restore"] {
            let name = format!("{program}-{part}");
            // Each program finds out from its name which one it is.
            let real = path_of(&name).canonicalize().unwrap();
            std::os::unix::fs::symlink(real, self.path().join(name)).unwrap();
        }
        self
    }

    /// A stand-in: a shell script.
    pub(crate) fn script(self, name: &str, text: &str) -> Programs {
        let path = self.path().join(name);
        let _ = std::fs::remove_file(&path);
        // Written by another process: a file that this one has open for writing cannot be run,
        // and a process that another thread is just starting might still have it open.
        let script = format!("#!/bin/sh\n{text}\n");
        let written = "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"";
        run("sh", &["-c", written, "sh", &script, path.to_str().unwrap()]);
        self
    }

    pub(crate) fn weft_init(&self, options: &[&str]) -> Outcome {
        outcome(weft_init_command(options).env("PATH", self.path()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}
