//! What a route refers to.

use crate::testing::{decoded, only_route};

/// Parents, backends and namespaces of grants of a route in namespace `default`.
fn references(kind: &str, parents: &str, rules: &str) -> [Vec<String>; 3] {
    let decoded = decoded(&format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: r}}, spec: \
         {{parentRefs: {parents}, rules: {rules}}}}}"
    ));
    let route = only_route(&decoded);
    [
        route.parent_services().map(|it| it.to_string()).collect(),
        route.backend_services().iter().map(ToString::to_string).collect(),
        route.grant_namespaces().into_iter().collect(),
    ]
}

const DEMO: &str = "[{kind: Service, name: demo}]";

#[test]
fn parents_are_services_only() {
    let parents = "[{name: gateway}, {kind: Service, name: a}, {kind: Service, namespace: x, name: b}, \
                   {kind: ServiceImport, name: c}]";
    let [parents, backends, grants] = references("HTTPRoute", parents, "[{}]");
    assert_eq!(parents, ["default/a", "x/b"]);
    assert!(backends.is_empty() && grants.is_empty());
}

#[test]
fn backends_are_those_of_rules_and_of_mirrors() {
    let mirror = |name: &str| {
        format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}}}}}"
        )
    };
    let rules = format!(
        "[{{filters: [{}], backendRefs: [{{name: a, port: 80, filters: [{}]}}, {{name: a, port: 81}}]}}, \
         {{backendRefs: [{{name: b, namespace: x, port: 80}}, {{group: example.com, kind: Thing, name: c}}, \
         {{name: d}}]}}]",
        mirror("of-rule"),
        mirror("of-backend"),
    );
    let [_, backends, grants] = references("HTTPRoute", DEMO, &rules);
    // Of d the port is missing, and its status says more where the Service is known.
    assert_eq!(
        backends,
        ["default/a", "default/d", "default/of-backend", "default/of-rule", "x/b"]
    );
    assert_eq!(grants, ["x"]);
    for kind in ["TLSRoute", "TCPRoute"] {
        let [_, backends, _] = references(kind, DEMO, "[{backendRefs: [{name: a, port: 80}]}]");
        assert_eq!(backends, ["default/a"], "{kind}");
    }
}

#[test]
fn grants_are_those_that_may_decide() {
    let table: [(&str, &str, &[&str]); 5] = [
        ("its own namespace", "[{kind: Service, name: p}]", &[]),
        ("another namespace", "[{kind: Service, name: p}]", &["x"]),
        ("the parent's namespace", "[{kind: Service, namespace: x, name: p}]", &[]),
        (
            "that of one of two parents",
            "[{kind: Service, namespace: x, name: p}, {kind: Service, name: p}]",
            &["x"],
        ),
        ("no parent of Weft's", "[{name: gateway}]", &[]),
    ];
    for (what, parents, expected) in table {
        let namespace = if what == "its own namespace" { "default" } else { "x" };
        let rules = format!("[{{backendRefs: [{{name: b, namespace: {namespace}, port: 80}}]}}]");
        let [_, _, grants] = references("HTTPRoute", parents, &rules);
        assert_eq!(grants, expected, "{what}");
    }
}
