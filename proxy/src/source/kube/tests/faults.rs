//! The source while the API server is away, forgets, refuses, or lacks kinds. Time is paused.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::objects::{grant, name, route, route_of, service, slice};
use super::scenario::Scenario;
use super::server::{ApiServer, Trouble};
use crate::source::kube::client;

const A: &str = "10.96.0.1";
const B: &str = "10.96.0.2";

/// The pause that a watch makes at most, and a bit.
const SECONDS: Duration = Duration::from_secs(6);

const HTTP_ROUTES: &str = "gateway.networking.k8s.io/v1/httproutes";
const GRPC_ROUTES: &str = "gateway.networking.k8s.io/v1/grpcroutes";
const GRANTS_V1BETA1: &str = "gateway.networking.k8s.io/v1beta1/referencegrants";
const GRANTS_V1: &str = "gateway.networking.k8s.io/v1/referencegrants";

fn objects() -> Vec<Value> {
    vec![
        service("default/a", &[A]),
        slice("default/a", &["10.0.0.1"]),
        service("shop/b", &[B]),
        slice("shop/b", &["10.0.0.2"]),
    ]
}

fn routes(scenario: &Scenario) -> Vec<&str> {
    scenario.latest.objects.routes.keys().map(|key| key.name.as_str()).collect()
}

