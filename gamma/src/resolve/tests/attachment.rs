//! Which routes attach to which ports, and for whom.

use super::*;
use crate::route::RouteKind;

const TWO_PORTS: &str = "clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: alt, port: 8080}, {name: dns, port: 53, protocol: UDP}]";

/// The ports of Service `default/demo` that a route with this parentRef holds.
fn held(parent: &str) -> Vec<u16> {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/r", &format!("[{{{parent}}}]"), "[{}]"),
    ]));
    let resolved = resolved(&objects);
    let ports = &resolved.parents[&name("default/demo")].ports;
    let holds = |it: &&crate::resolve::ResolvedPort| it.producer.kind.is_some();
    ports.iter().filter(holds).map(|it| it.port.port).collect()
}

#[test]
fn parent_refs_select_ports() {
    let table = [
        ("port unset: all ports (MUST)", "group: '', kind: Service, name: demo", vec![80, 8080]),
        (
            "port set: that Service port only",
            "group: '', kind: Service, name: demo, port: 8080",
            vec![8080],
        ),
        (
            "sectionName is the port's name",
            "group: '', kind: Service, name: demo, sectionName: alt",
            vec![8080],
        ),
        (
            "both set: both must match",
            "group: '', kind: Service, name: demo, sectionName: alt, port: 8080",
            vec![8080],
        ),
        (
            "both set: one does not match",
            "group: '', kind: Service, name: demo, sectionName: alt, port: 80",
            vec![],
        ),
        ("a port that does not exist", "group: '', kind: Service, name: demo, port: 81", vec![]),
        (
            "a section that does not exist",
            "group: '', kind: Service, name: demo, sectionName: x",
            vec![],
        ),
        ("a UDP port", "group: '', kind: Service, name: demo, port: 53", vec![]),
        (
            "the route's namespace, written out",
            "group: '', kind: Service, namespace: default, name: demo, port: 80",
            vec![80],
        ),
        (
            "group core, as the documentation writes it",
            "group: core, kind: Service, name: demo",
            vec![80, 8080],
        ),
        ("no group, in a file", "kind: Service, name: demo", vec![80, 8080]),
        (
            "no group, as the API server fills it in",
            "group: gateway.networking.k8s.io, kind: Service, name: demo",
            vec![80, 8080],
        ),
        ("another group", "group: example.com, kind: Service, name: demo", vec![]),
        ("no kind: a Gateway", "name: demo", vec![]),
        ("no kind, core group", "group: '', name: demo", vec![]),
        ("another kind", "group: '', kind: ServiceImport, name: demo", vec![]),
        ("another Service", "group: '', kind: Service, name: other", vec![]),
    ];
    for (sentence, parent, expected) in table {
        assert_eq!(held(parent), expected, "{sentence}");
    }
}

#[test]
fn parents_that_are_not_services_get_no_verdict() {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/gateway", "[{name: demo}]", "[{}]"),
        http_route(
            "default/both",
            "[{name: demo}, {group: '', kind: Service, name: demo}, {group: example.com, kind: Service, name: demo}]",
            "[{}]",
        ),
    ]));
    let resolved = resolved(&objects);
    assert!(verdicts(&resolved, "HTTPRoute default/gateway").is_empty());
    let verdict = verdict(&resolved, "HTTPRoute default/both");
    assert_eq!(verdict.parent.kind.as_deref(), Some("Service"));
    assert_eq!(verdict.parent.group.as_deref(), Some(""), "as the spec has it");
}

#[test]
fn udp_ports_are_no_ports_of_a_parent() {
    let objects = objects(&service("default/demo", TWO_PORTS));
    let resolved = resolved(&objects);
    let ports = &resolved.parents[&name("default/demo")].ports;
    assert_eq!(ports.iter().map(|it| it.port.port).collect::<Vec<_>>(), [80, 8080]);
    assert!(ports.iter().all(|it| it.for_client("default").kind.is_none()), "no route");
}

const DEMO: &str = "[{group: '', kind: Service, namespace: default, name: demo}]";

