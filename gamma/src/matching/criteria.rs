//! Holds a request against the criteria of one match. [`crate::matching`] calls it.

use std::borrow::Cow;
use std::ops::ControlFlow;

use http::header::{HeaderMap, HeaderName};

use super::{Criterion, RequestView};
use crate::path::has_prefix;
use crate::route::{GrpcMatch, HeaderMatch, HttpMatch, PathMatch, QueryMatch, ValueMatch};

/// Holds a request against an HTTPRoute's match: calls `unmet` with each criterion that it does not
/// satisfy, until that breaks. Continues to the end where the request satisfies all.
pub(super) fn http<'m, B>(
    criteria: &'m HttpMatch,
    request: &RequestView<'_>,
    headers: RequestHeaders<'_>,
    mut unmet: impl FnMut(Criterion<'m>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    if let Some(method) = &criteria.method
        && method != request.method
    {
        unmet(Criterion::Method(method))?;
    }
    for header in &criteria.headers {
        if !headers.satisfy(header) {
            unmet(Criterion::Header(header))?;
        }
    }
    for param in &criteria.query {
        if !query_satisfies(request.query, param) {
            unmet(Criterion::QueryParam(param))?;
        }
    }
    // The path comes last: patterns cost the most, and where the path has led here it is cheap.
    let path = match &criteria.path {
        PathMatch::Exact(path) => request.path == path,
        PathMatch::Prefix(prefix) => has_prefix(request.path, prefix),
        PathMatch::Regex(pattern) => pattern.is_match(request.path),
        PathMatch::Unreadable => true,
    };
    if !path {
        unmet(Criterion::Path(&criteria.path))?;
    }
    ControlFlow::Continue(())
}

/// Holds a request for the gRPC method `name` against a GRPCRoute's match, as [`http`] does.
pub(super) fn grpc<'m, B>(
    criteria: &'m GrpcMatch,
    name: Option<(&str, &str)>,
    headers: RequestHeaders<'_>,
    mut unmet: impl FnMut(Criterion<'m>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let satisfied = |criterion: &ValueMatch, value: Option<&str>| {
        value.is_some_and(|value| matches_value(criterion, value.as_bytes()))
    };
    if let Some(service) = &criteria.service
        && !satisfied(service, name.map(|(service, _)| service))
    {
        unmet(Criterion::GrpcService(service))?;
    }
    if let Some(method) = &criteria.method
        && !satisfied(method, name.map(|(_, method)| method))
    {
        unmet(Criterion::GrpcMethod(method))?;
    }
    for header in &criteria.headers {
        if !headers.satisfy(header) {
            unmet(Criterion::Header(header))?;
        }
    }
    ControlFlow::Continue(())
}

/// The service and the method in the path `/service/method`; None if it is not of that form.
pub(super) fn grpc_name(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

/// The headers of a request, with the values of repeated ones joined.
#[derive(Clone, Copy)]
pub(super) struct RequestHeaders<'a> {
    headers: &'a HeaderMap,
    /// By whose value the matches were found that are asked about: it is the one that they ask for.
    found_by: Option<&'a HeaderName>,
}

impl<'a> RequestHeaders<'a> {
    pub(super) fn new(headers: &'a HeaderMap) -> Self {
        Self { headers, found_by: None }
    }

    pub(super) fn found_by(self, name: Option<&'a HeaderName>) -> Self {
        Self { found_by: name, ..self }
    }

    /// How many different names there are.
    pub(super) fn names(self) -> usize {
        self.headers.keys_len()
    }

    /// The different names.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a HeaderName> {
        self.headers.keys()
    }

    /// The value of a header; of a repeated one, its values joined with `,`.
    pub(super) fn value(self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.as_bytes();
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let joined = joined.to_mut();
            joined.push(b',');
            joined.extend_from_slice(value.as_bytes());
        }
        Some(joined)
    }

    fn satisfy(self, criterion: &HeaderMatch) -> bool {
        match &criterion.value {
            ValueMatch::Exact(_) if self.found_by == Some(&criterion.name) => true,
            // Any value, so long as there is one.
            ValueMatch::Unreadable => self.headers.contains_key(&criterion.name),
            value => self.value(&criterion.name).is_some_and(|it| matches_value(value, &it)),
        }
    }
}

/// The names of a query, decoded, with their values as they are, in their order.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), value)
    })
}

/// Undoes percent-encoding, where `+` is a space. Without either, nothing is copied. A `%` that is
/// followed by anything but two hexadecimal digits stands for itself.
pub(super) fn decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            (byte, _) => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

fn query_satisfies(query: Option<&str>, criterion: &QueryMatch) -> bool {
    query_value(query, &criterion.name)
        .is_some_and(|value| matches_value(&criterion.value, &decode(value)))
}

/// The value of a query's parameter, as it is written there.
///
/// "If a query param is repeated in an HTTP request, the behavior is purposely left undefined, since
/// different data planes have different capabilities. However, it is *recommended* that
/// implementations should match against the first value of the param".
pub(super) fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    let mut pairs = query_pairs(query.unwrap_or_default());
    pairs.find(|(other, _)| **other == *name.as_bytes()).map(|(_, value)| value)
}

fn matches_value(criterion: &ValueMatch, value: &[u8]) -> bool {
    match criterion {
        ValueMatch::Exact(exact) => exact.as_bytes() == value,
        // A pattern is of characters, so it matches no value that is not UTF-8.
        ValueMatch::Regex(pattern) => {
            std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value))
        }
        ValueMatch::Unreadable => true,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
