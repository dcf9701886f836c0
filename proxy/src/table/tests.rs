//! From objects to a table: shares, refusals, and what outlives a table.

mod agreement;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weft_gamma::object::{self, Object, Objects};
use weft_gamma::policy::RetryConstraint;
use weft_gamma::resolve::Settings;
use weft_gamma::route::Timeouts;

use super::{Action, Compiler, Destination, Routing, Rule, Split, Table, dump};
use crate::metrics::{Metrics, MetricsSettings};
use crate::protocol::Declared;
use crate::testing::{namespaced, yaml};

/// Objects and the compiler of a pod in the namespace `default`.
struct Cluster {
    objects: Objects,
    compiler: Compiler,
    metrics: Arc<Metrics>,
}

impl Cluster {
    /// Services `svc`, `one` and `two`, each with a port 80; `one` and `two` have an endpoint.
    fn new() -> Self {
        let metrics = Metrics::new(&MetricsSettings::default());
        let compiler = Compiler::new("default".into(), Settings::default(), metrics.clone());
        let mut cluster = Self { objects: Objects::default(), compiler, metrics };
        for (number, name) in ["svc", "one", "two"].into_iter().enumerate() {
            cluster.service(name, number, "http");
        }
        cluster.endpoint("one", "10.1.0.1");
        cluster.endpoint("two", "10.1.0.2");
        cluster
    }

    fn insert(&mut self, document: serde_json::Value) {
        for object in object::decode(document).objects {
            self.objects.insert(object);
        }
    }

    fn service(&mut self, name: &str, number: usize, port: &str) {
        self.insert(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "namespace": "default", "name": name },
            "spec": {
                "clusterIP": format!("10.0.0.{number}"),
                "clusterIPs": [format!("10.0.0.{number}"), format!("fd00::{number}")],
                "ports": [
                    { "name": port, "port": 80 },
                    { "name": "dns", "port": 53, "protocol": "UDP" },
                ],
            },
        }));
    }

    fn endpoint(&mut self, service: &str, address: &str) {
        self.insert(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "default",
                "name": service,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080 }],
            "endpoints": [{ "addresses": [address] }],
        }));
    }

    /// The route of `svc`.
    fn route(&mut self, rules: &str) {
        self.insert(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "namespace": "default", "name": "route" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "svc" }],
                "rules": yaml(rules),
            },
        }));
    }

    fn compile(&mut self) -> Table {
        self.compiler.compile(&self.objects, None).table
    }
}

fn destination(table: &Table, number: u8) -> &Arc<Destination> {
    table.destination([10, 0, 0, number].into(), 80).unwrap()
}

/// The rules of the route of `svc`.
fn rules(table: &Table) -> &[Rule] {
    match &destination(table, 0).routing {
        Routing::Routed { rules, .. } => rules,
        Routing::Unrouted => panic!("no route is attached"),
    }
}

