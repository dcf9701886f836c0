use clap::{CommandFactory, Parser};

use super::*;

fn job(options: &[&str]) -> Result<Job, ConfigError> {
    Args::try_parse_from([&["weft-init"], options].concat()).unwrap().job()
}

fn config(options: &[&str]) -> Config {
    match job(options).unwrap() {
        Job::Redirect(config) => config,
        other => panic!("{other:?}"),
    }
}

fn refusal(options: &[&str]) -> String {
    Args::try_parse_from([&["weft-init"], options].concat()).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_sidecar() {
    let config = config(&["--service-cidrs", "10.96.0.0/12"]);
    assert_eq!(config.outbound_port.get(), 15001);
    assert_eq!(config.proxy_uid, 65101);
    assert_eq!(config.backend, BackendChoice::Auto);
    assert!(config.excluded.is_empty() && config.excluded_ports.is_empty());
}

#[test]
fn every_option_has_its_environment_variable_and_its_group() {
    for option in Args::command().get_arguments().filter(|option| option.get_id() != "help") {
        let Some(long) = option.get_long() else { panic!("{option} has no name") };
        if ["help", "version"].contains(&long) {
            continue;
        }
        let variable = format!("WEFT_{}", long.to_uppercase().replace('-', "_"));
        assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
        assert!(option.get_help_heading().is_some(), "{long}");
    }
}

#[test]
fn without_a_range_there_is_nothing_to_do_and_that_is_said() {
    let error = job(&[]).unwrap_err();
    assert_eq!(error, ConfigError::NothingIncluded);
    assert!(error.to_string().contains("WEFT_SERVICE_CIDRS"));
    // As an empty environment variable would give them.
    let empty = ["--service-cidrs", "", "--include-outbound-cidrs", "", "--dry-run"];
    assert_eq!(job(&empty).unwrap_err(), ConfigError::NothingIncluded);
}

#[test]
fn cleanup_needs_no_range_and_goes_with_no_dry_run() {
    assert!(matches!(job(&["--cleanup"]), Ok(Job::Cleanup)));
    assert_eq!(job(&["--cleanup", "--dry-run"]).unwrap_err(), ConfigError::TwoJobs);
}

#[test]
fn included_ranges_are_added_to_the_service_ranges() {
    let config = config(&[
        "--service-cidrs=10.96.0.0/12,fd00::/108",
        "--include-outbound-cidrs=192.0.2.0/24",
    ]);
    assert_eq!(config.included.to_string(), "10.96.0.0/12,192.0.2.0/24,fd00::/108");
    assert_eq!(config.demand(Family::Ipv4), Demand::Yes);
    assert_eq!(config.demand(Family::Ipv6), Demand::Yes);
}

#[test]
fn a_family_without_a_range_is_not_asked_for() {
    assert_eq!(config(&["--service-cidrs=10.96.0.0/12"]).demand(Family::Ipv6), Demand::No);
    assert_eq!(config(&["--service-cidrs=fd00::/108"]).demand(Family::Ipv4), Demand::No);
}

#[test]
fn the_star_is_everything_but_asks_for_ipv6_only_where_there_is_ipv6() {
    let star = config(&["--include-outbound-cidrs=*", "--service-cidrs=10.96.0.0/12"]);
    assert_eq!(star.included.to_string(), "0.0.0.0/0,::/0");
    assert_eq!(star.demand(Family::Ipv4), Demand::Yes);
    assert_eq!(star.demand(Family::Ipv6), Demand::WhereKernelHasIt);
    let named = config(&["--include-outbound-cidrs=*", "--service-cidrs=10.96.0.0/12,fd00::/108"]);
    assert_eq!(named.demand(Family::Ipv6), Demand::Yes);
    let written_out = config(&["--include-outbound-cidrs=0.0.0.0/0,::/0"]);
    assert_eq!(written_out.included, star.included);
    assert_eq!(written_out.demand(Family::Ipv6), Demand::Yes);
}

#[test]
fn ranges_that_exclusions_undo_are_known() {
    let config = config(&[
        "--service-cidrs=10.96.0.0/12,10.200.0.0/16",
        "--exclude-outbound-cidrs=10.200.0.0/15,10.96.1.0/24",
    ]);
    let undone: Vec<String> = config.undone().map(|cidr| cidr.to_string()).collect();
    assert_eq!(undone, ["10.200.0.0/16"]);
}

#[test]
fn wrong_values_are_refused_with_the_right_ones() {
    assert!(refusal(&["--service-cidrs=10.96.0.1/12"]).contains("write 10.96.0.0/12"));
    assert!(refusal(&["--service-cidrs=*"]).contains("among the included ranges only"));
    assert!(refusal(&["--exclude-outbound-ports=80:90"]).contains("8000-8010"));
    assert!(refusal(&["--proxy-uid=0"]).contains("0 is not in 1..4294967295"));
    assert!(refusal(&["--outbound-port=0"]).contains("--outbound-port"));
    assert!(refusal(&["--iptables=ipvs"]).contains("[possible values: auto, nft, legacy]"));
}
