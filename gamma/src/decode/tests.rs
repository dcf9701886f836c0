//! What can be read, and that what cannot costs no more than itself.

mod filters;
mod refusals;
mod sessions;
mod streams;

use std::net::IpAddr;

use crate::object::{Decoded, Kind, Object, ObjectKey, Service, Transport, decode};
use crate::route::{Match, PathMatch, RouteKind, Rule, ValueMatch};
use crate::testing::{decoded, only_route, yaml};

/// An HTTPRoute with the given `spec.rules`, each line of which is indented here.
fn http_route(rules: &str) -> Decoded {
    route("HTTPRoute", rules)
}

fn route(kind: &str, rules: &str) -> Decoded {
    let rules = rules.replace('\n', "\n    ");
    decoded(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: r}}
spec:
  parentRefs: [{{group: '', kind: Service, name: demo}}]
  rules:
    {rules}"
    ))
}

fn rule(decoded: &Decoded) -> &Rule {
    &only_route(decoded).rules[0]
}

fn problems(decoded: &Decoded) -> Vec<String> {
    decoded.problems.iter().map(ToString::to_string).collect()
}

fn keys(decoded: &Decoded) -> Vec<String> {
    decoded.objects.iter().map(|object| object.key().to_string()).collect()
}

#[test]
fn accepted_api_versions() {
    let table = [
        ("v1", "Service", "Service default/x"),
        ("discovery.k8s.io/v1", "EndpointSlice", "EndpointSlice default/x"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "HTTPRoute default/x"),
        ("gateway.networking.k8s.io/v1beta1", "HTTPRoute", "HTTPRoute default/x"),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", "GRPCRoute default/x"),
        ("gateway.networking.k8s.io/v1alpha2", "GRPCRoute", "GRPCRoute default/x"),
        ("gateway.networking.k8s.io/v1", "TLSRoute", "TLSRoute default/x"),
        ("gateway.networking.k8s.io/v1alpha3", "TLSRoute", "TLSRoute default/x"),
        ("gateway.networking.k8s.io/v1alpha2", "TLSRoute", "TLSRoute default/x"),
        ("gateway.networking.k8s.io/v1", "TCPRoute", "TCPRoute default/x"),
        ("gateway.networking.k8s.io/v1alpha2", "TCPRoute", "TCPRoute default/x"),
        ("gateway.networking.k8s.io/v1", "ReferenceGrant", "ReferenceGrant default/x"),
        ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "ReferenceGrant default/x"),
        ("gateway.networking.k8s.io/v1alpha2", "ReferenceGrant", "ReferenceGrant default/x"),
    ];
    for (api_version, kind, expected) in table {
        let text = format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: x}}, spec: {{from: [], to: []}}}}"
        );
        let text = if kind == "ReferenceGrant" {
            text
        } else {
            text.replace("from: [], to: []", "rules: [{}]")
        };
        let decoded = decoded(&text);
        assert_eq!(keys(&decoded), [expected], "{api_version}");
        assert_eq!(problems(&decoded), [""; 0], "{api_version}");
    }
}

#[test]
fn other_kinds_yield_nothing_and_no_problem() {
    let table = [
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: 7}",
        "{apiVersion: v1, kind: Namespace, metadata: {name: x}}",
        "{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {name: x}}",
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: x}}",
        "{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: x}}",
        "{apiVersion: gateway.networking.x-k8s.io/v1alpha1, kind: XBackend, metadata: {name: x}}",
        "{apiVersion: gateway.networking.x-k8s.io/v1alpha1, kind: XTelemetryPolicy, metadata: {name: x}}",
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: x}}",
        "{apiVersion: networking.example.com/v1, kind: HTTPRoute, metadata: {name: x}}",
        "null",
    ];
    for text in table {
        let decoded = decode(yaml(text));
        assert_eq!((keys(&decoded), problems(&decoded)), (vec![], vec![]), "{text}");
    }
}

