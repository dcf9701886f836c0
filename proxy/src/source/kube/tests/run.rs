//! The source while all is well. Time is paused: it passes when nothing else is left to do.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use weft_gamma::object::{Kind, ObjectKey};
use weft_gamma::resolve::Settings;

use super::objects::{grant, name, route, service, slice};
use super::scenario::{IDLE, Scenario};
use super::server::ApiServer;
use crate::drain::Drain;
use crate::log::AccessLog;
use crate::metrics::{Metrics, MetricsSettings};
use crate::publish::Publisher;
use crate::source::Snapshot;
use crate::source::kube::{KubeSource, UsedServices};
use crate::worker::{Limits, Shared, Worker};

const A: &str = "10.96.0.1";
const B: &str = "10.96.0.2";
const C: &str = "10.96.0.3";

/// What is promised from an edit to its effect.
const PROMPT: Duration = Duration::from_millis(250);

/// Three Services with an endpoint each, `a` and `b` in the pod's namespace.
fn shops() -> Vec<Value> {
    vec![
        service("default/a", &[A]),
        slice("default/a", &["10.0.0.1"]),
        service("default/b", &[B]),
        slice("default/b", &["10.0.0.2"]),
        service("shop/c", &[C]),
        slice("shop/c", &["10.0.0.3"]),
    ]
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The names of a route's backends, as they are in force.
fn backends(snapshot: &Snapshot, of: &str) -> Vec<String> {
    let name = name(of);
    let key = ObjectKey { kind: Kind::HttpRoute, namespace: name.namespace, name: name.name };
    let Some(route) = snapshot.objects.routes.get(&key) else { return Vec::new() };
    let backends = route.rules.iter().flat_map(|rule| &rule.backends);
    backends.map(|backend| backend.name.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lookup_is_answered_when_everything_is_listed_and_published() {
    let mut objects = shops();
    objects.push(route("default/r", "default/a", &["default/b", "shop/c"]));
    objects.push(grant("shop/g", "default", "v1beta1"));
    let server = ApiServer::new(objects);
    let mut scenario = Scenario::start(&server).await;
    assert!(scenario.look_up(A).await < Duration::from_secs(1));
    assert!(scenario.knows("default/a"));
    assert!(!scenario.knows("default/b"), "a backend only");
    assert_eq!(scenario.endpoints("default/b"), [addr("10.0.0.2:8080")]);
    assert_eq!(scenario.endpoints("shop/c"), [addr("10.0.0.3:8080")]);
    assert_eq!(backends(&scenario.latest, "default/r"), ["b", "c"]);
    assert_eq!(scenario.latest.objects.grants.len(), 1);
    assert_eq!(scenario.problems(), "");
    assert_eq!(scenario.count, 2, "the empty one, and one with all of it");
    server.until("all watches", |server| server.watched().len() == 11).await;
    assert_eq!(
        server.watched(),
        [
            "endpointslices of default/a",
            "endpointslices of default/b",
            "endpointslices of shop/c",
            "grpcroutes of default",
            "httproutes of default",
            "referencegrants of shop",
            "services of default/a",
            "services of default/b",
            "services of shop/c",
            "tcproutes of default",
            "tlsroutes of default",
        ]
    );
    assert_eq!(scenario.metric("weft_source_connected"), "1");
    assert_eq!(scenario.look_up(A).await, Duration::ZERO);
    assert_eq!(server.requests("list services at").len(), 1, "it is known by now");
}

/// With a worker and its table, as in the sidecar.
#[test]
fn a_worker_s_first_connection_waits_for_the_table() {
    crate::testing::run(async {
        let server = ApiServer::new(shops());
        let metrics = Metrics::new(&MetricsSettings::default());
        let (lookups, asked) = mpsc::unbounded_channel();
        let limits =
            Limits { lookup_timeout: Duration::from_secs(30), ..crate::testing::Mesh::limits() };
        let shared =
            Shared::new(metrics.clone(), AccessLog::off(), Drain::default(), limits, Some(lookups));
        let mut publisher = Publisher::new(shared.clone(), "default".into(), Settings::default());
        let used = UsedServices(Box::new(BTreeSet::new));
        let source = KubeSource::new(server.client(), "default".into(), asked, used, IDLE);
        let source = source.run(metrics, move |snapshot| publisher.publish(snapshot));
        tokio::task::spawn_local(source);
        let worker = Worker::start(shared);
        let a: IpAddr = A.parse().unwrap();
        let table = worker.table_for(a, 80).await;
        assert_eq!(table.destination(a, 80).unwrap().service, name("default/a"));
        assert!(worker.table_for(a, 81).await.destination(a, 81).is_none());
        let unknown: IpAddr = "10.96.0.99".parse().unwrap();
        assert!(worker.table_for(unknown, 80).await.destination(unknown, 80).is_none());
    });
}

#[tokio::test(start_paused = true)]
async fn a_route_s_edit_is_published_promptly() {
    let mut objects = shops();
    objects.push(route("default/r", "default/a", &["default/a"]));
    let server = ApiServer::new(objects);
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    for backend in ["a", "b", "a"] {
        let begun = Instant::now();
        server.apply(route("default/r", "default/a", &[&format!("default/{backend}")]));
        scenario.until("the edit", |it| backends(&it.latest, "default/r") == [backend]).await;
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        assert_eq!(scenario.endpoints(&format!("default/{backend}")).len(), 1);
    }
    let begun = Instant::now();
    server.delete(&route("default/r", "default/a", &[]));
    scenario.until("the deletion", |it| it.latest.objects.routes.is_empty()).await;
    assert!(begun.elapsed() < PROMPT);
    server.until("b is let go", |server| server.watched().len() == 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_backend_that_is_slow_to_list_holds_up_its_route_and_nothing_else() {
    let mut objects = shops();
    objects.push(route("default/r", "default/a", &["default/a"]));
    let server = ApiServer::new(objects);
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    server.trouble(|trouble| _ = trouble.held.insert("list endpointslices of default/b"));
    server.apply(route("default/r", "default/a", &["default/b"]));
    let held = "list endpointslices of default/b";
    server.until("its list", |server| server.requests(held).len() == 1).await;

    let begun = Instant::now();
    server.apply(slice("default/a", &["10.0.0.9"]));
    scenario.until("endpoints", |it| it.endpoints("default/a") == [addr("10.0.0.9:8080")]).await;
    assert!(begun.elapsed() < PROMPT);
    assert_eq!(backends(&scenario.latest, "default/r"), ["a"]);

    let begun = Instant::now();
    server.trouble(|trouble| trouble.held.clear());
    scenario.until("the edit", |it| backends(&it.latest, "default/r") == ["b"]).await;
    assert_eq!(scenario.endpoints("default/b"), [addr("10.0.0.2:8080")]);
    assert!(begun.elapsed() < PROMPT);
}

#[tokio::test(start_paused = true)]
async fn endpoints_come_and_go() {
    let server = ApiServer::new(shops());
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    server.apply(slice("default/a", &["10.0.0.1", "10.0.0.7"]));
    scenario.until("one more", |it| it.endpoints("default/a").len() == 2).await;
    server.apply(slice("default/a", &["10.0.0.7"]));
    scenario.until("one less", |it| it.endpoints("default/a") == [addr("10.0.0.7:8080")]).await;
    server.delete(&slice("default/a", &[]));
    scenario.until("none", |it| it.endpoints("default/a").is_empty()).await;
    assert!(scenario.knows("default/a"));
}

#[tokio::test(start_paused = true)]
async fn a_broken_object_stands_beside_good_ones() {
    let mut objects = shops();
    objects.push(route("default/good", "default/a", &["default/a"]));
    let mut broken = route("default/broken", "default/a", &["default/a"]);
    broken["spec"] = json!(["no", "object"]);
    objects.push(broken.clone());
    let server = ApiServer::new(objects);
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    assert_eq!(backends(&scenario.latest, "default/good"), ["a"]);
    assert!(scenario.problems().contains("HTTPRoute default/broken: spec"));

    // One that is broken later leaves nothing of the earlier edit in force.
    let mut good = route("default/good", "default/a", &["default/a"]);
    good["spec"] = Value::Null;
    server.apply(good);
    scenario.until("it breaks", |it| it.problems().contains("HTTPRoute default/good")).await;
    assert!(scenario.latest.objects.routes.is_empty());
    server.apply(route("default/good", "default/a", &["default/b"]));
    server.delete(&broken);
    let mended = |it: &Scenario| backends(&it.latest, "default/good") == ["b"];
    scenario.until("both are mended", |it| it.problems().is_empty() && mended(it)).await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_not_published() {
    let server = ApiServer::new(shops());
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    assert_eq!(scenario.count, 2);
    server.until("all watches", |server| server.watched().len() == 6).await;
    for note in 0..5 {
        let mut same = service("default/a", &[A]);
        same["metadata"]["annotations"] = json!({"note": note.to_string()});
        server.apply(same);
        server.apply(route("default/other", "default/z", &[&format!("default/y{note}")]));
        server.bookmark();
        scenario.look_up("10.96.0.99").await;
    }
    server.end_watches();
    server.until("all watches again", |server| server.watched().len() == 6).await;
    server.expire();
    server.until("all lists again", |server| server.watched().len() == 6).await;
    // Whatever would have been published for these comes before this.
    server.apply(slice("default/a", &["10.0.0.9"]));
    scenario.next().await;
    assert_eq!(scenario.endpoints("default/a"), [addr("10.0.0.9:8080")]);
    assert_eq!(scenario.count, 3);
}

#[tokio::test(start_paused = true)]
async fn watches_grow_with_what_the_pod_uses_and_idle_services_are_let_go() {
    let mut objects = shops();
    // A cluster full of what the pod has no use for.
    for index in 0..200 {
        let unused = format!("crowd/s{index}");
        objects.push(service(&unused, &[&format!("10.97.0.{index}")]));
        objects.push(route(&format!("crowd/r{index}"), &unused, &[&unused]));
    }
    let server = ApiServer::new(objects);
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    server.until("watches of one", |server| server.watched().len() == 6).await;
    scenario.look_up(B).await;
    server.until("two more of a second", |server| server.watched().len() == 8).await;
    scenario.look_up(C).await;
    // Two of its own, and one for each kind of route in its namespace.
    server.until("six more of a third", |server| server.watched().len() == 14).await;
    assert_eq!(scenario.latest.objects.services.len(), 3);

    scenario.used.lock().unwrap().insert(name("default/b"));
    let begun = Instant::now();
    scenario.until("idle ones go", |it| !it.knows("default/a") && !it.knows("shop/c")).await;
    assert!(begun.elapsed() >= IDLE - Duration::from_secs(60));
    assert!(scenario.knows("default/b"));
    assert_eq!(scenario.latest.objects.services.len(), 1);
    server.until("their watches end", |server| server.watched().len() == 6).await;

    // A pod that comes back to one finds it as it is by then.
    server.apply(slice("default/a", &["10.0.0.9"]));
    scenario.look_up(A).await;
    assert_eq!(scenario.endpoints("default/a"), [addr("10.0.0.9:8080")]);
    scenario.used.lock().unwrap().clear();
    scenario.until("all go", |it| it.latest.objects.services.is_empty()).await;
    server.until("no watch is left", |server| server.watched().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_service_takes_over_is_found_anew() {
    let server = ApiServer::new(shops());
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    server.delete(&service("default/a", &[A]));
    scenario.until("a goes", |it| it.latest.objects.services.is_empty()).await;
    server.apply(service("default/heir", &[A]));
    scenario.look_up(A).await;
    assert!(scenario.knows("default/heir"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_the_server_ends_goes_on_where_it_was() {
    let server = ApiServer::new(shops());
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    server.until("all watches", |server| server.watched().len() == 6).await;
    let lists = server.requests("list").len();
    server.end_watches();
    server.apply(slice("default/a", &["10.0.0.9"]));
    scenario
        .until("what was missed", |it| it.endpoints("default/a")[0].ip() == addr("10.0.0.9:1").ip())
        .await;
    server.until("all watches again", |server| server.watched().len() == 6).await;
    // Bookmarks count: what they have passed need not be known any more.
    server.bookmark();
    server.forget();
    server.end_watches();
    server.until("all watches again", |server| server.watched().len() == 6).await;
    assert_eq!(server.requests("list").len(), lists, "nothing is listed anew");
    assert_eq!(scenario.metric("weft_source_errors_total"), "0");
}
