//! One row per sentence of the API's precedence.

use serde_json::Value;

use crate::testing::{route, winner};

const OLD: &str = "2024-01-01T00:00:00Z";
const NEW: &str = "2024-01-01T00:00:01Z";

fn http(name: &str, created: &str, rules: &str) -> Value {
    route("HTTPRoute", name, created, rules)
}

fn grpc(name: &str, created: &str, rules: &str) -> Value {
    route("GRPCRoute", name, created, rules)
}

/// Two rules, each in a route of its own, both of which match: the expected winner is `better`, also
/// where everything that ranks below the criterion speaks against it: age, name and order.
fn prefer(kind: &str, sentence: &str, better: &str, worse: &str, request: &str) {
    let one = vec![route(kind, "default/b", NEW, better), route(kind, "default/a", OLD, worse)];
    assert_eq!(winner(one, request), "default/b[0]", "{sentence}");
    let rules = format!("{}\n{}", worse.trim_end(), better.trim_start());
    let one = vec![route(kind, "default/a", OLD, &rules)];
    assert_eq!(winner(one, request), "default/a[1]", "{sentence} (within a route)");
    // Both do match: without the better one the worse one answers.
    assert_eq!(winner(vec![route(kind, "default/a", OLD, worse)], request), "default/a[0]");
}

#[test]
fn http_criteria_in_their_order() {
    let request = "GET /foo/bar?q=1&r=2\nx: 1\nz: 2";
    let table = [
        (
            "Exact path match, before the longest prefix and anything else",
            "- matches: [{path: {type: Exact, value: /foo/bar}}]",
            "- matches: [{path: {value: /foo/bar}, method: GET, headers: [{name: x, value: '1'}, {name: z, value: '2'}], queryParams: [{name: q, value: '1'}]}]",
        ),
        (
            "Exact path match before a regular expression",
            "- matches: [{path: {type: Exact, value: /foo/bar}}]",
            "- matches: [{path: {type: RegularExpression, value: /foo/.*}, method: GET}]",
        ),
        (
            "a regular expression, before the longest prefix",
            "- matches: [{path: {type: RegularExpression, value: /f.*}}]",
            "- matches: [{path: {value: /foo/bar}, method: GET, headers: [{name: x, value: '1'}]}]",
        ),
        (
            "Prefix path match with largest number of characters, before a method",
            "- matches: [{path: {value: /foo/bar}}]",
            "- matches: [{path: {value: /foo}, method: GET, headers: [{name: x, value: '1'}], queryParams: [{name: q, value: '1'}]}]",
        ),
        (
            "a trailing slash is no character: /foo/ and /foo tie, so the method decides",
            "- matches: [{path: {value: /foo}, method: GET}]",
            "- matches: [{path: {value: /foo/}}]",
        ),
        (
            "Method match, before the largest number of headers",
            "- matches: [{method: GET}]",
            "- matches: [{headers: [{name: x, value: '1'}, {name: z, value: '2'}], queryParams: [{name: q, value: '1'}]}]",
        ),
        (
            "Largest number of header matches, before query params",
            "- matches: [{headers: [{name: x, value: '1'}, {name: z, value: '2'}]}]",
            "- matches: [{headers: [{name: x, value: '1'}], queryParams: [{name: q, value: '1'}, {name: r, value: '2'}]}]",
        ),
        (
            "ignored entries of equivalent names do not count as header matches",
            "- matches: [{headers: [{name: x, value: '1'}, {name: z, value: '2'}]}]",
            "- matches: [{headers: [{name: x, value: '1'}, {name: X, value: '7'}, {name: X, value: '8'}]}]",
        ),
        (
            "Largest number of query param matches",
            "- matches: [{queryParams: [{name: q, value: '1'}, {name: r, value: '2'}]}]",
            "- matches: [{queryParams: [{name: q, value: '1'}]}]",
        ),
        (
            "regular expressions among each other: by the other criteria, not by length",
            "- matches: [{path: {type: RegularExpression, value: /f.*}, method: GET}]",
            "- matches: [{path: {type: RegularExpression, value: /foo/bar|unused}}]",
        ),
        (
            "what can be read, before what cannot",
            "- matches: [{path: {value: /}}]",
            "- matches: [{path: {type: Glob, value: /foo}, method: GET, headers: [{name: x, value: '1'}]}]",
        ),
    ];
    for (sentence, better, worse) in table {
        prefer("HTTPRoute", sentence, better, worse, request);
    }
}

