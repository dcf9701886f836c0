//! Where requests go, and what keeps them from it.

use super::*;
use crate::reference::CrossNamespace;
use crate::route::Filter;
use crate::testing::ALL;

const DEMO: &str = "[{group: '', kind: Service, namespace: default, name: demo}]";

fn world(routes: &[String]) -> Objects {
    let mut all = vec![
        service("default/demo", "clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]"),
        service(
            "default/backend",
            "clusterIP: 10.0.0.2, ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}, {name: udp, port: 8080, protocol: UDP}]",
        ),
        service("default/headless", "clusterIP: None, ports: [{port: 80}]"),
        service(
            "default/external",
            "type: ExternalName, externalName: a.example, ports: [{port: 80}]",
        ),
        service("other/backend", "clusterIP: 10.0.0.3, ports: [{port: 8080}]"),
    ];
    all.extend(routes.iter().cloned());
    objects(&documents(&all))
}

#[test]
fn backend_refs_resolve_or_say_why_not() {
    let table = [
        ("a Service and a port of it", "{name: backend, port: 8080}", Ok("http")),
        (
            "group and kind written out",
            "{group: '', kind: Service, name: backend, port: 8080}",
            Ok("http"),
        ),
        ("a headless Service", "{name: headless, port: 80}", Ok("")),
        (
            "a Service that is absent",
            "{name: ghost, port: 80}",
            Err((
                Reason::BackendNotFound,
                ".name: Service default/ghost does not exist; create it or correct the name",
            )),
        ),
        (
            "a port that is absent",
            "{name: backend, port: 80}",
            Err((
                Reason::BackendNotFound,
                ".port: Service default/backend has no port 80; it has 8080 (http), 53 (dns), 8080 (udp)",
            )),
        ),
        (
            "another kind",
            "{group: example.com, kind: Thing, name: backend}",
            Err((
                Reason::InvalidKind,
                ".kind: Thing of group example.com cannot be a backend; use a Service (group \"\")",
            )),
        ),
        (
            "another kind of the core group",
            "{kind: Pod, name: backend, port: 80}",
            Err((
                Reason::InvalidKind,
                ".kind: Pod of group core cannot be a backend; use a Service (group \"\")",
            )),
        ),
        (
            "an ExternalName Service",
            "{name: external, port: 80}",
            Err((
                Reason::InvalidKind,
                ".name: Service default/external is of type ExternalName, which cannot be a backend",
            )),
        ),
        (
            "a UDP port",
            "{name: backend, port: 53}",
            Err((
                Reason::UnsupportedProtocol,
                ".port: port 53 of Service default/backend is not TCP",
            )),
        ),
        (
            "another namespace without a grant",
            "{name: backend, namespace: other, port: 8080}",
            Err((
                Reason::RefNotPermitted,
                ".namespace: a ReferenceGrant in namespace other must permit HTTPRoute in namespace default to refer to Service backend",
            )),
        ),
        (
            "another namespace without a grant: also what does not exist",
            "{name: ghost, namespace: other, port: 8080}",
            Err((
                Reason::RefNotPermitted,
                ".namespace: a ReferenceGrant in namespace other must permit HTTPRoute in namespace default to refer to Service ghost",
            )),
        ),
    ];
    for (what, backend, expected) in table {
        let rules = format!("[{{backendRefs: [{{name: backend, port: 8080}}, {backend}]}}]");
        let resolved = resolved(&world(&[http_route("default/r", DEMO, &rules)]));
        let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
        assert!(rule.refusals.is_empty() && rule.backends[0].target.is_ok(), "{what}");
        let verdict = verdict(&resolved, "HTTPRoute default/r");
        let target = rule.backends[1].target.as_ref();
        match expected {
            Ok(name) => {
                assert_eq!(target.map(|it| it.name.as_str()), Ok(name), "{what}");
                assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED], "{what}");
            }
            Err((reason, expected)) => {
                let expected = format!("spec.rules[0].backendRefs[1]{expected}");
                let problem = target.unwrap_err();
                assert_eq!((problem.reason, &problem.message), (reason, &expected), "{what}");
                assert_eq!(
                    conditions(verdict),
                    [ACCEPTED, (ConditionType::ResolvedRefs, false, reason)],
                    "{what}: Accepted stays True"
                );
                assert_eq!(message(verdict, ConditionType::ResolvedRefs), expected, "{what}");
            }
        }
    }
}

