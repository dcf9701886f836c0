//! Finds the rule for a request, or for a TLS connection, by the API's precedence, without a scan over
//! routes.
//!
//! The proxy builds a [`Matcher`] for the rules of a port whenever they change, and asks it once per
//! request. Its answer is that of a scan over all matches in the order of [`crate::precedence`].
//!
//! How: all matches are sorted once, and from then on are known by their place in that order. Those
//! with one path (or one gRPC method) make a bucket, which is found by hash; within it, those that
//! ask for a header's or a query parameter's value are found by hash of that value. What is found is
//! held against the request in full, and the least place wins.

mod bucket;
mod consider;
mod criteria;
mod sni;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use http::{HeaderMap, Method};

pub use self::sni::SniMatcher;

use self::bucket::Bucket;
pub use self::consider::{Considered, Criterion, Unmet, consider_server_name};
use self::criteria::RequestHeaders;
use crate::precedence::{GrpcRank, HttpRank};
use crate::resolve::ResolvedRule;
use crate::route::{GrpcMatch, HttpMatch, Match, PathMatch, RouteKind, ValueMatch};

/// What of a request is held against matches.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// The winner: indices into the rules that the matcher was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Index of the rule.
    pub rule: usize,
    /// Index of the match within the rule.
    pub matched: usize,
}

/// The matches of all rules of one port, indexed: those of HTTPRoutes or GRPCRoutes.
#[derive(Debug)]
pub struct Matcher {
    /// All matches, in the order of precedence.
    candidates: Vec<Candidate>,
    index: Index,
}

impl Matcher {
    /// Indexes the matches of `rules`, which are of routes of `kind` and in the order that
    /// [`crate::resolve::Attached`] has them in: it breaks ties. Of routes that are not about requests
    /// (TLSRoute, TCPRoute), nothing matches any.
    pub fn new(kind: RouteKind, rules: &[ResolvedRule]) -> Self {
        let (candidates, index) = match kind {
            RouteKind::Http | RouteKind::Tls | RouteKind::Tcp => {
                let candidates = sorted(rules, |it, rule, matched| match it {
                    Match::Http(criteria) => Some(HttpRank::new(criteria, rule, matched)),
                    _ => None,
                });
                let index = Index::Http(HttpIndex::new(&candidates));
                (candidates, index)
            }
            RouteKind::Grpc => {
                let candidates = sorted(rules, |it, rule, matched| match it {
                    Match::Grpc(criteria) => Some(GrpcRank::new(criteria, rule, matched)),
                    _ => None,
                });
                let index = Index::Grpc(GrpcIndex::new(&candidates));
                (candidates, index)
            }
        };
        Self { candidates, index }
    }

    /// The match that takes precedence among those that the request satisfies; None if it satisfies
    /// none.
    pub fn select(&self, request: &RequestView<'_>) -> Option<Selected> {
        let place = match &self.index {
            Index::Http(index) => index.select(&self.candidates, request),
            Index::Grpc(index) => index.select(&self.candidates, request),
        };
        place.map(|place| self.candidates[place].selected)
    }
}

/// A match of a rule.
#[derive(Debug)]
struct Candidate {
    selected: Selected,
    matches: Arc<[Match]>,
}

impl Candidate {
    fn criteria(&self) -> &Match {
        &self.matches[self.selected.matched]
    }

    fn http(&self) -> Option<&HttpMatch> {
        match self.criteria() {
            Match::Http(criteria) => Some(criteria),
            _ => None,
        }
    }

    fn grpc(&self) -> Option<&GrpcMatch> {
        match self.criteria() {
            Match::Grpc(criteria) => Some(criteria),
            _ => None,
        }
    }
}

