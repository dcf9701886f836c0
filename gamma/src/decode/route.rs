//! Reads a route of any kind. [`crate::decode`] calls it.

use std::collections::BTreeSet;

use gateway_api::apis::experimental::httproutes::HttpRouteParentRefs;
use serde_json::Value;

use super::Metadata;
use super::hostname::server_names;
use super::part::{Faults, fields, items, port, read, type_of};
use super::rule::{default_rule, rule, unreadable_rule};
use super::session::sticky_split;
use crate::object::{ANNOTATION_PREFIX, ObjectKey, Problem};
use crate::reference::ParentRef;
use crate::route::{Match, Refusal, RefusalReason, Route, RouteKind, Rule};
use crate::session::{STICKY_SPLIT, SessionPersistence, StickySplit};

/// The API's limits. A route that is beyond one works nevertheless; no API server would take it.
const MAX_PARENTS: usize = 32;
const MAX_HOSTNAMES: usize = 16;
/// Of a TLSRoute.
const MAX_SERVER_NAMES: usize = 1024;
const MAX_RULES: usize = 16;
/// Of a TLSRoute or TCPRoute.
const MAX_STREAM_RULES: usize = 1;
const MAX_MATCHES: usize = 64;
const MAX_MATCHES_IN_ALL: usize = 128;
const MAX_FILTERS: usize = 16;
const MAX_BACKENDS: usize = 16;

/// Reads the route whose `spec` is given.
pub(super) fn route(spec: &Value, kind: RouteKind, key: ObjectKey, metadata: Metadata) -> Route {
    let mut faults = Faults::default();
    // useDefaultGateways is known and says nothing about Services.
    let known: &[&str] = match kind {
        RouteKind::Tcp => &["parentRefs", "rules", "useDefaultGateways"],
        RouteKind::Tls | RouteKind::Http | RouteKind::Grpc => {
            &["parentRefs", "hostnames", "rules", "useDefaultGateways"]
        }
    };
    let map = fields(spec, "spec", known, &mut faults);
    let field = |name: &str| map.and_then(|map| map.get(name));
    let parents = parents(field("parentRefs"), &mut faults);
    let mut rules = rules(field("rules"), kind);
    let sticky_split = annotations(kind, &metadata, &mut rules, &mut faults);
    let hostnames = match kind {
        RouteKind::Tls => match_server_names(field("hostnames"), &mut rules),
        RouteKind::Tcp | RouteKind::Http | RouteKind::Grpc => {
            hostnames(field("hostnames"), &mut faults)
        }
    };
    check_limits(kind, &parents, &hostnames, &rules, &mut faults);
    check_names(&rules, &mut faults);
    let mut problems = metadata.problems;
    problems.extend(faults.into_problems(&key));
    Route {
        key,
        kind,
        created: metadata.created,
        generation: metadata.generation,
        parents,
        hostnames,
        rules,
        sticky_split,
        problems,
    }
}

/// What the author of a route should know: also why its rules are refused.
pub(super) fn problems(route: &Route) -> Vec<Problem> {
    let refusals = route.rules.iter().flat_map(|rule| &rule.refusals).map(|refusal| Problem {
        object: Some(route.key.clone()),
        field: refusal.field.clone(),
        message: refusal.message.clone(),
    });
    route.problems.iter().cloned().chain(refusals).collect()
}

fn parents(value: Option<&Value>, faults: &mut Faults) -> Vec<ParentRef> {
    let values = items(value, "spec.parentRefs", faults).unwrap_or_default().iter().enumerate();
    values.filter_map(|(index, value)| parent(value, index, faults)).collect()
}

fn parent(value: &Value, index: usize, faults: &mut Faults) -> Option<ParentRef> {
    let at = format!("spec.parentRefs[{index}]");
    // The parentRefs of all kinds of route have one schema.
    let part: HttpRouteParentRefs = read(value, &at, faults)?;
    if part.name.is_empty() {
        faults.unsupported(format!("{at}.name"), "must not be empty");
        return None;
    }
    let port = match part.port {
        // Without its port the reference would mean all ports: more than its author wrote.
        Some(number) => Some(port(number, &format!("{at}.port"), faults)?),
        None => None,
    };
    Some(ParentRef {
        index,
        group: part.group,
        kind: part.kind,
        namespace: part.namespace,
        name: part.name,
        port,
        section_name: part.section_name,
    })
}

fn hostnames(value: Option<&Value>, faults: &mut Faults) -> Vec<String> {
    let mut hostnames = Vec::new();
    for (index, value) in
        items(value, "spec.hostnames", faults).unwrap_or_default().iter().enumerate()
    {
        match value {
            Value::String(hostname) => hostnames.push(hostname.clone()),
            other => faults.unsupported(
                format!("spec.hostnames[{index}]"),
                format!("must be a string, not {}", type_of(other)),
            ),
        }
    }
    hostnames
}

