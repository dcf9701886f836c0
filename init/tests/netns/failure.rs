//! What is missing is named, and nothing is left half done.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};

use crate::support::{
    PATIENCE, Programs, in_netns, outcome, rules, run, weft_init, weft_init_command,
    weft_init_through,
};

const IPV4: &str = "--service-cidrs=10.96.0.0/12";
const BOTH: &str = "--service-cidrs=10.96.0.0/12,fd00:96::/108";

const WITHOUT_NET_ADMIN: [&str; 2] = ["--bounding-set=-net_admin", "--inh-caps=-all"];
const WITHOUT_NET_RAW: [&str; 2] = ["--bounding-set=-net_raw", "--inh-caps=-all"];

/// Answers of iptables on kernels that lack something.
const NO_NFT: &str =
    "echo 'iptables-nft-save: Failed to initialize nft: Protocol not supported' >&2; exit 1";
const NO_OWNER: &str = "echo 'Warning: Extension owner revision 0 not supported, missing kernel \
     module?' >&2; echo 'iptables-nft-restore v1.8.9 (nf_tables): ' >&2; echo 'line 5: RULE_APPEND \
     failed (No such file or directory): rule in chain WEFT_INVALID' >&2; exit 4";

fn all_programs() -> Programs {
    crate::support::PROGRAMS.iter().fold(Programs::none(), |programs, name| programs.with(name))
}

#[test]
fn without_net_admin_the_capability_is_named() {
    in_netns(|| {
        for options in [[BOTH].as_slice(), &[BOTH, "--iptables=legacy"], &["--cleanup"]] {
            weft_init_through("setpriv", &WITHOUT_NET_ADMIN, options)
                .failed()
                .said("needs the capability NET_ADMIN")
                .said("Pod Security level");
        }
        assert_eq!(rules(), "");
    });
}

#[test]
fn without_net_raw_nft_works_and_legacy_names_the_capability() {
    in_netns(|| {
        weft_init_through("setpriv", &WITHOUT_NET_RAW, &[BOTH]).succeeded().said("backend=\"nft\"");
        weft_init_through("setpriv", &WITHOUT_NET_RAW, &[BOTH, "--iptables=legacy"])
            .failed()
            .said("needs the capability NET_RAW");
    });
}

#[test]
fn a_namespace_of_somebody_elses_is_named_as_forbidden() {
    in_netns(|| {
        // Root of a new user namespace has every capability, but not here.
        weft_init_through("unshare", &["--user", "--map-root-user", "--"], &[BOTH])
            .failed()
            .said("needs the capability NET_ADMIN in the pod's network namespace");
    });
}

#[test]
fn no_writable_directory_is_needed() {
    in_netns(|| {
        // The places where a lock file could go, read-only as they are in a container.
        let script = "mount --make-rprivate / && mount -t tmpfs -o ro none /run && \
             mount -t tmpfs -o ro none /dev/shm && ! touch /run/xtables.lock 2>/dev/null && \
             exec \"$@\"";
        for backend in ["--iptables=legacy", "--iptables=nft"] {
            let arguments = ["--mount", "--", "sh", "-c", script, "sh"];
            weft_init_through("unshare", &arguments, &[BOTH, backend])
                .succeeded()
                .said("rules written and verified");
        }
    });
}

#[test]
fn rules_that_do_not_stay_are_noticed() {
    in_netns(|| {
        let mut programs = Programs::none();
        for program in ["iptables-nft", "ip6tables-nft"] {
            programs = programs
                .script(&format!("{program}-save"), "exit 0")
                .script(&format!("{program}-restore"), "while read -r line; do :; done");
        }
        programs
            .weft_init(&[BOTH])
            .failed()
            .said("what was written is not there when it is read back")
            .said("nat: the chain WEFT_OUTPUT is missing");
    });
}

#[test]
fn a_rule_that_somebody_changes_at_once_is_named() {
    in_netns(|| {
        let real = crate::support::path_of("iptables-nft-restore");
        let programs = all_programs().script(
            "iptables-nft-restore",
            &format!("/bin/sed 's/--to-ports 15001/--to-ports 15006/' | {} \"$@\"", real.display()),
        );
        programs
            .weft_init(&[IPV4, "--iptables=nft"])
            .failed()
            .said("has `-d 10.96.0.0/12 -p tcp -j REDIRECT --to-ports 15006` for rule 4");
        assert_eq!(rules(), "", "what was written is undone");
    });
}

#[test]
fn a_kernel_without_nft_gets_legacy_rules() {
    in_netns(|| {
        let programs =
            all_programs().script("iptables-nft-save", NO_NFT).script("ip6tables-nft-save", NO_NFT);
        programs.weft_init(&[BOTH]).succeeded().said("backend=\"legacy\"");
        assert!(!rules().contains("-nft"));
        programs
            .weft_init(&[BOTH, "--iptables=nft"])
            .failed()
            .said("has no nf_tables")
            .said("--iptables legacy");
        programs.weft_init(&["--cleanup"]).succeeded();
        assert_eq!(rules(), "");
    });
}

