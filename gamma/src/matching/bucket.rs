//! The matches that share a path or a gRPC method. [`crate::matching`] builds and asks them.

use std::collections::HashSet;

use foldhash::{HashMap, HashMapExt};
use http::{HeaderName, Method};

use super::Candidate;
use super::criteria::{RequestHeaders, decode, query_pairs};
use crate::route::{HeaderMatch, Match, QueryMatch, ValueMatch};

/// Places of matches, in order, by the value that they ask for.
type ByValue = HashMap<Box<[u8]>, Vec<usize>>;

/// Matches that share a path or a gRPC method, by the value that they ask for.
///
/// A match is in exactly one of the lists; each list is in the order of precedence.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Those that ask for no header's or parameter's exact value.
    plain: Vec<usize>,
    /// By a header's name and value.
    headers: HashMap<HeaderName, ByValue>,
    /// By a query parameter's name and value.
    query: HashMap<Box<str>, ByValue>,
}

/// A criterion by which a match can be found.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Header(&'a HeaderName, &'a str),
    Query(&'a str, &'a str),
}

impl Bucket {
    /// A bucket of the candidates at `places`, which are in order.
    pub(super) fn new(places: Vec<usize>, candidates: &[Candidate]) -> Self {
        let mut uses: HashMap<Key<'_>, usize> = HashMap::new();
        for key in places.iter().flat_map(|place| keys(candidates[*place].criteria())) {
            *uses.entry(key).or_default() += 1;
        }
        let mut bucket = Self::default();
        let mut methods: HashSet<Option<&Method>> = HashSet::new();
        for place in places {
            let criteria = candidates[place].criteria();
            // By the value that the fewest others ask for, so that a value that all have in common
            // does not put them all in one list.
            match keys(criteria).min_by_key(|key| uses.get(key)) {
                Some(Key::Header(name, value)) => {
                    let values = bucket.headers.entry(name.clone()).or_default();
                    values.entry(value.as_bytes().into()).or_default().push(place);
                }
                Some(Key::Query(name, value)) => {
                    let values = bucket.query.entry(name.into()).or_default();
                    values.entry(value.as_bytes().into()).or_default().push(place);
                }
                // A match without further criteria leaves nothing for later ones of its method.
                None if is_reached(criteria, &mut methods) => bucket.plain.push(place),
                None => {}
            }
        }
        bucket
    }

    /// The first place for which `holds`, among those that the request's values lead to.
    pub(super) fn select<'a>(
        &'a self,
        headers: RequestHeaders<'a>,
        query: Option<&str>,
        holds: impl Fn(usize, RequestHeaders<'a>) -> bool,
    ) -> Option<usize> {
        let mut best = None;
        let mut consider = |places: &[usize], found_by: Option<&'a HeaderName>| {
            let better = places.iter().take_while(|place| best.is_none_or(|best| **place < best));
            let headers = headers.found_by(found_by);
            if let Some(place) = better.copied().find(|place| holds(*place, headers)) {
                best = Some(place);
            }
        };
        if self.headers.len() <= headers.names() {
            for (name, values) in &self.headers {
                if let Some(places) = headers.value(name).and_then(|value| values.get(&*value)) {
                    consider(places, Some(name));
                }
            }
        } else {
            // Routes ask for more headers than the request has.
            for name in headers.iter() {
                let values = self.headers.get(name);
                let places = values.and_then(|values| values.get(&*headers.value(name)?));
                consider(places.map(Vec::as_slice).unwrap_or_default(), Some(name));
            }
        }
        if let Some(query) = query.filter(|_| !self.query.is_empty()) {
            for (name, value) in query_pairs(query) {
                let values = std::str::from_utf8(&name).ok().and_then(|name| self.query.get(name));
                if let Some(places) = values.and_then(|values| values.get(&*decode(value))) {
                    consider(places, None);
                }
            }
        }
        consider(&self.plain, None);
        best
    }
}

fn keys(criteria: &Match) -> impl Iterator<Item = Key<'_>> {
    let (headers, query): (&[HeaderMatch], &[QueryMatch]) = match criteria {
        Match::Http(criteria) => (&criteria.headers, &criteria.query),
        Match::Grpc(criteria) => (&criteria.headers, &[]),
        Match::Tls(_) | Match::Tcp => (&[], &[]),
    };
    let headers = headers.iter().filter_map(|header| match &header.value {
        ValueMatch::Exact(value) => Some(Key::Header(&header.name, value)),
        ValueMatch::Regex(_) | ValueMatch::Unreadable => None,
    });
    let query = query.iter().filter_map(|param| match &param.value {
        ValueMatch::Exact(value) => Some(Key::Query(&param.name, value)),
        ValueMatch::Regex(_) | ValueMatch::Unreadable => None,
    });
    headers.chain(query)
}

/// Whether a match is not hidden by an earlier one of its bucket that asks for no more than its path
/// and the same method.
fn is_reached<'a>(criteria: &'a Match, methods: &mut HashSet<Option<&'a Method>>) -> bool {
    match criteria {
        Match::Http(it) if it.headers.is_empty() && it.query.is_empty() => {
            methods.insert(it.method.as_ref())
        }
        // Within a gRPC bucket patterns may differ, so nothing is hidden for certain.
        _ => true,
    }
}

#[cfg(test)]
impl Bucket {
    /// How many matches a request may have to be held against for one of its values.
    pub(super) fn longest_list(&self) -> usize {
        let values = self.headers.values().chain(self.query.values()).flat_map(HashMap::values);
        values.map(Vec::len).chain([self.plain.len()]).max().unwrap_or_default()
    }
}
