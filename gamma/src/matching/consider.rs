//! Why a match does or does not hold for a request or a connection, in words: for people who ask, never
//! on the path of a request.
//!
//! The criteria are held against the request by the very functions that [`Matcher::select`] uses.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;

use http::Method;

use super::criteria::{self, RequestHeaders};
use super::{Matcher, RequestView, Selected};
use crate::precedence::SniRank;
use crate::resolve::ResolvedRule;
use crate::route::{HeaderMatch, Match, PathMatch, QueryMatch, SniMatch, ValueMatch};

/// A match, held against a request or connection in full.
#[derive(Clone, Debug)]
pub struct Considered<'m> {
    /// Which match of which rule it is.
    pub selected: Selected,
    /// The match.
    pub criteria: &'m Match,
    /// The criteria that are not satisfied, the path first; empty where the match holds.
    pub unmet: Vec<Unmet<'m>>,
}

/// A criterion that a request does not satisfy. Displayed as `header end-user is kate, not jason`.
#[derive(Clone, Debug)]
pub struct Unmet<'m> {
    /// The criterion.
    pub criterion: Criterion<'m>,
    /// What the request has in its place; None where it has nothing of that name.
    pub found: Option<String>,
}

/// One criterion of a match. Displayed as `header end-user is jason`.
#[derive(Clone, Copy, Debug)]
pub enum Criterion<'m> {
    /// `path`
    Path(&'m PathMatch),
    /// `method` of an HTTPRoute
    Method(&'m Method),
    /// An entry of `headers`
    Header(&'m HeaderMatch),
    /// An entry of `queryParams`
    QueryParam(&'m QueryMatch),
    /// `method.service` of a GRPCRoute
    GrpcService(&'m ValueMatch),
    /// `method.method` of a GRPCRoute
    GrpcMethod(&'m ValueMatch),
    /// An entry of `hostnames` of a TLSRoute
    ServerName(&'m SniMatch),
}

impl Matcher {
    /// All matches in the order of precedence, each held against the request in full. The first one
    /// that holds is what [`Matcher::select`] finds.
    pub fn consider<'m>(
        &'m self,
        request: RequestView<'m>,
    ) -> impl Iterator<Item = Considered<'m>> + use<'m> {
        self.candidates.iter().map(move |candidate| {
            let headers = RequestHeaders::new(request.headers);
            let mut unmet = Vec::new();
            let note = |criterion| {
                unmet.push(Unmet { criterion, found: found(criterion, &request) });
                ControlFlow::<()>::Continue(())
            };
            let _ = match candidate.criteria() {
                Match::Http(it) => criteria::http(it, &request, headers, note),
                Match::Grpc(it) => {
                    criteria::grpc(it, criteria::grpc_name(request.path), headers, note)
                }
                // What matches connections is not among a Matcher's candidates.
                Match::Tls(_) | Match::Tcp => ControlFlow::Continue(()),
            };
            // As the API lists them: who reads that the path is another one need not know the rest.
            unmet.sort_by_key(|it| !matches!(it.criterion, Criterion::Path(_)));
            Considered { selected: candidate.selected, criteria: candidate.criteria(), unmet }
        })
    }
}

/// All hostnames of `rules`, which are of TLSRoutes, in the order of precedence, each held against the
/// server name that a client asks for. The first one that holds is what [`super::SniMatcher::select`]
/// finds.
pub fn consider_server_name<'m>(
    rules: &'m [ResolvedRule],
    server_name: Option<&str>,
) -> Vec<Considered<'m>> {
    let mut ranked = Vec::new();
    for (rule, resolved) in rules.iter().enumerate() {
        for (matched, criteria) in resolved.matches.iter().enumerate() {
            let Match::Tls(hostname) = criteria else { continue };
            let found = || server_name.map(str::to_owned);
            let unmet = (!holds(hostname, server_name))
                .then(|| Unmet { criterion: Criterion::ServerName(hostname), found: found() });
            let selected = Selected { rule, matched };
            let unmet = unmet.into_iter().collect();
            let rank = SniRank::new(hostname, rule, matched);
            ranked.push((rank, Considered { selected, criteria, unmet }));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, considered)| considered).collect()
}

fn holds(hostname: &SniMatch, server_name: Option<&str>) -> bool {
    match (hostname, server_name) {
        (SniMatch::Any | SniMatch::Unreadable, _) => true,
        (_, None) => false,
        (SniMatch::Exact(exact), Some(name)) => exact == name,
        (SniMatch::Wildcard(suffix), Some(name)) => {
            name.strip_suffix(suffix.as_str()).is_some_and(|labels| !labels.is_empty())
        }
    }
}

impl Match {
    /// Its criteria, in the API's order. A path that every request has is none.
    pub fn criteria(&self) -> Vec<Criterion<'_>> {
        match self {
            Match::Http(it) => {
                let path = match &it.path {
                    PathMatch::Prefix(prefix) if prefix.is_empty() => None,
                    path => Some(Criterion::Path(path)),
                };
                path.into_iter()
                    .chain(it.method.as_ref().map(Criterion::Method))
                    .chain(it.headers.iter().map(Criterion::Header))
                    .chain(it.query.iter().map(Criterion::QueryParam))
                    .collect()
            }
            Match::Grpc(it) => {
                let service = it.service.as_ref().map(Criterion::GrpcService);
                let method = it.method.as_ref().map(Criterion::GrpcMethod);
                let headers = it.headers.iter().map(Criterion::Header);
                service.into_iter().chain(method).chain(headers).collect()
            }
            Match::Tls(SniMatch::Any) | Match::Tcp => Vec::new(),
            Match::Tls(hostname) => vec![Criterion::ServerName(hostname)],
        }
    }
}

/// What the request has where the criterion looks.
fn found(criterion: Criterion<'_>, request: &RequestView<'_>) -> Option<String> {
    let text = |bytes: Cow<'_, [u8]>| String::from_utf8_lossy(&bytes).into_owned();
    match criterion {
        Criterion::Path(_) => Some(request.path.to_owned()),
        Criterion::Method(_) => Some(request.method.to_string()),
        Criterion::Header(header) => {
            RequestHeaders::new(request.headers).value(&header.name).map(text)
        }
        Criterion::QueryParam(param) => {
            criteria::query_value(request.query, &param.name).map(|it| text(criteria::decode(it)))
        }
        Criterion::GrpcService(_) => criteria::grpc_name(request.path).map(|it| it.0.to_owned()),
        Criterion::GrpcMethod(_) => criteria::grpc_name(request.path).map(|it| it.1.to_owned()),
        // Of a connection.
        Criterion::ServerName(_) => None,
    }
}

/// What a criterion is about, without what it asks for.
fn subject(criterion: Criterion<'_>) -> String {
    match criterion {
        Criterion::Path(_) => "path".to_owned(),
        Criterion::Method(_) => "method".to_owned(),
        Criterion::Header(header) => format!("header {}", header.name),
        Criterion::QueryParam(param) => format!("query parameter {}", param.name),
        Criterion::GrpcService(_) => "gRPC service".to_owned(),
        Criterion::GrpcMethod(_) => "gRPC method".to_owned(),
        Criterion::ServerName(_) => "server name".to_owned(),
    }
}

/// What is asked of the subject: a word for its being so and one for its not, and the value.
fn demand(criterion: Criterion<'_>) -> (&'static str, &'static str, Cow<'_, str>) {
    let value = |value: &'_ ValueMatch| -> (&'static str, &'static str, String) {
        match value {
            ValueMatch::Exact(exact) => ("is", "not", exact.clone()),
            ValueMatch::Regex(pattern) => {
                ("matches", "which does not match", unanchored(pattern.as_str()).to_owned())
            }
            ValueMatch::Unreadable => ("is there,", "not", "whatever it is".to_owned()),
        }
    };
    let owned = |(is, not, value): (&'static str, &'static str, String)| (is, not, value.into());
    match criterion {
        Criterion::Path(PathMatch::Exact(path)) => ("is", "not", path.into()),
        Criterion::Path(PathMatch::Prefix(prefix)) if prefix.is_empty() => {
            ("begins with", "which does not begin with", "/".into())
        }
        Criterion::Path(PathMatch::Prefix(prefix)) => {
            ("begins with", "which does not begin with", prefix.into())
        }
        Criterion::Path(PathMatch::Regex(pattern)) => {
            ("matches", "which does not match", unanchored(pattern.as_str()).into())
        }
        Criterion::Path(PathMatch::Unreadable) => ("is there,", "not", "whatever it is".into()),
        Criterion::Method(method) => ("is", "not", method.as_str().into()),
        Criterion::Header(header) => owned(value(&header.value)),
        Criterion::QueryParam(param) => owned(value(&param.value)),
        Criterion::GrpcService(name) | Criterion::GrpcMethod(name) => owned(value(name)),
        Criterion::ServerName(SniMatch::Exact(name)) => ("is", "not", name.into()),
        Criterion::ServerName(SniMatch::Wildcard(suffix)) => {
            ("matches", "which does not match", format!("*{suffix}").into())
        }
        Criterion::ServerName(SniMatch::Any) => ("is", "not", "any, or none".into()),
        Criterion::ServerName(SniMatch::Unreadable) => ("is", "not", "whatever it is".into()),
    }
}

/// A pattern as its author wrote it.
fn unanchored(pattern: &str) -> &str {
    pattern.strip_prefix("^(?:").and_then(|it| it.strip_suffix(")$")).unwrap_or(pattern)
}

impl fmt::Display for Criterion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is, _, value) = demand(*self);
        write!(f, "{} {is} {value}", subject(*self))
    }
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = subject(self.criterion);
        let (_, not, value) = demand(self.criterion);
        match &self.found {
            None => write!(f, "{subject} is missing"),
            Some(found) => write!(f, "{subject} is {found}, {not} {value}"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let criteria: Vec<String> = self.criteria().iter().map(ToString::to_string).collect();
        match (criteria.as_slice(), self) {
            ([], Match::Tls(_) | Match::Tcp) => f.write_str("any connection"),
            ([], _) => f.write_str("any request"),
            (criteria, _) => f.write_str(&criteria.join(", ")),
        }
    }
}
