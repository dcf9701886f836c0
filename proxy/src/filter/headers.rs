//! RequestHeaderModifier and ResponseHeaderModifier.

use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use weft_gamma::route::HeaderModifier;

/// "Set overwrites the request with the given header (name, value) before the action. […] Add adds
/// […] It appends to any existing values associated with the header name. […] Remove the given
/// header(s)". A name stands in one of the three only, so that their order says nothing.
pub(super) fn modify(headers: &mut HeaderMap, modifier: &HeaderModifier) {
    for (name, value) in &modifier.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &modifier.add {
        append(headers, name, value);
    }
    for name in &modifier.remove {
        headers.remove(name);
    }
}

/// Adds to the values of a header. One line `a,b`: a receiver that looks at the first line only sees
/// all of them.
pub(super) fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    match headers.entry(name) {
        Entry::Occupied(mut present) => {
            let joined = join(present.iter(), value);
            present.insert(joined);
        }
        Entry::Vacant(vacant) => {
            vacant.insert(value.clone());
        }
    }
}

/// Joins with `,` and without a space, which is what the API's conformance suite accepts.
fn join<'a>(present: impl Iterator<Item = &'a HeaderValue>, added: &HeaderValue) -> HeaderValue {
    let mut bytes = Vec::new();
    for value in present {
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b',');
    }
    bytes.extend_from_slice(added.as_bytes());
    // Values that were valid, joined by a valid byte.
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| added.clone())
}
