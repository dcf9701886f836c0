//! Which sentence of the API's precedence put one match before another, for people who ask.

use std::cmp::Reverse;
use std::fmt;

use super::{GrpcRank, HttpRank, NameRank, PathRank, SniNameRank, SniRank};
use crate::matching::Selected;
use crate::object::Objects;
use crate::resolve::ResolvedRule;
use crate::route::Match;

/// The first criterion of the API's list in which two matches differ, from the winner's side.
/// Displayed so that it goes after "by": `more header matches (1 against 0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// "Exact" path match.
    ExactPath,
    /// A pattern before a prefix: this project's choice, as the API leaves it open.
    PathPattern,
    /// "Prefix" path match with largest number of characters: the winner's and the other's.
    LongerPrefix(usize, usize),
    /// The other match holds a criterion that cannot be read, and ranks below everything else.
    Readable,
    /// Method match.
    Method,
    /// Largest number of header matches: the winner's and the other's.
    MoreHeaders(usize, usize),
    /// Largest number of query param matches: the winner's and the other's.
    MoreQueryParams(usize, usize),
    /// Characters in a matching service: the winner's and the other's, 0 for a pattern or none.
    Service(usize, usize),
    /// Characters in a matching method: the winner's and the other's, 0 for a pattern or none.
    GrpcMethod(usize, usize),
    /// A matching non-wildcard hostname.
    ExactHostname,
    /// Characters in a matching hostname: the winner's and the other's, 0 for none.
    LongerHostname(usize, usize),
    /// The oldest Route based on creation timestamp.
    OlderRoute,
    /// The Route appearing first in alphabetical order by "{namespace}/{name}".
    RouteName,
    /// The first matching rule in the route's list.
    RuleOrder,
    /// The first match in the rule's list.
    MatchOrder,
}

/// What put `winner` before `other`: matches of `rules`, as a [`crate::matching::Matcher`] or a
/// [`crate::matching::SniMatcher`] that was built from these ranks them. `objects` has the routes, for their age.
pub fn decision(
    rules: &[ResolvedRule],
    objects: &Objects,
    winner: Selected,
    other: Selected,
) -> Decision {
    let (winners, others) = (&rules[winner.rule], &rules[other.rule]);
    let by_criteria = match (&winners.matches[winner.matched], &others.matches[other.matched]) {
        (Match::Http(one), Match::Http(two)) => {
            let rank = |criteria, it: Selected| HttpRank::new(criteria, it.rule, it.matched);
            http(rank(one, winner), rank(two, other))
        }
        (Match::Grpc(one), Match::Grpc(two)) => {
            let rank = |criteria, it: Selected| GrpcRank::new(criteria, it.rule, it.matched);
            grpc(rank(one, winner), rank(two, other))
        }
        (Match::Tls(one), Match::Tls(two)) => {
            let rank = |criteria, it: Selected| SniRank::new(criteria, it.rule, it.matched);
            hostname(rank(one, winner), rank(two, other))
        }
        // The rules of a port are all of one kind.
        _ => None,
    };
    by_criteria.unwrap_or_else(|| by_order(winners, others, objects, winner, other))
}

fn http(winner: HttpRank, other: HttpRank) -> Option<Decision> {
    if winner.path != other.path {
        return Some(match (winner.path, other.path) {
            (_, PathRank::Unreadable) => Decision::Readable,
            (PathRank::Prefix(Reverse(one)), PathRank::Prefix(Reverse(two))) => {
                Decision::LongerPrefix(one, two)
            }
            (PathRank::Regex, _) => Decision::PathPattern,
            _ => Decision::ExactPath,
        });
    }
    if winner.without_method != other.without_method {
        return Some(Decision::Method);
    }
    by_count(winner.headers, other.headers)
        .map(|(one, two)| Decision::MoreHeaders(one, two))
        .or_else(|| {
            by_count(winner.query, other.query)
                .map(|(one, two)| Decision::MoreQueryParams(one, two))
        })
}

fn grpc(winner: GrpcRank, other: GrpcRank) -> Option<Decision> {
    let by_name = |one: NameRank, two: NameRank, decision: fn(usize, usize) -> Decision| {
        (one != two).then(|| match two {
            NameRank::Unreadable => Decision::Readable,
            _ => decision(one.characters(), two.characters()),
        })
    };
    by_name(winner.service, other.service, Decision::Service)
        .or_else(|| by_name(winner.method, other.method, Decision::GrpcMethod))
        .or_else(|| {
            by_count(winner.headers, other.headers)
                .map(|(one, two)| Decision::MoreHeaders(one, two))
        })
}