/// "If a Route is not able to send traffic to the backend using the specified protocol then the backend
/// is considered invalid. Implementations MUST set `ResolvedRefs` condition to `False` with the Reason
/// `UnsupportedProtocol`." (GEP-1911)
#[test]
fn the_protocol_of_a_backends_port() {
    let table = [
        ("kubernetes.io/h2c", true),
        ("kubernetes.io/ws", true),
        ("http", true),
        ("grpc", true),
        ("example.com/own", true),
        ("kubernetes.io/wss", false),
        ("https", false),
        ("HTTPS", false),
        ("tls", false),
    ];
    for (protocol, expected) in table {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let ports =
                format!("clusterIP: 10.0.0.9, ports: [{{port: 443, appProtocol: {protocol}}}]");
            let rules = "[{backendRefs: [{name: declared, port: 443}]}]";
            let objects = world(&[
                service("default/declared", &ports),
                route(kind, "default/r", DEMO, rules),
            ]);
            let resolved = resolved(&objects);
            let verdict = verdict(&resolved, &format!("{kind} default/r"));
            let refused = (ConditionType::ResolvedRefs, false, Reason::UnsupportedProtocol);
            let condition = if expected { RESOLVED } else { refused };
            assert_eq!(conditions(verdict), [ACCEPTED, condition], "{kind} {protocol}");
            if !expected {
                let told = format!(
                    "spec.rules[0].backendRefs[0].port: port 443 of Service default/declared has \
                     appProtocol {protocol}, which needs TLS; {kind} is sent in the clear"
                );
                assert_eq!(message(verdict, ConditionType::ResolvedRefs), told);
            }
        }
    }
    // A name is a custom, and promises nothing.
    let rules = "[{backendRefs: [{name: named, port: 443}]}]";
    let named = service("default/named", "clusterIP: 10.0.0.9, ports: [{name: https, port: 443}]");
    let resolved = resolved(&world(&[named, http_route("default/r", DEMO, rules)]));
    assert_eq!(conditions(verdict(&resolved, "HTTPRoute default/r")), [ACCEPTED, RESOLVED]);
}

/// "Invalid ref keeps its weight", "Weight 0 gets nothing, even if invalid", and all-zero weights are the
/// proxy's to answer.
#[test]
fn weights_are_kept_whole() {
    let rules = "[{backendRefs: [{name: backend, port: 8080, weight: 70}, {name: ghost, port: 80, weight: 30}, {name: backend, port: 8080}, {name: ghost, port: 80, weight: 0}]}, {backendRefs: [{name: backend, port: 8080, weight: 0}]}]";
    let resolved = resolved(&world(&[http_route("default/r", DEMO, rules)]));
    let rules = &port(&resolved, "default/demo", 80).producer.rules;
    let weights: Vec<_> =
        rules[0].backends.iter().map(|it| (it.weight, it.target.is_ok())).collect();
    assert_eq!(weights, [(70, true), (30, false), (1, true), (0, false)]);
    assert_eq!(rules[0].backends[1].service, name("default/ghost"));
    assert_eq!(rules[0].backends[1].port, 80);
    assert_eq!(rules[1].backends.len(), 1);
    let verdict = verdict(&resolved, "HTTPRoute default/r");
    assert_eq!(
        message(verdict, ConditionType::ResolvedRefs),
        "spec.rules[0].backendRefs[1].name: Service default/ghost does not exist; create it or \
         correct the name; spec.rules[0].backendRefs[3].name: Service default/ghost does not exist; \
         create it or correct the name",
        "a backend of weight 0 counts too"
    );
}