#[test]
fn what_is_no_object_is_a_problem() {
    let table = [
        ("just text", "not a Kubernetes object but a string"),
        ("[1]", "not a Kubernetes object but a list"),
        ("{kind: Service}", "not a Kubernetes object: apiVersion and kind must be set"),
        (
            "{apiVersion: gateway.networking.k8s.io/v1alpha1, kind: HTTPRoute, metadata: {name: x}}",
            "HTTPRoute default/x: apiVersion: HTTPRoute is not known in gateway.networking.k8s.io/v1alpha1; use \
             gateway.networking.k8s.io/v1",
        ),
        (
            "{apiVersion: v2, kind: Service, metadata: {name: x}}",
            "Service default/x: apiVersion: Service is not known in v2; use v1",
        ),
        ("{apiVersion: v1, kind: Service}", "metadata: Service: must be set"),
        (
            "{apiVersion: v1, kind: Service, metadata: {}, spec: {}}",
            "metadata.name: Service: must be set",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: 7}, spec: {}}",
            "metadata.name: Service: must be a string that is not empty",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: x, namespace: [a]}, spec: {}}",
            "metadata.namespace: Service: must be a string",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: x}}",
            "Service default/x: spec: must be set",
        ),
        (
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: x}, spec: []}",
            "HTTPRoute default/x: spec: must be an object, not a list",
        ),
        ("{apiVersion: v1, kind: List, items: 7}", "items: must be a list, not a number"),
    ];
    for (text, expected) in table {
        let decoded = decode(yaml(text));
        assert_eq!(problems(&decoded), [expected], "{text}");
        assert_eq!(keys(&decoded), [""; 0], "{text}");
    }
}

#[test]
fn lists_yield_all_their_items_and_a_broken_one_costs_itself() {
    let decoded = decoded(
        "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: one}, spec: {}}
- {apiVersion: v1, kind: Service, metadata: {}, spec: {}}
- {apiVersion: v1, kind: Service, metadata: {name: wrong}, spec: {ports: 80}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}
- {apiVersion: v1, kind: Service, metadata: {name: two, namespace: other}, spec: {}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRouteList
items:
- {metadata: {name: untyped}, spec: {}}
",
    );
    assert_eq!(
        keys(&decoded),
        ["Service default/one", "Service other/two", "HTTPRoute default/untyped"]
    );
    assert_eq!(
        problems(&decoded),
        [
            "metadata.name: Service: must be set",
            "Service default/wrong: spec.ports: invalid type: integer `80`, expected a sequence",
        ]
    );
}

#[test]
fn two_objects_of_one_name_replace_each_other() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: one}, spec: {}}";
    let mut objects = crate::object::Objects::default();
    let key =
        ObjectKey { kind: Kind::Service, namespace: "default".to_owned(), name: "one".to_owned() };
    let inserted: Vec<bool> = decoded(&format!("{service}\n---\n{service}"))
        .objects
        .into_iter()
        .map(|object| objects.insert(object))
        .collect();
    assert_eq!(inserted, [false, true]);
    assert!(objects.remove(&key));
    assert!(!objects.remove(&key));
}

#[test]
fn insert_and_remove_know_every_kind() {
    let all = decoded(
        "
{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: x}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: x}, spec: {}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: x}, spec: {}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: x}, spec: {from: [], to: []}}
",
    );
    let mut objects = crate::object::Objects::default();
    let keys: Vec<ObjectKey> = all.objects.iter().map(Object::key).collect();
    for object in all.objects {
        assert!(!objects.insert(object));
    }
    assert_eq!(keys.len(), 5);
    for key in &keys {
        assert!(objects.remove(key), "{key}");
        assert!(!objects.remove(key), "{key}");
    }
}

fn service(spec: &str) -> (Option<Service>, Vec<String>) {
    let text =
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: x}}, spec: {{{spec}}}}}");
    let decoded = decode(yaml(&text));
    let problems = problems(&decoded);
    match decoded.objects.into_iter().next() {
        Some(Object::Service(service)) => (Some(service), problems),
        None => (None, problems),
        other => panic!("{other:?}"),
    }
}

