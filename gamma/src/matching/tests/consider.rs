//! What is said of a match to people who ask.

use serde_json::Value;

use crate::matching::{Considered, Matcher, SniMatcher, consider_server_name};
use crate::object::{Objects, decode};
use crate::precedence::decision;
use crate::testing::{Request, add_service, port, resolved, route};

const OLD: &str = "2024-01-01T00:00:00Z";
const NEW: &str = "2024-01-01T00:00:01Z";

/// Every match of the routes in the order of precedence: the rule, its criteria and what the request
/// lacks, or what puts the winner before it.
fn considered(routes: Vec<Value>, request: &str) -> Vec<String> {
    let mut objects = Objects::default();
    add_service(&mut objects, "default/demo", &[80]);
    for route in routes {
        for object in decode(route).objects {
            objects.insert(object);
        }
    }
    let resolved = resolved(&objects);
    let attached = port(&resolved, "default/demo", 80).for_client("default");
    let matcher = Matcher::new(attached.kind.unwrap(), &attached.rules);
    let request = Request::parse(request);
    let winner = matcher.select(&request.view());
    let line = |it: Considered<'_>| {
        let rule = &attached.rules[it.selected.rule];
        let unmet: Vec<String> = it.unmet.iter().map(ToString::to_string).collect();
        let why = match winner {
            _ if !unmet.is_empty() => unmet.join("; "),
            Some(winner) if winner == it.selected => "wins".to_owned(),
            Some(winner) => decision(&attached.rules, &objects, winner, it.selected).to_string(),
            None => unreachable!("a match holds and none is selected"),
        };
        format!("{}[{}]: {}: {why}", rule.route.name, rule.index, it.criteria)
    };
    matcher.consider(request.view()).map(line).collect()
}

fn http(name: &str, created: &str, rules: &str) -> Value {
    route("HTTPRoute", &format!("default/{name}"), created, rules)
}

fn grpc(name: &str, created: &str, rules: &str) -> Value {
    route("GRPCRoute", &format!("default/{name}"), created, rules)
}

#[test]
fn criteria_and_what_is_there_instead() {
    let rules = "
- matches:
  - path: {type: Exact, value: /a}
    method: POST
    headers: [{name: End-User, value: jason}, {name: x-n, type: RegularExpression, value: '[0-9]+'}]
    queryParams: [{name: q, value: 'a b'}, {name: r, value: '1'}]
- matches:
  - path: {type: RegularExpression, value: '/v[0-9]/.*'}
- matches:
  - path: {value: /b/}
- matches:
  - path: {value: /}
";
    let request = "GET /b/c?q=a+c\nend-user: kate\nend-user: ann\nx-n: ten";
    assert_eq!(
        considered(vec![http("r", OLD, rules)], request),
        [
            "r[0]: path is /a, method is POST, header end-user is jason, header x-n matches [0-9]+, \
             query parameter q is a b, query parameter r is 1: \
             path is /b/c, not /a; method is GET, not POST; header end-user is kate,ann, not jason; \
             header x-n is ten, which does not match [0-9]+; \
             query parameter q is a c, not a b; query parameter r is missing",
            "r[1]: path matches /v[0-9]/.*: path is /b/c, which does not match /v[0-9]/.*",
            "r[2]: path begins with /b: wins",
            "r[3]: any request: a longer path prefix (2 characters against 0)",
        ]
    );
    let missing = considered(vec![http("r", OLD, rules)], "POST /a?q=a%20b&r=1\nx-n: 7");
    assert!(missing[0].ends_with(": header end-user is missing"), "{missing:?}");
}

#[test]
fn grpc_criteria_and_what_is_there_instead() {
    let rules = "
- matches:
  - method: {service: shop.Cart, method: Add}
- matches:
  - method: {type: RegularExpression, service: 'shop[.].*'}
    headers: [{name: x, value: '1'}]
- matches:
  - method: {service: shop.Cart}
";
    assert_eq!(
        considered(vec![grpc("r", OLD, rules)], "POST /shop.Cart/Remove"),
        [
            "r[0]: gRPC service is shop.Cart, gRPC method is Add: gRPC method is Remove, not Add",
            "r[2]: gRPC service is shop.Cart: wins",
            "r[1]: gRPC service matches shop[.].*, header x is 1: header x is missing",
        ]
    );
    let not_grpc = considered(vec![grpc("r", OLD, rules)], "POST /");
    assert!(not_grpc[1].ends_with(": gRPC service is missing"), "{not_grpc:?}");
}

