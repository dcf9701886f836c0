//! Scenarios: an API server, a reconciler with its watches, and what stands in the status afterwards.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::CONTROLLER_NAME;
use crate::fake::{
    FakeApi, GRANTS, GRPC_ROUTES, HTTP_ROUTES, POLICIES, SERVICES, TCP_ROUTES, TCP_ROUTES_ALPHA,
    TLS_ROUTES,
};
use crate::kinds::ROUTING;
use crate::lease::Tenure;
use crate::permission::Permissions;
use crate::watch::Watches;

/// A reconciler that works until it is dropped.
struct Running {
    api: FakeApi,
    metrics: Arc<Metrics>,
    _tasks: JoinSet<()>,
}

fn start(api: &FakeApi) -> Running {
    start_with(api, Tenure::endless())
}

fn start_with(api: &FakeApi, tenure: Tenure) -> Running {
    let mut tasks = JoinSet::new();
    let (metrics, permissions) = (Metrics::new(), Arc::new(Permissions::default()));
    let (sender, updates) = mpsc::channel(16);
    for kind in ROUTING {
        let watches = Watches {
            client: api.client(),
            metrics: metrics.clone(),
            permissions: permissions.clone(),
        };
        let sender = sender.clone();
        tasks.spawn(async move { watches.run(kind, sender).await });
    }
    let writer = Writer { client: api.client(), tenure, permissions };
    tasks.spawn(Reconciler::new(Settings::default(), writer, metrics.clone()).run(updates));
    Running { api: api.clone(), metrics, _tasks: tasks }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "shop", "name": name },
        "spec": { "clusterIP": "10.96.0.10", "ports": [{ "port": 80, "protocol": "TCP" }] },
    })
}

fn route(name: &str, parent: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "namespace": "shop", "name": name },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": parent }],
            "rules": [{ "backendRefs": [{ "name": backend, "port": 80 }] }],
        },
    })
}

fn grpc_route(name: &str, parent: &str, backend: &str) -> Value {
    route_of("GRPCRoute", name, parent, backend)
}

fn route_of(kind: &str, name: &str, parent: &str, backend: &str) -> Value {
    let mut object = route(name, parent, backend);
    object["kind"] = json!(kind);
    object
}

fn next_generation(api: &FakeApi, key: &str, spec: Value) {
    let mut object = api.get(HTTP_ROUTES, key).expect("the route");
    object["metadata"]["generation"] =
        json!(object["metadata"]["generation"].as_i64().map(|it| it + 1));
    object["spec"] = spec;
    api.put(HTTP_ROUTES, object);
}

/// A cluster with the Service `reviews` and the route `canary` on it.
fn shop() -> FakeApi {
    let api = FakeApi::new();
    api.put(SERVICES, service("reviews"));
    api.put(HTTP_ROUTES, route("canary", "reviews", "reviews"));
    api
}

fn parents(api: &FakeApi, collection: &str, key: &str) -> Vec<Value> {
    let object = api.get(collection, key).unwrap_or_default();
    object["status"]["parents"].as_array().cloned().unwrap_or_default()
}

/// `status/reason` of a condition of the route's only own entry.
fn condition(api: &FakeApi, collection: &str, key: &str, kind: &str) -> Option<String> {
    let parents = parents(api, collection, key);
    let own = parents.iter().find(|entry| entry["controllerName"] == CONTROLLER_NAME)?;
    let condition = own["conditions"].as_array()?.iter().find(|it| it["type"] == kind)?;
    Some(format!("{}/{}", condition["status"].as_str()?, condition["reason"].as_str()?))
}

