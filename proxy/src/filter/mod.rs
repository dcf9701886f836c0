//! What filters do to a request and its response. [`crate::table`] makes them from what a route says;
//! [`crate::request`] runs them: a rule's in the listed order, then those of the chosen backend.

mod cors;
mod headers;
mod mirror;
mod redirect;
mod rewrite;
#[cfg(test)]
mod tests;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use weft_gamma::route::{HeaderModifier, PathMatch, Redirect, Rewrite};

pub(crate) use cors::{Cors, is_preflight, requested_method};
pub(crate) use mirror::{Mirror, Mirrored};
pub(crate) use redirect::location;

/// A filter, ready for use.
#[derive(Debug)]
pub(crate) enum Filter {
    RequestHeaders(HeaderModifier),
    ResponseHeaders(HeaderModifier),
    Redirect(Redirect),
    Rewrite(Rewrite),
    Mirror(Mirror),
    Cors(Cors),
}

/// The filters that one request passes: those of its rule, then those of the chosen backend. Empty as
/// long as no rule has won.
#[derive(Debug, Default)]
pub(crate) struct Chain<'t> {
    rule: &'t [Filter],
    backend: &'t [Filter],
    sharing: Option<Sharing<'t>>,
}

/// What the CORS filter makes of a request's origin.
#[derive(Debug)]
struct Sharing<'t> {
    cors: &'t Cors,
    /// The value of Access-Control-Allow-Origin; None for an origin that is not allowed.
    origin: Option<HeaderValue>,
}

impl<'t> Chain<'t> {
    /// The filters for a request with these headers, as the client sent them.
    pub(crate) fn new(rule: &'t [Filter], backend: &'t [Filter], headers: &HeaderMap) -> Self {
        // Of two the backend's, which is the one that says more.
        let sharing = cors(backend).or_else(|| cors(rule)).map(|cors| {
            let origin = cors.allowed(headers);
            Sharing { cors, origin }
        });
        Self { rule, backend, sharing }
    }

    /// The headers of the answer to a CORS preflight: Some where a CORS filter is there to answer it,
    /// and an error where it does not allow the origin. HTTPCORSFilter.allowOrigins: "the gateway
    /// responds with 403 status to the "preflight" request is denied, coupled with omitting the CORS
    /// headers".
    pub(crate) fn preflight(&mut self, parts: &Parts) -> Option<Result<HeaderMap, &'static str>> {
        if !is_preflight(parts) {
            return None;
        }
        let Sharing { cors, origin } = self.sharing.as_ref()?;
        let Some(origin) = origin else {
            return Some(Err("the CORS filter's allowOrigins does not have the request's Origin"));
        };
        let answer = cors.preflight(origin.clone(), &parts.headers);
        // The filter has nothing to add to its own answer.
        self.sharing = None;
        Some(Ok(answer))
    }

    /// Changes a request before it is forwarded; returns the copies that mirrors get, each as the
    /// filters before the mirror have left the request.
    ///
    /// `matched` is the path criterion of the match that won: what ReplacePrefixMatch replaces.
    pub(crate) fn on_request(
        &self,
        parts: &mut Parts,
        matched: Option<&PathMatch>,
    ) -> Vec<Mirrored<'t>> {
        let mut copies = Vec::new();
        self.walk(parts, matched, |filter, parts| {
            if let Filter::Mirror(mirror) = filter {
                copies.extend(mirror.copy(parts));
            }
        });
        copies
    }

    /// Changes a request, filter by filter, and calls `then` after each with the request as it is then.
    pub(crate) fn walk(
        &self,
        parts: &mut Parts,
        matched: Option<&PathMatch>,
        mut then: impl FnMut(&'t Filter, &Parts),
    ) {
        // A backend's rewrite takes the place of its rule's: it replaces what was matched, which is
        // in the path that came.
        let original = rewrite::changes_path(self.backend).then(|| parts.uri.clone());
        for filter in self.rule {
            change(filter, parts, None, matched);
            then(filter, parts);
        }
        for filter in self.backend {
            change(filter, parts, original.as_ref(), matched);
            then(filter, parts);
        }
    }

    /// Changes a response, the proxy's own answers included.
    pub(crate) fn on_response(&self, headers: &mut HeaderMap) {
        for filter in self.rule.iter().chain(self.backend) {
            match (filter, &self.sharing) {
                (Filter::ResponseHeaders(modifier), _) => headers::modify(headers, modifier),
                (Filter::Cors(own), Some(Sharing { cors, origin })) if std::ptr::eq(own, *cors) => {
                    cors.on_response(origin.as_ref(), headers);
                }
                _ => {}
            }
        }
    }

    /// Whether a mirror is among them.
    pub(crate) fn mirrors(&self) -> bool {
        self.rule.iter().chain(self.backend).any(|filter| matches!(filter, Filter::Mirror(_)))
    }
}

fn change(filter: &Filter, parts: &mut Parts, original: Option<&Uri>, matched: Option<&PathMatch>) {
    match filter {
        Filter::RequestHeaders(modifier) => headers::modify(&mut parts.headers, modifier),
        Filter::Rewrite(rewrite) => rewrite::apply(parts, rewrite, original, matched),
        // Of copies, answered before anything is forwarded, or of the response.
        Filter::Mirror(_) | Filter::Redirect(_) | Filter::ResponseHeaders(_) | Filter::Cors(_) => {}
    }
}

/// The redirect among the filters, if there is one.
pub(crate) fn redirect(filters: &[Filter]) -> Option<&Redirect> {
    filters.iter().find_map(|filter| match filter {
        Filter::Redirect(redirect) => Some(redirect),
        _ => None,
    })
}

/// The CORS filter among the filters, if there is one.
pub(crate) fn cors(filters: &[Filter]) -> Option<&Cors> {
    filters.iter().find_map(|filter| match filter {
        Filter::Cors(cors) => Some(cors),
        _ => None,
    })
}
