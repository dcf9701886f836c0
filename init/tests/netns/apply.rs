//! What is in the kernel after a run, a second one, another one, and a cleanup.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::support::{
    PROGRAMS, in_netns, outcome, rules, run, weft_init, weft_init_command, weft_init_through,
};

const BOTH: &str = "--service-cidrs=10.96.0.0/12,fd00:96::/108";

/// Rules of somebody else in both tables, and before and behind whatever is added.
fn write_foreign(program: &str) {
    for rule in [
        "-t nat -N FOREIGN",
        "-t nat -A FOREIGN -p udp -j RETURN",
        "-t nat -A OUTPUT -p udp -m udp --dport 53 -j FOREIGN",
        "-t nat -A POSTROUTING -o lo -j ACCEPT",
        "-t filter -A OUTPUT -p udp -m comment --comment not-wefts -j ACCEPT",
        "-t filter -A INPUT -p udp -m udp --dport 9 -j DROP",
    ] {
        run(program, &rule.split(' ').collect::<Vec<_>>());
    }
}

fn count(text: &str, part: &str) -> usize {
    text.lines().filter(|line| *line == part).count()
}

fn a_second_run_changes_nothing(backend: &str) {
    let engine = format!("--iptables={backend}");
    let options = [
        BOTH,
        &engine,
        "--exclude-outbound-ports=1-3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33-40",
        "--exclude-outbound-cidrs=10.96.0.1,fd00:96::1,192.0.2.0/24",
        "--include-outbound-cidrs=198.51.100.7",
    ];
    weft_init(&options).succeeded().said("rules written and verified");
    let first = rules();
    for family in ["iptables", "ip6tables"] {
        assert_eq!(count(&first, &format!("# {family}-{backend}")), 1, "{first}");
    }
    assert_eq!(count(&first, "-A OUTPUT -p tcp -j WEFT_OUTPUT"), 2, "{first}");
    weft_init(&options).succeeded().said("nothing changed");
    assert_eq!(rules(), first);
}

#[test]
fn a_second_run_changes_nothing_nft() {
    in_netns(|| a_second_run_changes_nothing("nft"));
}

#[test]
fn a_second_run_changes_nothing_legacy() {
    in_netns(|| a_second_run_changes_nothing("legacy"));
}

fn a_run_with_other_options_replaces(backend: &str) {
    let engine = format!("--iptables={backend}");
    weft_init(&[&engine, "--service-cidrs=10.0.0.0/16", "--outbound-port=4140"]).succeeded();
    let other = [&engine, BOTH, "--exclude-outbound-ports=22"];
    weft_init(&other).succeeded().said("rules written and verified");
    let replaced = rules();
    weft_init(&["--cleanup"]).succeeded();
    weft_init(&other).succeeded();
    assert_eq!(replaced, rules());
    // And back: IPv6 is no longer asked for.
    weft_init(&[&engine, "--service-cidrs=10.0.0.0/16"])
        .succeeded()
        .said("IPv6 is skipped: no IPv6 range is to be redirected")
        .said(&format!("removed the IPv6 rules of an earlier run from {backend}"));
    assert!(!rules().contains("ip6tables"));
}

#[test]
fn a_run_with_other_options_replaces_nft() {
    in_netns(|| a_run_with_other_options_replaces("nft"));
}

#[test]
fn a_run_with_other_options_replaces_legacy() {
    in_netns(|| a_run_with_other_options_replaces("legacy"));
}

fn cleanup_leaves_nothing(backend: &str) {
    weft_init(&["--cleanup"]).succeeded().said("IPv4 has no rules of Weft's in nft");
    weft_init(&[BOTH, &format!("--iptables={backend}")]).succeeded();
    assert!(!rules().is_empty());
    weft_init(&["--cleanup"])
        .succeeded()
        .said(&format!("removed the IPv4 rules from {backend}"))
        .said(&format!("removed the IPv6 rules from {backend}"));
    assert_eq!(rules(), "");
    weft_init(&["--cleanup"]).succeeded();
}

