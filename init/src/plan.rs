//! What has to change, as a pure function of what is wanted and what the kernel has.
//!
//! `run` executes a [`Plan`] and plans again afterwards: when nothing is left to do, the rules are
//! verified. A plan touches Weft's own chains and the jumps to them, and nothing else.

use std::fmt::Write;

use crate::rules::{Chain, OUTPUT, OWN_CHAINS, Table};
use crate::saved::{Saved, SavedRule, normal_form};

/// Input for `iptables-restore --noflush`, and the reasons for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Each table's part takes effect as a whole, at its COMMIT, or not at all.
    pub input: String,
    /// What is different from what is wanted, for people.
    pub differences: Vec<String>,
}

/// How to come from `found` to `wanted`; `None` if they are equal. Chains of Weft's that are not
/// wanted are removed, so that wanting none is to clean up.
pub fn plan(found: &Saved, wanted: &[Chain]) -> Option<Plan> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for (table, name) in OWN_CHAINS {
        let chain = wanted.iter().find(|chain| chain.table == table && chain.name == name);
        let step = match chain {
            Some(chain) => {
                let differences = differences(found, chain);
                (!differences.is_empty()).then(|| (replacement(found, chain), differences))
            }
            None => removal(found, table, name),
        };
        steps.extend(step);
    }
    // The guard is written ahead of the redirection, and removed after it.
    if wanted.is_empty() {
        steps.reverse();
    }
    if steps.is_empty() {
        return None;
    }
    let (inputs, differences): (Vec<String>, Vec<Vec<String>>) = steps.into_iter().unzip();
    Some(Plan { input: inputs.concat(), differences: differences.concat() })
}

/// The input that writes these chains where there is nothing of Weft's yet, with the reason for
/// each rule as a comment.
pub fn explained(wanted: &[Chain]) -> String {
    wanted.iter().map(|chain| section(chain, &[], true)).collect()
}

fn differences(found: &Saved, chain: &Chain) -> Vec<String> {
    let Chain { table, name, .. } = chain;
    let mut differences = Vec::new();
    if !found.has_chain(*table, name) {
        return vec![format!("{table}: the chain {name} is missing")];
    }
    let rules: Vec<&SavedRule> = found.rules(*table, name).collect();
    for (position, wanted) in chain.rules.iter().enumerate() {
        let number = position + 1;
        match rules.get(position) {
            None => {
                differences.push(format!("{table}: {name} lacks rule {number} `{}`", wanted.spec));
            }
            Some(rule) if normal_form(&rule.spec) != normal_form(&wanted.spec) => {
                differences.push(format!(
                    "{table}: {name} has `{}` for rule {number}, not `{}`",
                    rule.spec, wanted.spec
                ));
            }
            Some(_) => {}
        }
    }
    if rules.len() > chain.rules.len() {
        let many = rules.len() - chain.rules.len();
        differences.push(format!("{table}: {name} has {many} rules too many"));
    }
    let jumps: Vec<&SavedRule> = found.jumps_to(*table, name).collect();
    let right = jumps.iter().filter(|rule| is_jump(rule, chain)).count();
    if right != 1 {
        differences.push(format!("{table}: {OUTPUT} leads to {name} {right} times, not once"));
    }
    for jump in jumps.iter().filter(|rule| !is_jump(rule, chain)) {
        differences.push(format!("{table}: {} leads to {name} by `{}`", jump.chain, jump.spec));
    }
    differences
}

fn is_jump(rule: &SavedRule, chain: &Chain) -> bool {
    rule.chain == OUTPUT && normal_form(&rule.spec) == normal_form(&chain.jump)
}

fn replacement(found: &Saved, chain: &Chain) -> String {
    section(chain, &jumps(found, chain.table, chain.name), false)
}

/// Declares the chain, which creates or empties it, fills it, and makes the jump to it the first
/// rule of OUTPUT: rules of others that end the table's say (ACCEPT, another redirection) would
/// otherwise decide first. What the chain does not redirect it returns to them.
fn section(chain: &Chain, jumps: &[&SavedRule], explained: bool) -> String {
    let Chain { table, name, .. } = chain;
    let mut input = String::new();
    if explained {
        comment(&mut input, chain.why);
    }
    line(&mut input, format_args!("*{table}"));
    line(&mut input, format_args!(":{name} - [0:0]"));
    for jump in jumps {
        line(&mut input, format_args!("-D {} {}", jump.chain, jump.spec));
    }
    for rule in &chain.rules {
        if explained {
            comment(&mut input, rule.why);
        }
        line(&mut input, format_args!("-A {name} {}", rule.spec));
    }
    line(&mut input, format_args!("-I {OUTPUT} 1 {}", chain.jump));
    line(&mut input, format_args!("COMMIT"));
    input
}

fn removal(found: &Saved, table: Table, name: &str) -> Option<(String, Vec<String>)> {
    if !found.has_chain(table, name) {
        return None;
    }
    let mut input = String::new();
    line(&mut input, format_args!("*{table}"));
    // Declaring empties it, so that it can be deleted.
    line(&mut input, format_args!(":{name} - [0:0]"));
    for jump in jumps(found, table, name) {
        line(&mut input, format_args!("-D {} {}", jump.chain, jump.spec));
    }
    line(&mut input, format_args!("-X {name}"));
    line(&mut input, format_args!("COMMIT"));
    Some((input, vec![format!("{table}: the chain {name} is still there")]))
}

/// The jumps to delete: those within the chain itself go when it is emptied.
fn jumps<'a>(found: &'a Saved, table: Table, name: &'a str) -> Vec<&'a SavedRule> {
    found.jumps_to(table, name).filter(|jump| jump.chain != name).collect()
}

fn line(input: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(input, "{text}");
}

fn comment(input: &mut String, why: &str) {
    line(input, format_args!("# {why}"));
}

#[cfg(test)]
mod tests;
