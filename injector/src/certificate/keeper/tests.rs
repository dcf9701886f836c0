use std::time::UNIX_EPOCH;

use http::{Method, StatusCode};
use serde_json::Value;

use super::*;
use crate::service_cidr::ServiceCidrs;
use crate::testing::{self, Cluster};

const VALIDITY: Duration = Duration::from_secs(90 * 86400);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn days(number: u32) -> SystemTime {
    start() + Duration::from_secs(86400) * number
}

/// A replica of the injector.
fn replica(cluster: &Cluster) -> Keeper {
    Keeper::new(
        cluster.client(),
        testing::names(),
        VALIDITY,
        Served::default(),
        Readiness::new(ServiceCidrs::fixed("10.96.0.0/12".parse().unwrap())),
        Arc::new(Metrics::default()),
    )
}

fn cluster() -> Cluster {
    Cluster::with_webhooks(&["namespace.weft.mesh", "pod.weft.mesh"])
}

/// Numbers of the generations in the Secret.
fn numbers(cluster: &Cluster) -> Vec<u64> {
    generations(cluster).iter().map(|generation| generation.number).collect()
}

fn generations(cluster: &Cluster) -> Vec<Generation> {
    let secret: Secret = serde_json::from_value(cluster.state().secret.clone().unwrap()).unwrap();
    let read = secret::read(&secret.data.unwrap(), &testing::names().host(), start());
    assert_eq!(read.problems, Vec::<String>::new());
    read.generations
}

/// What stands in the bundle of each webhook, by generation.
fn bundled(cluster: &Cluster, generations: &[Generation]) -> Vec<u64> {
    assert_eq!(cluster.bundle(0), cluster.bundle(1));
    let number = |ca| {
        generations.iter().find(|generation| generation.ca == ca).map_or(0, |found| found.number)
    };
    bundle::authorities(&cluster.bundle(0)).into_iter().map(number).collect()
}

fn serves(keeper: &Keeper) -> u64 {
    let serving = keeper.serving.as_ref().unwrap();
    let served = keeper.served.current().unwrap();
    assert_eq!(served.cert, serving.certified_key.cert);
    serving.number
}

#[tokio::test]
async fn the_first_replica_makes_everything() {
    let cluster = cluster();
    let mut keeper = replica(&cluster);
    let pause = keeper.look(start()).await.unwrap();
    assert_eq!(pause, Duration::from_secs(60));
    assert_eq!(numbers(&cluster), [1]);
    assert_eq!(bundled(&cluster, &generations(&cluster)), [1]);
    assert_eq!(serves(&keeper), 1);
    assert!(keeper.readiness.is_ready());
}

#[tokio::test]
async fn a_second_look_writes_nothing() {
    let cluster = cluster();
    let mut keeper = replica(&cluster);
    keeper.look(start()).await.unwrap();
    cluster.requests();
    keeper.look(days(10)).await.unwrap();
    let requests = cluster.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
}

#[tokio::test]
async fn an_empty_secret_is_filled() {
    let cluster = cluster();
    let empty = json!({"metadata": {"name": "certificate", "resourceVersion": "x"}});
    cluster.state().secret = Some(empty);
    replica(&cluster).look(start()).await.unwrap();
    assert_eq!(numbers(&cluster), [1]);
    assert!(cluster.requests().iter().any(|request| request.starts_with("PUT ")));
}

#[tokio::test]
async fn without_a_configuration_it_serves_and_is_not_ready() {
    let cluster = Cluster::default();
    let mut keeper = replica(&cluster);
    keeper.look(start()).await.unwrap();
    assert_eq!(serves(&keeper), 1);
    assert!(!keeper.readiness.is_ready());
    cluster.state().set_webhooks(&["namespace.weft.mesh"]);
    keeper.look(start()).await.unwrap();
    assert!(keeper.readiness.is_ready());
}