#[test]
fn cleanup_leaves_nothing_nft() {
    in_netns(|| cleanup_leaves_nothing("nft"));
}

#[test]
fn cleanup_leaves_nothing_legacy() {
    in_netns(|| cleanup_leaves_nothing("legacy"));
}

#[test]
fn rules_of_others_stay_as_they_are() {
    in_netns(|| {
        PROGRAMS.iter().for_each(|program| write_foreign(program));
        let before = rules();
        for backend in ["nft", "legacy"] {
            weft_init(&[BOTH, &format!("--iptables={backend}")]).succeeded();
            let with_ours = rules();
            let without_ours: String = with_ours
                .lines()
                .filter(|line| !line.contains("WEFT_"))
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(without_ours, before);
            weft_init(&["--cleanup"]).succeeded();
            assert_eq!(rules(), before);
        }
    });
}

#[test]
fn wefts_rules_are_asked_first() {
    in_netns(|| {
        run("iptables-nft", &["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "ACCEPT"]);
        weft_init(&[BOTH]).succeeded();
        let saved = run("iptables-nft-save", &["-t", "nat"]);
        let jumps: Vec<&str> = saved.lines().filter(|line| line.starts_with("-A OUTPUT")).collect();
        assert_eq!(jumps, ["-A OUTPUT -p tcp -j WEFT_OUTPUT", "-A OUTPUT -p tcp -j ACCEPT"]);
    });
}

fn damage_is_repaired(backend: &str) {
    let options = [BOTH, &format!("--iptables={backend}")];
    let program = format!("iptables-{backend}");
    run(&program, &["-t", "nat", "-N", "FOREIGN"]);
    weft_init(&options).succeeded();
    let right = rules();
    for damage in [
        "-t nat -A OUTPUT -p tcp -j WEFT_OUTPUT",
        "-t nat -A FOREIGN -p tcp -j WEFT_OUTPUT",
        "-t nat -A OUTPUT -p tcp -m tcp --dport 80 -j WEFT_OUTPUT",
        "-t nat -D OUTPUT -p tcp -j WEFT_OUTPUT",
        "-t nat -D WEFT_OUTPUT 2",
        "-t nat -I WEFT_OUTPUT -j RETURN",
        "-t filter -F WEFT_INVALID",
        "-t filter -F OUTPUT",
    ] {
        run(&program, &damage.split(' ').collect::<Vec<_>>());
        assert_ne!(rules(), right, "{damage}");
        weft_init(&options).succeeded().said("rules written and verified");
        assert_eq!(rules(), right, "{damage}");
    }
}

#[test]
fn damage_is_repaired_nft() {
    in_netns(|| damage_is_repaired("nft"));
}

#[test]
fn damage_is_repaired_legacy() {
    in_netns(|| damage_is_repaired("legacy"));
}

#[test]
fn auto_takes_the_engine_that_has_rules() {
    in_netns(|| {
        weft_init(&[BOTH]).succeeded().said("backend=\"nft\"");
        // Once others write to legacy, this node's engine is legacy, and the rules move.
        write_foreign("iptables-legacy");
        weft_init(&[BOTH])
            .succeeded()
            .said("backend=\"legacy\"")
            .said("removed the IPv4 rules of an earlier run from nft")
            .said("removed the IPv6 rules of an earlier run from nft");
        let moved = rules();
        assert_eq!(count(&moved, "-A OUTPUT -p tcp -j WEFT_OUTPUT"), 2, "{moved}");
        assert!(!moved.contains("-nft"), "{moved}");
        weft_init(&[BOTH]).succeeded().said("nothing changed");
    });
}

#[test]
fn an_earlier_runs_engine_is_kept_unless_another_is_given() {
    in_netns(|| {
        weft_init(&[BOTH, "--iptables=legacy"]).succeeded();
        weft_init(&[BOTH]).succeeded().said("nothing changed").said("backend=\"legacy\"");
        weft_init(&[BOTH, "--iptables=nft"]).succeeded().said("backend=\"nft\"");
        assert!(!rules().contains("-legacy"), "{}", rules());
    });
}

#[test]
fn the_star_redirects_everything_in_both_families() {
    in_netns(|| {
        weft_init(&["--include-outbound-cidrs=*"]).succeeded();
        assert_eq!(count(&rules(), "-A WEFT_OUTPUT -p tcp -j REDIRECT --to-ports 15001"), 2);
        // The same, written out.
        weft_init(&["--include-outbound-cidrs=0.0.0.0/0,::/0"]).succeeded().said("nothing changed");
        weft_init(&["--include-outbound-cidrs=*", "--exclude-outbound-cidrs=0.0.0.0/0"])
            .succeeded()
            .said("0.0.0.0/0 is included, but excluded as a whole");
    });
}

#[test]
fn options_come_from_the_environment_as_well() {
    in_netns(|| {
        let mut command = weft_init_command(&["--outbound-port=4141"]);
        command
            .env("WEFT_SERVICE_CIDRS", " 10.96.0.0/12 , fd00:96::/108")
            .env("WEFT_OUTBOUND_PORT", "4140")
            .env("WEFT_PROXY_UID", "2102")
            .env("WEFT_EXCLUDE_OUTBOUND_PORTS", "")
            .env("WEFT_IPTABLES", "legacy")
            .env("WEFT_DRY_RUN", "false")
            .env("WEFT_CLEANUP", "")
            .env("WEFT_LOG_FORMAT", "json");
        outcome(&mut command).succeeded().said("\"message\":\"rules written and verified\"");
        let options = [BOTH, "--iptables=legacy", "--outbound-port=4141", "--proxy-uid=2102"];
        weft_init(&options).succeeded().said("nothing changed");
    });
}

fn runs_at_the_same_time_do_no_harm(backend: &str) {
    let options = [BOTH, &format!("--iptables={backend}")];
    let runs: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let options = options.map(str::to_owned);
                move || weft_init(&options.each_ref().map(String::as_str))
            })
        })
        .collect();
    for run in runs {
        run.join().unwrap().succeeded();
    }
    let together = rules();
    assert_eq!(count(&together, "-A OUTPUT -p tcp -j WEFT_OUTPUT"), 2, "{together}");
    weft_init(&options).succeeded().said("nothing changed");
}