#[test]
fn a_rule_without_backends_has_none_and_its_refs_resolve() {
    let resolved = resolved(&world(&[http_route("default/r", DEMO, "[{}]")]));
    let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
    assert!(rule.backends.is_empty() && rule.refusals.is_empty());
    assert_eq!(conditions(verdict(&resolved, "HTTPRoute default/r")), [ACCEPTED, RESOLVED]);
}

fn grant(from: &str, to: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {{name: g, namespace: other}}, spec: {{from: [{{{from}}}], to: [{{{to}}}]}}}}"
    )
}

#[test]
fn grants() {
    const FROM: &str = "group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default";
    let table = [
        ("by name", FROM, "group: '', kind: Service, name: backend", true),
        ("every Service there", FROM, "group: '', kind: Service", true),
        ("an empty name is every Service", FROM, "group: '', kind: Service, name: ''", true),
        ("another name", FROM, "group: '', kind: Service, name: x", false),
        ("to another kind", FROM, "group: '', kind: Secret", false),
        ("to another group", FROM, "group: example.com, kind: Service", false),
        (
            "from another kind of route",
            "group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: default",
            "group: '', kind: Service",
            false,
        ),
        (
            "from another namespace",
            "group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra",
            "group: '', kind: Service",
            false,
        ),
        (
            "from another group",
            "group: '', kind: HTTPRoute, namespace: default",
            "group: '', kind: Service",
            false,
        ),
    ];
    let rules = "[{backendRefs: [{name: backend, namespace: other, port: 8080}]}]";
    for (what, from, to, expected) in table {
        let objects = world(&[http_route("default/r", DEMO, rules), grant(from, to)]);
        let resolved = resolved(&objects);
        let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
        assert_eq!(rule.backends[0].target.is_ok(), expected, "{what}");
    }
    let elsewhere =
        grant(FROM, "group: '', kind: Service").replace("namespace: other", "namespace: othes");
    let resolved = resolved(&world(&[http_route("default/r", DEMO, rules), elsewhere]));
    let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
    assert!(rule.backends[0].target.is_err(), "a grant counts in its own namespace only");
}

#[test]
fn a_grant_for_grpc_routes() {
    let rules = "[{backendRefs: [{name: backend, namespace: other, port: 8080}]}]";
    let from = "group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: default";
    let objects = world(&[
        route("GRPCRoute", "default/r", DEMO, rules),
        grant(from, "group: '', kind: Service"),
    ]);
    let resolved = resolved(&objects);
    let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
    assert!(rule.backends[0].target.is_ok());
}

/// MeshConsumerRoute ships no grant: a consumer route sends back into the parent's namespace.
#[test]
fn a_backend_in_the_parents_namespace_needs_no_grant() {
    let rules = "[{backendRefs: [{name: backend, namespace: default, port: 8080}, {name: backend, namespace: other, port: 8080}]}]";
    let both = "[{group: '', kind: Service, namespace: default, name: demo}, {group: '', kind: Service, namespace: other, name: backend}]";
    let objects = world(&[http_route("client/r", both, rules)]);
    let resolved = resolved(&objects);
    let targets = |service: &str, number: u16| -> Vec<bool> {
        let rule = &port(&resolved, service, number).for_client("client").rules[0];
        rule.backends.iter().map(|it| it.target.is_ok()).collect()
    };
    assert_eq!(targets("default/demo", 80), [true, false]);
    assert_eq!(targets("other/backend", 8080), [false, true], "each parent by itself");
    let fields: Vec<_> = verdicts(&resolved, "HTTPRoute client/r")
        .iter()
        .map(|it| message(it, ConditionType::ResolvedRefs).split(':').next().unwrap())
        .collect();
    assert_eq!(
        fields,
        ["spec.rules[0].backendRefs[1].namespace", "spec.rules[0].backendRefs[0].namespace"]
    );
}