#[test]
fn producer_routes_are_for_all_and_consumer_routes_for_their_namespace() {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/producer", DEMO, "[{matches: [{path: {value: /p}}]}]"),
        http_route("client/consumer", DEMO, "[{matches: [{path: {value: /c}}]}]"),
        http_route("client/another", DEMO, "[{matches: [{path: {value: /a}}]}]"),
    ]));
    let resolved = resolved(&objects);
    let port = port(&resolved, "default/demo", 80);
    let table = [
        ("producer: clients of its namespace", "default", "/p", "default/producer[0]"),
        ("producer: clients of any namespace", "elsewhere", "/p", "default/producer[0]"),
        ("consumer: clients of the route's namespace", "client", "/c", "client/consumer[0]"),
        ("consumer: merged within the group", "client", "/a", "client/another[0]"),
        ("consumer: not the Service's own clients", "default", "/c", "none"),
        ("consumer: no others", "elsewhere", "/c", "none"),
        ("the consumer group overrides the producer group in full", "client", "/p", "none"),
    ];
    for (sentence, client, path, expected) in table {
        assert_eq!(select(port.for_client(client), &format!("GET {path}")), expected, "{sentence}");
    }
}

#[test]
fn a_consumer_route_that_holds_no_port_overrides_nothing() {
    let elsewhere = "[{group: '', kind: Service, namespace: default, name: demo, port: 99}]";
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/producer", DEMO, "[{}]"),
        http_route("client/consumer", elsewhere, "[{}]"),
        http_route(
            "other/consumer",
            "[{group: '', kind: Service, namespace: default, name: demo, port: 8080}]",
            "[{}]",
        ),
    ]));
    let resolved = resolved(&objects);
    let port = port(&resolved, "default/demo", 80);
    assert_eq!(select(port.for_client("client"), "GET /"), "default/producer[0]");
    assert_eq!(select(port.for_client("other"), "GET /"), "default/producer[0]");
    assert!(port.consumers.is_empty());
}

/// What tells entries of the status apart that look alike, also behind one that cannot be read.
#[test]
fn verdicts_know_which_parent_ref_they_are_of() {
    let objects = broken_objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route(
            "default/r",
            "[{name: gateway}, {kind: Service, port: 80}, {kind: Service, name: demo}, \
             {group: '', kind: Service, name: demo}, {kind: Service, name: demo}, \
             {kind: Service, name: ghost}]",
            "[{}]",
        ),
    ]));
    let resolved = resolved(&objects);
    let indices: Vec<usize> =
        verdicts(&resolved, "HTTPRoute default/r").iter().map(|it| it.parent.index).collect();
    assert_eq!(indices, [2, 3, 5], "[1] has no name, [4] is [2] again");
}

/// "Each independent, own status entry."
#[test]
fn several_parents_are_independent() {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        service("default/other", "clusterIP: 10.0.0.2, ports: [{port: 80}]"),
        http_route(
            "default/r",
            "[{group: '', kind: Service, name: other, port: 81}, {group: '', kind: Service, name: demo, port: 80}]",
            "[{}]",
        ),
    ]));
    let resolved = resolved(&objects);
    let [other, demo] = verdicts(&resolved, "HTTPRoute default/r") else { panic!() };
    assert_eq!((other.parent.name.as_str(), demo.parent.name.as_str()), ("other", "demo"));
    assert!(!other.conditions[0].status && demo.conditions[0].status);
    assert_eq!(routes(&port(&resolved, "default/demo", 80).producer), ["default/r"]);
    assert!(port(&resolved, "default/other", 80).producer.rules.is_empty());
}

