//! TLSRoutes and TCPRoutes: attachment, precedence, conflicts and backends, a row per sentence.

use super::*;
use crate::matching::SniMatcher;
use crate::route::RouteKind;

const PORTS: &str = "clusterIP: 10.0.0.1, ports: [{name: tls, port: 443}, {name: db, port: 5432}, {name: dns, port: 53, protocol: UDP}]";
const DEMO: &str = "[{group: '', kind: Service, namespace: default, name: demo}]";
const OLD: &str = "2024-01-01T00:00:00Z";
const NEW: &str = "2024-01-01T00:00:01Z";

fn demo() -> String {
    service("default/demo", PORTS)
}

/// A TLSRoute in flow style, whose only rule has no backends.
fn tls_route(name: &str, created: &str, hostnames: &str) -> String {
    let text = route("TLSRoute", name, DEMO, "[{}]");
    let text = text.replace("spec: {", &format!("spec: {{hostnames: [{hostnames}], "));
    aged(text, created)
}

fn tcp_route(name: &str, created: &str, rules: &str) -> String {
    aged(route("TCPRoute", name, DEMO, rules), created)
}

fn aged(route: String, created: &str) -> String {
    route.replace("metadata: {", &format!("metadata: {{creationTimestamp: '{created}', "))
}

/// The TLSRoute that takes a connection with that server name; `none` where there is no such route.
fn server_name(attached: &Attached, name: Option<&str>) -> String {
    assert_eq!(attached.kind, Some(RouteKind::Tls));
    let selected = SniMatcher::new(&attached.rules).select(name);
    selected.map_or("none".to_owned(), |it| attached.rules[it.rule].route.name.clone())
}

#[test]
fn hostnames_match_the_server_name() {
    let table = [
        ("a precise hostname is that name", "a.example.com", "a.example.com", true),
        ("and no other", "a.example.com", "b.example.com", false),
        ("nor what ends with it", "example.com", "a.example.com", false),
        ("nor what begins with it", "a.example", "a.example.com", false),
        ("a wildcard is any name below", "'*.example.com'", "a.example.com", true),
        ("at any depth", "'*.example.com'", "a.b.example.com", true),
        ("not the domain itself", "'*.example.com'", "example.com", false),
        ("by whole labels", "'*.example.com'", "aexample.com", false),
        ("a dot in front is no label", "'*.example.com'", ".example.com", false),
        ("of a single label", "'*.com'", "a.example.com", true),
        ("one of several", "x.example, '*.y.example'", "a.y.example", true),
        ("without hostnames, any", "", "a.example.com", true),
    ];
    for (sentence, hostnames, name, expected) in table {
        let resolved =
            resolved(&objects(&documents(&[demo(), tls_route("default/r", OLD, hostnames)])));
        let attached = &port(&resolved, "default/demo", 443).producer;
        let expected = if expected { "r" } else { "none" };
        assert_eq!(server_name(attached, Some(name)), expected, "{sentence}: {hostnames} {name}");
    }
}

#[test]
fn a_client_that_names_no_server_is_matched_by_no_hostname() {
    for (hostnames, expected) in [("a.example", "none"), ("'*.example'", "none"), ("", "r")] {
        let resolved =
            resolved(&objects(&documents(&[demo(), tls_route("default/r", OLD, hostnames)])));
        let attached = &port(&resolved, "default/demo", 443).producer;
        assert_eq!(server_name(attached, None), expected, "{hostnames}");
    }
}

/// Both match: the expected winner is newer, and later in the alphabet.
#[test]
fn precedence_among_hostnames() {
    let table = [
        (
            "Characters in a matching non-wildcard hostname",
            "a.b.example",
            "'*.b.example'",
            "a.b.example",
        ),
        ("Characters in a matching hostname", "'*.b.example'", "'*.example'", "a.b.example"),
        ("any hostname before none", "'*.example'", "", "a.b.example"),
        (
            "of a matching one: others of the same route count for nothing",
            "'*.example'",
            "a.very.long.name.that.is.not.asked.for",
            "a.b.example",
        ),
    ];
    for (sentence, better, worse, name) in table {
        let better = tls_route("default/z", NEW, better);
        let worse = tls_route("default/a", OLD, worse);
        let resolved = resolved(&objects(&documents(&[demo(), better, worse])));
        let attached = &port(&resolved, "default/demo", 443).producer;
        assert_eq!(server_name(attached, Some(name)), "z", "{sentence}");
    }
}

