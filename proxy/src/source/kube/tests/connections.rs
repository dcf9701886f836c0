//! The client and the source over real sockets, TLS and HTTP/2. In real time.

use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use kube::api::{Api, ApiResource, GroupVersionKind, ListParams, WatchParams};
use serde_json::Value;
use tokio::time::timeout;

use super::objects::{service, slice};
use super::scenario::Scenario;
use super::server::ApiServer;
use super::wire::{Speaks, TIMES, Wire};
use crate::source::kube::connections::Times;
use crate::source::kube::lean::LeanObject;

/// As kube-apiserver has it.
const HTTP2: Speaks = Speaks::Http2(100);
/// Much less than a watch's silence, and than a look-up that waits for a stream would need.
const SOON: Duration = Duration::from_secs(30);
/// What a Service takes in a namespace that is not the pod's.
const WATCHES: usize = 8;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}

fn name(number: usize) -> String {
    format!("team-{number}/a")
}

fn cluster_ip(number: usize) -> String {
    format!("10.96.0.{number}")
}

/// A Service in each of so many namespaces.
fn objects(count: usize) -> Vec<Value> {
    let objects = |number| {
        let endpoint = format!("10.0.0.{number}");
        [service(&name(number), &[&cluster_ip(number)]), slice(&name(number), &[&endpoint])]
    };
    (0..count).flat_map(objects).collect()
}

/// A source that knows so many Services, and how many watches that takes.
async fn known(api: &ApiServer, wire: &Wire, count: usize) -> (Scenario, usize) {
    let mut scenario = Scenario::with_client(wire.client(TIMES)).await;
    for number in 0..count {
        soon("a look-up", scenario.look_up(&cluster_ip(number))).await;
        assert!(scenario.knows(&name(number)), "Service {number} of {count}");
    }
    let watches = 4 + count * (WATCHES - 2);
    let all = api.until("all watches", |api| api.watched().len() == watches);
    soon("all watches", all).await;
    (scenario, watches)
}

async fn until_endpoint(scenario: &mut Scenario, service: usize, address: &str) {
    let shown = |it: &Scenario| it.endpoints(&name(service))[0].ip().to_string() == address;
    soon("the endpoint", scenario.until("the endpoint", shown)).await;
}

/// Until so many watches have been begun in all.
async fn all_again(api: &ApiServer, watches: usize) {
    soon("all again", api.until("all again", |api| api.requests("watch").len() >= watches)).await;
}

