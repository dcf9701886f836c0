//! The API's precedence among matches: the only ordering in the project.
//!
//! [`crate::resolve`] sorts routes by [`RouteOrder`], so that a rule's index among the rules of a
//! port stands for its route's age and name and for its place in the route; [`crate::matching`] sorts
//! matches by [`HttpRank`], [`GrpcRank`] or [`SniRank`], of which that index is the last part but one.
//!
//! In all of them, the lesser value takes precedence. [`decision`] says which of the API's sentences
//! put one match before another.

mod decision;

use std::cmp::{Ordering, Reverse};

pub use self::decision::{Decision, decision};

use crate::object::NamespacedName;
use crate::policy::BackendTrafficPolicy;
use crate::route::{GrpcMatch, HttpMatch, PathMatch, Route, SniMatch, ValueMatch};

/// The order among routes whose matches tie, and among policies for one target.
///
/// "If ties still exist across multiple Routes, matching precedence MUST be determined in order of
/// the following criteria, continuing on ties:
/// * The oldest Route based on creation timestamp.
/// * The Route appearing first in alphabetical order by "{namespace}/{name}"."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteOrder<'a> {
    created: i64,
    namespace: &'a str,
    name: &'a str,
}

/// The rank of an HTTPRoute's match.
///
/// "Across all rules specified on applicable Routes, precedence must be given to the match having:
/// * "Exact" path match.
/// * "Prefix" path match with largest number of characters.
/// * Method match.
/// * Largest number of header matches.
/// * Largest number of query param matches."
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpRank {
    path: PathRank,
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    rule: usize,
    matched: usize,
}

/// The rank of a GRPCRoute's match.
///
/// "Precedence MUST be given to the rule with the largest number of: […]
/// * Characters in a matching service.
/// * Characters in a matching method.
/// * Header matches."
///
/// (Hostnames come first there; meshes ignore them.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrpcRank {
    service: NameRank,
    method: NameRank,
    headers: Reverse<usize>,
    rule: usize,
    matched: usize,
}

/// The rank of a TLSRoute's hostname.
///
/// "In the event that multiple TLSRoutes specify intersecting hostnames (e.g. overlapping wildcard
/// matching and exact matching hostnames), precedence must be given to rules from the TLSRoute with the
/// largest number of:
/// * Characters in a matching non-wildcard hostname.
/// * Characters in a matching hostname."
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SniRank {
    name: SniNameRank,
    rule: usize,
    matched: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SniNameRank {
    Exact(Reverse<usize>),
    Wildcard(Reverse<usize>),
    Any,
    /// Below everything that can be read: it takes nothing from a good rule.
    Unreadable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    /// "Note: The precedence of RegularExpression path matches are implementation-specific." Here:
    /// who writes a pattern means it, so it stands before prefixes. Between patterns the other
    /// criteria decide: the length of a pattern says nothing.
    Regex,
    Prefix(Reverse<usize>),
    /// Below everything that can be read: it takes nothing from a good rule.
    Unreadable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NameRank {
    Exact(Reverse<usize>),
    /// The API counts characters, of which a pattern has no fixed number: after a name that is
    /// spelled out, before none at all.
    Regex,
    Missing,
    /// Below everything that can be read: it takes nothing from a good rule.
    Unreadable,
}

impl<'a> RouteOrder<'a> {
    /// The order of a route.
    pub fn of(route: &'a Route) -> Self {
        let key = &route.key;
        Self { created: route.created, namespace: &key.namespace, name: &key.name }
    }

    /// The order of a policy, which is the same.
    pub fn of_policy(policy: &'a BackendTrafficPolicy) -> Self {
        let NamespacedName { namespace, name } = &policy.name;
        Self { created: policy.created, namespace, name }
    }

    /// `{namespace}/{name}`
    fn text(self) -> impl Iterator<Item = u8> + use<'a> {
        self.namespace.bytes().chain([b'/']).chain(self.name.bytes())
    }
}

impl Ord for RouteOrder<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The names are compared as one string: `-` and `.` sort before `/`, so that the namespace
        // `a-b` comes before `a`.
        self.created.cmp(&other.created).then_with(|| self.text().cmp(other.text()))
    }
}

impl PartialOrd for RouteOrder<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl HttpRank {
    /// The rank of the match with index `matched` of the rule with index `rule`, where rules are in
    /// [`RouteOrder`] and then in their route's order.
    ///
    /// "If ties still exist within an HTTPRoute, matching precedence MUST be granted to the FIRST
    /// matching rule (in list order) with a match meeting the above criteria."
    pub fn new(criteria: &HttpMatch, rule: usize, matched: usize) -> Self {
        let path = match &criteria.path {
            PathMatch::Exact(_) => PathRank::Exact,
            PathMatch::Regex(_) => PathRank::Regex,
            PathMatch::Prefix(prefix) => PathRank::Prefix(Reverse(prefix.chars().count())),
            PathMatch::Unreadable => PathRank::Unreadable,
        };
        Self {
            path,
            without_method: criteria.method.is_none(),
            headers: Reverse(criteria.headers.len()),
            query: Reverse(criteria.query.len()),
            rule,
            matched,
        }
    }
}

impl GrpcRank {
    /// The rank of the match with index `matched` of the rule with index `rule`, where rules are in
    /// [`RouteOrder`] and then in their route's order.
    ///
    /// "If ties still exist within the Route that has been given precedence, matching precedence
    /// MUST be granted to the first matching rule meeting the above criteria."
    pub fn new(criteria: &GrpcMatch, rule: usize, matched: usize) -> Self {
        Self {
            service: NameRank::of(criteria.service.as_ref()),
            method: NameRank::of(criteria.method.as_ref()),
            headers: Reverse(criteria.headers.len()),
            rule,
            matched,
        }
    }
}

impl SniRank {
    /// The rank of the match with index `matched` of the rule with index `rule`, where rules are in
    /// [`RouteOrder`] and then in their route's order.
    pub fn new(criteria: &SniMatch, rule: usize, matched: usize) -> Self {
        // Hostnames are ASCII: bytes are characters.
        let name = match criteria {
            SniMatch::Exact(name) => SniNameRank::Exact(Reverse(name.len())),
            SniMatch::Wildcard(suffix) => SniNameRank::Wildcard(Reverse(suffix.len())),
            SniMatch::Any => SniNameRank::Any,
            SniMatch::Unreadable => SniNameRank::Unreadable,
        };
        Self { name, rule, matched }
    }
}

impl NameRank {
    fn of(criterion: Option<&ValueMatch>) -> Self {
        match criterion {
            Some(ValueMatch::Exact(name)) => NameRank::Exact(Reverse(name.chars().count())),
            Some(ValueMatch::Regex(_)) => NameRank::Regex,
            None => NameRank::Missing,
            Some(ValueMatch::Unreadable) => NameRank::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests;
