//! What filters do to a request and a response. [`crate::request`] runs them: a rule's in the listed
//! order, then those of the chosen backend.

mod headers;
mod redirect;
mod rewrite;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::request::Parts;
use weft_gamma::route::{Filter, PathMatch, Redirect};

pub(crate) use redirect::location;

/// Runs the filters that change a request before it is forwarded.
///
/// `matched` is the path criterion of the match that won: what ReplacePrefixMatch replaces.
pub(crate) fn apply_to_request(filters: &[Filter], parts: &mut Parts, matched: Option<&PathMatch>) {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(modifier) => headers::modify(&mut parts.headers, modifier),
            Filter::Rewrite(rewrite) => rewrite::apply(parts, rewrite, matched),
            // Answered before anything is forwarded, or of the response.
            Filter::Redirect(_) | Filter::ResponseHeaders(_) => {}
            // Rules with these are refused until they are implemented.
            Filter::Mirror(_) | Filter::Cors(_) => {}
        }
    }
}

/// Runs the filters that change a response, the proxy's own answers included.
pub(crate) fn apply_to_response(filters: &[Filter], headers: &mut HeaderMap) {
    for filter in filters {
        if let Filter::ResponseHeaders(modifier) = filter {
            headers::modify(headers, modifier);
        }
    }
}

/// The redirect among the filters, if there is one.
pub(crate) fn redirect(filters: &[Filter]) -> Option<&Redirect> {
    filters.iter().find_map(|filter| match filter {
        Filter::Redirect(redirect) => Some(redirect),
        _ => None,
    })
}