async fn until_condition(api: &FakeApi, key: &str, kind: &str, expected: &str) {
    let what = format!("{kind} of {key} is {expected}");
    api.until(&what, |api| (condition(api, HTTP_ROUTES, key, kind)? == expected).then_some(()))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_route_gets_its_status_within_half_a_second() {
    let running = start(&shop());
    let begin = Instant::now();
    until_condition(&running.api, "shop/canary", "Accepted", "True/Accepted").await;
    assert!(begin.elapsed() <= Duration::from_millis(500));
    let parents = parents(&running.api, HTTP_ROUTES, "shop/canary");
    assert_eq!(parents.len(), 1);
    assert_eq!(
        parents[0]["parentRef"],
        json!({ "group": "", "kind": "Service", "name": "reviews" })
    );
    for condition in parents[0]["conditions"].as_array().expect("conditions") {
        assert_eq!(condition["observedGeneration"], 1);
    }

    // And a change of it.
    let begin = Instant::now();
    next_generation(&running.api, "shop/canary", route("", "reviews", "nowhere")["spec"].clone());
    until_condition(&running.api, "shop/canary", "ResolvedRefs", "False/BackendNotFound").await;
    assert!(begin.elapsed() <= Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn without_a_difference_nothing_is_written() {
    let running = start(&shop());
    until_condition(&running.api, "shop/canary", "Accepted", "True/Accepted").await;
    running.api.settle().await;
    assert_eq!(running.api.writes().len(), 1);
    // Seen again by another process, relisted, and touched by somebody else.
    let another = start(&running.api);
    running.api.end_watches();
    let object = running.api.get(HTTP_ROUTES, "shop/canary").expect("the route");
    running.api.put(HTTP_ROUTES, object);
    running.api.settle().await;
    assert_eq!(another.api.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn entries_of_other_controllers_are_preserved() {
    let api = shop();
    let mut object = route("canary", "reviews", "reviews");
    let foreign = json!({
        "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" },
        "controllerName": "example.com/gateway",
        "conditions": [],
    });
    object["status"] = json!({ "parents": [foreign] });
    api.put(HTTP_ROUTES, object);
    let running = start(&api);
    until_condition(&running.api, "shop/canary", "Accepted", "True/Accepted").await;
    assert_eq!(parents(&api, HTTP_ROUTES, "shop/canary")[0], foreign);
}

#[tokio::test(start_paused = true)]
async fn own_entries_go_when_their_parent_does() {
    let running = start(&shop());
    until_condition(&running.api, "shop/canary", "Accepted", "True/Accepted").await;
    let mut spec = route("", "reviews", "reviews")["spec"].clone();
    spec["parentRefs"] = json!([{ "name": "edge" }]);
    next_generation(&running.api, "shop/canary", spec);
    let gone = |api: &FakeApi| parents(api, HTTP_ROUTES, "shop/canary").is_empty().then_some(());
    running.api.until("no entry is left", gone).await;
}

#[tokio::test(start_paused = true)]
async fn routes_of_gateways_only_are_left_alone() {
    let api = shop();
    let mut object = route("edge", "reviews", "reviews");
    object["spec"]["parentRefs"] = json!([{ "name": "edge" }]);
    api.put(HTTP_ROUTES, object);
    let running = start(&api);
    until_condition(&running.api, "shop/canary", "Accepted", "True/Accepted").await;
    api.settle().await;
    assert_eq!(api.writes_to("edge").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_answered_by_reading_again() {
    let api = shop();
    let running = start(&api);
    // Another controller writes its entry between our read and our write.
    let mut object = api.get(HTTP_ROUTES, "shop/canary").expect("the route");
    let foreign = json!({ "parentRef": { "name": "edge" }, "controllerName": "example.com/g", "conditions": [] });
    object["status"] = json!({ "parents": [foreign] });
    api.interfere(object);
    until_condition(&running.api, "shop/canary", "Accepted", "True/Accepted").await;
    assert_eq!(parents(&api, HTTP_ROUTES, "shop/canary")[0], foreign);
    let codes: Vec<u16> = api.writes().iter().map(|write| write.code).collect();
    assert_eq!(codes, [409, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_about_an_older_spec_is_not_written() {
    let api = shop();
    let running = start(&api);
    // The spec changes between our read and our write: the old verdict must not appear.
    let mut object = api.get(HTTP_ROUTES, "shop/canary").expect("the route");
    object["metadata"]["generation"] = json!(2);
    object["spec"] = route("", "reviews", "nowhere")["spec"].clone();
    api.interfere(object);
    until_condition(&running.api, "shop/canary", "ResolvedRefs", "False/BackendNotFound").await;
    api.settle().await;
    let written: Vec<_> = api.writes().into_iter().filter(|write| write.code == 200).collect();
    assert_eq!(written.len(), 1);
    assert!(running.metrics.encode().contains(r#"result="superseded"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_newer_observed_generation_is_not_overwritten() {
    let api = shop();
    let mut object = route("canary", "reviews", "reviews");
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "False", "reason": "Newer", "message": "",
            "observedGeneration": 7, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    object["status"] = json!({ "parents": [{
        "parentRef": object["spec"]["parentRefs"][0],
        "controllerName": CONTROLLER_NAME,
        "conditions": [condition("Accepted"), condition("ResolvedRefs")],
    }] });
    api.put(HTTP_ROUTES, object);
    let _running = start(&api);
    api.settle().await;
    assert_eq!(api.writes().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_holds_nothing_up_and_works_when_it_comes() {
    let api = FakeApi::new();
    api.uninstall(GRPC_ROUTES);
    api.uninstall(GRANTS);
    api.put(SERVICES, service("reviews"));
    api.put(HTTP_ROUTES, route("canary", "reviews", "reviews"));
    let _running = start(&api);
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;

    api.install(GRPC_ROUTES);
    api.put(GRPC_ROUTES, grpc_route("rpc", "reviews", "reviews"));
    let accepted = |api: &FakeApi| condition(api, GRPC_ROUTES, "shop/rpc", "Accepted");
    assert_eq!(api.until("the GRPCRoute has a status", accepted).await, "True/Accepted");
    // It holds the port from now on.
    let conflicted = "False/RouteReasonConflicted";
    until_condition(&api, "shop/canary", "Accepted", conflicted).await;

    api.uninstall(GRPC_ROUTES);
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;
}

#[tokio::test(start_paused = true)]
async fn tls_routes_and_tcp_routes_get_their_status() {
    let api = shop();
    api.install(TLS_ROUTES);
    api.install(TCP_ROUTES);
    api.put(SERVICES, service("secrets"));
    let mut tls = route_of("TLSRoute", "by-name", "secrets", "nowhere");
    tls["spec"]["hostnames"] = json!(["a.example"]);
    api.put(TLS_ROUTES, tls);
    api.put(TCP_ROUTES, route_of("TCPRoute", "database", "secrets", "secrets"));
    let _running = start(&api);
    let until = async |collection: &str, key: &str, kind: &str, expected: &str| {
        let is = |api: &FakeApi| (condition(api, collection, key, kind)? == expected).then_some(());
        api.until(&format!("{kind} of {key} is {expected}"), is).await;
    };
    until(TLS_ROUTES, "shop/by-name", "Accepted", "True/Accepted").await;
    until(TLS_ROUTES, "shop/by-name", "ResolvedRefs", "False/BackendNotFound").await;
    until(TCP_ROUTES, "shop/database", "Accepted", "False/RouteReasonConflicted").await;
    until(TCP_ROUTES, "shop/database", "ResolvedRefs", "True/ResolvedRefs").await;

    // An HTTPRoute outranks the TLSRoute, as this one the TCPRoute.
    api.put(HTTP_ROUTES, route("pages", "secrets", "secrets"));
    until(TLS_ROUTES, "shop/by-name", "Accepted", "False/RouteReasonConflicted").await;
    api.delete(HTTP_ROUTES, "shop/pages");
    api.delete(TLS_ROUTES, "shop/by-name");
    until(TCP_ROUTES, "shop/database", "Accepted", "True/Accepted").await;
}

/// TCPRoute is in the standard channel since v1.6 of the API; before, it had an alpha version only.
#[tokio::test(start_paused = true)]
async fn a_kind_that_is_served_in_an_alpha_version_only_is_read_and_written_in_it() {
    let api = shop();
    api.install(TCP_ROUTES_ALPHA);
    let mut object = route_of("TCPRoute", "database", "reviews", "reviews");
    object["apiVersion"] = json!("gateway.networking.k8s.io/v1alpha2");
    api.delete(HTTP_ROUTES, "shop/canary");
    api.put(TCP_ROUTES_ALPHA, object);
    let _running = start(&api);
    let accepted = |api: &FakeApi| condition(api, TCP_ROUTES_ALPHA, "shop/database", "Accepted");
    assert_eq!(api.until("the TCPRoute has a status", accepted).await, "True/Accepted");
}

#[tokio::test(start_paused = true)]
async fn a_broken_object_does_not_hide_a_good_one() {
    let api = shop();
    let mut broken = route("broken", "reviews", "reviews");
    broken["spec"]["rules"] = json!([{ "filters": [{ "type": "FromTheFuture" }] }, "not a rule"]);
    api.put(HTTP_ROUTES, broken);
    let mut hopeless = route("hopeless", "reviews", "reviews");
    hopeless["spec"] = json!("not a spec");
    api.put(HTTP_ROUTES, hopeless);
    let running = start(&api);
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;
    until_condition(&api, "shop/broken", "Accepted", "False/UnsupportedValue").await;
    running.api.settle().await;
    assert_eq!(api.writes_to("hopeless").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_every_kind_is_listed() {
    let api = shop();
    api.refuse("/services");
    let running = start(&api);
    running.api.settle().await;
    // Without the Services, every backend would look as if it did not exist.
    assert_eq!(api.writes().len(), 0);
    assert!(running.metrics.encode().contains(r#"watch_errors_total{kind="Service"} 1"#));
    api.permit("/services");
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_service_or_a_grant_reaches_the_routes_that_it_concerns() {
    let api = FakeApi::new();
    api.put(SERVICES, service("reviews"));
    let mut away = route("away", "reviews", "fruits");
    away["spec"]["rules"][0]["backendRefs"][0]["namespace"] = json!("bananas");
    api.put(HTTP_ROUTES, away);
    api.put(HTTP_ROUTES, route("lost", "missing", "reviews"));
    let _running = start(&api);
    until_condition(&api, "shop/away", "ResolvedRefs", "False/RefNotPermitted").await;
    until_condition(&api, "shop/lost", "Accepted", "False/NoMatchingParent").await;

    api.put(GRANTS, json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "ReferenceGrant",
        "metadata": { "namespace": "bananas", "name": "from-shop" },
        "spec": {
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop" }],
            "to": [{ "group": "", "kind": "Service" }],
        },
    }));
    until_condition(&api, "shop/away", "ResolvedRefs", "False/BackendNotFound").await;
    let mut fruits = service("fruits");
    fruits["metadata"]["namespace"] = json!("bananas");
    api.put(SERVICES, fruits);
    until_condition(&api, "shop/away", "ResolvedRefs", "True/ResolvedRefs").await;
    api.delete(GRANTS, "bananas/from-shop");
    until_condition(&api, "shop/away", "ResolvedRefs", "False/RefNotPermitted").await;

    api.put(SERVICES, service("missing"));
    until_condition(&api, "shop/lost", "Accepted", "True/Accepted").await;
    api.delete(SERVICES, "shop/missing");
    until_condition(&api, "shop/lost", "Accepted", "False/NoMatchingParent").await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again() {
    let api = shop();
    api.fail_next_put(500);
    api.fail_next_put(429);
    let running = start(&api);
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;
    assert!(running.metrics.encode().contains(r#"result="failed"} 2"#));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_goes_while_it_is_written_is_no_error() {
    let api = shop();
    api.fail_next_put(500);
    let running = start(&api);
    api.until("a write failed", |api| (!api.writes().is_empty()).then_some(())).await;
    api.delete(HTTP_ROUTES, "shop/canary");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(running.api.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_resolved_in_one_pass() {
    let api = shop();
    let running = start(&api);
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;
    api.settle().await;
    let passes = |running: &Running| {
        let text = running.metrics.encode();
        let line = text.lines().find(|line| line.contains("reconcile_duration_seconds_count"));
        let count = line.and_then(|line| line.rsplit(' ').next()).expect("a count").to_owned();
        count.parse::<u32>().expect("a number")
    };
    let before = passes(&running);
    for number in 0..100 {
        api.put(HTTP_ROUTES, route(&format!("route-{number}"), "reviews", "reviews"));
    }
    let last = |api: &FakeApi| condition(api, HTTP_ROUTES, "shop/route-99", "Accepted");
    api.until("the last one has a status", last).await;
    api.settle().await;
    assert!(passes(&running) - before <= 4, "{} passes", passes(&running) - before);
    assert_eq!(api.writes().len(), 101);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_any_more_does_not_write() {
    let api = shop();
    let _running = start_with(&api, Tenure::over());
    api.settle().await;
    assert_eq!(api.writes().len(), 0);
}

fn policy(name: &str, created: &str, targets: &[&str]) -> Value {
    let target = |name: &&str| json!({ "group": "", "kind": "Service", "name": name });
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XBackendTrafficPolicy",
        "metadata": { "namespace": "shop", "name": name, "creationTimestamp": created },
        "spec": { "targetRefs": targets.iter().map(target).collect::<Vec<_>>() },
    })
}

/// The reasons of a policy's entries, in their order.
fn reasons(api: &FakeApi, key: &str) -> Vec<String> {
    let object = api.get(POLICIES, key).unwrap_or_default();
    let entries = object["status"]["ancestors"].as_array().cloned().unwrap_or_default();
    let reason = |entry: &Value| entry["conditions"][0]["reason"].as_str().map(str::to_owned);
    entries.iter().filter_map(reason).collect()
}

#[tokio::test(start_paused = true)]
async fn policies_get_a_status_wherever_their_kind_is_installed() {
    let api = shop();
    let _running = start(&api);
    until_condition(&api, "shop/canary", "Accepted", "True/Accepted").await;
    api.install(POLICIES);
    api.put(POLICIES, policy("young", "2026-02-02T00:00:00Z", &["reviews", "ratings"]));
    let young = |expected: &'static [&str]| {
        move |api: &FakeApi| (reasons(api, "shop/young") == expected).then_some(())
    };
    api.until("one target exists", young(&["Accepted", "TargetNotFound"])).await;
    api.put(SERVICES, service("ratings"));
    api.until("both exist", young(&["Accepted", "Accepted"])).await;
    // An older one takes over what both target, and gives it back when it goes.
    api.put(POLICIES, policy("old", "2026-01-01T00:00:00Z", &["reviews"]));
    api.until("the older one holds", young(&["Conflicted", "Accepted"])).await;
    assert_eq!(reasons(&api, "shop/old"), ["Accepted"]);
    api.delete(POLICIES, "shop/old");
    api.until("it is free again", young(&["Accepted", "Accepted"])).await;
    // And then there is peace.
    api.settle().await;
    let writes = api.writes().len();
    api.settle().await;
    assert_eq!(api.writes().len(), writes);
}