/// "The oldest Route based on creation timestamp. The Route appearing first in alphabetical order by
/// "{namespace}/{name}"."
#[test]
fn ties_of_hostnames() {
    let table = [(NEW, OLD, "b"), (OLD, NEW, "a"), (OLD, OLD, "a")];
    for hostname in ["a.example", "'*.example'", ""] {
        for (a, b, expected) in table {
            let resolved = resolved(&objects(&documents(&[
                demo(),
                tls_route("default/b", b, hostname),
                tls_route("default/a", a, hostname),
            ])));
            let attached = &port(&resolved, "default/demo", 443).producer;
            assert_eq!(server_name(attached, Some("a.example")), expected, "{hostname} {a} {b}");
            for route in ["TLSRoute default/a", "TLSRoute default/b"] {
                assert_eq!(conditions(verdict(&resolved, route)), [ACCEPTED, RESOLVED], "{route}");
            }
        }
    }
}

#[test]
fn a_hostname_that_cannot_be_read_takes_nothing_from_good_routes() {
    let objects = broken_objects(&documents(&[
        demo(),
        tls_route("default/broken", OLD, "'a.*.example', x.example"),
        tls_route("default/good", NEW, "a.example"),
        tls_route("default/wild", NEW, "'*.org'"),
    ]));
    let resolved = resolved(&objects);
    let attached = &port(&resolved, "default/demo", 443).producer;
    assert_eq!(server_name(attached, Some("a.example")), "good");
    assert_eq!(server_name(attached, Some("a.org")), "wild");
    assert_eq!(server_name(attached, Some("x.example")), "broken", "refused, as its status says");
    assert_eq!(server_name(attached, Some("a.b.example")), "broken", "whom it may be meant for");
    assert!(!attached.rules[0].refusals.is_empty());
    let verdict = verdict(&resolved, "TLSRoute default/broken");
    assert_eq!(
        conditions(verdict),
        [(ConditionType::Accepted, false, Reason::UnsupportedValue), RESOLVED]
    );
    let message = message(verdict, ConditionType::Accepted);
    assert!(
        message.starts_with("no rule can be used: spec.hostnames[0]: \"a.*.example\""),
        "{message}"
    );
}

#[test]
fn they_attach_as_other_routes_do() {
    let attached = |parent: &str| {
        let text = route("TCPRoute", "default/r", &format!("[{{{parent}}}]"), "[{}]");
        let resolved = resolved(&objects(&documents(&[demo(), text])));
        let ports = &resolved.parents[&name("default/demo")].ports;
        let held = ports.iter().filter(|it| it.producer.kind == Some(RouteKind::Tcp));
        held.map(|it| it.port.port).collect::<Vec<_>>()
    };
    let table = [
        ("port unset: all ports (MUST)", "", vec![443, 5432]),
        ("port set: that port only (MUST)", ", port: 5432", vec![5432]),
        ("sectionName is the port's name", ", sectionName: db", vec![5432]),
        ("both set: both must match", ", sectionName: db, port: 443", vec![]),
        ("a UDP port", ", port: 53", vec![]),
    ];
    for (sentence, selection, expected) in table {
        let parent = format!("group: '', kind: Service, name: demo{selection}");
        assert_eq!(attached(&parent), expected, "{sentence}");
    }
}

#[test]
fn producer_and_consumer_groups() {
    let resolved = resolved(&objects(&documents(&[
        demo(),
        tls_route("default/producer", OLD, "a.example"),
        tls_route("client/consumer", NEW, "b.example"),
    ])));
    let port = port(&resolved, "default/demo", 443);
    let table = [
        ("default", "a.example", "producer"),
        ("elsewhere", "a.example", "producer"),
        ("client", "b.example", "consumer"),
        ("client", "a.example", "none"),
        ("elsewhere", "b.example", "none"),
    ];
    for (client, name, expected) in table {
        assert_eq!(server_name(port.for_client(client), Some(name)), expected, "{client} {name}");
    }
}