/// Lets time pass in which all that is due happens.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn known(server: &ApiServer) -> Scenario {
    let mut scenario = Scenario::start(server).await;
    scenario.look_up(A).await;
    server.until("all watches", |server| server.watched().len() == 6).await;
    scenario
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_what_is_known_stays() {
    let server = ApiServer::new(objects());
    let mut scenario = known(&server).await;
    let published = scenario.count;
    server.trouble(|trouble| trouble.away = true);
    assert!(scenario.look_up(B).await < Duration::from_secs(1), "passed on, with the error");
    assert_eq!(scenario.look_up(A).await, Duration::ZERO);
    assert_eq!(scenario.metric("weft_source_connected"), "0");
    let hour = Instant::now() + Duration::from_secs(3600);
    scenario.used.lock().unwrap().insert(name("default/a"));
    server.apply(slice("default/a", &["10.0.0.9"]));
    server.apply(route("default/r", "default/a", &["default/a"]));
    server.until("an hour", |_| Instant::now() >= hour).await;
    scenario.catch_up();
    assert_eq!(scenario.count, published, "nothing changes meanwhile");
    assert!(scenario.knows("default/a"));
    // Six watches for an hour: with pauses of two and a half seconds, on average.
    let attempts = server.requests("watch").len();
    assert!((1000..10_000).contains(&attempts), "{attempts}");

    let back = Instant::now();
    server.trouble(|trouble| trouble.away = false);
    scenario
        .until("what was missed", |it| {
            it.endpoints("default/a") == ["10.0.0.9:8080".parse().unwrap()] && routes(it) == ["r"]
        })
        .await;
    server.until("all watches", |server| server.watched().len() == 6).await;
    assert!(back.elapsed() < SECONDS, "{:?}", back.elapsed());
    assert_eq!(scenario.metric("weft_source_connected"), "1");
    scenario.look_up(B).await;
    assert!(scenario.knows("shop/b"));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_at_first_costs_only_the_error() {
    let server = ApiServer::new(objects());
    server.trouble(|trouble| trouble.away = true);
    let mut scenario = Scenario::start(&server).await;
    assert!(scenario.look_up(A).await < Duration::from_secs(1));
    scenario.look_up(A).await;
    assert_eq!(server.requests("list").len(), 1, "not asked again at once");
    assert_eq!(scenario.count, 1, "nothing to publish");
    server.trouble(|trouble| trouble.away = false);
    tokio::time::advance(Duration::from_secs(1)).await;
    scenario.look_up(A).await;
    assert!(scenario.knows("default/a"));
    assert_eq!(scenario.metric("weft_source_connected"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_service_found_before_the_api_server_went_is_answered_when_it_is_back() {
    let server = ApiServer::new(objects());
    let mut scenario = Scenario::start(&server).await;
    let held = "list endpointslices of default/a";
    server.trouble(|trouble| _ = trouble.held.insert(held));
    let answer = scenario.ask(A);
    server.until("the slices", |server| server.requests(held).len() == 1).await;
    server.trouble(|trouble| trouble.away = true);
    server.trouble(|trouble| trouble.away = false);
    server.trouble(|trouble| trouble.held.clear());
    let _ = answer.await;
    scenario.catch_up();
    assert!(scenario.knows("default/a"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_is_not_waited_for_for_ever() {
    let server = ApiServer::new(objects());
    let mut scenario = known(&server).await;
    server.trouble(|trouble| trouble.silent = true);
    assert_eq!(scenario.look_up(B).await, Duration::from_secs(5));
    // Once that is known, whoever connects need not find it out again at that price.
    pass(Duration::from_secs(2)).await;
    assert_eq!(scenario.look_up("10.96.0.3").await, Duration::from_secs(1));
    // The connections are there, but nothing comes through them any more.
    server.apply_unseen(slice("default/a", &["10.0.0.9"]));
    let watches = server.requests("watch").len();
    server.until("watches anew", |server| server.requests("watch").len() == watches + 6).await;
    server.trouble(|trouble| trouble.silent = false);
    let lists = server.requests("list").len();
    scenario
        .until("it comes", |it| it.endpoints("default/a")[0].to_string() == "10.0.0.9:8080")
        .await;
    assert_eq!(server.requests("list").len(), lists, "nothing is listed anew");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_hears_bookmarks_is_left_alone() {
    let server = ApiServer::new(objects());
    let scenario = known(&server).await;
    scenario.used.lock().unwrap().insert(name("default/a"));
    let watches = server.requests("watch").len();
    for _ in 0..20 {
        server.bookmark();
        pass(Duration::from_secs(60)).await;
    }
    assert_eq!(server.requests("watch").len(), watches);
    let synced: f64 = scenario.metric("weft_source_last_sync_timestamp_seconds").parse().unwrap();
    assert!(synced > 0.0);
}

#[tokio::test(start_paused = true)]
async fn after_410_all_is_listed_anew_without_an_empty_moment() {
    let mut objects = objects();
    objects.push(route("default/old", "default/a", &["default/a"]));
    objects.push(route("default/gone", "default/a", &["default/a"]));
    let server = ApiServer::new(objects);
    let mut scenario = known(&server).await;
    let begun = Instant::now();
    server.apply_unseen(route("default/new", "default/a", &["default/a"]));
    server.expire();
    server.delete(&route("default/gone", "default/a", &[]));
    while routes(&scenario) != ["new", "old"] {
        scenario.next().await;
        assert!(scenario.knows("default/a"));
        assert_eq!(scenario.endpoints("default/a").len(), 1);
        assert!(routes(&scenario).contains(&"old"));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    server.until("all watches", |server| server.watched().len() == 6).await;
    assert_eq!(scenario.metric("weft_source_relists_total"), "12");
    assert_eq!(scenario.metric("weft_source_errors_total"), "0", "the server has answered");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_has_forgotten_all_when_it_is_back_is_listed_at_once() {
    let server = ApiServer::new(objects());
    let scenario = known(&server).await;
    // Pauses are random: often enough for a long one.
    for _ in 0..20 {
        server.trouble(|trouble| trouble.away = true);
        scenario.used.lock().unwrap().insert(name("default/a"));
        pass(Duration::from_secs(180)).await;
        server.expire();
        let back = Instant::now();
        server.trouble(|trouble| trouble.away = false);
        server.until("all watches", |server| server.watched().len() == 6).await;
        assert!(back.elapsed() < SECONDS, "{:?}", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn slices_that_may_not_be_read_are_named_once_and_the_cluster_address_stands_in() {
    let server = ApiServer::new(objects());
    server.trouble(|trouble| _ = trouble.forbidden.insert("list endpointslices"));
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    assert_eq!(scenario.endpoints("default/a"), ["10.96.0.1:80".parse().unwrap()]);
    assert_eq!(
        scenario.problems(),
        "the EndpointSlices of Service default/a may not be read: the pod's ServiceAccount needs \
         get, list and watch on endpointslices of the API group \"discovery.k8s.io\"\n"
    );
    let published = scenario.count;
    let asked = |server: &ApiServer| server.requests("list endpointslices").len();
    server.until("it is asked for again", |server| asked(server) > 10).await;
    scenario.catch_up();
    assert_eq!(scenario.count, published, "said once");
    assert_eq!(scenario.metric("weft_source_connected"), "1", "a refusal is an answer");

    server.trouble(|trouble| trouble.forbidden.clear());
    scenario
        .until("endpoints", |it| it.endpoints("default/a") == ["10.0.0.1:8080".parse().unwrap()])
        .await;
    assert_eq!(scenario.problems(), "");
    let asked = asked(&server);
    pass(Duration::from_secs(60)).await;
    assert_eq!(server.requests("list endpointslices").len(), asked, "from there on it is watched");
}

#[tokio::test(start_paused = true)]
async fn where_only_the_watch_is_forbidden_nothing_flaps() {
    let server = ApiServer::new(objects());
    server.trouble(|trouble| _ = trouble.forbidden.insert("watch endpointslices"));
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    scenario.until("it is said", |it| it.problems().contains("endpointslices")).await;
    let published = scenario.count;
    let asked = |server: &ApiServer| server.requests("watch endpointslices").len();
    server.until("it is asked for again", |server| asked(server) > 10).await;
    scenario.catch_up();
    assert_eq!(scenario.count, published);
    server.trouble(|trouble| trouble.forbidden.clear());
    scenario
        .until("endpoints", |it| it.endpoints("default/a") == ["10.0.0.1:8080".parse().unwrap()])
        .await;
    assert_eq!(scenario.problems(), "");
}

#[tokio::test(start_paused = true)]
async fn that_services_may_not_be_listed_is_named() {
    let server = ApiServer::new(objects());
    server.trouble(|trouble| _ = trouble.forbidden.insert("list services"));
    let mut scenario = Scenario::start(&server).await;
    assert!(scenario.look_up(A).await < Duration::from_secs(1));
    let said =
        |it: &Scenario| it.problems().contains("list and watch on services of the API group");
    scenario.until("it is said", said).await;
    scenario.look_up(B).await;
    assert_eq!(scenario.count, 2, "said once");
    server.trouble(|trouble| trouble.forbidden.clear());
    tokio::time::advance(Duration::from_secs(5)).await;
    scenario.look_up(A).await;
    scenario.until("all is well", |it| it.knows("default/a") && it.problems().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_installed_later_apply_then() {
    let mut objects = objects();
    objects.push(route("default/r", "default/a", &["default/a"]));
    let server = ApiServer::new(objects);
    server.trouble(|trouble| trouble.missing.extend([HTTP_ROUTES, GRPC_ROUTES]));
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    assert!(scenario.knows("default/a"));
    assert!(routes(&scenario).is_empty());
    assert!(scenario.problems().contains("the cluster has no HTTPRoute"));
    let installed = Instant::now();
    server.trouble(|trouble| _ = trouble.missing.remove(HTTP_ROUTES));
    scenario.until("the route", |it| routes(it) == ["r"]).await;
    assert!(installed.elapsed() <= Duration::from_secs(31), "{:?}", installed.elapsed());
    assert!(!scenario.problems().contains("HTTPRoute"));
    assert!(scenario.problems().contains("the cluster has no GRPCRoute"));

    // And when they are removed, none applies.
    server.trouble(|trouble| _ = trouble.missing.insert(HTTP_ROUTES));
    server.end_watches();
    scenario.until("the route goes", |it| routes(it).is_empty()).await;
}

/// Clusters before v1.6 of the API's standard channel have none, and those with the experimental channel
/// an older version.
#[tokio::test(start_paused = true)]
async fn stream_routes_are_not_missed_and_apply_when_they_come_in_whichever_version() {
    let kinds: [(&str, &[&str]); 2] = [
        ("TCPRoute", &["v1/tcproutes", "v1alpha2/tcproutes"]),
        ("TLSRoute", &["v1/tlsroutes", "v1alpha3/tlsroutes", "v1alpha2/tlsroutes"]),
    ];
    for (kind, versions) in kinds {
        for installed in versions {
            let mut objects = objects();
            objects.push(route_of(kind, "default/r", "default/a", &["default/a"]));
            let server = ApiServer::new(objects);
            let missing = |trouble: &mut Trouble, version: &str| {
                let name = format!("gateway.networking.k8s.io/{version}");
                trouble.missing.insert(name.leak());
            };
            server.trouble(|trouble| versions.iter().for_each(|version| missing(trouble, version)));
            let mut scenario = Scenario::start(&server).await;
            assert!(scenario.look_up(A).await < Duration::from_secs(1));
            assert!(scenario.knows("default/a") && routes(&scenario).is_empty());
            assert_eq!(scenario.problems(), "", "{kind}");
            let at = Instant::now();
            server.trouble(|trouble| trouble.missing.retain(|name| !name.ends_with(installed)));
            scenario.until("the route", |it| routes(it) == ["r"]).await;
            assert!(at.elapsed() <= Duration::from_secs(121), "{kind} {:?}", at.elapsed());
            assert_eq!(scenario.latest.objects.routes.keys().next().unwrap().kind.as_str(), kind);
        }
    }
}

/// Installs of the Gateway API serve grants as v1beta1, as v1, or both.
#[tokio::test(start_paused = true)]
async fn grants_are_found_in_whichever_version_is_served() {
    for missing in [&[GRANTS_V1][..], &[GRANTS_V1BETA1], &[]] {
        let mut objects = objects();
        objects.push(route("default/r", "default/a", &["shop/b"]));
        objects.push(grant("shop/g", "default", "v1"));
        let server = ApiServer::new(objects);
        server.trouble(|trouble| trouble.missing.extend(missing));
        let mut scenario = Scenario::start(&server).await;
        assert!(scenario.look_up(A).await < Duration::from_secs(1));
        assert_eq!(scenario.latest.objects.grants.len(), 1, "without {missing:?}");
        assert_eq!(scenario.problems(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn grants_that_are_installed_later_are_found_in_either_version() {
    for installed in [GRANTS_V1BETA1, GRANTS_V1] {
        let mut objects = objects();
        objects.push(route("default/r", "default/a", &["shop/b"]));
        objects.push(grant("shop/g", "default", "v1"));
        let server = ApiServer::new(objects);
        server.trouble(|trouble| trouble.missing.extend([GRANTS_V1BETA1, GRANTS_V1]));
        let mut scenario = Scenario::start(&server).await;
        scenario.look_up(A).await;
        assert!(scenario.problems().contains("the cluster has no ReferenceGrant"));
        server.trouble(|trouble| _ = trouble.missing.remove(installed));
        scenario.until("the grant", |it| it.latest.objects.grants.len() == 1).await;
        assert_eq!(scenario.problems(), "");
    }
}

/// Serves the API on a socket until the task is aborted, which breaks all connections.
async fn serve(server: &ApiServer, at: SocketAddr) -> (JoinHandle<()>, SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.clone();
    let accept = async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            let answer = move |request: Request<Incoming>| {
                let server = server.clone();
                async move { server.answer(request.uri()).await }
            };
            let service = hyper::service::service_fn(answer);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move { _ = connection.await });
        }
    };
    (tokio::spawn(accept), address)
}

/// Over real sockets, in real time: with refused connections and chunks that break off.
#[tokio::test]
async fn a_real_connection_breaks_and_comes_back() {
    let server = ApiServer::new(objects());
    let (accepting, address) = serve(&server, ([127, 0, 0, 1], 0).into()).await;
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let mut scenario = Scenario::with_client(client(config).unwrap()).await;
    scenario.look_up(A).await;
    assert_eq!(scenario.endpoints("default/a"), ["10.0.0.1:8080".parse().unwrap()]);
    server.until("all watches", |server| server.watched().len() == 6).await;
    server.apply(route("default/r", "default/a", &["default/a"]));
    scenario.until("the route", |it| routes(it) == ["r"]).await;

    // Its connections go with it.
    accepting.abort();
    let _ = accepting.await;
    server.until("no watch is left", |server| server.watched().is_empty()).await;
    scenario.look_up(B).await;
    assert!(scenario.knows("default/a") && !scenario.knows("shop/b"));
    assert_eq!(scenario.metric("weft_source_connected"), "0");
    server.apply(slice("default/a", &["10.0.0.9"]));
    let (_accepting, _) = serve(&server, address).await;
    scenario
        .until("it is back", |it| it.endpoints("default/a")[0].to_string() == "10.0.0.9:8080")
        .await;
    assert_eq!(routes(&scenario), ["r"]);
}