#[test]
fn runs_at_the_same_time_do_no_harm_nft() {
    in_netns(|| runs_at_the_same_time_do_no_harm("nft"));
}

#[test]
fn runs_at_the_same_time_do_no_harm_legacy() {
    in_netns(|| runs_at_the_same_time_do_no_harm("legacy"));
}

#[test]
fn a_run_waits_for_the_one_before_it() {
    in_netns(|| {
        // What a run that is at work looks like to another one.
        let name = SocketAddr::from_abstract_name("weft.mesh/init").unwrap();
        let at_work = UnixListener::bind_addr(&name).unwrap();
        let run = std::thread::spawn(|| weft_init(&[BOTH]));
        let waiting = at_work.accept().unwrap();
        assert_eq!(rules(), "");
        drop((at_work, waiting));
        run.join().unwrap().succeeded().said("rules written and verified");
    });
}

#[test]
fn dry_run_prints_what_a_run_writes_and_touches_nothing() {
    in_netns(|| {
        let options = [BOTH, "--exclude-outbound-ports=22", "--dry-run"];
        let printed = weft_init_through(
            "setpriv",
            &["--bounding-set=-net_admin,-net_raw,-sys_admin", "--inh-caps=-all"],
            &options,
        )
        .succeeded();
        assert_eq!(rules(), "");
        let (ipv4, ipv6) = printed.stdout.split_once("# IPv6: ").unwrap();
        assert!(ipv4.starts_with("# IPv4: input for iptables-restore --noflush\n"));
        for (program, input) in [("iptables", ipv4), ("ip6tables", &format!("# {ipv6}"))] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), input).unwrap();
            run(&format!("{program}-nft-restore"), &["--noflush", file.path().to_str().unwrap()]);
        }
        weft_init(&options[..2]).succeeded().said("nothing changed");
    });
}
