//! What it costs to find the rule for a request, as routes and matches grow.

use divan::{Bencher, black_box};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use weft_gamma::matching::{Matcher, RequestView};
use weft_gamma::object::{self, NamespacedName, Objects};
use weft_gamma::resolve::{self, Attached, Settings};

fn main() {
    divan::main();
}

/// One route for each of `routes`, each with a path and a header of its own.
#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn of_many_routes(bencher: Bencher, routes: usize) {
    let attached = attached((0..routes).map(|number| route(number, &[rule(&[criteria(number)])])));
    select(bencher, &attached, &format!("/path-{}/item", routes / 2), routes / 2);
}

/// A single route as large as the API lets it be.
#[divan::bench]
fn of_64_matches_by_16_rules(bencher: Bencher) {
    let rules: Vec<Value> = (0..16)
        .map(|index| rule(&(0..64).map(|it| criteria(index * 64 + it)).collect::<Vec<_>>()))
        .collect();
    select(bencher, &attached(std::iter::once(route(0, &rules))), "/path-600/item", 600);
}

/// Many values of one header, as a canary by user has them.
#[divan::bench(args = [10, 1_000])]
fn of_many_values_of_a_header(bencher: Bencher, routes: usize) {
    let by_user = |number: usize| {
        let user = json!([{"name": "end-user", "value": format!("user-{number}")}]);
        route(number, &[rule(&[json!({"headers": user})])])
    };
    select(bencher, &attached((0..routes).map(by_user)), "/", routes / 2);
}

fn select(bencher: Bencher, attached: &Attached, path: &str, user: usize) {
    let kind = attached.kind.expect("routes are attached");
    let matcher = Matcher::new(kind, &attached.rules);
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "reviews"), ("accept", "*/*"), ("user-agent", "bench")] {
        headers.insert(name, value.parse().expect("a header"));
    }
    headers.insert("end-user", format!("user-{user}").parse().expect("a header"));
    let view = RequestView { method: &Method::GET, path, query: None, headers: &headers };
    assert!(matcher.select(&view).is_some());
    bencher.bench(|| black_box(&matcher).select(black_box(&view)));
}

fn criteria(number: usize) -> Value {
    json!({
        "path": {"type": "PathPrefix", "value": format!("/path-{number}")},
        "headers": [{"name": "end-user", "value": format!("user-{number}")}],
    })
}

fn rule(matches: &[Value]) -> Value {
    json!({"matches": matches, "backendRefs": [{"name": "reviews", "port": 9080}]})
}

fn route(number: usize, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": format!("route-{number}"), "namespace": "default"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "reviews", "port": 9080}],
            "rules": rules,
        },
    })
}

/// What is attached to the port of a Service.
fn attached(routes: impl Iterator<Item = Value>) -> Attached {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 9080}]},
    });
    let mut objects = Objects::default();
    for document in std::iter::once(service).chain(routes) {
        for object in object::decode(document).objects {
            objects.insert(object);
        }
    }
    let name = NamespacedName { namespace: "default".to_owned(), name: "reviews".to_owned() };
    let service = &objects.services[&name];
    let parent = resolve::resolve_parent(&objects, service, &Settings::default());
    let port = parent.ports.into_iter().next().expect("the port");
    port.producer
}
