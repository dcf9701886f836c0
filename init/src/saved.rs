//! What `iptables-save` prints, parsed.
//!
//! `iptables` reads it, `plan` compares it with the wanted rules. Counters and comments are left
//! out; a rule keeps its text, by which iptables can be told to delete it, and has a form in which
//! the spelling of another iptables version makes no difference.

use crate::rules::{OWN_CHAINS, Table};

/// One family's tables in one of the kernel's rule engines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    chains: Vec<(String, String)>,
    rules: Vec<SavedRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRule {
    pub table: String,
    pub chain: String,
    /// Matches and target as printed, without `-A CHAIN`.
    pub spec: String,
}

impl Saved {
    pub fn parse(text: &str) -> Saved {
        let mut saved = Saved::default();
        let mut table = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split(' ').next().unwrap_or_default();
                saved.chains.push((table.to_owned(), name.to_owned()));
            } else if let Some((chain, spec)) = appended(line) {
                saved.rules.push(SavedRule {
                    table: table.to_owned(),
                    chain: chain.to_owned(),
                    spec: spec.to_owned(),
                });
            }
        }
        saved
    }

    pub fn has_chain(&self, table: Table, name: &str) -> bool {
        self.chains.iter().any(|(in_table, chain)| in_table == table.name() && chain == name)
    }

    /// A chain's rules in their order.
    pub fn rules<'a>(
        &'a self,
        table: Table,
        chain: &'a str,
    ) -> impl Iterator<Item = &'a SavedRule> {
        self.rules.iter().filter(move |rule| rule.table == table.name() && rule.chain == chain)
    }

    /// The rules of other chains that lead to this one.
    pub fn jumps_to<'a>(
        &'a self,
        table: Table,
        chain: &'a str,
    ) -> impl Iterator<Item = &'a SavedRule> {
        self.rules
            .iter()
            .filter(move |rule| rule.table == table.name() && target(&rule.spec) == Some(chain))
    }

    /// Whether any of Weft's chains is here.
    pub fn has_own(&self) -> bool {
        OWN_CHAINS.iter().any(|(table, name)| self.has_chain(*table, name))
    }

    /// Whether somebody else wrote a rule.
    pub fn has_foreign(&self) -> bool {
        self.rules.iter().any(|rule| {
            !OWN_CHAINS.iter().any(|(table, name)| {
                rule.table == table.name()
                    && (rule.chain == *name || target(&rule.spec) == Some(*name))
            })
        })
    }
}

/// A rule's options sorted by name, without what says nothing: two rules are equal if and only if
/// this is. Versions of iptables differ in the order in which they print matches, and in whether
/// they print `-m tcp` where `-p tcp` says it already.
pub fn normal_form(spec: &str) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    let mut negated = false;
    for word in words(spec) {
        if word == "!" {
            negated = true;
        } else if word.starts_with('-') {
            options.push(if negated { format!("! {word}") } else { word.to_owned() });
            negated = false;
        } else if let Some(option) = options.last_mut() {
            // The states are a set.
            if option.ends_with("--ctstate") {
                let mut states: Vec<&str> = word.split(',').collect();
                states.sort_unstable();
                *option = format!("{option} {}", states.join(","));
            } else {
                *option = format!("{option} {word}");
            }
        }
    }
    options.retain(|option| !option.starts_with("-m "));
    options.sort_unstable();
    options
}

/// `-A CHAIN SPEC`, with counters ahead of it where they were asked for.
fn appended(line: &str) -> Option<(&str, &str)> {
    let line = match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] ")?.1,
        None => line,
    };
    let rest = line.strip_prefix("-A ")?;
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

/// The chain or target that a rule leads to.
fn target(spec: &str) -> Option<&str> {
    let mut words = words(spec);
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

/// Words separated by blanks; what is in double quotes, as comments are, is one word.
fn words(spec: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    spec.split(move |character: char| {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ => return !quoted && character.is_whitespace(),
        }
        false
    })
    .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests;
