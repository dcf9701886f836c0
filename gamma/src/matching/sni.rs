//! The rule for a TLS connection, by the name that its client asks for.

use foldhash::HashMap;

use super::Selected;
use crate::precedence::SniRank;
use crate::resolve::ResolvedRule;
use crate::route::{Match, SniMatch};

/// The hostnames of the TLSRoutes of one port, indexed. The proxy asks it once per connection.
#[derive(Debug, Default)]
pub struct SniMatcher {
    exact: HashMap<Box<str>, Selected>,
    /// By what follows the `*`, with its first dot.
    wildcard: HashMap<Box<str>, Selected>,
    any: Option<Selected>,
    unreadable: Option<Selected>,
}

impl SniMatcher {
    /// Indexes the hostnames of `rules`, which are of TLSRoutes and in the order that
    /// [`crate::resolve::Attached`] has them in: it breaks ties.
    pub fn new(rules: &[ResolvedRule]) -> Self {
        let mut ranked = Vec::new();
        for (rule, resolved) in rules.iter().enumerate() {
            for (matched, criteria) in resolved.matches.iter().enumerate() {
                if let Match::Tls(criteria) = criteria {
                    ranked.push((
                        SniRank::new(criteria, rule, matched),
                        criteria,
                        Selected { rule, matched },
                    ));
                }
            }
        }
        ranked.sort_unstable_by_key(|(rank, ..)| *rank);
        let mut matcher = Self::default();
        for (_, criteria, selected) in ranked {
            // Of those that say the same, the first ranks highest.
            match criteria {
                SniMatch::Exact(name) => {
                    matcher.exact.entry(name.as_str().into()).or_insert(selected);
                }
                SniMatch::Wildcard(suffix) => {
                    matcher.wildcard.entry(suffix.as_str().into()).or_insert(selected);
                }
                SniMatch::Any => {
                    matcher.any.get_or_insert(selected);
                }
                SniMatch::Unreadable => {
                    matcher.unreadable.get_or_insert(selected);
                }
            }
        }
        matcher
    }

    /// The hostname that takes precedence among those that `server_name` matches; None if there is
    /// none. The name is in lower case; a client that gives none is matched by no hostname.
    pub fn select(&self, server_name: Option<&str>) -> Option<Selected> {
        let named = server_name.and_then(|name| {
            let exact = self.exact.get(name);
            // The longest suffix, and so the hostname with the most characters, comes first.
            let dots = name.match_indices('.').filter(|(at, _)| *at > 0);
            exact.or_else(|| dots.into_iter().find_map(|(at, _)| self.wildcard.get(&name[at..])))
        });
        named.copied().or(self.any).or(self.unreadable)
    }
}

#[cfg(test)]
mod tests;
