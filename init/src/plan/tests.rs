use clap::Parser;

use super::*;
use crate::cidr::Family;
use crate::config::{Args, Job};
use crate::rules::chains;

fn wanted() -> Vec<Chain> {
    match Args::try_parse_from(["weft-init", "--service-cidrs=10.96.0.0/12"])
        .unwrap()
        .job()
        .unwrap()
    {
        Job::Redirect(config) => chains(&config, Family::Ipv4),
        other => panic!("{other:?}"),
    }
}

/// What `iptables-save` prints when the wanted chains are there.
fn saved(wanted: &[Chain]) -> String {
    let mut text = String::new();
    for chain in wanted {
        let rules: String =
            chain.rules.iter().map(|rule| format!("-A {} {}\n", chain.name, rule.spec)).collect();
        text += &format!(
            "*{}\n:OUTPUT ACCEPT [0:0]\n:{} - [0:0]\n-A OUTPUT {}\n{rules}COMMIT\n",
            chain.table, chain.name, chain.jump
        );
    }
    text
}

fn differences_of(text: &str) -> Vec<String> {
    plan(&Saved::parse(text), &wanted()).unwrap().differences
}

#[test]
fn what_is_there_already_needs_no_plan() {
    assert_eq!(plan(&Saved::parse(&saved(&wanted())), &wanted()), None);
    assert_eq!(plan(&Saved::default(), &[]), None);
}

#[test]
fn nothing_there_is_written_guard_first() {
    let plan = plan(&Saved::default(), &wanted()).unwrap();
    assert!(plan.input.starts_with("*filter\n:WEFT_INVALID - [0:0]\n-A WEFT_INVALID "));
    assert!(plan.input.ends_with("-I OUTPUT 1 -p tcp -j WEFT_OUTPUT\nCOMMIT\n"));
    assert!(!plan.input.contains("-D "));
    assert_eq!(plan.input.matches("COMMIT").count(), 2);
}

#[test]
fn the_explained_rules_are_the_same_rules() {
    let explained = explained(&wanted());
    let uncommented: String = explained
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(uncommented, plan(&Saved::default(), &wanted()).unwrap().input);
}

#[test]
fn only_the_table_that_differs_is_written() {
    let text = saved(&wanted()).replace("--to-ports 15001", "--to-ports 15006");
    let plan = plan(&Saved::parse(&text), &wanted()).unwrap();
    assert!(
        plan.input.starts_with("*nat\n:WEFT_OUTPUT - [0:0]\n-D OUTPUT -p tcp -j WEFT_OUTPUT\n")
    );
    assert!(!plan.input.contains("*filter"));
    assert_eq!(
        plan.differences,
        ["nat: WEFT_OUTPUT has `-d 10.96.0.0/12 -p tcp -j REDIRECT --to-ports 15006` for rule 4, \
          not `-d 10.96.0.0/12 -p tcp -j REDIRECT --to-ports 15001`"]
    );
}

#[test]
fn every_difference_is_named() {
    let right = saved(&wanted());
    let without_rule = right.replace("-A WEFT_OUTPUT -o lo -j RETURN\n", "");
    assert!(
        differences_of(&without_rule).contains(
            &"nat: WEFT_OUTPUT lacks rule 4 `-d \
        10.96.0.0/12 -p tcp -j REDIRECT --to-ports 15001`"
                .to_owned()
        )
    );
    let without_jump = right.replace("-A OUTPUT -p tcp -j WEFT_OUTPUT\n", "");
    assert_eq!(
        differences_of(&without_jump),
        ["nat: OUTPUT leads to WEFT_OUTPUT 0 times, not once"]
    );
    let with_more = right.replace(
        "-A WEFT_OUTPUT -o lo -j RETURN\n",
        "-A WEFT_OUTPUT -o lo -j RETURN\n-A WEFT_OUTPUT -o lo -j RETURN\n",
    );
    assert!(
        differences_of(&with_more).contains(&"nat: WEFT_OUTPUT has 1 rules too many".to_owned())
    );
    assert_eq!(
        differences_of(""),
        ["filter: the chain WEFT_INVALID is missing", "nat: the chain WEFT_OUTPUT is missing"]
    );
}

#[test]
fn a_jump_too_many_is_deleted_wherever_it_is() {
    let jump = "-A OUTPUT -p tcp -j WEFT_OUTPUT\n";
    let foreign = "-A PREROUTING -p tcp -m comment --comment \"old one\" -j WEFT_OUTPUT\n";
    let text = saved(&wanted()).replace(jump, &format!("{jump}{jump}{foreign}"));
    let plan = plan(&Saved::parse(&text), &wanted()).unwrap();
    assert_eq!(plan.input.matches("-D OUTPUT -p tcp -j WEFT_OUTPUT\n").count(), 2);
    assert!(
        plan.input
            .contains("-D PREROUTING -p tcp -m comment --comment \"old one\" -j WEFT_OUTPUT\n")
    );
    assert_eq!(plan.input.matches("-I OUTPUT 1").count(), 1);
    assert_eq!(plan.differences.len(), 2);
}

#[test]
fn a_chain_that_leads_to_itself_is_emptied_and_not_picked_apart() {
    let text = saved(&wanted())
        .replace("-A WEFT_OUTPUT -o lo -j RETURN\n", "-A WEFT_OUTPUT -o lo -j WEFT_OUTPUT\n");
    for wanted in [wanted(), Vec::new()] {
        let plan = plan(&Saved::parse(&text), &wanted).unwrap();
        assert!(!plan.input.contains("-D WEFT_OUTPUT"), "{}", plan.input);
        assert!(plan.input.contains("-D OUTPUT -p tcp -j WEFT_OUTPUT\n"));
    }
}

#[test]
fn removal_takes_the_redirection_first_and_leaves_what_is_foreign() {
    let foreign = ":FOREIGN - [0:0]\n-A OUTPUT -p udp -j FOREIGN\n";
    let text = saved(&wanted())
        .replace(":OUTPUT ACCEPT [0:0]\n", &format!(":OUTPUT ACCEPT [0:0]\n{foreign}"));
    let plan = plan(&Saved::parse(&text), &[]).unwrap();
    assert_eq!(
        plan.input,
        "*nat\n:WEFT_OUTPUT - [0:0]\n-D OUTPUT -p tcp -j WEFT_OUTPUT\n-X WEFT_OUTPUT\nCOMMIT\n\
         *filter\n:WEFT_INVALID - [0:0]\n-D OUTPUT -p tcp -m conntrack --ctstate INVALID,NEW -j \
         WEFT_INVALID\n-X WEFT_INVALID\nCOMMIT\n"
    );
}
