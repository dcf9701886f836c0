//! Which pods are reported, and how often.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::fake::{EVENTS, FakeApi, NAMESPACES, PODS};

fn start(api: &FakeApi) -> (JoinSet<()>, Arc<Metrics>) {
    let metrics = Metrics::new();
    let reporter = PodReporter {
        client: api.client(),
        tenure: Tenure::endless(),
        permissions: Arc::new(Permissions::default()),
        metrics: metrics.clone(),
        ignored_namespaces: ["kube-system".to_owned()].into(),
        interval: Duration::from_secs(30),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(reporter.run());
    (tasks, metrics)
}

fn namespace(api: &FakeApi, name: &str, label: &str) {
    let labels = json!({ INJECT: label });
    api.put(NAMESPACES, json!({ "metadata": { "name": name, "labels": labels } }));
}

fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name, "uid": format!("uid-of-{name}") },
        "spec": { "containers": [{ "name": "app" }] },
        "status": { "phase": "Running" },
    })
}

fn reported(api: &FakeApi) -> Vec<String> {
    let name = |event: &Value| event["involvedObject"]["name"].as_str().map(str::to_owned);
    api.all(EVENTS).iter().filter_map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn only_pods_that_should_have_a_sidecar_and_have_none_are_reported() {
    let api = FakeApi::new();
    namespace(&api, "shop", "enabled");
    namespace(&api, "kube-system", "enabled");
    namespace(&api, "other", "disabled");
    api.put(PODS, pod("shop", "naked"));
    api.put(PODS, pod("kube-system", "dns"));
    api.put(PODS, pod("other", "unmeshed"));
    let changed = |name: &str, pointer: &str, value: Value| {
        let mut pod = pod("shop", name);
        let (parent, field) = pointer.rsplit_once('/').expect("a path");
        pod.pointer_mut(parent).expect("a parent")[field] = value;
        api.put(PODS, pod);
    };
    changed("meshed", "/spec/initContainers", json!([{ "name": "weft-proxy" }]));
    changed("older-kubernetes", "/spec/containers", json!([{ "name": "weft-proxy" }]));
    changed("opted-out", "/metadata/labels", json!({ INJECT: "disabled" }));
    changed("host", "/spec/hostNetwork", json!(true));
    changed("windows", "/spec/os", json!({ "name": "windows" }));
    changed("done", "/status/phase", json!("Succeeded"));
    changed("going", "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    changed("static", "/metadata/annotations", json!({ "kubernetes.io/config.mirror": "x" }));
    let (_tasks, metrics) = start(&api);
    api.settle().await;
    assert_eq!(reported(&api), ["naked"]);
    let event = &api.all(EVENTS)[0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert!(metrics.encode().contains(r#"uninjected_pods{namespace="shop"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_one_event_however_often_and_by_whomever_it_is_seen() {
    let api = FakeApi::new();
    namespace(&api, "shop", "enabled");
    api.put(PODS, pod("shop", "naked"));
    let (tasks, _) = start(&api);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(api.writes().len(), 1);
    drop(tasks);
    let (_tasks, _) = start(&api);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let codes: Vec<u16> = api.writes().iter().map(|write| write.code).collect();
    assert_eq!(codes, [201, 409]);
    assert_eq!(reported(&api).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_metric_follows_the_pods_and_needs_no_events() {
    let api = FakeApi::new();
    namespace(&api, "shop", "enabled");
    api.put(PODS, pod("shop", "naked"));
    api.refuse("/events");
    let (_tasks, metrics) = start(&api);
    api.settle().await;
    assert!(metrics.encode().contains(r#"uninjected_pods{namespace="shop"} 1"#));
    api.delete(PODS, "shop/naked");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(metrics.encode().contains(r#"uninjected_pods{namespace="shop"} 0"#));
    api.delete(NAMESPACES, "shop");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(!metrics.encode().contains("shop"));
}
