//! What the fuzz targets (`fuzz/`) need of this crate's inside, besides [`crate::bench::Proxy`]. No part
//! of the proxy uses it.

use std::net::SocketAddr;
use std::path::Path;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Uri};
use weft_gamma::matching::{RequestView, Selected};
use weft_gamma::route::{PathMatch, Redirect, Rewrite};

pub use crate::protocol::{Detected, detect};

use crate::filter::{self, Chain, Filter};
use crate::http1;
use crate::source::{Snapshot, manifest};
use crate::table::{Routing, Table};

/// What a manifest source makes of a file that it reads for the first time.
pub fn manifest(file: &Path, bytes: &[u8]) -> Snapshot {
    manifest::parse(file, bytes)
}

/// What is read of an endpoint's answer to a request of that method, which comes in these pieces, and its
/// trailers; why it is none where it cannot be read, or ends too early.
pub fn answer<'p>(
    method: &Method,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<(Response<Vec<u8>>, Option<HeaderMap>), String> {
    http1::read(method, pieces).map_err(|error| error.to_string())
}

/// What a compiled table finds for a request, with a backend drawn from what was found. None where the
/// address has no routes for requests.
pub fn select(
    table: &Table,
    address: SocketAddr,
    request: &RequestView<'_>,
) -> Option<Option<Selected>> {
    let destination = table.destination(address.ip(), address.port())?;
    let Routing::Routed { matcher, rules, .. } = &destination.routing else { return None };
    let selected = matcher.select(request);
    if let Some(selected) = selected {
        let rule = &rules[selected.rule];
        // Nothing of weight 0 is among them.
        assert_eq!(rule.draw().is_some(), !rule.backends().is_empty());
    }
    Some(selected)
}

/// Rewrites a request whose path `matched` has matched.
pub fn rewrite(parts: &mut Parts, rewrite: &Rewrite, matched: &PathMatch) {
    let filters = [Filter::Rewrite(rewrite.clone())];
    Chain::new(&filters, &[], &parts.headers.clone()).on_request(parts, Some(matched));
}

/// The `Location` of a redirect of a request for `host` and `uri` that came to `port`, whose path
/// `matched` has matched.
pub fn location(
    redirect: &Redirect,
    host: &str,
    uri: &Uri,
    port: u16,
    matched: &PathMatch,
) -> Option<HeaderValue> {
    filter::location(redirect, host, uri, port, Some(matched))
}