#[tokio::test]
async fn rotates_with_an_overlap() {
    let cluster = cluster();
    let mut keeper = replica(&cluster);
    keeper.look(start()).await.unwrap();
    let first = generations(&cluster);

    keeper.look(days(61)).await.unwrap();
    assert_eq!(numbers(&cluster), [1, 2]);
    let both = generations(&cluster);
    assert_eq!(bundled(&cluster, &both), [1, 2]);
    assert_eq!(serves(&keeper), 1);

    keeper.look(days(61) + Duration::from_secs(59)).await.unwrap();
    assert_eq!(serves(&keeper), 1);
    keeper.look(days(61) + Duration::from_secs(60)).await.unwrap();
    assert_eq!(serves(&keeper), 2);
    assert_eq!(bundled(&cluster, &both), [1, 2]);

    keeper.look(days(90)).await.unwrap();
    assert_eq!(numbers(&cluster), [2]);
    assert_eq!(bundled(&cluster, &both), [2]);
    assert_ne!(first[0].ca, both[1].ca);
    assert!(keeper.metrics.encode().contains("weft_injector_certificate_rotations_total 1"));
}

#[tokio::test]
async fn two_replicas_agree_on_the_first() {
    let cluster = cluster();
    let (mut one, mut two) = (replica(&cluster), replica(&cluster));
    let mut other = replica(&self::cluster());
    other.look(start()).await.unwrap();
    let theirs = secret::write(std::slice::from_ref(other.serving.as_ref().unwrap()));
    let secret = json!({"metadata": {"name": "certificate"}, "data": theirs});
    // Between our look and our write, somebody else creates the Secret.
    cluster.state().interference = Some((
        Method::POST,
        Box::new(move |state| {
            state.secret(&Method::POST, secret);
        }),
    ));
    one.look(start()).await.unwrap();
    two.look(start()).await.unwrap();
    let expected = other.served.current().unwrap();
    for keeper in [&one, &two] {
        assert_eq!(keeper.served.current().unwrap().cert, expected.cert);
    }
    assert_eq!(bundle::authorities(&cluster.bundle(0)).len(), 1);
}

#[tokio::test]
async fn two_replicas_agree_on_the_next() {
    let cluster = cluster();
    let (mut one, mut two) = (replica(&cluster), replica(&cluster));
    one.look(start()).await.unwrap();
    two.look(start()).await.unwrap();
    let mut with_theirs = generations(&cluster);
    let host = testing::names().host();
    with_theirs.push(Generation::issue(2, &host, days(61), VALIDITY).unwrap());
    let data = secret::write(&with_theirs);
    cluster.state().interference = Some((
        Method::PUT,
        Box::new(move |state| {
            let mut secret = state.secret.clone().unwrap();
            secret["data"] = json!(data);
            state.secret(&Method::PUT, secret);
        }),
    ));
    one.look(days(61)).await.unwrap();
    two.look(days(61)).await.unwrap();
    let settled = days(61) + Duration::from_secs(61);
    one.look(settled).await.unwrap();
    two.look(settled).await.unwrap();
    for keeper in [&one, &two] {
        assert_eq!(keeper.served.current().unwrap().cert, with_theirs[1].certified_key.cert);
    }
    assert_eq!(bundled(&cluster, &with_theirs), [1, 2]);
}

#[tokio::test]
async fn never_writes_over_a_bundle_that_it_has_not_seen() {
    let cluster = cluster();
    let mut keeper = replica(&cluster);
    let host = testing::names().host();
    let theirs = Generation::issue(9, &host, start(), VALIDITY).unwrap();
    let pem = theirs.ca_pem.clone();
    cluster.state().interference =
        Some((Method::PATCH, Box::new(move |state| state.set_bundle(0, pem.as_bytes()))));
    keeper.look(start()).await.unwrap();
    let patches = cluster.requests().into_iter().filter(|request| request.starts_with("PATCH "));
    assert_eq!(patches.count(), 2);
    let authorities = bundle::authorities(&cluster.bundle(0));
    assert_eq!(authorities.len(), 2);
    assert!(authorities.contains(&theirs.ca));
    assert!(keeper.readiness.is_ready());
}

#[tokio::test]
async fn a_deleted_secret_interrupts_nothing() {
    let cluster = cluster();
    let (mut one, mut two) = (replica(&cluster), replica(&cluster));
    one.look(start()).await.unwrap();
    two.look(start()).await.unwrap();
    let before = one.served.current().unwrap();
    cluster.state().secret = None;
    let now = days(5);
    one.look(now).await.unwrap();
    two.look(now).await.unwrap();
    // Both CAs are trusted, and the old certificate is served until the new CA is known.
    assert_eq!(bundle::authorities(&cluster.bundle(1)).len(), 2);
    for keeper in [&one, &two] {
        assert_eq!(keeper.served.current().unwrap().cert, before.cert);
    }
    let settled = now + Duration::from_secs(60);
    one.look(settled).await.unwrap();
    two.look(settled).await.unwrap();
    let after = one.served.current().unwrap();
    assert_ne!(after.cert, before.cert);
    assert_eq!(two.served.current().unwrap().cert, after.cert);
}