/// "GRPCRoute, HTTPRoute, TLSRoute, TCPRoute": "first one wins"; "the rejected routes should be ignored
/// and have the `RouteConditionAccepted` status set to the (new) reason `RouteReasonConflicted`".
#[test]
fn conflicts_between_any_two_kinds() {
    let kinds = [
        ("GRPCRoute", RouteKind::Grpc),
        ("HTTPRoute", RouteKind::Http),
        ("TLSRoute", RouteKind::Tls),
        ("TCPRoute", RouteKind::Tcp),
    ];
    for (rank, (winner, kind)) in kinds.iter().enumerate() {
        for (loser, _) in &kinds[rank + 1..] {
            // The loser is older, and first in the alphabet.
            let resolved = resolved(&objects(&documents(&[
                service("default/demo", "clusterIP: 10.0.0.1, ports: [{port: 443}]"),
                aged(route(winner, "default/z", DEMO, "[{}]"), NEW),
                aged(route(loser, "default/a", DEMO, "[{}]"), OLD),
            ])));
            let attached = &port(&resolved, "default/demo", 443).producer;
            assert_eq!(
                (attached.kind, routes(attached)),
                (Some(*kind), vec!["default/z".to_owned()])
            );
            let won = verdict(&resolved, &format!("{winner} default/z"));
            assert_eq!(conditions(won), [ACCEPTED, RESOLVED], "{winner} over {loser}");
            let lost = verdict(&resolved, &format!("{loser} default/a"));
            let conflicted = (ConditionType::Accepted, false, Reason::Conflicted);
            assert_eq!(conditions(lost), [conflicted, RESOLVED], "{winner} over {loser}");
            assert_eq!(lost.conditions[0].reason.as_str(), "RouteReasonConflicted");
            let article = if *winner == "HTTPRoute" { "an" } else { "a" };
            let expected = format!(
                "{article} {winner} in this route's namespace holds port 443; this route is not used"
            );
            assert_eq!(message(lost, ConditionType::Accepted), expected);
        }
    }
}

#[test]
fn each_port_by_itself_has_its_kind() {
    let on = |port: u16| format!("[{{group: '', kind: Service, name: demo, port: {port}}}]");
    let resolved = resolved(&objects(&documents(&[
        service(
            "default/demo",
            "clusterIP: 10.0.0.1, ports: [{name: a, port: 1}, {name: b, port: 2}, {name: c, port: 3}]",
        ),
        route("GRPCRoute", "default/grpc", &on(1), "[{}]"),
        http_route("default/http", &on(2), "[{}]"),
        route("TCPRoute", "default/tcp", "[{group: '', kind: Service, name: demo}]", "[{}]"),
    ])));
    let kinds: Vec<_> =
        [1, 2, 3].map(|it| port(&resolved, "default/demo", it).producer.kind).into();
    assert_eq!(kinds, [Some(RouteKind::Grpc), Some(RouteKind::Http), Some(RouteKind::Tcp)]);
    let verdict = verdict(&resolved, "TCPRoute default/tcp");
    assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED]);
    assert_eq!(
        message(verdict, ConditionType::Accepted),
        "attached to port 3 of Service default/demo; a GRPCRoute in this route's namespace holds port 1; \
         an HTTPRoute in this route's namespace holds port 2"
    );
}