fn sorted<R: Ord>(
    rules: &[ResolvedRule],
    rank: impl Fn(&Match, usize, usize) -> Option<R>,
) -> Vec<Candidate> {
    let mut ranked = Vec::new();
    for (rule, resolved) in rules.iter().enumerate() {
        for (matched, criteria) in resolved.matches.iter().enumerate() {
            if let Some(rank) = rank(criteria, rule, matched) {
                let selected = Selected { rule, matched };
                ranked.push((rank, Candidate { selected, matches: resolved.matches.clone() }));
            }
        }
    }
    ranked.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

#[derive(Debug)]
enum Index {
    Http(HttpIndex),
    Grpc(GrpcIndex),
}

/// The buckets of HTTP matches, in the order in which their path ranks.
#[derive(Debug)]
struct HttpIndex {
    exact: HashMap<Box<str>, Bucket>,
    /// Places, in order. Each pattern is tried: a set of patterns cannot be hashed.
    regex: Vec<usize>,
    /// By the prefix without its trailing `/`.
    prefix: HashMap<Box<str>, Bucket>,
    /// The lengths of those prefixes, in bytes, longest first.
    prefix_lengths: Vec<usize>,
    /// Of the prefix `/`, which every path has: what most routes ask for is not looked up.
    root: Bucket,
    unreadable: Bucket,
}

impl HttpIndex {
    fn new(candidates: &[Candidate]) -> Self {
        let mut exact: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut prefix: HashMap<&str, Vec<usize>> = HashMap::new();
        let (mut regex, mut unreadable) = (Vec::new(), Vec::new());
        for (place, criteria) in places(candidates, Candidate::http) {
            match &criteria.path {
                PathMatch::Exact(path) => exact.entry(path).or_default().push(place),
                PathMatch::Regex(_) => regex.push(place),
                PathMatch::Prefix(path) => prefix.entry(path).or_default().push(place),
                PathMatch::Unreadable => unreadable.push(place),
            }
        }
        let root = prefix.remove("").unwrap_or_default();
        let lengths: BTreeSet<usize> = prefix.keys().map(|path| path.len()).collect();
        Self {
            exact: buckets(exact, candidates),
            regex,
            prefix: buckets(prefix, candidates),
            prefix_lengths: lengths.into_iter().rev().collect(),
            root: Bucket::new(root, candidates),
            unreadable: Bucket::new(unreadable, candidates),
        }
    }

    fn select(&self, candidates: &[Candidate], request: &RequestView<'_>) -> Option<usize> {
        let headers = RequestHeaders::new(request.headers);
        let holds = |place: usize, headers: RequestHeaders<'_>| {
            candidates[place]
                .http()
                .is_some_and(|it| criteria::http(it, request, headers, at_the_first).is_continue())
        };
        let find = |bucket: &Bucket| bucket.select(headers, request.query, holds);
        let exact = || self.exact.get(request.path).and_then(find);
        let regex = || self.regex.iter().copied().find(|place| holds(*place, headers));
        // "Prefix" path match with largest number of characters.
        let prefix = || self.prefixes(request.path).find_map(find);
        let root = || find(&self.root);
        let unreadable = || find(&self.unreadable);
        exact().or_else(regex).or_else(prefix).or_else(root).or_else(unreadable)
    }

    /// The buckets of the prefixes that `path` has, the longest first, but for the root's.
    fn prefixes<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Bucket> {
        let bytes = path.as_bytes();
        // A prefix ends where a segment does: at a `/`, or with the path.
        let ends = |length: &usize| match bytes.get(*length) {
            Some(byte) => *byte == b'/',
            None => bytes.len() == *length,
        };
        let lengths = self.prefix_lengths.iter().copied().filter(ends);
        lengths.filter_map(|length| self.prefix.get(path.get(..length)?))
    }
}

/// The buckets of gRPC matches, by service and then by method.
#[derive(Debug)]
struct GrpcIndex {
    services: HashMap<Box<str>, GrpcMethods>,
    /// Those that name no service exactly.
    others: Bucket,
}

/// The matches of one service.
#[derive(Debug)]
struct GrpcMethods {
    methods: HashMap<Box<str>, Bucket>,
    /// Those that name no method exactly.
    others: Bucket,
}

impl GrpcIndex {
    fn new(candidates: &[Candidate]) -> Self {
        let mut services: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut others = Vec::new();
        for (place, criteria) in places(candidates, Candidate::grpc) {
            match &criteria.service {
                Some(ValueMatch::Exact(name)) => services.entry(name).or_default().push(place),
                _ => others.push(place),
            }
        }
        let methods = |(name, places)| (Box::from(name), GrpcMethods::new(places, candidates));
        let services = services.into_iter().map(methods).collect();
        Self { services, others: Bucket::new(others, candidates) }
    }

    fn select(&self, candidates: &[Candidate], request: &RequestView<'_>) -> Option<usize> {
        let headers = RequestHeaders::new(request.headers);
        let name = criteria::grpc_name(request.path);
        let holds = |place: usize, headers: RequestHeaders<'_>| {
            candidates[place]
                .grpc()
                .is_some_and(|it| criteria::grpc(it, name, headers, at_the_first).is_continue())
        };
        let find = |bucket: &Bucket| bucket.select(headers, None, holds);
        let service = name.and_then(|(service, _)| self.services.get(service));
        let method = name.zip(service).and_then(|((_, method), it)| it.methods.get(method));
        let exact = method.and_then(find);
        let in_service = || service.and_then(|it| find(&it.others));
        exact.or_else(in_service).or_else(|| find(&self.others))
    }
}

impl GrpcMethods {
    fn new(places: Vec<usize>, candidates: &[Candidate]) -> Self {
        let mut methods: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut others = Vec::new();
        for place in places {
            match candidates[place].grpc().and_then(|it| it.method.as_ref()) {
                Some(ValueMatch::Exact(name)) => methods.entry(name).or_default().push(place),
                _ => others.push(place),
            }
        }
        Self { methods: buckets(methods, candidates), others: Bucket::new(others, candidates) }
    }
}

/// One criterion that is not met is enough to know.
fn at_the_first(_: Criterion<'_>) -> ControlFlow<()> {
    ControlFlow::Break(())
}

/// The candidates of one kind with their places, in order.
fn places<'a, T: 'a>(
    candidates: &'a [Candidate],
    criteria: impl Fn(&'a Candidate) -> Option<&'a T>,
) -> impl Iterator<Item = (usize, &'a T)> {
    let candidates = candidates.iter().enumerate();
    candidates.filter_map(move |(place, candidate)| Some((place, criteria(candidate)?)))
}

fn buckets(
    places: HashMap<&str, Vec<usize>>,
    candidates: &[Candidate],
) -> HashMap<Box<str>, Bucket> {
    let bucket = |(key, places)| (Box::from(key), Bucket::new(places, candidates));
    places.into_iter().map(bucket).collect()
}

#[cfg(test)]
mod tests;