fn split(rule: &Rule) -> &Split {
    match &rule.action {
        Action::Forward(split) => split,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_address_of_a_service_is_one_destination() {
    let mut cluster = Cluster::new();
    let table = cluster.compile();
    assert_eq!((table.generation, table.len()), (1, 6));
    let v6 = table.destination("fd00::1".parse().unwrap(), 80).unwrap();
    assert!(Arc::ptr_eq(destination(&table, 1), v6));
    // UDP is none of the proxy's business.
    assert!(table.destination([10, 0, 0, 1].into(), 53).is_none());
    assert!(table.destination([10, 0, 0, 9].into(), 80).is_none());
    assert_eq!(cluster.compile().generation, 2);
}

#[test]
fn shares_are_exact() {
    let mut cluster = Cluster::new();
    cluster.route(
        r#"
- backendRefs:
  - {name: one, port: 80, weight: 1}
  - {name: two, port: 80, weight: 2}
  - {name: missing, port: 80, weight: 7}
  - {name: never, port: 80, weight: 0}
"#,
    );
    let table = cluster.compile();
    let split = split(&rules(&table)[0]);
    // What has weight 0 gets nothing, and is not even there.
    assert_eq!(split.backends().iter().map(|it| it.weight).collect::<Vec<_>>(), [1, 2, 7]);
    let mut seen = [0_u32; 3];
    for _ in 0..100_000 {
        let chosen = split.choose().unwrap();
        let index = split.backends().iter().position(|it| std::ptr::eq(it, chosen)).unwrap();
        seen[index] += 1;
    }
    // Five standard deviations of binomials are 474, 632 and 725.
    for (seen, expected) in seen.into_iter().zip([10_000, 20_000, 70_000]) {
        assert!(seen.abs_diff(expected) < 800, "{seen} for {expected}");
    }
    assert!(split.backends()[2].target.as_ref().is_err_and(|why| why.contains("default/missing")));

    let text = cluster.metrics.encode();
    for (backend, share) in [("one", "0.1"), ("two", "0.2"), ("missing", "0.7"), ("never", "0")] {
        let found = text.lines().any(|line| {
            line.starts_with("weft_route_backend_weight_ratio{")
                && line.contains(&format!("backend_name=\"{backend}\""))
                && line.rsplit(' ').next().unwrap().parse::<f64>() == share.parse()
        });
        assert!(found, "no {share} for {backend} in {text}");
    }
}

#[test]
fn large_weights_do_not_overflow() {
    let mut cluster = Cluster::new();
    let backends = "{name: one, port: 80, weight: 1000000},".repeat(16);
    cluster.route(&format!("[{{backendRefs: [{backends}]}}]"));
    let table = cluster.compile();
    let split = split(&rules(&table)[0]);
    let mut seen = [0_u32; 16];
    for _ in 0..16_000 {
        let chosen = split.choose().unwrap();
        seen[split.backends().iter().position(|it| std::ptr::eq(it, chosen)).unwrap()] += 1;
    }
    assert!(seen.iter().all(|seen| seen.abs_diff(1_000) < 200), "{seen:?}");
}

#[test]
fn a_rule_becomes_what_it_must_answer() {
    for (rule, expected) in [
        ("backendRefs: [{name: one, port: 80}]", "forward to 1"),
        ("backendRefs: [{name: one, port: 80, weight: 0}]", "forward to 0"),
        ("backendRefs: []", "forward to 0"),
        ("filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]", "answer"),
        ("filters: [{type: New}]", "refuse spec.rules[0].filters[0].type"),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: one, port: 80}}}],\
             backendRefs: [{name: one, port: 80}]}",
            "forward to 1",
        ),
        (
            "{sessionPersistence: {type: Spoon}, backendRefs: [{name: one, port: 80}]}",
            "refuse spec.rules[0].sessionPersistence",
        ),
        (
            "{matches: [{path: {type: RegularExpression, value: \"(\"}}], \
             backendRefs: [{name: one, port: 80}]}",
            "refuse spec.rules[0].matches[0].path",
        ),
    ] {
        let mut cluster = Cluster::new();
        cluster.route(&format!("- {rule}"));
        let table = cluster.compile();
        let action = match &rules(&table)[0].action {
            Action::Forward(split) => format!("forward to {}", split.backends().len()),
            Action::Answer => "answer".to_owned(),
            Action::Refuse(why) => format!("refuse {why}"),
        };
        assert!(action.starts_with(expected), "{rule}: {action}");
    }
}

#[test]
fn a_policy_says_how_many_retries_a_backend_gets_and_another_may_not() {
    let mut cluster = Cluster::new();
    cluster.route("[{backendRefs: [{name: one, port: 80}, {name: two, port: 80}]}]");
    let backends = |table: &Table| -> Vec<_> {
        let backends = split(&rules(table)[0]).backends().iter();
        backends.map(|it| it.target.as_ref().unwrap().backend.clone()).collect()
    };
    let before = backends(&cluster.compile());
    assert!(before.iter().all(|it| it.endpoints().terms.retries == RetryConstraint::default()));
    for (name, percent) in [("a-first", 5), ("b-second", 90)] {
        cluster.insert(json!({
            "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
            "kind": "XBackendTrafficPolicy",
            "metadata": { "name": name },
            "spec": {
                "targetRefs": [{ "group": "", "kind": "Service", "name": "one" }],
                "retryConstraint": { "budget": { "percent": percent } },
            },
        }));
    }
    let compiled = cluster.compiler.compile(&cluster.objects, None);
    let after = backends(&compiled.table);
    // The same backend: what it has counted stays.
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert_eq!(before[0].endpoints().terms.retries.percent, 5);
    assert_eq!(before[1].endpoints().terms.retries, RetryConstraint::default());
    let told: Vec<String> = compiled.verdicts.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("XBackendTrafficPolicy default/b-second"), "{told:?}");
    assert!(told[0].contains("default/a-first"), "{told:?}");
}

#[test]
fn a_timeout_of_zero_is_none() {
    let mut cluster = Cluster::new();
    cluster.route("[{timeouts: {request: 0s, backendRequest: 0h0ms}}, {timeouts: {request: 1ms}}]");
    let table = cluster.compile();
    assert_eq!(rules(&table)[0].timeouts, Timeouts::default());
    assert_eq!(rules(&table)[1].timeouts.request, Some(Duration::from_millis(1)));
}

