//! TLSRoutes and TCPRoutes: what the API's schema allows, and what of the rest is refused.

use super::*;
use crate::route::SniMatch;

/// A route whose whole spec, besides its parentRefs, is given in flow style.
fn stream_route(kind: &str, spec: &str) -> Decoded {
    decoded(&format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: r}}, spec: \
         {{parentRefs: [{{group: '', kind: Service, name: demo}}], {spec}}}}}"
    ))
}

fn server_names(decoded: &Decoded) -> Vec<SniMatch> {
    let matches = rule(decoded).matches.iter();
    let name = |criteria: &Match| match criteria {
        Match::Tls(name) => name.clone(),
        other => panic!("{other:?}"),
    };
    matches.map(name).collect()
}

#[test]
fn a_tls_route_is_read_in_full() {
    let decoded = stream_route(
        "TLSRoute",
        "hostnames: [a.example, '*.b-1.example'], useDefaultGateways: None, rules: [{name: canary, \
         backendRefs: [{name: a, port: 443, weight: 3}, {group: '', kind: Service, name: b, \
         namespace: other, port: 444}]}]",
    );
    assert_eq!(problems(&decoded), [""; 0]);
    let route = only_route(&decoded);
    assert_eq!(route.key.to_string(), "TLSRoute default/r");
    assert_eq!(route.kind, RouteKind::Tls);
    assert_eq!(route.hostnames, ["a.example", "*.b-1.example"]);
    let expected =
        [SniMatch::Exact("a.example".to_owned()), SniMatch::Wildcard(".b-1.example".to_owned())];
    assert_eq!(server_names(&decoded), expected);
    let rule = rule(&decoded);
    assert_eq!(rule.name.as_deref(), Some("canary"));
    assert!(rule.refusals.is_empty() && rule.filters.is_empty());
    let backends: Vec<_> = rule
        .backends
        .iter()
        .map(|it| (it.service("default").to_string(), it.port, it.weight))
        .collect();
    let expected = [("default/a".to_owned(), Some(443), 3), ("other/b".to_owned(), Some(444), 1)];
    assert_eq!(backends, expected);
}

#[test]
fn a_tcp_route_is_read_in_full() {
    let decoded = stream_route(
        "TCPRoute",
        "rules: [{name: primary, backendRefs: [{name: a, port: 5432, weight: 0}]}]",
    );
    assert_eq!(problems(&decoded), [""; 0]);
    assert_eq!(only_route(&decoded).key.to_string(), "TCPRoute default/r");
    assert_eq!(only_route(&decoded).kind, RouteKind::Tcp);
    let rule = rule(&decoded);
    assert_eq!((rule.name.as_deref(), rule.backends[0].weight), (Some("primary"), 0));
    assert!(matches!(rule.matches.as_slice(), [Match::Tcp]));
}

/// "This matches the RFC 1123 definition of a hostname with 2 notable exceptions: 1. IPs are not allowed
/// in SNI hostnames per RFC 6066. 2. A hostname may be prefixed with a wildcard label (`*.`). The wildcard
/// label must appear by itself as the first label."
#[test]
fn hostnames() {
    let long = format!("{0}.{0}.{0}.{0}", "n".repeat(63));
    let fits = &long[..253];
    for good in ["a", "1.example", "a-b.example", "*.example", "*.1.2", "xn--nxasmq6b", fits] {
        let decoded = stream_route("TLSRoute", &format!("hostnames: ['{good}'], rules: [{{}}]"));
        assert_eq!(problems(&decoded), [""; 0], "{good}");
    }
    let bad = [
        "''",
        "'*'",
        "'*.'",
        "'**.a'",
        "'*a.example'",
        "'a.*.example'",
        "'a.*'",
        "'*.*.a'",
        "A.example",
        "a..example",
        "'a.'",
        "'.a'",
        "-a",
        "a-",
        "a_b",
        "'ä.example'",
        "'a b'",
        "10.0.0.1",
        "'*.10.0.0.1'",
        "'fd00::1'",
        "7",
        "{}",
        "a:443",
        long.as_str(),
    ];
    for bad in bad {
        let decoded =
            stream_route("TLSRoute", &format!("hostnames: [good.example, {bad}], rules: [{{}}]"));
        let [problem] = decoded.problems.as_slice() else {
            panic!("{bad}: {:?}", decoded.problems)
        };
        assert_eq!(problem.field, "spec.hostnames[1]", "{bad}");
        let refusals = &rule(&decoded).refusals;
        assert_eq!(
            (refusals.len(), &refusals[0].field),
            (1, &problem.field),
            "{bad}: it costs the rule"
        );
        let names = server_names(&decoded);
        assert_eq!(
            names,
            [SniMatch::Exact("good.example".to_owned()), SniMatch::Unreadable],
            "{bad}"
        );
    }
    let decoded = stream_route("TLSRoute", "hostnames: ['*'], rules: [{}]");
    assert_eq!(
        problems(&decoded),
        [
            "TLSRoute default/r: spec.hostnames[0]: \"*\" is not a hostname; use a name in lower case such \
          as example.com, or with a wildcard as its first label: *.example.com"
        ]
    );
    let decoded = stream_route("TLSRoute", "hostnames: a.example, rules: [{}]");
    assert_eq!(
        problems(&decoded),
        ["TLSRoute default/r: spec.hostnames: must be a list, not a string"]
    );
    assert_eq!(server_names(&decoded), [SniMatch::Unreadable]);
}

