//! URLRewrite: another path, another Host.

use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use weft_gamma::route::{PathMatch, Rewrite};

/// Rewrites the request; the query stays as it is.
pub(super) fn apply(parts: &mut Parts, rewrite: &Rewrite, matched: Option<&PathMatch>) {
    if let Some(hostname) = &rewrite.hostname {
        parts.headers.insert(HOST, hostname.clone());
    }
    if let Some(modifier) = &rewrite.path {
        let none = PathMatch::Prefix(String::new());
        let mut target = modifier.apply(parts.uri.path(), matched.unwrap_or(&none));
        if !target.starts_with('/') {
            target.insert(0, '/');
        }
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
}