fn hostname(winner: SniRank, other: SniRank) -> Option<Decision> {
    (winner.name != other.name).then(|| match (winner.name, other.name) {
        (_, SniNameRank::Unreadable) => Decision::Readable,
        (SniNameRank::Exact(_), SniNameRank::Wildcard(_)) => Decision::ExactHostname,
        (one, two) => Decision::LongerHostname(one.characters(), two.characters()),
    })
}

fn by_count(
    Reverse(winner): Reverse<usize>,
    Reverse(other): Reverse<usize>,
) -> Option<(usize, usize)> {
    (winner != other).then_some((winner, other))
}

fn by_order(
    winners: &ResolvedRule,
    others: &ResolvedRule,
    objects: &Objects,
    winner: Selected,
    other: Selected,
) -> Decision {
    if winner.rule == other.rule {
        return Decision::MatchOrder;
    }
    if winners.route == others.route {
        return Decision::RuleOrder;
    }
    let order = |rule: &ResolvedRule| objects.routes.get(&rule.route).map(|it| it.created);
    match order(winners) == order(others) {
        true => Decision::RouteName,
        false => Decision::OlderRoute,
    }
}

impl NameRank {
    fn characters(self) -> usize {
        match self {
            NameRank::Exact(Reverse(characters)) => characters,
            NameRank::Regex | NameRank::Missing | NameRank::Unreadable => 0,
        }
    }
}

impl SniNameRank {
    fn characters(self) -> usize {
        match self {
            SniNameRank::Exact(Reverse(characters)) => characters,
            // Of the hostname, which has a `*` before the suffix.
            SniNameRank::Wildcard(Reverse(suffix)) => suffix + 1,
            SniNameRank::Any | SniNameRank::Unreadable => 0,
        }
    }
}

impl Decision {
    /// A word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::ExactPath => "exactPath",
            Decision::PathPattern => "pathPattern",
            Decision::LongerPrefix(..) => "longerPrefix",
            Decision::Readable => "readable",
            Decision::Method => "method",
            Decision::MoreHeaders(..) => "moreHeaders",
            Decision::MoreQueryParams(..) => "moreQueryParams",
            Decision::Service(..) => "service",
            Decision::GrpcMethod(..) => "grpcMethod",
            Decision::ExactHostname => "exactHostname",
            Decision::LongerHostname(..) => "longerHostname",
            Decision::OlderRoute => "olderRoute",
            Decision::RouteName => "routeName",
            Decision::RuleOrder => "ruleOrder",
            Decision::MatchOrder => "matchOrder",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, what: &str, one: usize, two: usize| match one {
            0 => write!(f, "its {what}: a pattern before none"),
            _ => write!(f, "more characters in its {what} ({one} against {two})"),
        };
        match *self {
            Decision::ExactPath => f.write_str("its path: Exact before all others"),
            Decision::PathPattern => f.write_str("its path: RegularExpression before PathPrefix"),
            Decision::LongerPrefix(one, two) => {
                write!(f, "a longer path prefix ({one} characters against {two})")
            }
            Decision::Readable => {
                f.write_str("its criteria: those that can be read before those that cannot")
            }
            Decision::Method => f.write_str("its method: a match with one before one without"),
            Decision::MoreHeaders(one, two) => {
                write!(f, "more header matches ({one} against {two})")
            }
            Decision::MoreQueryParams(one, two) => {
                write!(f, "more query parameter matches ({one} against {two})")
            }
            Decision::Service(one, two) => named(f, "service", one, two),
            Decision::GrpcMethod(one, two) => named(f, "method", one, two),
            Decision::ExactHostname => f.write_str("its hostname: one without a wildcard first"),
            Decision::LongerHostname(one, two) => {
                write!(f, "a longer hostname ({one} characters against {two})")
            }
            Decision::OlderRoute => f.write_str("its route's age: the older one first"),
            Decision::RouteName => f.write_str(
                "its route's name, as both are of one age: in alphabetical order by namespace/name",
            ),
            Decision::RuleOrder => f.write_str("its place: an earlier rule of the same route"),
            Decision::MatchOrder => f.write_str("its place: an earlier match of the same rule"),
        }
    }
}