#[test]
fn a_kernel_that_lacks_a_match_for_nft_gets_legacy_rules() {
    in_netns(|| {
        let programs = all_programs().script("iptables-nft-restore", NO_OWNER);
        programs
            .weft_init(&[BOTH])
            .succeeded()
            .said("trying legacy, because")
            .said("backend=\"legacy\"");
        programs
            .weft_init(&[BOTH, "--iptables=nft"])
            .failed()
            .said("xt_owner")
            .said("rule `-A WEFT_INVALID -m owner --uid-owner 65101 -j RETURN`");
    });
}

#[test]
fn the_plain_programs_are_asked_which_they_are() {
    in_netns(|| {
        for (multi, backend) in [("iptables-nft-save", "nft"), ("iptables-legacy-save", "legacy")] {
            let multi = crate::support::path_of(multi).canonicalize().unwrap();
            let programs = Programs::none();
            for name in ["iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"]
            {
                std::os::unix::fs::symlink(&multi, programs.path().join(name)).unwrap();
            }
            programs.weft_init(&[BOTH]).succeeded().said(&format!("backend=\"{backend}\""));
            programs.weft_init(&["--cleanup"]).succeeded();
            assert_eq!(rules(), "");
        }
    });
}

#[test]
fn without_iptables_that_is_said() {
    in_netns(|| {
        for options in [[BOTH].as_slice(), &["--cleanup"], &[BOTH, "--iptables=nft"]] {
            let outcome = Programs::none().weft_init(options).failed();
            outcome.said("iptables-nft-restore are not in PATH");
        }
    });
}

#[test]
fn without_ip6tables_ipv6_ranges_are_refused_and_ipv4_ones_are_not() {
    in_netns(|| {
        let programs = Programs::none().with("iptables-nft").with("iptables-legacy");
        programs.weft_init(&[BOTH]).failed().said("ip6tables-nft-restore are not in PATH");
        assert_eq!(rules(), "");
        // The kernel has IPv6, and `*` would be half a promise.
        programs
            .weft_init(&["--include-outbound-cidrs=*"])
            .failed()
            .said("ip6tables-nft-restore are not in PATH");
        programs.weft_init(&[IPV4]).succeeded().said("IPv6 is skipped");
    });
}

#[test]
fn ipv4_is_undone_when_ipv6_is_refused() {
    in_netns(|| {
        let programs = all_programs().script("ip6tables-nft-restore", NO_OWNER);
        programs.weft_init(&[BOTH, "--iptables=nft"]).failed().said("IPv6 with nft");
        assert_eq!(rules(), "");
        // An earlier run's rules are better than none.
        weft_init(&[IPV4]).succeeded();
        programs.weft_init(&[BOTH, "--iptables=nft"]).failed();
        assert!(rules().contains("-A WEFT_OUTPUT -d 10.96.0.0/12 -p tcp -j REDIRECT"));
    });
}

#[test]
fn a_kernel_without_ipv6_refuses_ipv6_ranges_and_nothing_else() {
    in_netns(|| {
        // What such a kernel lacks, hidden.
        let script = "mount --make-rprivate / && mount -t tmpfs none /proc/sys/net && exec \"$@\"";
        let hidden = ["--mount", "--", "sh", "-c", script, "sh"];
        weft_init_through("unshare", &hidden, &[BOTH])
            .failed()
            .said("the ranges fd00:96::/108 are to be redirected, but IPv6 is switched off");
        assert_eq!(rules(), "");
        for options in [IPV4, "--include-outbound-cidrs=*"] {
            weft_init_through("unshare", &hidden, &[options]).succeeded().said("IPv6 is skipped");
            assert!(!rules().contains("ip6tables"));
        }
    });
}

#[test]
fn a_lock_that_others_hold_is_waited_for() {
    in_netns(|| {
        let lock = tempfile::NamedTempFile::new().unwrap();
        let holder = Flock::lock(lock.reopen().unwrap(), FlockArg::LockExclusive).unwrap();
        let mut command = weft_init_command(&[BOTH, "--iptables=legacy"]);
        command.env("XTABLES_LOCKFILE", lock.path());
        let run = thread::spawn(move || outcome(&mut command));
        // The kernel lists who waits for whom.
        let inode = format!(":{} ", lock.as_file().metadata().unwrap().ino());
        let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
            assert!(Instant::now() < deadline && !run.is_finished(), "nobody waits for the lock");
        }
        // And as long as it waits, it keeps other runs waiting.
        let name = SocketAddr::from_abstract_name("weft.mesh/init").unwrap();
        let taken = UnixListener::bind_addr(&name).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        drop(holder);
        run.join().unwrap().succeeded();
    });
}

#[test]
fn tables_that_nft_wrote_itself_are_named() {
    in_netns(|| {
        run("iptables-nft", &["-t", "nat", "-A", "OUTPUT", "-p", "udp", "-j", "RETURN"]);
        let programs = all_programs().script(
            "iptables-nft-save",
            r##"echo "# Table \`nat' is incompatible, use 'nft' tool.""##,
        );
        programs
            .weft_init(&[IPV4, "--iptables=nft"])
            .failed()
            .said("that another program wrote through nft itself");
    });
}
