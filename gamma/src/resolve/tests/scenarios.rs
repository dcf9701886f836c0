//! Six jobs that users of other systems do today, as far as resolution and status go.

use super::*;
use crate::object::{Kind, ObjectKey};

fn services(namespace: &str, names: &[&str], port: u16) -> Vec<String> {
    let spec = format!("clusterIP: 10.0.0.1, ports: [{{name: http, port: {port}}}]");
    names.iter().map(|it| service(&format!("{namespace}/{it}"), &spec)).collect()
}

fn bookinfo(routes: &[&str]) -> Objects {
    let names =
        ["details", "ratings", "productpage", "reviews", "reviews-v1", "reviews-v2", "reviews-v3"];
    let mut all = services("default", &names, 9080);
    all.extend(routes.iter().map(|it| (*it).to_owned()));
    objects(&documents(&all))
}

const JASON: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews-jason-native, creationTimestamp: '2024-01-01T00:00:00Z'}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - matches: [{headers: [{name: end-user, value: jason}]}]
    backendRefs: [{name: reviews-v2, port: 9080}]
  - backendRefs: [{name: reviews-v3, port: 9080}]
";

const JASON2: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews-jason-native2, creationTimestamp: '2024-01-02T00:00:00Z'}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - matches: [{headers: [{name: end-user, value: jason2}]}]
    backendRefs: [{name: reviews-v1, port: 9080}]
";

/// The backend of the rule that a request is answered by.
fn backend(attached: &Attached, request: &str) -> String {
    let matcher = crate::matching::Matcher::new(attached.kind.unwrap(), &attached.rules);
    let request = crate::testing::Request::parse(request);
    match matcher.select(&request.view()) {
        None => "none".to_owned(),
        Some(selected) => attached.rules[selected.rule].backends[0].service.name.clone(),
    }
}

#[test]
fn header_canary_on_bookinfo() {
    let resolved = resolved(&bookinfo(&[JASON]));
    let reviews = port(&resolved, "default/reviews", 9080);
    for client in ["default", "elsewhere"] {
        let attached = reviews.for_client(client);
        assert_eq!(backend(attached, "GET /reviews/0\nend-user: jason"), "reviews-v2");
        assert_eq!(backend(attached, "GET /reviews/0\nend-user: jason2"), "reviews-v3");
        assert_eq!(backend(attached, "GET /reviews/0"), "reviews-v3");
    }
    let verdict = verdict(&resolved, "HTTPRoute default/reviews-jason-native");
    assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED]);
    assert!(port(&resolved, "default/details", 9080).producer.kind.is_none());
}

#[test]
fn a_second_route_on_the_same_service_merges() {
    let mut objects = bookinfo(&[JASON, JASON2]);
    let check = |objects: &Objects, expected: [&str; 3]| {
        let resolved = resolved(objects);
        let attached = &port(&resolved, "default/reviews", 9080).producer;
        let requests = ["GET /\nend-user: jason", "GET /\nend-user: jason2", "GET /"];
        assert_eq!(requests.map(|it| backend(attached, it)), expected);
        for verdicts in resolved.verdicts.values() {
            assert_eq!(conditions(&verdicts[0]), [ACCEPTED, RESOLVED]);
        }
    };
    check(&objects, ["reviews-v2", "reviews-v1", "reviews-v3"]);
    let key = |name: &str| ObjectKey {
        kind: Kind::HttpRoute,
        namespace: "default".to_owned(),
        name: name.to_owned(),
    };
    let mut without = objects.clone();
    assert!(without.remove(&key("reviews-jason-native2")));
    check(&without, ["reviews-v2", "reviews-v3", "reviews-v3"]);
    assert!(objects.remove(&key("reviews-jason-native")));
    check(&objects, ["none", "reviews-v1", "none"]);
}

#[test]
fn even_and_weighted_splits() {
    let parent = "[{group: '', kind: Service, name: echo-all, port: 1027}]";
    let table = [
        ("{name: echo, port: 1027}, {name: echo2, port: 1027}", [1, 1]),
        (
            "{name: echo, port: 1027, weight: 200}, {name: echo2, port: 1027, weight: 100}",
            [200, 100],
        ),
        ("{name: echo, port: 1027, weight: 0}, {name: echo2, port: 1027}", [0, 1]),
    ];
    for (backends, expected) in table {
        let mut all = services("default", &["echo-all", "echo", "echo2"], 1027);
        all.push(http_route("default/r", parent, &format!("[{{backendRefs: [{backends}]}}]")));
        let resolved = resolved(&objects(&documents(&all)));
        let rule = &port(&resolved, "default/echo-all", 1027).producer.rules[0];
        let weights: Vec<u32> = rule.backends.iter().map(|it| it.weight).collect();
        assert_eq!(weights, expected);
        assert!(rule.backends.iter().all(|it| it.target.is_ok()));
    }
}