#[test]
fn a_cluster_may_exempt_meshes_from_grants() {
    let rules = "[{backendRefs: [{name: backend, namespace: other, port: 8080}]}]";
    let objects = world(&[http_route("default/r", DEMO, rules)]);
    for (cross_namespace, expected) in
        [(CrossNamespace::NeedsGrant, false), (CrossNamespace::Exempt, true)]
    {
        let resolved = resolve(&objects, &Settings { cross_namespace, implemented: ALL });
        let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
        assert_eq!(rule.backends[0].target.is_ok(), expected, "{cross_namespace:?}");
    }
}

/// "Invalid target: drop the mirror only, ResolvedRefs=False."
#[test]
fn a_mirror_without_a_target_is_dropped_alone() {
    let mirror = |name: &str| {
        format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 8080}}}}}}"
        )
    };
    let rules = format!(
        "[{{filters: [{}, {}], backendRefs: [{{name: backend, port: 8080, filters: [{}]}}]}}]",
        mirror("ghost"),
        mirror("backend"),
        mirror("phantom"),
    );
    let resolved = resolved(&world(&[http_route("default/r", DEMO, &rules)]));
    let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
    assert!(rule.refusals.is_empty());
    let [Filter::Mirror(mirror)] = &*rule.filters else { panic!("{:?}", rule.filters) };
    assert_eq!(mirror.backend.service("default"), name("default/backend"));
    assert!(rule.backends[0].filters.is_empty() && rule.backends[0].target.is_ok());
    let verdict = verdict(&resolved, "HTTPRoute default/r");
    let not_found = (ConditionType::ResolvedRefs, false, Reason::BackendNotFound);
    assert_eq!(conditions(verdict), [ACCEPTED, not_found]);
    let message = message(verdict, ConditionType::ResolvedRefs);
    assert!(
        message.contains("spec.rules[0].filters[0].requestMirror.backendRef.name"),
        "{message}"
    );
    let of_backend = "spec.rules[0].backendRefs[0].filters[0].requestMirror.backendRef.name";
    assert!(message.contains(of_backend), "{message}");
}

#[test]
fn a_mirror_needs_a_grant_as_any_backend_does() {
    const FROM: &str = "group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default";
    let granted = grant(FROM, "group: '', kind: Service, name: backend");
    let table = [
        ("namespace: other, name: backend, port: 8080", None, Some(Reason::RefNotPermitted)),
        ("namespace: other, name: backend, port: 8080", Some(&granted), None),
        (
            "namespace: other, name: ghost, port: 8080",
            Some(&granted),
            Some(Reason::RefNotPermitted),
        ),
        ("name: backend, port: 53", None, Some(Reason::UnsupportedProtocol)),
        ("name: backend, port: 80", None, Some(Reason::BackendNotFound)),
        ("group: example.com, kind: Thing, name: backend", None, Some(Reason::InvalidKind)),
    ];
    for (backend, granted, expected) in table {
        let rules = format!(
            "[{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{{backend}}}}}}}], backendRefs: [{{name: backend, port: 8080}}]}}]"
        );
        let mut documents = vec![http_route("default/r", DEMO, &rules)];
        documents.extend(granted.cloned());
        let resolved = resolved(&world(&documents));
        let rule = &port(&resolved, "default/demo", 80).producer.rules[0];
        assert_eq!(rule.filters.is_empty(), expected.is_some(), "{backend}");
        assert!(rule.refusals.is_empty() && rule.backends[0].target.is_ok(), "{backend}");
        let condition = match expected {
            Some(reason) => (ConditionType::ResolvedRefs, false, reason),
            None => RESOLVED,
        };
        let verdict = verdict(&resolved, "HTTPRoute default/r");
        assert_eq!(conditions(verdict), [ACCEPTED, condition], "{backend}");
    }
}