#[tokio::test]
async fn a_bundle_that_was_wiped_is_restored() {
    let cluster = cluster();
    let mut keeper = replica(&cluster);
    keeper.look(start()).await.unwrap();
    let before = cluster.bundle(0);
    cluster.state().set_webhooks(&["namespace.weft.mesh", "pod.weft.mesh"]);
    keeper.look(days(1)).await.unwrap();
    assert_eq!(cluster.bundle(0), before);
    assert_eq!(cluster.bundle(1), before);
}

#[tokio::test]
async fn a_replica_that_starts_amid_a_rotation_serves_what_all_trust() {
    let cluster = cluster();
    let mut one = replica(&cluster);
    one.look(start()).await.unwrap();
    one.look(days(61)).await.unwrap();
    let mut late = replica(&cluster);
    late.look(days(61) + Duration::from_secs(1)).await.unwrap();
    assert_eq!(serves(&late), 1);
    late.look(days(61) + Duration::from_secs(61)).await.unwrap();
    assert_eq!(serves(&late), 2);
}

#[tokio::test]
async fn a_broken_secret_is_replaced() {
    for (part, value) in [("1.tls.key", json!("bm8=")), ("1.ca.crt", Value::Null)] {
        let cluster = cluster();
        replica(&cluster).look(start()).await.unwrap();
        cluster.state().secret.as_mut().unwrap()["data"][part] = value;
        if let Some(data) = cluster.state().secret.as_mut().unwrap()["data"].as_object_mut() {
            data.retain(|_, value| !value.is_null());
        }
        let mut keeper = replica(&cluster);
        keeper.look(start()).await.unwrap();
        assert_eq!(numbers(&cluster), [2], "{part}");
        assert_eq!(serves(&keeper), 2);
    }
}

#[tokio::test]
async fn a_certificate_for_another_service_is_replaced() {
    let cluster = cluster();
    replica(&cluster).look(start()).await.unwrap();
    let names = Names { service: "renamed".to_owned(), ..testing::names() };
    let mut keeper = Keeper { names, ..replica(&cluster) };
    keeper.look(start()).await.unwrap();
    assert_eq!(serves(&keeper), 2);
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    for (method, expected) in [
        (Method::GET, "needs the permission to get mutatingwebhookconfigurations"),
        (Method::POST, "needs the permission to create secrets"),
        (Method::PATCH, "needs the permission to patch mutatingwebhookconfigurations"),
    ] {
        let cluster = cluster();
        cluster.state().failure = Some((method, StatusCode::FORBIDDEN));
        let mut keeper = replica(&cluster);
        let error = keeper.look(start()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        // It is granted; all is well.
        keeper.look(start()).await.unwrap();
        assert!(keeper.readiness.is_ready());
    }
}

#[tokio::test]
async fn a_secret_that_changes_all_the_time_is_given_up_for_now() {
    let cluster = cluster();
    let secret = json!({"metadata": {"name": "certificate"}, "data": {}});
    cluster.state().secret(&Method::POST, secret);
    let mut keeper = replica(&cluster);
    fn interfere(state: &mut testing::State) {
        let version = fastrand::u64(..).to_string();
        state.secret.as_mut().unwrap()["metadata"]["resourceVersion"] = json!(version);
        state.interference = Some((Method::PUT, Box::new(interfere)));
    }
    cluster.state().interference = Some((Method::PUT, Box::new(interfere)));
    let error = keeper.look(start()).await.unwrap_err();
    assert!(matches!(error, KeeperError::Contended(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn runs_without_being_asked() {
    let cluster = cluster();
    let keeper = replica(&cluster);
    let readiness = keeper.readiness.clone();
    cluster.state().failure = Some((Method::PATCH, StatusCode::INTERNAL_SERVER_ERROR));
    let running = tokio::spawn(keeper.run());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(readiness.is_ready());
    cluster.state().set_webhooks(&["namespace.weft.mesh"]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!cluster.bundle(0).is_empty());
    running.abort();
}