#[test]
fn cross_namespace_backends_need_a_grant() {
    let mut all = services("infra", &["fruits"], 80);
    all.extend(services("bananas", &["bananas-echo"], 1027));
    all.extend(services("apples", &["apples-echo"], 1027));
    all.push(http_route(
        "infra/echo-route",
        "[{group: '', kind: Service, name: fruits}]",
        "[{matches: [{path: {type: PathPrefix, value: /fruits}}], backendRefs: [{name: bananas-echo, namespace: bananas, port: 1027, weight: 30}, {name: apples-echo, namespace: apples, port: 1027, weight: 70}]}]",
    ));
    let mut objects = objects(&documents(&all));
    let check = |objects: &Objects, expected: [bool; 2]| {
        let resolved = resolved(objects);
        let rule = &port(&resolved, "infra/fruits", 80).producer.rules[0];
        let found: Vec<bool> = rule.backends.iter().map(|it| it.target.is_ok()).collect();
        assert_eq!(found, expected);
        assert_eq!(rule.backends.iter().map(|it| it.weight).collect::<Vec<_>>(), [30, 70]);
        let refs = match expected {
            [true, true] => RESOLVED,
            _ => (ConditionType::ResolvedRefs, false, Reason::RefNotPermitted),
        };
        assert_eq!(conditions(verdict(&resolved, "HTTPRoute infra/echo-route")), [ACCEPTED, refs]);
    };
    let grant = |namespace: &str, to: &str| {
        crate::testing::yaml(&format!(
            "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: g, namespace: {namespace}}}, spec: {{from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}}], to: [{{group: '', kind: Service, name: '{to}'}}]}}}}"
        ))
    };
    check(&objects, [false, false]);
    crate::testing::add(&mut objects, grant("bananas", "bananas-echo"));
    check(&objects, [true, false]);
    crate::testing::add(&mut objects, grant("apples", ""));
    check(&objects, [true, true]);
    let bananas = ObjectKey {
        kind: Kind::ReferenceGrant,
        namespace: "bananas".to_owned(),
        name: "g".to_owned(),
    };
    assert!(objects.remove(&bananas));
    check(&objects, [false, true]);
}

#[test]
fn prefix_added_header_and_split() {
    let mut all = services("default", &["go-httpbin", "v1", "v2"], 80);
    all.push(http_route(
        "default/demo",
        "[{group: '', kind: Service, name: go-httpbin}]",
        "[{matches: [{path: {value: /get}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: my-header, value: foo}]}}], backendRefs: [{name: v1, port: 80, weight: 8}, {name: v2, port: 80, weight: 2}]}]",
    ));
    let resolved = resolved(&objects(&documents(&all)));
    let attached = &port(&resolved, "default/go-httpbin", 80).producer;
    assert_eq!(select(attached, "GET /get/x"), "default/demo[0]");
    assert_eq!(select(attached, "GET /other"), "none");
    let rule = &attached.rules[0];
    assert_eq!(rule.filters.len(), 1);
    assert_eq!(rule.backends.iter().map(|it| it.weight).collect::<Vec<_>>(), [8, 2]);
}

#[test]
fn producer_and_consumer_routes() {
    let long = "n".repeat(63);
    let port_5000 = "clusterIP: 10.0.0.1, ports: [{port: 5000, appProtocol: http}]";
    let missing_group = "[{name: demo-app, namespace: kuma-demo, port: 5000, kind: Service}]";
    let defaulted = "[{group: gateway.networking.k8s.io, name: demo-app, namespace: kuma-demo, port: 5000, kind: Service}]";
    for parent in [missing_group, defaulted] {
        let to = |name: &str| {
            format!("[{{backendRefs: [{{name: {name}, namespace: kuma-demo, port: 5000}}]}}]")
        };
        let objects = objects(&documents(&[
            service("kuma-demo/demo-app", port_5000),
            service("kuma-demo/demo-app-v1", port_5000),
            service("kuma-demo/demo-app-v2", port_5000),
            http_route("kuma-demo/canary-demo-app", parent, &to("demo-app-v1")),
            http_route(&format!("{long}/{long}"), parent, &to("demo-app-v2")),
            http_route("third/ghost", parent, &to("ghost")),
        ]));
        let resolved = resolved(&objects);
        let demo = port(&resolved, "kuma-demo/demo-app", 5000);
        assert_eq!(demo.port.app_protocol.as_deref(), Some("http"));
        assert_eq!(backend(demo.for_client("kuma-demo"), "GET /"), "demo-app-v1");
        assert_eq!(backend(demo.for_client("elsewhere"), "GET /"), "demo-app-v1");
        assert_eq!(backend(demo.for_client(&long), "GET /"), "demo-app-v2");
        let canary = verdict(&resolved, "HTTPRoute kuma-demo/canary-demo-app");
        assert_eq!(conditions(canary), [ACCEPTED, RESOLVED]);
        let long = verdict(&resolved, &format!("HTTPRoute {long}/{long}"));
        assert_eq!(conditions(long), [ACCEPTED, RESOLVED]);
        let ghost = verdict(&resolved, "HTTPRoute third/ghost");
        let not_found = (ConditionType::ResolvedRefs, false, Reason::BackendNotFound);
        assert_eq!(conditions(ghost), [ACCEPTED, not_found]);
        assert!(demo.for_client("third").rules[0].backends[0].target.is_err());
    }
}