/// Before v1, hostnames were optional: such a route may be stored, and is read as v1.
#[test]
fn a_tls_route_without_hostnames_is_for_all_names() {
    for hostnames in ["", "hostnames: [], ", "hostnames: null, "] {
        let decoded = stream_route("TLSRoute", &format!("{hostnames}rules: [{{}}]"));
        assert_eq!(problems(&decoded), [""; 0], "{hostnames}");
        assert_eq!(server_names(&decoded), [SniMatch::Any], "{hostnames}");
    }
}

#[test]
fn what_cannot_be_read_of_a_stream_rule_refuses_it() {
    let table = [
        ("rules: [{matches: [{}]}]", "spec.rules[0].matches: unknown field"),
        ("rules: [{filters: []}]", "spec.rules[0].filters: unknown field"),
        ("rules: [{timeouts: {}}]", "spec.rules[0].timeouts: unknown field"),
        ("rules: [{name: 7}]", "spec.rules[0].name: must be a string, not a number"),
        ("rules: [7]", "spec.rules[0]: must be an object, not a number"),
        ("rules: 7", "spec.rules: must be a list, not a number"),
        ("rules: []", "spec.rules: must have a rule"),
        ("rules: null", "spec.rules: must have a rule"),
        ("rules: [{backendRefs: {}}]", "spec.rules[0].backendRefs: must be a list, not an object"),
        ("rules: [{backendRefs: [{name: a}]}]", "spec.rules[0].backendRefs[0].port: must be set"),
        (
            "rules: [{backendRefs: [{name: a, port: 1, weight: -1}]}]",
            "spec.rules[0].backendRefs[0].weight: -1 is not a weight",
        ),
        (
            "rules: [{backendRefs: [{name: a, port: 1, filters: []}]}]",
            "spec.rules[0].backendRefs[0].filters: a KIND has no filters; remove them",
        ),
        (
            "rules: [{backendRefs: [{name: a, port: 1, wieght: 2}]}]",
            "spec.rules[0].backendRefs[0].wieght: unknown field",
        ),
    ];
    for kind in ["TLSRoute", "TCPRoute"] {
        for (spec, expected) in table {
            let decoded = stream_route(kind, spec);
            let expected = format!("{kind} default/r: {}", expected.replace("KIND", kind));
            let problems = problems(&decoded);
            assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
            assert_eq!(rule(&decoded).refusals.len(), 1, "{spec}");
        }
    }
}

#[test]
fn a_tcp_route_has_no_hostnames() {
    let decoded = stream_route("TCPRoute", "hostnames: [a.example], rules: [{}]");
    assert_eq!(
        problems(&decoded),
        ["TCPRoute default/r: spec.hostnames: unknown field; remove it or correct its spelling"]
    );
}

#[test]
fn limits_of_stream_routes_are_told_and_the_route_works() {
    let decoded = stream_route("TCPRoute", "rules: [{name: a}, {name: a}]");
    assert_eq!(
        problems(&decoded),
        [
            "TCPRoute default/r: spec.rules: has 2 rules; the API allows 1, so no API server takes it",
            "TCPRoute default/r: spec.rules[1].name: \"a\" is the name of an earlier rule too; change one",
        ]
    );
    assert!(only_route(&decoded).rules.iter().all(|rule| rule.refusals.is_empty()));

    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|index| format!("n{index}.example")).collect();
        stream_route("TLSRoute", &format!("hostnames: [{}], rules: [{{}}]", names.join(", ")))
    };
    assert_eq!(problems(&names(1024)), [""; 0]);
    let decoded = names(1025);
    assert_eq!(
        problems(&decoded),
        [
            "TLSRoute default/r: spec.hostnames: has 1025 hostnames; the API allows 1024, so no API server \
          takes it"
        ]
    );
    assert_eq!(rule(&decoded).matches.len(), 1025);
}
