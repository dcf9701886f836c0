//! Holds a request against the criteria of one match. [`crate::matching`] calls it.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName};

use super::RequestView;
use crate::path::has_prefix;
use crate::route::{GrpcMatch, HeaderMatch, HttpMatch, PathMatch, QueryMatch, ValueMatch};

/// Whether the request satisfies all criteria of an HTTPRoute's match.
pub(super) fn http(
    criteria: &HttpMatch,
    request: &RequestView<'_>,
    headers: RequestHeaders<'_>,
) -> bool {
    // The path comes last: patterns cost the most, and where the path has led here it is cheap.
    criteria.method.as_ref().is_none_or(|method| method == request.method)
        && criteria.headers.iter().all(|header| headers.satisfy(header))
        && criteria.query.iter().all(|param| query_satisfies(request.query, param))
        && match &criteria.path {
            PathMatch::Exact(path) => request.path == path,
            PathMatch::Prefix(prefix) => has_prefix(request.path, prefix),
            PathMatch::Regex(pattern) => pattern.is_match(request.path),
            PathMatch::Unreadable => true,
        }
}

/// Whether the request satisfies all criteria of a GRPCRoute's match.
pub(super) fn grpc(
    criteria: &GrpcMatch,
    name: Option<(&str, &str)>,
    headers: RequestHeaders<'_>,
) -> bool {
    let satisfied = |criterion: Option<&ValueMatch>, value: Option<&str>| match criterion {
        None => true,
        Some(criterion) => value.is_some_and(|value| matches_value(criterion, value.as_bytes())),
    };
    satisfied(criteria.service.as_ref(), name.map(|(service, _)| service))
        && satisfied(criteria.method.as_ref(), name.map(|(_, method)| method))
        && criteria.headers.iter().all(|header| headers.satisfy(header))
}

/// The service and the method in the path `/service/method`; None if it is not of that form.
pub(super) fn grpc_name(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

/// The headers of a request, with the values of repeated ones joined.
#[derive(Clone, Copy)]
pub(super) struct RequestHeaders<'a> {
    headers: &'a HeaderMap,
}

impl<'a> RequestHeaders<'a> {
    pub(super) fn new(headers: &'a HeaderMap) -> Self {
        Self { headers }
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

/// "If a query param is repeated in an HTTP request, the behavior is purposely left undefined, since
/// different data planes have different capabilities. However, it is *recommended* that
/// implementations should match against the first value of the param".
fn query_satisfies(query: Option<&str>, criterion: &QueryMatch) -> bool {
    let mut pairs = query_pairs(query.unwrap_or_default());
    pairs
        .find(|(name, _)| **name == *criterion.name.as_bytes())
        .is_some_and(|(_, value)| matches_value(&criterion.value, &decode(value)))
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
