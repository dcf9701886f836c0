use clap::Parser;

use super::*;
use crate::config::{Args, Job};

fn config(options: &[&str]) -> Config {
    match Args::try_parse_from([&["weft-init"], options].concat()).unwrap().job().unwrap() {
        Job::Redirect(config) => config,
        other => panic!("{other:?}"),
    }
}

fn specs(chain: &Chain) -> Vec<&str> {
    chain.rules.iter().map(|rule| rule.spec.as_str()).collect()
}

/// The chain of the table nat.
fn redirected(options: &[&str], family: Family) -> Chain {
    chains(&config(options), family).pop().unwrap()
}

#[test]
fn ipv4_in_full() {
    let options = [
        "--service-cidrs=10.96.0.0/12",
        "--include-outbound-cidrs=192.0.2.0/24",
        "--exclude-outbound-cidrs=10.96.0.1,fd00::1",
        "--exclude-outbound-ports=3306,8000-8010",
    ];
    let [guard, redirect] = chains(&config(&options), Family::Ipv4).try_into().unwrap();
    assert_eq!((guard.table, guard.name), (Table::Filter, "WEFT_INVALID"));
    assert_eq!(guard.jump, "-p tcp -m conntrack --ctstate INVALID,NEW -j WEFT_INVALID");
    assert_eq!(
        specs(&guard),
        [
            "-s 127.0.0.1/32 -o lo -p tcp -m tcp --sport 15001 -j DROP",
            "-m conntrack --ctstate NEW -j RETURN",
            "-m owner --uid-owner 65101 -j RETURN",
            "-o lo -j RETURN",
            "-d 127.0.0.0/8 -j RETURN",
            "-p tcp -m multiport --dports 3306,8000:8010 -j RETURN",
            "-d 10.96.0.1/32 -j RETURN",
            "-d 10.96.0.0/12 -p tcp -j DROP",
            "-d 192.0.2.0/24 -p tcp -j DROP",
        ]
    );
    assert_eq!((redirect.table, redirect.name), (Table::Nat, "WEFT_OUTPUT"));
    assert_eq!(redirect.jump, "-p tcp -j WEFT_OUTPUT");
    assert_eq!(
        specs(&redirect),
        [
            "-m owner --uid-owner 65101 -j RETURN",
            "-o lo -j RETURN",
            "-d 127.0.0.0/8 -j RETURN",
            "-p tcp -m multiport --dports 3306,8000:8010 -j RETURN",
            "-d 10.96.0.1/32 -j RETURN",
            "-d 10.96.0.0/12 -p tcp -j REDIRECT --to-ports 15001",
            "-d 192.0.2.0/24 -p tcp -j REDIRECT --to-ports 15001",
        ]
    );
}

#[test]
fn ipv6_has_its_own_loopback_and_only_its_own_ranges() {
    let options = [
        "--service-cidrs=10.96.0.0/12,fd00:10::/108",
        "--exclude-outbound-cidrs=10.96.0.1,fd00:10::1",
        "--outbound-port=4140",
        "--proxy-uid=2102",
    ];
    let [guard, redirect] = chains(&config(&options), Family::Ipv6).try_into().unwrap();
    assert_eq!(specs(&guard)[0], "-s ::1/128 -o lo -p tcp -m tcp --sport 4140 -j DROP");
    assert_eq!(
        specs(&redirect),
        [
            "-m owner --uid-owner 2102 -j RETURN",
            "-o lo -j RETURN",
            "-d ::1/128 -j RETURN",
            "-d fd00:10::1/128 -j RETURN",
            "-d fd00:10::/108 -p tcp -j REDIRECT --to-ports 4140",
        ]
    );
}

#[test]
fn a_family_without_ranges_has_no_chain() {
    assert!(chains(&config(&["--service-cidrs=10.96.0.0/12"]), Family::Ipv6).is_empty());
}

#[test]
fn the_star_is_one_rule_without_a_destination_in_each_family() {
    for family in Family::ALL {
        let options = ["--service-cidrs=10.96.0.0/12", "--include-outbound-cidrs=*"];
        let chain = redirected(&options, family);
        let redirects: Vec<&str> =
            specs(&chain).into_iter().filter(|spec| spec.contains("REDIRECT")).collect();
        assert_eq!(redirects, ["-p tcp -j REDIRECT --to-ports 15001"], "{family}");
    }
}

#[test]
fn the_sidecar_and_every_exclusion_come_ahead_of_every_redirection() {
    let ports: Vec<String> = (1..=40).map(|n| (2 * n).to_string()).collect();
    let chain = redirected(
        &[
            "--include-outbound-cidrs=*",
            "--exclude-outbound-cidrs=10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
            &format!("--exclude-outbound-ports={}", ports.join(",")),
        ],
        Family::Ipv4,
    );
    let specs = specs(&chain);
    assert!(specs[0].contains("--uid-owner"));
    assert_eq!(specs.iter().filter(|spec| spec.contains("multiport")).count(), 3);
    let first_redirect = specs.iter().position(|spec| spec.contains("REDIRECT")).unwrap();
    let last_return = specs.iter().rposition(|spec| spec.ends_with("RETURN")).unwrap();
    assert!(last_return < first_redirect);
}

#[test]
fn the_guard_exempts_what_the_redirection_exempts() {
    let options = [
        "--service-cidrs=10.96.0.0/12",
        "--exclude-outbound-cidrs=10.97.0.0/16",
        "--exclude-outbound-ports=5432",
    ];
    let [guard, redirect] = chains(&config(&options), Family::Ipv4).try_into().unwrap();
    let returns = |chain: &Chain| -> Vec<String> {
        chain
            .rules
            .iter()
            .filter(|rule| rule.spec.ends_with("RETURN") && !rule.spec.contains("ctstate"))
            .map(|rule| rule.spec.clone())
            .collect()
    };
    assert_eq!(returns(&guard), returns(&redirect));
}

#[test]
fn every_chain_is_among_those_that_cleanup_knows() {
    for chain in chains(&config(&["--include-outbound-cidrs=*"]), Family::Ipv4) {
        assert!(OWN_CHAINS.contains(&(chain.table, chain.name)));
    }
}
