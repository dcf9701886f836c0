//! Whole replicas: who works, who waits, and who takes over.

use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::fake::{FakeApi, HTTP_ROUTES, LEASES, MESHES, SERVICES};

struct Running {
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), Broken>>,
    metrics: Arc<Metrics>,
}

fn start(api: &FakeApi, name: &str) -> Running {
    let config = Config::try_parse_from(["weft-controller", "--pod-name", name]).expect("valid");
    let metrics = Metrics::new();
    let replica = Replica {
        config,
        client: api.client(),
        metrics: metrics.clone(),
        permissions: Arc::new(Permissions::default()),
        timing: Timing::default(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(async move {
        replica
            .run(async {
                let _ = stopped.await;
            })
            .await
    });
    Running { stop: Some(stop), ended, metrics }
}

impl Running {
    /// As SIGTERM does.
    async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.ended.await.expect("no panic").expect("an orderly end");
    }

    /// As SIGKILL does.
    fn kill(self) {
        self.ended.abort();
    }

    fn leads(&self) -> bool {
        self.metrics.encode().contains("\nweft_controller_leader 1\n")
    }
}

fn cluster() -> FakeApi {
    let api = FakeApi::new();
    api.install(MESHES);
    api.put(
        SERVICES,
        json!({
            "metadata": { "namespace": "shop", "name": "reviews" },
            "spec": { "clusterIP": "10.96.0.10", "ports": [{ "port": 80 }] },
        }),
    );
    api.put(HTTP_ROUTES, route("first"));
    api
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "namespace": "shop", "name": name },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "reviews" }] },
    })
}

async fn until_written(api: &FakeApi, name: &str) {
    let key = format!("shop/{name}");
    let status = |api: &FakeApi| api.get(HTTP_ROUTES, &key)?.get("status").cloned();
    api.until(&format!("{name} has a status"), status).await;
}

#[tokio::test(start_paused = true)]
async fn one_replica_works_and_the_other_waits() {
    let api = cluster();
    let one = start(&api, "one");
    until_written(&api, "first").await;
    let other = start(&api, "other");
    api.settle().await;
    assert!(one.leads() && !other.leads());
    assert!(one.metrics.is_ready() && other.metrics.is_ready());
    assert!(api.get(MESHES, "weft").is_some());
    // The one that waits has no watches.
    assert_eq!(api.lists(HTTP_ROUTES), 1);
    api.put(HTTP_ROUTES, route("second"));
    until_written(&api, "second").await;
    assert_eq!(api.writes_to("second").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_leader_is_succeeded_within_seconds() {
    let api = cluster();
    let one = start(&api, "one");
    until_written(&api, "first").await;
    let other = start(&api, "other");
    api.settle().await;
    let begin = tokio::time::Instant::now();
    one.stop().await;
    api.put(HTTP_ROUTES, route("second"));
    until_written(&api, "second").await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert!(other.leads());
    other.stop().await;
    let lease = api.get(LEASES, "weft-system/weft-controller").expect("the lease");
    assert_eq!(lease["spec"]["holderIdentity"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_succeeded_when_its_lease_has_ended() {
    let api = cluster();
    let one = start(&api, "one");
    until_written(&api, "first").await;
    let other = start(&api, "other");
    api.settle().await;
    let begin = tokio::time::Instant::now();
    one.kill();
    api.put(HTTP_ROUTES, route("second"));
    until_written(&api, "second").await;
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(other.leads());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_goes_away_for_a_minute_leaves_no_trace() {
    let api = cluster();
    let one = start(&api, "one");
    until_written(&api, "first").await;
    api.settle().await;
    let before = api.writes_to("httproutes").len();
    api.set_unreachable(true);
    api.end_watches();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!one.leads());
    api.put(HTTP_ROUTES, route("second"));
    api.set_unreachable(false);
    until_written(&api, "second").await;
    assert!(one.leads());
    assert_eq!(api.writes_to("httproutes").len(), before + 1);
}