/// "The implementation MUST follow the general Gateway API route precedence rules"; "All attached
/// TCPRoutes are `Accepted`"; "Only the winning route's backends receive traffic." (GEP-2644)
#[test]
fn of_several_tcp_routes_the_oldest_takes_all_connections() {
    let table = [(OLD, NEW, "a"), (NEW, OLD, "b"), (OLD, OLD, "a")];
    for (a, b, expected) in table {
        let resolved = resolved(&objects(&documents(&[
            demo(),
            tcp_route("default/b", b, "[{name: first}]"),
            tcp_route("default/a", a, "[{name: first}]"),
        ])));
        let rule = &port(&resolved, "default/demo", 5432).producer.rules[0];
        assert_eq!((rule.route.name.as_str(), rule.name.as_deref()), (expected, Some("first")));
        for route in ["a", "b"] {
            let verdict = verdict(&resolved, &format!("TCPRoute default/{route}"));
            assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED]);
            let mut told = "attached to ports 443, 5432 of Service default/demo".to_owned();
            if route != expected {
                for port in [443, 5432] {
                    told.push_str(&format!(
                        "; TCPRoute default/{expected} comes first and takes the connections to port {port}"
                    ));
                }
            }
            assert_eq!(message(verdict, ConditionType::Accepted), told);
        }
    }
}

/// "If unspecified or invalid (refers to a nonexistent resource or a Service with no endpoints), the
/// underlying implementation MUST actively reject connection attempts to this backend. Connection
/// rejections must respect weight".
#[test]
fn backends_keep_their_weights_and_invalid_ones_are_told() {
    let rules = "[{backendRefs: [{name: good, port: 5432, weight: 20}, {name: ghost, port: 5432, weight: 80}]}]";
    for kind in ["TCPRoute", "TLSRoute"] {
        let resolved = resolved(&objects(&documents(&[
            demo(),
            service("default/good", "clusterIP: 10.0.0.2, ports: [{port: 5432}]"),
            route(kind, "default/r", DEMO, rules),
        ])));
        let rule = &port(&resolved, "default/demo", 5432).producer.rules[0];
        let weights: Vec<_> =
            rule.backends.iter().map(|it| (it.weight, it.target.is_ok())).collect();
        assert_eq!(weights, [(20, true), (80, false)]);
        let verdict = verdict(&resolved, &format!("{kind} default/r"));
        let not_found = (ConditionType::ResolvedRefs, false, Reason::BackendNotFound);
        assert_eq!(conditions(verdict), [ACCEPTED, not_found]);
    }
}

#[test]
fn grants_are_for_the_kind_of_route() {
    let rules = "[{backendRefs: [{name: backend, namespace: other, port: 5432}]}]";
    for kind in ["TLSRoute", "TCPRoute"] {
        for (granted, expected) in [(kind, true), ("HTTPRoute", false)] {
            let resolved = resolved(&objects(&documents(&[
                demo(),
                service("other/backend", "clusterIP: 10.0.0.2, ports: [{port: 5432}]"),
                route(kind, "default/r", DEMO, rules),
                format!(
                    "{{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {{name: g, namespace: other}}, spec: {{from: [{{group: gateway.networking.k8s.io, kind: {granted}, namespace: default}}], to: [{{group: '', kind: Service}}]}}}}"
                ),
            ])));
            let rule = &port(&resolved, "default/demo", 5432).producer.rules[0];
            assert_eq!(rule.backends[0].target.is_ok(), expected, "{kind}, granted for {granted}");
            if !expected {
                let refused = (ConditionType::ResolvedRefs, false, Reason::RefNotPermitted);
                let verdict = verdict(&resolved, &format!("{kind} default/r"));
                assert_eq!(conditions(verdict), [ACCEPTED, refused]);
            }
        }
    }
}

#[test]
fn streams_may_go_to_ports_that_need_tls() {
    for protocol in ["https", "tls", "kubernetes.io/wss", "http"] {
        for kind in ["TLSRoute", "TCPRoute"] {
            let ports =
                format!("clusterIP: 10.0.0.2, ports: [{{port: 443, appProtocol: {protocol}}}]");
            let resolved = resolved(&objects(&documents(&[
                demo(),
                service("default/secure", &ports),
                route(kind, "default/r", DEMO, "[{backendRefs: [{name: secure, port: 443}]}]"),
            ])));
            let verdict = verdict(&resolved, &format!("{kind} default/r"));
            assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED], "{kind} {protocol}");
        }
    }
}