#[test]
fn rules_apply_once_by_however_many_parent_refs() {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route(
            "default/r",
            "[{group: '', kind: Service, name: demo}, {group: '', kind: Service, name: demo}, {group: '', kind: Service, name: demo, port: 80}, {kind: Service, name: demo}]",
            "[{}, {}]",
        ),
    ]));
    let resolved = resolved(&objects);
    assert_eq!(port(&resolved, "default/demo", 80).producer.rules.len(), 2);
    assert_eq!(port(&resolved, "default/demo", 8080).producer.rules.len(), 2);
    let verdicts = verdicts(&resolved, "HTTPRoute default/r");
    assert_eq!(verdicts.len(), 3, "the same parentRef twice is one entry");
    assert!(verdicts.iter().all(|it| it.conditions[0].status));
}

#[test]
fn kinds_conflict_per_port_and_per_group() {
    let on = |port: u16| {
        format!("[{{group: '', kind: Service, namespace: default, name: demo, port: {port}}}]")
    };
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/all", DEMO, "[{}]"),
        http_route("default/eighty", &on(80), "[{}]"),
        http_route("client/http", &on(80), "[{}]"),
        route("GRPCRoute", "default/grpc", &on(80), "[{}]"),
        route("GRPCRoute", "default/grpc2", &on(80), "[{}]"),
    ]));
    let resolved = resolved(&objects);
    let eighty = port(&resolved, "default/demo", 80);
    assert_eq!(eighty.producer.kind, Some(RouteKind::Grpc), "GRPC > HTTP");
    assert_eq!(routes(&eighty.producer), ["default/grpc", "default/grpc2"], "same kind: merge");
    assert_eq!(eighty.for_client("client").kind, Some(RouteKind::Http), "another group");
    let alt = port(&resolved, "default/demo", 8080);
    assert_eq!(alt.producer.kind, Some(RouteKind::Http), "another port");

    let loser = verdict(&resolved, "HTTPRoute default/eighty");
    assert_eq!(conditions(loser), [(ConditionType::Accepted, false, Reason::Conflicted), RESOLVED]);
    assert_eq!(loser.conditions[0].reason.as_str(), "RouteReasonConflicted");
    assert_eq!(
        message(loser, ConditionType::Accepted),
        "a GRPCRoute in this route's namespace holds port 80; this route is not used"
    );
    let partly = verdict(&resolved, "HTTPRoute default/all");
    assert_eq!(conditions(partly), [ACCEPTED, RESOLVED]);
    assert_eq!(
        message(partly, ConditionType::Accepted),
        "attached to port 8080 of Service default/demo; a GRPCRoute in this route's namespace \
         holds port 80"
    );
    for accepted in ["GRPCRoute default/grpc", "GRPCRoute default/grpc2", "HTTPRoute client/http"] {
        assert_eq!(conditions(verdict(&resolved, accepted)), [ACCEPTED, RESOLVED], "{accepted}");
    }
}

#[test]
fn kinds_conflict_within_a_consumer_group_too() {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/http", DEMO, "[{}]"),
        http_route("client/http", DEMO, "[{}]"),
        route("GRPCRoute", "client/grpc", DEMO, "[{}]"),
    ]));
    let resolved = resolved(&objects);
    let port = port(&resolved, "default/demo", 80);
    assert_eq!(port.for_client("client").kind, Some(RouteKind::Grpc));
    assert_eq!(routes(port.for_client("client")), ["client/grpc"]);
    assert_eq!(routes(&port.producer), ["default/http"]);
    let loser = verdict(&resolved, "HTTPRoute client/http");
    assert_eq!(conditions(loser)[0], (ConditionType::Accepted, false, Reason::Conflicted));
    assert_eq!(conditions(verdict(&resolved, "HTTPRoute default/http")), [ACCEPTED, RESOLVED]);
}

#[test]
fn a_grpc_route_that_is_refused_still_holds_its_port() {
    let objects = broken_objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/http", DEMO, "[{}]"),
        route("GRPCRoute", "default/grpc", DEMO, "[{matches: [{method: {service: 7}}]}]"),
    ]));
    let resolved = resolved(&objects);
    let attached = &port(&resolved, "default/demo", 80).producer;
    assert_eq!(attached.kind, Some(RouteKind::Grpc));
    assert!(!attached.rules[0].refusals.is_empty());
}

