//! Reads a rule of a route. [`crate::decode::route`] calls it.
//!
//! A rule is always yielded: what cannot be read of it is among its refusals.

use gateway_api::apis::experimental::httproutes::{HttpRouteRulesRetry, HttpRouteRulesTimeouts};
use http::StatusCode;
use serde_json::Value;

use super::backend::backends;
use super::filter::filters;
use super::matches;
use super::part::{Faults, fields, items, present, read, type_of};
use super::session;
use super::value::duration;
use crate::route::{
    Filter, HttpMatch, Match, PathMatch, PathModifier, Retry, RouteKind, Rule, SniMatch, Timeouts,
};

/// The fields of an HTTPRoute's rule.
const HTTP_FIELDS: [&str; 7] =
    ["name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"];

/// The fields of a GRPCRoute's rule.
const GRPC_FIELDS: [&str; 5] = ["name", "matches", "filters", "backendRefs", "sessionPersistence"];

/// The fields of a TLSRoute's or TCPRoute's rule.
const STREAM_FIELDS: [&str; 2] = ["name", "backendRefs"];

/// The rule of a route that has none.
pub(super) fn default_rule(kind: RouteKind) -> Rule {
    Rule {
        name: None,
        matches: vec![default_match(kind)],
        filters: Vec::new(),
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        refusals: Vec::new(),
    }
}

/// The rule that stands for one, or for a list of them, that cannot be read at all.
pub(super) fn unreadable_rule(kind: RouteKind, faults: Faults) -> Rule {
    Rule { matches: vec![unreadable_match(kind)], refusals: faults.0, ..default_rule(kind) }
}

/// Reads the rule at `at`.
pub(super) fn rule(value: &Value, at: &str, kind: RouteKind) -> Rule {
    let mut faults = Faults::default();
    let known: &[&str] = match kind {
        RouteKind::Http => &HTTP_FIELDS,
        RouteKind::Grpc => &GRPC_FIELDS,
        RouteKind::Tls | RouteKind::Tcp => &STREAM_FIELDS,
    };
    let Some(map) = fields(value, at, known, &mut faults) else {
        return unreadable_rule(kind, faults);
    };
    let field = |name: &str| format!("{at}.{name}");
    let mut rule = default_rule(kind);
    rule.name = present(map, "name").and_then(|value| name(value, &field("name"), &mut faults));
    if !kind.is_of_streams() {
        rule.matches = matches(map.get("matches"), &field("matches"), kind, &mut faults);
        rule.filters = filters(map.get("filters"), &field("filters"), kind, &mut faults);
    }
    rule.backends = backends(map.get("backendRefs"), &field("backendRefs"), kind, &mut faults);
    if kind == RouteKind::Http {
        if let Some(value) = present(map, "timeouts") {
            rule.timeouts = timeouts(value, &field("timeouts"), &mut faults);
        }
        if let Some(value) = present(map, "retry") {
            rule.retry = retry(value, &field("retry"), &mut faults);
        }
    }
    if !kind.is_of_streams()
        && let Some(value) = present(map, "sessionPersistence")
    {
        rule.session = session::persistence(value, &field("sessionPersistence"), &mut faults);
    }
    check_filters(&rule, at, &mut faults);
    rule.refusals = faults.0;
    rule
}

fn default_match(kind: RouteKind) -> Match {
    match kind {
        RouteKind::Http => Match::Http(matches::http_default()),
        RouteKind::Grpc => Match::Grpc(matches::grpc_default()),
        // Its hostnames, which stand outside of its rules, take the place of this.
        RouteKind::Tls => Match::Tls(SniMatch::Any),
        RouteKind::Tcp => Match::Tcp,
    }
}

fn unreadable_match(kind: RouteKind) -> Match {
    match kind {
        RouteKind::Http => Match::Http(matches::http_unreadable()),
        RouteKind::Grpc => Match::Grpc(matches::grpc_unreadable()),
        // What they match does not stand in their rules.
        RouteKind::Tls | RouteKind::Tcp => default_match(kind),
    }
}

fn name(value: &Value, at: &str, faults: &mut Faults) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        other => {
            faults.unsupported(at, format!("must be a string, not {}", type_of(other)));
            None
        }
    }
}