#[test]
fn services() {
    let (found, problems) = service(
        "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], unheardOf: 7, ports: \
         [{name: http, port: 80, targetPort: web, appProtocol: http}, {name: dns, port: 53, protocol: UDP}]",
    );
    let found = found.unwrap();
    assert_eq!(problems, [""; 0]);
    let addresses: Vec<IpAddr> = vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(found.cluster_ips, addresses);
    assert_eq!((found.headless, found.external_name), (false, false));
    assert_eq!(found.ports[0].name, "http");
    assert_eq!(found.ports[0].app_protocol.as_deref(), Some("http"));
    assert_eq!((found.ports[0].port, found.ports[0].transport), (80, Transport::Tcp));
    assert_eq!((found.ports[1].port, found.ports[1].transport), (53, Transport::Udp));

    let (found, _) = service("clusterIP: 10.96.0.1, ports: [{port: 80}]");
    assert_eq!(found.as_ref().unwrap().cluster_ips, [addresses[0]]);
    assert_eq!(found.unwrap().ports[0].name, "");

    let (found, _) = service("clusterIP: None");
    let found = found.unwrap();
    assert!(found.headless && found.cluster_ips.is_empty());

    let (found, _) = service("type: ExternalName, externalName: example.com");
    assert!(found.unwrap().external_name);

    let (found, problems) = service("clusterIP: '', ports: [{port: 0}, {port: 81}]");
    let found = found.unwrap();
    assert!(!found.headless && found.cluster_ips.is_empty());
    assert_eq!(found.ports.len(), 1, "a broken port costs itself");
    assert_eq!(
        problems,
        ["Service default/x: spec.ports[0].port: 0 is not a port; use 1 to 65535"]
    );
    let (_, problems) = service("clusterIP: ten");
    assert_eq!(problems, ["Service default/x: spec.clusterIPs[0]: \"ten\" is not an IP address"]);
}

#[test]
fn endpoint_slices() {
    let decoded = decoded(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x, labels: {kubernetes.io/service-name: demo}}
addressType: IPv4
ports: [{name: http, port: 8080, appProtocol: http}, {name: all}, {port: 70000}]
endpoints:
- addresses: [10.0.0.1]
  conditions: {ready: true, serving: true, terminating: false}
  targetRef: {kind: Pod, namespace: default, name: p, uid: u}
  zone: z
- {addresses: [10.0.0.2], conditions: {ready: false}, targetRef: {kind: Pod, namespace: a, name: p}}
- {addresses: [10.0.0.3], conditions: {}}
- {addresses: [example.com]}
- {addresses: []}
- {addresses: 7}
",
    );
    let [Object::EndpointSlice(slice)] = decoded.objects.as_slice() else { panic!() };
    assert_eq!(slice.service.as_deref(), Some("demo"));
    assert_eq!(slice.ports.len(), 1);
    assert_eq!((slice.ports[0].name.as_str(), slice.ports[0].port), ("http", 8080));
    let endpoints: Vec<_> = slice
        .endpoints
        .iter()
        .map(|it| {
            let flags = (it.ready, it.serving, it.terminating);
            (it.address.to_string(), flags, it.target.as_deref(), it.zone.as_deref())
        })
        .collect();
    assert_eq!(
        endpoints,
        [
            ("10.0.0.1".to_owned(), (true, true, false), Some("u"), Some("z")),
            ("10.0.0.2".to_owned(), (false, false, false), Some("a/p"), None),
            ("10.0.0.3".to_owned(), (true, true, false), None, None),
        ]
    );
    assert_eq!(
        problems(&decoded),
        [
            "EndpointSlice default/x: ports[1].port: is not set, so no Service port leads here",
            "EndpointSlice default/x: ports[2].port: 70000 is not a port; use 1 to 65535",
            "EndpointSlice default/x: endpoints[3].addresses[0]: \"example.com\" is not an IP address",
            "EndpointSlice default/x: endpoints[4].addresses: is empty",
            "EndpointSlice default/x: endpoints[5].addresses: invalid type: integer `7`, expected a sequence",
        ]
    );
}

#[test]
fn fqdn_slices_have_no_endpoints() {
    let decoded = decoded(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x}
addressType: FQDN
endpoints: [{addresses: [example.com]}]
",
    );
    assert_eq!(
        problems(&decoded),
        ["EndpointSlice default/x: addressType: FQDN endpoints cannot be used; use IPv4 or IPv6"]
    );
}

