//! URLRewrite: another path, another Host.

use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use weft_gamma::route::{PathMatch, Rewrite};

use super::Filter;

/// Whether one of the filters changes the path.
pub(super) fn changes_path(filters: &[Filter]) -> bool {
    filters.iter().any(|it| matches!(it, Filter::Rewrite(rewrite) if rewrite.path.is_some()))
}

/// Rewrites the request; the query stays as it is. What takes the place of the path is made of that
/// of `original`, where there is one, and of the request's own otherwise.
pub(super) fn apply(
    parts: &mut Parts,
    rewrite: &Rewrite,
    original: Option<&Uri>,
    matched: Option<&PathMatch>,
) {
    if let Some(hostname) = &rewrite.hostname {
        parts.headers.insert(HOST, hostname.clone());
    }
    let path = original.unwrap_or(&parts.uri).path();
    // `OPTIONS *` and CONNECT have none.
    let Some(modifier) = rewrite.path.as_ref().filter(|_| path.starts_with('/')) else { return };
    let none = PathMatch::Prefix(String::new());
    let mut target = modifier.apply(path, matched.unwrap_or(&none));
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    match PathAndQuery::try_from(target) {
        Ok(target) => parts.uri = Uri::from(target),
        // The API's schema and the resolver let only characters of a path through.
        Err(error) => tracing::warn!(%error, "a rewritten path is not a URI's: left as it was"),
    }
}