#[test]
fn grpc_criteria_in_their_order() {
    let request = "POST /a.Service/Method\nx: 1\nz: 2";
    let two_headers = "headers: [{name: x, value: '1'}, {name: z, value: '2'}]";
    let table = [
        (
            "Characters in a matching service, before those in the method",
            "- matches: [{method: {service: a.Service}}]".to_owned(),
            format!("- matches: [{{method: {{method: Method}}, {two_headers}}}]"),
        ),
        (
            "an exact service, before a regular expression",
            "- matches: [{method: {service: a.Service}}]".to_owned(),
            format!(
                "- matches: [{{method: {{type: RegularExpression, service: a.Serv.*, method: M.*}}, {two_headers}}}]"
            ),
        ),
        (
            "a regular expression for the service, before none",
            "- matches: [{method: {type: RegularExpression, service: a.*}}]".to_owned(),
            format!("- matches: [{{method: {{method: Method}}, {two_headers}}}]"),
        ),
        (
            "Characters in a matching method, before headers",
            "- matches: [{method: {service: a.Service, method: Method}}]".to_owned(),
            format!("- matches: [{{method: {{service: a.Service}}, {two_headers}}}]"),
        ),
        (
            "a regular expression for the method, before none",
            "- matches: [{method: {type: RegularExpression, method: M.*}}]".to_owned(),
            format!("- matches: [{{{two_headers}}}]"),
        ),
        (
            "Header matches",
            format!("- matches: [{{method: {{service: a.Service}}, {two_headers}}}]"),
            "- matches: [{method: {service: a.Service}, headers: [{name: x, value: '1'}]}]"
                .to_owned(),
        ),
        (
            "what can be read, before what cannot",
            "- {}".to_owned(),
            format!("- matches: [{{method: {{type: Glob, service: a.Service}}, {two_headers}}}]"),
        ),
    ];
    for (sentence, better, worse) in &table {
        prefer("GRPCRoute", sentence, better, worse, request);
    }
}

#[test]
fn ties_go_to_the_oldest_route() {
    let rule = "- {}";
    let routes = vec![http("default/a", NEW, rule), http("default/b", OLD, rule)];
    assert_eq!(winner(routes, "GET /"), "default/b[0]");
    let routes = vec![grpc("default/a", NEW, rule), grpc("default/b", OLD, rule)];
    assert_eq!(winner(routes, "POST /s/m"), "default/b[0]");
}

#[test]
fn a_route_without_age_is_the_newest() {
    let mut young = http("default/a", OLD, "- {}");
    young["metadata"]["creationTimestamp"] = Value::Null;
    let routes = vec![young, http("default/b", NEW, "- {}")];
    assert_eq!(winner(routes, "GET /"), "default/b[0]");
}

#[test]
fn then_to_the_first_in_alphabetical_order() {
    let rule = "- {}";
    let routes = vec![http("default/b", OLD, rule), http("default/a", OLD, rule)];
    assert_eq!(winner(routes, "GET /"), "default/a[0]");
}

/// The order is that of the string "{namespace}/{name}". Within one group all namespaces are the
/// same, so only the names can show it in traffic; the order itself knows both.
#[test]
fn the_alphabetical_order_is_of_namespace_slash_name() {
    use super::RouteOrder;
    let order = |namespace, name| RouteOrder { created: 0, namespace, name };
    assert!(order("a-b", "z") < order("a", "a"), "`a-b/z` comes before `a/a`");
    assert!(order("a", "c") < order("ab", "a"), "`a/c` comes before `ab/a`");
    assert!(order("a", "z") < order("b", "a"));
    assert!(order("a", "a") < order("a", "a-b"));
    assert!(RouteOrder { created: 1, namespace: "a", name: "a" } > order("b", "b"));
}

#[test]
fn then_to_the_first_rule_in_list_order() {
    let rules = "
- matches: [{path: {value: /a}}, {path: {value: /}}]
- matches: [{path: {value: /}}]
- matches: [{path: {value: /}}]
";
    assert_eq!(winner(vec![http("default/a", OLD, rules)], "GET /"), "default/a[0]");
    let rules = "[{matches: [{method: {service: s}}]}, {matches: [{method: {service: s}}]}]";
    assert_eq!(winner(vec![grpc("default/a", OLD, rules)], "POST /s/m"), "default/a[0]");
}

/// "Across all rules specified on applicable Routes": a younger route's longer path wins over an older
/// route's shorter one.
#[test]
fn criteria_count_across_routes() {
    let routes = vec![
        http("default/old", OLD, "- matches: [{path: {value: /}}]"),
        http("default/new", NEW, "- matches: [{path: {value: /deep}}]"),
    ];
    assert_eq!(winner(routes.clone(), "GET /deep/er"), "default/new[0]");
    assert_eq!(winner(routes, "GET /other"), "default/old[0]");
}