fn matches(value: Option<&Value>, at: &str, kind: RouteKind, faults: &mut Faults) -> Vec<Match> {
    let Some(values) = items(value, at, faults) else {
        return vec![unreadable_match(kind)];
    };
    if values.is_empty() {
        return vec![default_match(kind)];
    }
    let read = |(index, value): (usize, &Value)| {
        let at = format!("{at}[{index}]");
        match kind {
            RouteKind::Grpc => Match::Grpc(matches::grpc(value, &at, faults)),
            _ => Match::Http(matches::http(value, &at, faults)),
        }
    };
    values.iter().enumerate().map(read).collect()
}

fn timeouts(value: &Value, at: &str, faults: &mut Faults) -> Timeouts {
    let Some(part) = read::<HttpRouteRulesTimeouts>(value, at, faults) else {
        return Timeouts::default();
    };
    let mut parse = |value: Option<String>, name: &str| {
        duration(&value?)
            .map_err(|message| faults.unsupported(format!("{at}.{name}"), message))
            .ok()
    };
    let timeouts = Timeouts {
        request: parse(part.request, "request"),
        backend_request: parse(part.backend_request, "backendRequest"),
    };
    // "backendRequest timeout cannot be longer than request timeout", in the words of the API's
    // validation, which exempts a request timeout of 0s: that is none at all.
    if let (Some(request), Some(attempt)) = (timeouts.request, timeouts.backend_request)
        && !request.is_zero()
        && attempt > request
    {
        let message = "cannot be longer than the request timeout; shorten it";
        faults.unsupported(format!("{at}.backendRequest"), message);
    }
    timeouts
}

fn retry(value: &Value, at: &str, faults: &mut Faults) -> Option<Retry> {
    let part: HttpRouteRulesRetry = read(value, at, faults)?;
    let mut codes = Vec::new();
    for (index, number) in part.codes.into_iter().flatten().enumerate() {
        let code = u16::try_from(number).ok().filter(|code| (400..=599).contains(code));
        match code.and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(code) => codes.push(code),
            None => {
                let message = format!("{number} cannot be retried; use 400 to 599");
                faults.unsupported(format!("{at}.codes[{index}]"), message);
            }
        }
    }
    let attempts = u32::try_from(part.attempts.unwrap_or(1)).unwrap_or_else(|_| {
        faults.unsupported(format!("{at}.attempts"), "must be 0 or more");
        0
    });
    let backoff = part.backoff.and_then(|value| {
        duration(&value)
            .map_err(|message| faults.unsupported(format!("{at}.backoff"), message))
            .ok()
    });
    Some(Retry { codes, attempts, backoff })
}

/// What the API's validation says of filters in the company of the rule's other fields.
fn check_filters(rule: &Rule, at: &str, faults: &mut Faults) {
    let redirects = rule.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)));
    if redirects && !rule.backends.is_empty() {
        let message = "RequestRedirect must not be used together with backendRefs; remove one";
        faults.incompatible(format!("{at}.filters"), message);
    }
    // "ReplacePrefixMatch is only compatible with a PathPrefix HTTPRouteMatch." A match that cannot
    // be read is a fault already.
    let one_prefix = matches!(
        rule.matches.as_slice(),
        [Match::Http(HttpMatch { path: PathMatch::Prefix(_) | PathMatch::Unreadable, .. })]
    );
    if one_prefix {
        return;
    }
    let message = "ReplacePrefixMatch needs exactly one match in its rule, of type PathPrefix";
    if rule.filters.iter().any(replaces_prefix) {
        faults.unsupported(format!("{at}.filters"), message);
    }
    for backend in rule.backends.iter().filter(|it| it.filters.iter().any(replaces_prefix)) {
        faults.unsupported(format!("{}.filters", backend.field), message);
    }
}

fn replaces_prefix(filter: &Filter) -> bool {
    let path = match filter {
        Filter::Redirect(redirect) => &redirect.path,
        Filter::Rewrite(rewrite) => &rewrite.path,
        _ => return false,
    };
    matches!(path, Some(PathModifier::ReplacePrefixMatch(_)))
}
