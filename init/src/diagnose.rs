//! What an iptables error means and what to do about it.
//!
//! `iptables` asks when a command has failed. The texts are those of iptables 1.6 to 1.8; one that
//! is not known here is passed on as it is.

use std::collections::BTreeSet;

/// What to do about an error that `stderr` tells of, and which rule of `input` it is about.
pub fn advice(stderr: &str, input: &str) -> Option<String> {
    let lower = stderr.to_lowercase();
    let about = |what: String| Some(format!("{what}{}", rule_at(stderr, input)));
    if denied(stderr) {
        return Some(NEEDS_NET_ADMIN.to_owned());
    }
    if lower.contains("xtables lock") {
        return Some(
            "another iptables process in this container kept the lock: let it end, then try again"
                .to_owned(),
        );
    }
    if lower.contains("can't open lock file") {
        return Some(
            "legacy iptables could not open its lock file: set XTABLES_LOCKFILE to a writable path"
                .to_owned(),
        );
    }
    if let Some(name) = quoted_after(stderr, "Couldn't load match `")
        .or_else(|| quoted_after(stderr, "Couldn't load target `"))
    {
        return about(format!(
            "the image lacks iptables' extension `{name}`: use weft-init's own image"
        ));
    }
    if let Some(table) = quoted_after(stderr, "unable to initialize table '") {
        return Some(format!(
            "the node's kernel offers no legacy table `{table}` here: load iptable_{table} (or \
             ip6table_{table}) on the node, or use --iptables nft; it also answers so to a process \
             without NET_ADMIN and NET_RAW in the pod's network namespace"
        ));
    }
    if lower.contains("failed to initialize nft") || lower.contains("rule set generation id") {
        return Some(
            "the node's kernel has no nf_tables: load nf_tables and nft_compat on the node, or \
             use --iptables legacy"
                .to_owned(),
        );
    }
    if lower.contains("line ") || lower.contains("missing kernel module") {
        let modules: Vec<&str> = modules(input).into_iter().collect();
        return about(format!(
            "the node's kernel refuses the rules; they need the kernel modules {}",
            modules.join(", ")
        ));
    }
    None
}

/// Whether the error is the lack of a permission.
pub fn denied(stderr: &str) -> bool {
    let lower = stderr.to_lowercase();
    ["permission denied", "you must be root", "operation not permitted"]
        .iter()
        .any(|text| lower.contains(text))
}

/// What to do where rules may not be written.
pub const NEEDS_NET_ADMIN: &str = "weft-init needs the capability NET_ADMIN in the pod's network \
     namespace: its container must run as root and add NET_ADMIN and NET_RAW; where the pod's \
     namespace enforces a Pod Security level (baseline or restricted) or another policy that \
     forbids this, allow it for this namespace, or leave its pods unmeshed with the label \
     weft.mesh/inject: disabled";

/// A command's error output as a single line.
pub fn one_line(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        // Says nothing about this run; and legacy tables are looked at anyway.
        .filter(|line| !line.starts_with("Try `") && !line.contains("legacy tables present"))
        .collect();
    lines.join(" ").trim().to_owned()
}

/// The modules that the rules of `input` need, by their matches and targets.
fn modules(input: &str) -> BTreeSet<&'static str> {
    let needed = |word: &str| match word {
        "owner" => Some("xt_owner"),
        "multiport" => Some("xt_multiport"),
        "conntrack" => Some("xt_conntrack"),
        "tcp" => Some("xt_tcpudp"),
        "REDIRECT" => Some("xt_REDIRECT"),
        "*nat" => Some("nf_nat"),
        _ => None,
    };
    input.split_whitespace().filter_map(needed).collect()
}

/// ": rule `…`" where the error names a line of the input that is a rule. Legacy iptables names
/// the COMMIT, because the kernel refuses its tables as a whole.
fn rule_at(stderr: &str, input: &str) -> String {
    let number = stderr.split("line ").skip(1).find_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().ok()
    });
    let number = number.or_else(|| {
        let rest = stderr.split_once("Error occurred at line: ")?.1;
        rest.split_whitespace().next()?.parse().ok()
    });
    match number.and_then(|number| input.lines().nth(number.checked_sub(1)?)) {
        Some(line) if line.starts_with('-') => format!("; it is about the rule `{line}`"),
        _ => String::new(),
    }
}

fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once('\'')?.0)
}

#[cfg(test)]
mod tests;