#[test]
fn reference_grants() {
    let decoded = decoded(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: apples}
spec:
  from:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}
  - {group: gateway.networking.k8s.io, kind: HTTPRoute}
  to: [{group: '', kind: Service}, {group: '', kind: Service, name: ''}, {group: '', kind: Service, name: a, nmae: b}]
",
    );
    let [Object::ReferenceGrant(grant)] = decoded.objects.as_slice() else { panic!() };
    assert_eq!(grant.from.len(), 1, "an entry that cannot be read grants nothing");
    assert_eq!(grant.from[0].namespace, "infra");
    let names: Vec<_> = grant.to.iter().map(|to| to.name.as_deref()).collect();
    assert_eq!(names, [None, None, Some("a")]);
    assert_eq!(
        problems(&decoded),
        [
            "ReferenceGrant apples/g: spec.from[1]: missing field `namespace`",
            "ReferenceGrant apples/g: spec.to[2].nmae: unknown field; remove it or correct its \
             spelling",
        ]
    );
}

#[test]
fn route_metadata() {
    let long = "n".repeat(63);
    let decoded = decoded(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: {long}, namespace: {long}, generation: 7, creationTimestamp: '2024-02-29T12:00:00Z'}}
spec:
  hostnames: [a.example]
  parentRefs:
  - {{group: '', kind: Service, namespace: {long}, name: {long}, port: 80, sectionName: grpc}}
  - {{name: gateway}}
"
    ));
    assert_eq!(problems(&decoded), [""; 0]);
    let route = only_route(&decoded);
    assert_eq!(route.key.to_string(), format!("GRPCRoute {long}/{long}"));
    assert_eq!((route.generation, route.created), (7, 1_709_208_000));
    assert_eq!(route.hostnames, ["a.example"]);
    assert_eq!(route.parents[0].to_string(), format!("Service {long}/{long} port 80 section grpc"));
    assert_eq!(route.parents[1].to_string(), "Gateway gateway");
    assert_eq!(route.parents[1].group, None);
}

#[test]
fn an_unreadable_age_is_a_problem_and_the_newest() {
    for (created, expected) in [("null", vec![]), ("tomorrow", vec!["metadata.creationTimestamp"])]
    {
        let decoded = decoded(&format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, creationTimestamp: {created}}}
spec: {{}}
"
        ));
        assert_eq!(only_route(&decoded).created, i64::MAX, "{created}");
        let fields: Vec<_> = decoded.problems.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, expected, "{created}");
    }
}

#[test]
fn what_cannot_be_read_outside_of_rules_is_a_problem_of_the_route() {
    let decoded = decoded(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  hostname: [a.example]
  hostnames: [7]
  parentRefs:
  - {kind: Service}
  - {kind: Service, name: a, port: 0}
  - {kind: Service, name: b, prot: 80}
  - {kind: Service, name: c, port: eighty}
  useDefaultGateways: All
",
    );
    let expected = [
        "HTTPRoute default/r: spec.hostname: unknown field; remove it or correct its spelling",
        "HTTPRoute default/r: spec.parentRefs[0]: missing field `name`",
        "HTTPRoute default/r: spec.parentRefs[1].port: 0 is not a port; use 1 to 65535",
        "HTTPRoute default/r: spec.parentRefs[2].prot: unknown field; remove it or correct its spelling",
        "HTTPRoute default/r: spec.parentRefs[3].port: invalid type: string \"eighty\", expected i32",
        "HTTPRoute default/r: spec.hostnames[0]: must be a string, not a number",
    ];
    assert_eq!(problems(&decoded), expected);
    let route = only_route(&decoded);
    assert_eq!(route.problems, decoded.problems);
    let names: Vec<_> = route.parents.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["b"], "without its port a reference would mean all ports");
}