fn services(client: kube::Client) -> Api<LeanObject> {
    Api::all_with(client, &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service")))
}

#[tokio::test]
async fn what_comes_at_once_shares_a_connection() {
    let api = ApiServer::new(objects(1));
    let wire = Wire::to(&api, HTTP2).await;
    let services = services(wire.client(TIMES));
    let params = ListParams::default();
    let lists = join_all((0..50).map(|_| services.list(&params)));
    for list in soon("the lists", lists).await {
        assert_eq!(list.unwrap().items.len(), 1);
    }
    assert_eq!(wire.accepted(), 1);
}

#[tokio::test]
async fn a_sidecar_that_uses_some_services_has_one_connection() {
    let api = ApiServer::new(objects(5));
    let wire = Wire::to(&api, HTTP2).await;
    let (_scenario, watches) = known(&api, &wire, 5).await;
    assert!(watches > 30, "{watches}");
    assert_eq!(wire.accepted(), 1);
}

#[tokio::test]
async fn more_watches_than_a_connection_may_have_hold_no_look_up_up() {
    let api = ApiServer::new(objects(41));
    let wire = Wire::to(&api, HTTP2).await;
    let (mut scenario, watches) = known(&api, &wire, 40).await;
    assert!(watches > 200, "{watches}");
    soon("a look-up", scenario.look_up(&cluster_ip(40))).await;
    assert!(scenario.knows(&name(40)));
    assert_eq!(scenario.metric("weft_source_errors_total"), "0");
    assert_eq!(wire.accepted(), (watches + WATCHES).div_ceil(64));
}

#[tokio::test]
async fn a_server_that_allows_fewer_streams_gets_no_more() {
    let api = ApiServer::new(objects(5));
    let wire = Wire::to(&api, Speaks::Http2(10)).await;
    let (scenario, watches) = known(&api, &wire, 5).await;
    assert_eq!(scenario.metric("weft_source_errors_total"), "0");
    assert!(wire.accepted() >= watches.div_ceil(10), "{}", wire.accepted());
}

#[tokio::test]
async fn a_connection_that_gets_stuck_is_replaced_and_its_watches_go_on() {
    let api = ApiServer::new(objects(2));
    let wire = Wire::to(&api, HTTP2).await;
    let (mut scenario, watches) = known(&api, &wire, 2).await;
    let lists = api.requests("list").len();
    let begun = api.requests("watch").len();

    wire.stick();
    api.apply(slice(&name(0), &["10.0.0.9"]));
    until_endpoint(&mut scenario, 0, "10.0.0.9").await;
    all_again(&api, begun + watches).await;
    api.apply(slice(&name(1), &["10.0.0.8"]));
    until_endpoint(&mut scenario, 1, "10.0.0.8").await;
    assert_eq!(api.requests("list").len(), lists, "nothing is listed anew");
    assert!(scenario.knows(&name(0)) && scenario.knows(&name(1)));
}

#[tokio::test]
async fn after_goaway_watches_go_on_and_what_comes_next_has_another_connection() {
    let api = ApiServer::new(objects(3));
    let wire = Wire::to(&api, HTTP2).await;
    let (mut scenario, watches) = known(&api, &wire, 2).await;

    wire.leave();
    api.apply(slice(&name(0), &["10.0.0.9"]));
    until_endpoint(&mut scenario, 0, "10.0.0.9").await;
    assert_eq!(api.watched().len(), watches, "over the connection that is to end");
    soon("a look-up", scenario.look_up(&cluster_ip(2))).await;
    assert!(scenario.knows(&name(2)));
    assert_eq!(wire.accepted(), 2);

    // Nothing is missed between the end of a watch and the next one.
    let lists = api.requests("list").len();
    let begun = api.requests("watch").len();
    api.end_watches();
    api.apply(slice(&name(1), &["10.0.0.8"]));
    until_endpoint(&mut scenario, 1, "10.0.0.8").await;
    all_again(&api, begun + watches).await;
    assert_eq!(api.requests("list").len(), lists, "nothing is listed anew");
    assert_eq!(scenario.metric("weft_source_errors_total"), "0");
    soon("the first connection's end", wire.until_open(1)).await;
    assert_eq!(wire.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_carries_nothing_is_closed() {
    let api = ApiServer::new(objects(1));
    let wire = Wire::to(&api, HTTP2).await;
    let services = services(wire.client(Times { idle: Duration::from_millis(100), ..TIMES }));
    for round in 1..=2 {
        let watch = soon("a watch", services.watch(&WatchParams::default(), "1")).await.unwrap();
        let list = soon("a list", services.list(&ListParams::default())).await.unwrap();
        assert_eq!((list.items.len(), wire.accepted()), (1, round));
        // It is not closed as long as it carries something.
        let closed = timeout(Duration::from_millis(500), wire.until_open(0)).await;
        assert!(closed.is_err());
        drop(watch);
        soon("its end", wire.until_open(0)).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_get_through_its_handshake_is_left_soon() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let config = kube::Config::new(url.parse().unwrap());
    let times = Times { connect: Duration::from_millis(100), ..TIMES };
    let services = services(super::super::client::with_times(config, times).unwrap());
    for _ in 0..2 {
        let list = soon("an answer", services.list(&ListParams::default())).await;
        let error = list.unwrap_err().to_string();
        assert!(error.contains("no connection in 100ms"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_http2_is_asked_over_http1() {
    let api = ApiServer::new(objects(2));
    let wire = Wire::to(&api, Speaks::Http1).await;
    let (mut scenario, watches) = known(&api, &wire, 2).await;
    assert!(wire.accepted() > watches, "{}", wire.accepted());
    api.apply(slice(&name(1), &["10.0.0.9"]));
    until_endpoint(&mut scenario, 1, "10.0.0.9").await;
}
