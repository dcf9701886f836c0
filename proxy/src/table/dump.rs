//! The table as JSON, for people and programs that ask the admin port.

use std::time::Duration;

use serde_json::{Value, json};
use weft_gamma::route::Timeouts;

use super::{Action, Destination, Routing, Rule, StreamRouting, Table};
use crate::filter::Filter;

/// The table with its destinations in the order of Service and port, and the source's problems.
pub fn dump(table: &Table, problems: &[String]) -> Value {
    let mut destinations: Vec<_> = table.destinations().collect();
    destinations.sort_by(|(left_ip, left), (right_ip, right)| {
        (&left.service, left.port.port, left_ip).cmp(&(&right.service, right.port.port, right_ip))
    });
    let destinations: Vec<Value> = destinations
        .into_iter()
        .map(|((ip, port), destination)| describe(&ip.to_string(), *port, destination))
        .collect();
    json!({
        "generation": table.generation,
        "destinations": destinations,
        "problems": problems,
    })
}

fn describe(ip: &str, port: u16, destination: &Destination) -> Value {
    let (kind, rules) = match (&destination.routing, &destination.streams) {
        (Routing::Routed { kind, rules, .. }, _) => (kind.as_str(), self::rules(rules, refused)),
        (_, StreamRouting::Tls { rules, .. }) => ("TLSRoute", self::rules(rules, closed)),
        (_, StreamRouting::Tcp { rules }) => ("TCPRoute", self::rules(rules, closed)),
        (Routing::Unrouted, StreamRouting::Unrouted) => {
            ("none", vec![rule(&destination.unrouted, refused)])
        }
    };
    json!({
        "address": ip,
        "port": port,
        "parent": destination.service.to_string(),
        "protocol": format!("{:?}", destination.declared),
        "serverFirst": destination.is_server_first(),
        "routes": kind,
        "rules": rules,
    })
}

fn rules<S>(rules: &[Rule<S>], refusal: fn(&str) -> Value) -> Vec<Value> {
    rules.iter().map(|it| rule(it, refusal)).collect()
}

/// What becomes of a request that cannot be served.
fn refused(why: &str) -> Value {
    json!({ "answer": 500, "why": why })
}

/// What becomes of a connection that cannot be served.
fn closed(why: &str) -> Value {
    json!({ "connection": "reset", "why": why })
}

fn rule<S>(rule: &Rule<S>, refusal: fn(&str) -> Value) -> Value {
    let (action, backends) = match &rule.action {
        Action::Refuse(why) => (refusal(why), Vec::new()),
        Action::Answer => (json!("redirect"), Vec::new()),
        Action::Forward(split) => (
            json!("forward"),
            split
                .backends()
                .iter()
                .map(|backend| match &backend.target {
                    Ok(target) => {
                        let set = target.backend.endpoints();
                        json!({
                            "backend": target.backend.name.to_string(),
                            "weight": backend.weight,
                            "http2": target.http2,
                            "filters": filters(&backend.filters),
                            "clientAffinitySeconds": set.terms.client_affinity.map(|it| it.as_secs()),
                            "endpoints": set.endpoints.iter()
                                .map(|endpoint| endpoint.addr.to_string()).collect::<Vec<_>>(),
                        })
                    }
                    Err(why) => {
                        let mut refused = refusal(why);
                        refused["weight"] = backend.weight.into();
                        refused
                    }
                })
                .collect(),
        ),
    };
    json!({
        "route": rule.source.as_ref().map(|source| source.route.to_string()),
        "rule": rule.source.as_ref().map(|source| source.index),
        "name": rule.source.as_ref().and_then(|source| source.name.clone()),
        "matches": rule.matches.iter().map(|matched| matched.to_string()).collect::<Vec<_>>(),
        "filters": filters(&rule.filters),
        "timeouts": timeouts(&rule.timeouts),
        "retry": rule.retry.as_ref().map(|retry| json!({
            "codes": retry.codes().collect::<Vec<_>>(),
            "attempts": retry.attempts,
            "backoff": duration(retry.backoff()),
        })),
        "stickiness": rule.stickiness.as_ref().map(ToString::to_string),
        "action": action,
        "backends": backends,
    })
}

fn timeouts(timeouts: &Timeouts) -> Value {
    json!({
        "request": timeouts.request.map(duration),
        "backendRequest": timeouts.backend_request.map(duration),
    })
}

/// As in `1.5s` or `20ms`.
pub(crate) fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}

fn filters(filters: &[Filter]) -> Vec<String> {
    filters.iter().map(|filter| format!("{filter:?}")).collect()
}