#[test]
fn backends_outlive_tables_and_follow_their_endpoints() {
    let mut cluster = Cluster::new();
    cluster.route("[{backendRefs: [{name: one, port: 80}]}]");
    let first = cluster.compile();
    let target = |table: &Table| {
        split(&rules(table)[0]).backends()[0].target.as_ref().unwrap().backend.clone()
    };
    let backend = target(&first);
    // One backend, whether it is come by through the route or dialled itself.
    assert!(Arc::ptr_eq(&backend, destination(&first, 1).own()));
    cluster.endpoint("one", "10.1.0.3");
    let second = cluster.compile();
    assert!(Arc::ptr_eq(&backend, &target(&second)));
    assert_eq!(backend.endpoints().endpoints[0].addr.to_string(), "10.1.0.3:8080");
    // Series are the same, so that counting goes on.
    assert!(Arc::ptr_eq(&rules(&first)[0].series, &rules(&second)[0].series));
    assert!(!backend.is_retired());

    cluster.objects.services.remove(&namespaced("default/one"));
    let third = cluster.compile();
    assert!(backend.is_retired());
    assert!(split(&rules(&third)[0]).backends()[0].target.is_err());
    // Its endpoints stay, for requests that began with an earlier table.
    assert_eq!(backend.endpoints().endpoints.len(), 1);
    let free = backend.id;
    cluster.service("three", 3, "http");
    let fourth = cluster.compile();
    assert_eq!(destination(&fourth, 3).own().id, free);
}

#[test]
fn what_was_learned_of_a_port_outlives_tables() {
    let mut cluster = Cluster::new();
    let first = cluster.compile();
    destination(&first, 1).learn_server_first();
    let second = cluster.compile();
    assert!(destination(&second, 1).is_server_first());
    assert!(!destination(&second, 2).is_server_first());
    // But not the Service: one of the same name may be another thing.
    let service = cluster.objects.services.remove(&namespaced("default/one")).unwrap();
    cluster.compile();
    cluster.objects.insert(Object::Service((*service).clone()));
    assert!(!destination(&cluster.compile(), 1).is_server_first());
}

#[test]
fn the_protocol_towards_endpoints_is_the_backends_own() {
    let mut cluster = Cluster::new();
    cluster.service("one", 1, "grpc");
    cluster.route("[{backendRefs: [{name: one, port: 80}, {name: two, port: 80}]}]");
    let table = cluster.compile();
    let http2: Vec<bool> = split(&rules(&table)[0])
        .backends()
        .iter()
        .map(|backend| backend.target.as_ref().unwrap().http2)
        .collect();
    assert_eq!(http2, [true, false]);
    assert_eq!(destination(&table, 0).declared, Declared::Http);
    assert_eq!(destination(&table, 1).declared, Declared::Http2);
}

#[test]
fn the_dump_says_what_requests_are_held_against() {
    let mut cluster = Cluster::new();
    cluster.route(
        "[{backendRefs: [{name: one, port: 80, weight: 3}, {name: missing, port: 80}],\
          timeouts: {request: 90s, backendRequest: 500ms}, retry: {codes: [503, 500]}}]",
    );
    let dump = dump(&cluster.compile(), &["a problem".to_owned()]);
    assert_eq!(dump["problems"], json!(["a problem"]));
    let destinations = dump["destinations"].as_array().unwrap();
    assert_eq!(destinations.len(), 6);
    let svc = destinations.iter().find(|it| it["address"] == "10.0.0.0").unwrap();
    assert_eq!((&svc["parent"], &svc["port"]), (&json!("default/svc"), &json!(80)));
    let rule = &svc["rules"][0];
    assert_eq!(rule["route"], "HTTPRoute default/route");
    assert_eq!(rule["backends"][0]["endpoints"], json!(["10.1.0.1:8080"]));
    assert_eq!(rule["timeouts"], json!({ "request": "90s", "backendRequest": "500ms" }));
    let retry = json!({ "codes": [500, 503], "attempts": 1, "backoff": "25ms" });
    assert_eq!(rule["retry"], retry);
    assert_eq!(rule["backends"][0]["weight"], 3);
    assert_eq!(rule["backends"][1]["answer"], 500);
    assert_eq!(svc["routes"], "HTTPRoute");
}

#[test]
fn the_dump_says_what_connections_are_held_against() {
    for (kind, hostnames) in [("TLSRoute", json!(["a.example"])), ("TCPRoute", json!(null))] {
        let mut cluster = Cluster::new();
        cluster.insert(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": { "namespace": "default", "name": "r" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "svc" }],
                "hostnames": hostnames,
                "rules": [
                    { "name": "split", "backendRefs": [
                        { "name": "one", "port": 80 }, { "name": "missing", "port": 80 },
                    ] },
                    { "from the": "future" },
                ],
            },
        }));
        let dump = dump(&cluster.compile(), &[]);
        let destinations = dump["destinations"].as_array().unwrap();
        let svc = destinations.iter().find(|it| it["address"] == "10.0.0.0").unwrap();
        assert_eq!(svc["routes"], kind);
        let rule = &svc["rules"][0];
        assert_eq!(
            (&rule["route"], &rule["name"]),
            (&format!("{kind} default/r").into(), &"split".into())
        );
        assert_eq!(rule["backends"][0]["endpoints"], json!(["10.1.0.1:8080"]));
        assert_eq!(rule["backends"][1]["connection"], "reset");
        assert_eq!(svc["rules"][1]["action"]["connection"], "reset");
    }
}