#[test]
fn hostnames_are_ignored() {
    for (kind, request) in [("HTTPRoute", "GET /"), ("GRPCRoute", "POST /s/m")] {
        let text = route(kind, "default/r", DEMO, "[{}]")
            .replace("parentRefs", "hostnames: [only.example], parentRefs");
        let objects = objects(&documents(&[service("default/demo", TWO_PORTS), text]));
        let resolved = resolved(&objects);
        let attached = &port(&resolved, "default/demo", 80).producer;
        assert_eq!(select(attached, &format!("{request}\nhost: other.example")), "default/r[0]");
        let verdict = verdict(&resolved, &format!("{kind} default/r"));
        assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED], "{kind}");
        let message = message(verdict, ConditionType::Accepted);
        let told = "; spec.hostnames says nothing here: match the header Host instead";
        assert!(message.ends_with(told), "{message}");
    }
}

#[test]
fn services_that_are_no_parents() {
    let table = [
        (
            "clusterIP: None, ports: [{port: 80}]",
            "Service default/demo is headless; routes cannot attach to it",
        ),
        (
            "type: ExternalName, externalName: a.example, ports: [{port: 80}]",
            "Service default/demo is of type ExternalName; routes cannot attach to it",
        ),
        ("clusterIP: 10.0.0.1", "Service default/demo has no port; it has no ports"),
        (
            "clusterIP: 10.0.0.1, ports: [{port: 80, protocol: UDP}]",
            "Service default/demo has no TCP port; it has 80",
        ),
    ];
    for (spec, expected) in table {
        let objects = objects(&documents(&[
            service("default/demo", spec),
            http_route("default/r", DEMO, "[{}]"),
        ]));
        let resolved = resolved(&objects);
        let verdict = verdict(&resolved, "HTTPRoute default/r");
        assert_eq!(
            conditions(verdict),
            [(ConditionType::Accepted, false, Reason::NoMatchingParent), RESOLVED],
            "{spec}"
        );
        assert_eq!(message(verdict, ConditionType::Accepted), expected);
        let ports = &resolved.parents[&name("default/demo")].ports;
        assert!(ports.iter().all(|it| it.producer.kind.is_none()), "{spec}");
    }
    // A pure routing construct, as selectorless Services are.
    let objects = objects(&documents(&[
        service("default/demo", "clusterIP: 10.0.0.1, ports: [{port: 80}]"),
        http_route("default/r", DEMO, "[{}]"),
    ]));
    assert_eq!(
        conditions(verdict(&resolved(&objects), "HTTPRoute default/r")),
        [ACCEPTED, RESOLVED]
    );
}

#[test]
fn parents_that_do_not_exist() {
    let objects = objects(&documents(&[
        service("default/demo", TWO_PORTS),
        http_route("default/a", "[{group: '', kind: Service, name: ghost}]", "[{}]"),
        http_route("default/b", "[{group: '', kind: Service, name: demo, port: 81}]", "[{}]"),
        http_route(
            "default/c",
            "[{group: '', kind: Service, name: demo, port: 80, sectionName: web}]",
            "[{}]",
        ),
        http_route("default/d", "[{group: '', kind: Service, name: demo, port: 53}]", "[{}]"),
    ]));
    let resolved = resolved(&objects);
    let table = [
        ("a", "Service default/ghost does not exist; create it or correct the parentRef"),
        ("b", "Service default/demo has no port 81; it has 80 (http), 8080 (alt), 53 (dns)"),
        (
            "c",
            "Service default/demo has no port 80 named web; it has 80 (http), 8080 (alt), 53 (dns)",
        ),
        ("d", "Service default/demo has no TCP port 53; it has 80 (http), 8080 (alt), 53 (dns)"),
    ];
    for (route, expected) in table {
        let verdict = verdict(&resolved, &format!("HTTPRoute default/{route}"));
        assert_eq!(
            conditions(verdict),
            [(ConditionType::Accepted, false, Reason::NoMatchingParent), RESOLVED]
        );
        assert_eq!(message(verdict, ConditionType::Accepted), expected);
    }
}
