//! Attachment, backends and status, a row per sentence; and the scenarios that users know from other
//! systems.

mod attachment;
mod backends;
mod scenarios;
mod standing;
mod status;
mod streams;

use super::{Attached, Resolved, Settings, resolve, resolve_parent};
use crate::condition::{ConditionType, Reason, Verdict};
use crate::object::{ObjectKey, Objects};
use crate::testing::{broken_objects, name, objects, port, resolved, select};

/// The routes whose rules are attached, each once, in the rules' order.
fn routes(attached: &Attached) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for rule in &attached.rules {
        let name = format!("{}/{}", rule.route.namespace, rule.route.name);
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

fn verdicts<'a>(resolved: &'a Resolved, route: &str) -> &'a [Verdict] {
    let key = |it: &&ObjectKey| it.to_string() == route;
    let key = resolved.verdicts.keys().find(key);
    key.map(|key| resolved.verdicts[key].as_slice()).unwrap_or_default()
}

/// The conditions of a verdict: type, status and reason.
fn conditions(verdict: &Verdict) -> Vec<(ConditionType, bool, Reason)> {
    verdict.conditions.iter().map(|it| (it.kind, it.status, it.reason)).collect()
}

fn message(verdict: &Verdict, kind: ConditionType) -> &str {
    let condition = verdict.conditions.iter().find(|it| it.kind == kind);
    condition.map(|it| it.message.as_str()).unwrap_or_default()
}

/// The verdict of a route with one Service parent.
fn verdict<'a>(resolved: &'a Resolved, route: &str) -> &'a Verdict {
    match verdicts(resolved, route) {
        [verdict] => verdict,
        other => panic!("{route}: {other:?}"),
    }
}

const ACCEPTED: (ConditionType, bool, Reason) = (ConditionType::Accepted, true, Reason::Accepted);
const RESOLVED: (ConditionType, bool, Reason) =
    (ConditionType::ResolvedRefs, true, Reason::ResolvedRefs);

/// An HTTPRoute in flow style; `parents` and `rules` are lists.
fn http_route(name: &str, parents: &str, rules: &str) -> String {
    route("HTTPRoute", name, parents, rules)
}

fn route(kind: &str, name: &str, parents: &str, rules: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{namespace: {namespace}, name: {name}}}, spec: {{parentRefs: {parents}, rules: {rules}}}}}"
    )
}

/// A Service in flow style.
fn service(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{namespace: {namespace}, name: {name}}}, spec: {{{spec}}}}}"
    )
}

fn documents(documents: &[String]) -> String {
    documents.join("\n---\n")
}

/// What one parent yields by itself is what it yields among all.
#[test]
fn a_parent_by_itself_is_as_among_all() {
    let objects = objects(&documents(&[
        service("default/demo", "clusterIP: 10.0.0.1, ports: [{port: 80}, {name: x, port: 81}]"),
        service("default/other", "clusterIP: 10.0.0.2, ports: [{port: 80}]"),
        http_route(
            "default/a",
            "[{group: '', kind: Service, name: demo}, {group: '', kind: Service, name: other}]",
            "[{}]",
        ),
        http_route(
            "client/b",
            "[{group: '', kind: Service, namespace: default, name: demo, port: 81}]",
            "[{}]",
        ),
        route(
            "GRPCRoute",
            "default/c",
            "[{group: '', kind: Service, name: demo, port: 81}]",
            "[{}]",
        ),
    ]));
    let settings = Settings::default();
    let all = resolve(&objects, &settings);
    assert_eq!(all.parents.len(), 2);
    for (name, parent) in &all.parents {
        let alone = resolve_parent(&objects, &objects.services[name], &settings);
        assert_eq!(format!("{alone:?}"), format!("{parent:?}"));
    }
    assert_eq!(routes(&all.parents[&name("default/demo")].ports[1].producer), ["default/c"]);
    assert_eq!(routes(&port(&all, "default/other", 80).producer), ["default/a"]);
}

/// Ten thousand of each: a scan of all routes for each Service would be a hundred million steps.
#[test]
fn routes_are_found_by_their_parent() {
    const COUNT: usize = 10_000;
    let mut objects = Objects::default();
    let template = crate::testing::objects(&documents(&[
        service("default/s", "clusterIP: 10.0.0.1, ports: [{port: 80}]"),
        http_route("default/r", "[{group: '', kind: Service, name: s}]", "[{}]"),
    ]));
    let service = template.services.values().next().unwrap();
    let route = template.routes.values().next().unwrap();
    for index in 0..COUNT {
        let mut service = (**service).clone();
        service.name.name = format!("s{index}");
        let mut route = (**route).clone();
        route.key.name = format!("r{index}");
        route.parents[0].name = service.name.name.clone();
        objects.insert(crate::object::Object::Service(service));
        objects.insert(crate::object::Object::Route(route));
    }
    let resolved = resolved(&objects);
    assert_eq!(routes(&port(&resolved, "default/s4321", 80).producer), ["default/r4321"]);
    assert_eq!(resolved.verdicts.len(), COUNT);
}

#[test]
fn a_broken_route_takes_nothing_from_others() {
    let objects = broken_objects(&documents(&[
        service("default/demo", "clusterIP: 10.0.0.1, ports: [{port: 80}]"),
        http_route("default/a", "[{group: '', kind: Service, name: demo}]", "7"),
        http_route("default/b", "[{group: '', kind: Service, name: demo}]", "[{}]"),
    ]));
    let resolved = resolved(&objects);
    let attached = &port(&resolved, "default/demo", 80).producer;
    assert_eq!(routes(attached), ["default/a", "default/b"]);
    assert_eq!(select(attached, "GET /"), "default/b[0]");
}