#[test]
fn the_sentence_that_decides() {
    let rule = |criteria: &str| format!("- matches: [{{{criteria}}}]\n");
    let request = "GET /foo/bar?q=1&r=2\nx: 1\nz: 2";
    for (better, worse, expected) in [
        ("path: {type: Exact, value: /foo/bar}", "", "its path: Exact before all others"),
        (
            "path: {type: RegularExpression, value: /.*}",
            "path: {value: /foo/bar}",
            "its path: RegularExpression before PathPrefix",
        ),
        (
            "path: {value: /foo/bar}",
            "path: {value: /foo/}",
            "a longer path prefix (8 characters against 4)",
        ),
        (
            "",
            "path: {type: Glob, value: /foo}",
            "its criteria: those that can be read before those that cannot",
        ),
        (
            "method: GET",
            "headers: [{name: x, value: '1'}]",
            "its method: a match with one before one without",
        ),
        (
            "headers: [{name: x, value: '1'}]",
            "queryParams: [{name: q, value: '1'}]",
            "more header matches (1 against 0)",
        ),
        (
            "queryParams: [{name: q, value: '1'}, {name: r, value: '2'}]",
            "queryParams: [{name: q, value: '1'}]",
            "more query parameter matches (2 against 1)",
        ),
    ] {
        let routes = vec![http("b", NEW, &rule(better)), http("a", OLD, &rule(worse))];
        let lines = considered(routes, request);
        assert!(lines[0].starts_with("b[0]") && lines[0].ends_with("wins"), "{lines:?}");
        assert!(lines[1].ends_with(&format!(": {expected}")), "{expected}: {lines:?}");
    }
    let any = rule("headers: [{name: x, value: '1'}]");
    for (routes, expected) in [
        (vec![http("b", OLD, &any), http("a", NEW, &any)], "its route's age: the older one first"),
        (
            vec![http("b", OLD, &any), http("a", OLD, &any)],
            "its route's name, as both are of one age: in alphabetical order by namespace/name",
        ),
        (vec![http("a", OLD, &any.repeat(2))], "its place: an earlier rule of the same route"),
        (
            vec![http("a", OLD, "- matches: [{method: GET}, {method: GET}]")],
            "its place: an earlier match of the same rule",
        ),
        (
            vec![grpc("a", OLD, "- matches: [{method: {service: s.A}}, {method: {method: M}}]")],
            "more characters in its service (3 against 0)",
        ),
        (
            vec![grpc(
                "a",
                OLD,
                "- matches: [{method: {service: s.A, method: M}}, {method: {service: s.A}}]",
            )],
            "more characters in its method (1 against 0)",
        ),
        (
            vec![grpc(
                "a",
                OLD,
                "- matches: [{method: {type: RegularExpression, service: s.*}}, {}]",
            )],
            "its service: a pattern before none",
        ),
    ] {
        let is_grpc = routes[0]["kind"] == "GRPCRoute";
        let request = if is_grpc { "POST /s.A/M" } else { request };
        let lines = considered(routes, request);
        assert!(lines[0].ends_with("wins"), "{lines:?}");
        assert!(lines[1].ends_with(&format!(": {expected}")), "{expected}: {lines:?}");
    }
}

/// Every hostname of TLSRoutes with these in the order of precedence, with what is said of it for a
/// client that asks for `server_name`.
fn considered_hostnames(routes: &[(&str, &[&str])], server_name: Option<&str>) -> Vec<String> {
    let mut objects = Objects::default();
    add_service(&mut objects, "default/demo", &[443]);
    for (name, hostnames) in routes {
        let mut value = route("TLSRoute", &format!("default/{name}"), OLD, "[{}]");
        value["spec"]["hostnames"] = hostnames.to_vec().into();
        for object in decode(value).objects {
            objects.insert(object);
        }
    }
    let resolved = resolved(&objects);
    let rules = &port(&resolved, "default/demo", 443).producer.rules;
    let winner = SniMatcher::new(rules).select(server_name);
    let line = |it: Considered<'_>| {
        let why = match (it.unmet.first(), winner) {
            (Some(unmet), _) => unmet.to_string(),
            (None, Some(winner)) if winner == it.selected => "wins".to_owned(),
            (None, Some(winner)) => decision(rules, &objects, winner, it.selected).to_string(),
            (None, None) => unreachable!("a hostname holds and none is selected"),
        };
        format!("{}: {}: {why}", rules[it.selected.rule].route.name, it.criteria)
    };
    consider_server_name(rules, server_name).into_iter().map(line).collect()
}

#[test]
fn hostnames_and_the_name_that_is_asked_for() {
    let routes: &[(&str, &[&str])] = &[
        ("any", &[]),
        ("bad", &["a_b"]),
        ("exact", &["a.b.example"]),
        ("long", &["*.b.example"]),
        ("short", &["*.example", "c.example"]),
    ];
    assert_eq!(
        considered_hostnames(routes, Some("a.b.example")),
        [
            "exact: server name is a.b.example: wins",
            "short: server name is c.example: server name is a.b.example, not c.example",
            "long: server name matches *.b.example: its hostname: one without a wildcard first",
            "short: server name matches *.example: its hostname: one without a wildcard first",
            "any: any connection: a longer hostname (11 characters against 0)",
            "bad: server name is whatever it is: its criteria: those that can be read before those \
             that cannot",
        ]
    );
    let other = considered_hostnames(routes, Some("d.b.example"));
    assert_eq!(
        other[2..5],
        [
            "long: server name matches *.b.example: wins",
            "short: server name matches *.example: a longer hostname (11 characters against 9)",
            "any: any connection: a longer hostname (11 characters against 0)",
        ]
    );
    let none = considered_hostnames(routes, None);
    assert_eq!(none[0], "exact: server name is a.b.example: server name is missing");
    assert_eq!(none[4], "any: any connection: wins");
}