#[test]
fn a_route_without_rules_has_the_rule_of_the_api() {
    for rules in ["null", "[]"] {
        let decoded = http_route(rules);
        assert_eq!(problems(&decoded), [""; 0], "{rules}");
        let [rule] = only_route(&decoded).rules.as_slice() else { panic!("{rules}") };
        assert!(rule.backends.is_empty() && rule.refusals.is_empty());
        let [Match::Http(criteria)] = rule.matches.as_slice() else { panic!("{rules}") };
        assert!(matches!(&criteria.path, PathMatch::Prefix(prefix) if prefix.is_empty()));
    }
}

#[test]
fn limits_of_the_api_are_told_and_the_route_works() {
    let rules = "- {matches: [{path: {value: /a}}, {path: {value: /b}}]}\n".repeat(65);
    let decoded = http_route(&rules);
    let told = problems(&decoded);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("spec.rules: has 65 rules; the API allows 16"), "{told:?}");
    assert!(told[1].contains("has 130 matches in all rules; the API allows 128"), "{told:?}");
    let route = only_route(&decoded);
    assert_eq!(route.rules.len(), 65);
    assert!(route.rules.iter().all(|rule| rule.refusals.is_empty()));

    let many = "{path: {value: /a}}, ".repeat(65);
    let decoded = http_route(&format!("- {{name: a, matches: [{many}]}}\n- {{name: a}}"));
    let told = problems(&decoded);
    assert!(told[0].contains("spec.rules[0].matches: has 65 matches; the API allows 64"));
    assert!(told[1].contains("spec.rules[1].name: \"a\" is the name of an earlier rule too"));
}

#[test]
fn a_good_rule_is_read_in_full() {
    let decoded = http_route(
        "
- name: canary
  matches:
  - path: {type: Exact, value: /a}
    method: PATCH
    headers: [{name: X-User, value: jason}]
    queryParams: [{name: q, type: RegularExpression, value: 'a|b'}]
  backendRefs:
  - {name: a, port: 80, weight: 3}
  - {name: b, namespace: other, port: 81}
  - {group: example.com, kind: Thing, name: c}
  timeouts: {request: 1m30s, backendRequest: 500ms}
  retry: {codes: [500, 503], attempts: 2, backoff: 10ms}
",
    );
    assert_eq!(problems(&decoded), [""; 0]);
    let rule = rule(&decoded);
    assert_eq!(rule.name.as_deref(), Some("canary"));
    let [Match::Http(criteria)] = rule.matches.as_slice() else { panic!() };
    assert!(matches!(&criteria.path, PathMatch::Exact(path) if path == "/a"));
    assert_eq!(criteria.method.as_ref().unwrap(), "PATCH");
    assert_eq!(criteria.headers[0].name, "x-user");
    assert!(matches!(&criteria.headers[0].value, ValueMatch::Exact(value) if value == "jason"));
    assert!(matches!(&criteria.query[0].value, ValueMatch::Regex(_)));
    let backends: Vec<_> = rule
        .backends
        .iter()
        .map(|it| (it.field.as_str(), it.kind.as_str(), it.name.as_str(), it.port, it.weight))
        .collect();
    assert_eq!(
        backends,
        [
            ("spec.rules[0].backendRefs[0]", "Service", "a", Some(80), 3),
            ("spec.rules[0].backendRefs[1]", "Service", "b", Some(81), 1),
            ("spec.rules[0].backendRefs[2]", "Thing", "c", None, 1),
        ]
    );
    assert_eq!(rule.backends[1].namespace.as_deref(), Some("other"));
    assert_eq!(rule.timeouts.request.unwrap().as_millis(), 90_000);
    assert_eq!(rule.timeouts.backend_request.unwrap().as_millis(), 500);
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!(retry.codes, [500, 503]);
    assert_eq!((retry.attempts, retry.backoff.unwrap().as_millis()), (2, 10));
}

#[test]
fn defaults_of_retry_and_timeouts() {
    let decoded = http_route("- {retry: {}, timeouts: {request: 0s, backendRequest: 5s}}");
    assert_eq!(problems(&decoded), [""; 0], "a request timeout of 0s is none");
    let rule = rule(&decoded);
    assert_eq!(rule.retry.as_ref().unwrap().attempts, 1);
    assert!(rule.timeouts.request.unwrap().is_zero(), "kept: it disables");
}