/// Gives the rules of a TLSRoute its hostnames as their matches. A hostname that cannot be read is the
/// rules' fault: they would serve some of the names that the author wrote, and others not.
fn match_server_names(value: Option<&Value>, rules: &mut [Rule]) -> Vec<String> {
    let mut faults = Faults::default();
    let names = server_names(value, "spec.hostnames", &mut faults);
    for rule in rules {
        rule.matches = names.iter().cloned().map(Match::Tls).collect();
        rule.refusals.extend(faults.0.iter().cloned());
    }
    let values = value.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn rules(value: Option<&Value>, kind: RouteKind) -> Vec<Rule> {
    let mut faults = Faults::default();
    match items(value, "spec.rules", &mut faults) {
        None => vec![unreadable_rule(kind, faults)],
        Some([]) if kind.is_of_streams() => {
            faults.unsupported("spec.rules", "must have a rule");
            vec![unreadable_rule(kind, faults)]
        }
        // The API's default: one rule, which matches everything and has no backends.
        Some([]) => vec![default_rule(kind)],
        Some(values) => {
            let values = values.iter().enumerate();
            values
                .map(|(index, value)| rule(value, &format!("spec.rules[{index}]"), kind))
                .collect()
        }
    }
}

/// Reads what Weft's own annotations say of the rules. One that cannot be honoured costs the rules
/// that it is about: those that split.
fn annotations(
    kind: RouteKind,
    metadata: &Metadata,
    rules: &mut [Rule],
    faults: &mut Faults,
) -> Option<StickySplit> {
    let at = |name: &str| format!("metadata.annotations[{name}]");
    for name in metadata.annotations.keys().filter(|name| *name != STICKY_SPLIT) {
        let message =
            format!("means nothing to Weft; of {ANNOTATION_PREFIX} it knows {STICKY_SPLIT}");
        faults.unsupported(at(name), message);
    }
    let asked = metadata.annotations.get(STICKY_SPLIT)?;
    let asked = match kind.is_of_streams() {
        true => Err(format!("a {kind} has no headers and cookies to know users by; remove it")),
        false => sticky_split(asked),
    };
    let mut told = false;
    for rule in rules.iter_mut().filter(|rule| rule.backends.len() > 1) {
        let message = match &asked {
            Err(message) => message.clone(),
            Ok(split) => match twice_said(split, rule.session.as_ref()) {
                None => continue,
                Some(message) => message.to_owned(),
            },
        };
        told = true;
        let reason = RefusalReason::UnsupportedValue;
        rule.refusals.push(Refusal { reason, field: at(STICKY_SPLIT), message });
    }
    match asked {
        Ok(split) => Some(split),
        Err(message) => {
            if !told {
                faults.unsupported(at(STICKY_SPLIT), message);
            }
            None
        }
    }
}

/// Why a rule with a `sessionPersistence` of its own cannot be split so.
fn twice_said(split: &StickySplit, session: Option<&SessionPersistence>) -> Option<&'static str> {
    let both = matches!(split, StickySplit::Session(Some(_))) && session.is_some();
    both.then_some(
        "the rule's sessionPersistence says how long a session lasts; write session without a time",
    )
}

fn check_limits(
    kind: RouteKind,
    parents: &[ParentRef],
    hostnames: &[String],
    rules: &[Rule],
    faults: &mut Faults,
) {
    let (max_hostnames, max_rules) = match kind.is_of_streams() {
        true => (MAX_SERVER_NAMES, MAX_STREAM_RULES),
        false => (MAX_HOSTNAMES, MAX_RULES),
    };
    let mut check = |field: String, count: usize, max: usize, what: &str| {
        if count > max {
            faults.unsupported(
                field,
                format!("has {count} {what}; the API allows {max}, so no API server takes it"),
            );
        }
    };
    check("spec.parentRefs".to_owned(), parents.len(), MAX_PARENTS, "parentRefs");
    check("spec.hostnames".to_owned(), hostnames.len(), max_hostnames, "hostnames");
    check("spec.rules".to_owned(), rules.len(), max_rules, "rules");
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        if kind != RouteKind::Tls {
            check(format!("{at}.matches"), rule.matches.len(), MAX_MATCHES, "matches");
        }
        check(format!("{at}.filters"), rule.filters.len(), MAX_FILTERS, "filters");
        check(format!("{at}.backendRefs"), rule.backends.len(), MAX_BACKENDS, "backendRefs");
    }
    if kind == RouteKind::Tls {
        return;
    }
    let matches = rules.iter().map(|rule| rule.matches.len()).sum();
    check("spec.rules".to_owned(), matches, MAX_MATCHES_IN_ALL, "matches in all rules");
}

fn check_names(rules: &[Rule], faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for (index, rule) in rules.iter().enumerate() {
        // "This name MUST be unique within a Route if it is set."
        if let Some(name) = rule.name.as_deref().filter(|name| !names.insert(*name)) {
            let message = format!("{name:?} is the name of an earlier rule too; change one");
            faults.unsupported(format!("spec.rules[{index}].name"), message);
        }
    }
}
