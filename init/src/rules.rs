//! The rules, as a pure function of the configuration.
//!
//! `plan` compares them with what the kernel has, `run` prints them for `--dry-run`. They are
//! written exactly as `iptables-save` prints them, so that reading back is a comparison of texts.
//!
//! Two chains for each family, both reached from the built-in chain OUTPUT, which only packets
//! that this pod's own processes send pass through:
//!
//! * `nat WEFT_OUTPUT` redirects. The kernel asks it once, about the first packet of a
//!   connection; conntrack then treats all others like that one.
//! * `filter WEFT_INVALID` drops the packets of redirected connections for which conntrack cannot
//!   do that, see `guard`.
//!
//! The order in a chain is part of its meaning: the first rule that matches decides.

use std::fmt;

use crate::cidr::{Cidr, Family};
use crate::config::Config;

/// The built-in chain from which both of Weft's chains are reached.
pub const OUTPUT: &str = "OUTPUT";

/// Chains that are Weft's by name: whatever is in them, and every jump to them, is Weft's to
/// replace and to remove.
pub const OWN_CHAINS: [(Table, &str); 2] = [(Table::Filter, GUARD), (Table::Nat, REDIRECT)];

const REDIRECT: &str = "WEFT_OUTPUT";
const GUARD: &str = "WEFT_INVALID";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Filter,
    Nat,
}

impl Table {
    pub fn name(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of Weft's chains, with the jump that leads to it from [`OUTPUT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub table: Table,
    pub name: &'static str,
    /// The jump's matches and target, without `-A OUTPUT`.
    pub jump: String,
    pub rules: Vec<Rule>,
    pub why: &'static str,
}

/// Matches and target without `-A CHAIN`, and why the rule is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub spec: String,
    pub why: &'static str,
}

/// The chains of a family in the order in which they are to be written: the guard ahead of the
/// redirection, so that no connection is redirected unguarded. None if nothing is included.
pub fn chains(config: &Config, family: Family) -> Vec<Chain> {
    if config.included.of(family).next().is_none() {
        return Vec::new();
    }
    vec![guard(config, family), redirect(config, family)]
}

/// Which connections go to the sidecar.
fn redirect(config: &Config, family: Family) -> Chain {
    let mut rules = exemptions(config, family);
    rules.extend(config.included.of(family).map(|cidr| Rule {
        spec: format!("{}-p tcp -j REDIRECT --to-ports {}", to(cidr), config.outbound_port),
        why: "everything else to this range goes to the sidecar",
    }));
    Chain {
        table: Table::Nat,
        name: REDIRECT,
        jump: format!("-p tcp -j {REDIRECT}"),
        rules,
        why: "redirects outbound connections to the sidecar",
    }
}

/// Drops what would leave a redirected connection with the wrong address on it.
///
/// Redirection is conntrack's work: it rewrites the destination of each packet that the
/// application sends, and the source of each that the sidecar answers. Where it cannot tell the
/// connection any more (its entry was evicted from a full table or flushed, or the packet is
/// outside the TCP window that it tracks) it lets the packet pass as it is:
///
/// * from the application it leaves the pod towards the Service address. The node picks it up in
///   the middle, sends it to some endpoint that knows nothing of it, and that one's RST ends the
///   application's healthy connection (kubernetes#74839 is the same on the node);
/// * from the sidecar it arrives with the source 127.0.0.1:15001, where the application has no
///   connection, and the kernel's RST ends the sidecar's half while the application waits. (With
///   IPv6 the kernel sends none; the rule is there so as not to rely on it.)
///
/// Dropped, either is only sent again; and with the next data of the application's conntrack knows
/// the connection again, because that is redirected exactly as the first packet was. A packet of
/// the sidecar's without an entry is in the state INVALID or, if it carries data, NEW, as if it
/// opened a connection from the sidecar's own port, which it never does: hence both states there.
/// Only a connection whose application has nothing more to say stays lost, and both of its ends
/// find out by their own time limits instead of by a reset.
///
/// Where everything is included, INVALID packets of connections that others opened to this pod
/// are dropped as well: without an entry nobody can tell them apart. They too are sent again.
fn guard(config: &Config, family: Family) -> Chain {
    let loopback = match family {
        Family::Ipv4 => "127.0.0.1/32",
        Family::Ipv6 => "::1/128",
    };
    let mut rules = vec![
        Rule {
            spec: format!(
                "-s {loopback} -o lo -p tcp -m tcp --sport {} -j DROP",
                config.outbound_port
            ),
            why: "an answer of the sidecar that conntrack cannot give the Service's address; \
                  ahead of the sidecar's exemption because the sidecar sends it",
        },
        Rule {
            spec: "-m conntrack --ctstate NEW -j RETURN".to_owned(),
            why: "every other connection may begin: from here on only INVALID is left",
        },
    ];
    rules.extend(exemptions(config, family));
    rules.extend(config.included.of(family).map(|cidr| Rule {
        spec: format!("{}-p tcp -j DROP", to(cidr)),
        why: "a packet of the application's that conntrack cannot take to the sidecar",
    }));
    Chain {
        table: Table::Filter,
        name: GUARD,
        // Established connections, nearly every packet, cost this one match.
        jump: format!("-p tcp -m conntrack --ctstate INVALID,NEW -j {GUARD}"),
        rules,
        why: "drops packets of redirected connections that conntrack has lost, which would leave \
              with the wrong address and have the connection reset",
    }
}

/// What is never redirected, in the order in which it is asked.
fn exemptions(config: &Config, family: Family) -> Vec<Rule> {
    let loopback = match family {
        Family::Ipv4 => "127.0.0.0/8",
        Family::Ipv6 => "::1/128",
    };
    let mut rules = vec![
        Rule {
            spec: format!("-m owner --uid-owner {} -j RETURN", config.proxy_uid),
            why: "what the sidecar sends; first, because anything ahead of it could loop",
        },
        Rule {
            spec: "-o lo -j RETURN".to_owned(),
            why: "within the pod, the pod's own address included",
        },
        Rule {
            spec: format!("-d {loopback} -j RETURN"),
            why: "loopback addresses, whatever the routes say",
        },
    ];
    rules.extend(config.excluded_ports.multiports().into_iter().map(|ports| Rule {
        spec: format!("-p tcp -m multiport --dports {ports} -j RETURN"),
        why: "excluded ports",
    }));
    rules.extend(
        config
            .excluded
            .of(family)
            .map(|cidr| Rule { spec: format!("{}-j RETURN", to(cidr)), why: "an excluded range" }),
    );
    rules
}

/// The destination match; for every address none, as `iptables-save` prints it.
fn to(cidr: Cidr) -> String {
    if cidr.is_everything() { String::new() } else { format!("-d {cidr} ") }
}

#[cfg(test)]
mod tests;
