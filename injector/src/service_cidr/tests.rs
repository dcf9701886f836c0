use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::testing::Cluster;

fn object(name: &str, cidrs: &[&str]) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"cidrs": cidrs}})
}

fn decoded(name: &str, cidrs: &[&str]) -> ServiceCIDR {
    serde_json::from_value(object(name, cidrs)).unwrap()
}

async fn watched(cluster: &Cluster, seconds: u64) -> (ServiceCidrs, Arc<Metrics>) {
    let (cidrs, metrics) = (ServiceCidrs::default(), Arc::new(Metrics::default()));
    let watch = watch(cluster.client(), cidrs.clone(), Arc::clone(&metrics));
    let _ = tokio::time::timeout(Duration::from_secs(seconds), watch).await;
    (cidrs, metrics)
}

#[tokio::test(start_paused = true)]
async fn all_objects_count() {
    let cluster = Cluster::default();
    cluster.state().service_cidrs = vec![
        object("kubernetes", &["10.96.0.0/16", "fd00:10:96::/112"]),
        object("more", &["10.200.0.0/24", "10.96.7.0/24"]),
    ];
    let (cidrs, metrics) = watched(&cluster, 5).await;
    let current = cidrs.current().unwrap().to_string();
    assert_eq!(current, "10.96.0.0/16,10.200.0.0/24,fd00:10:96::/112");
    assert!(metrics.encode().contains("weft_injector_service_cidrs 3"));
}

#[tokio::test(start_paused = true)]
async fn unknown_until_the_api_server_has_some() {
    let (cidrs, _) = watched(&Cluster::default(), 5).await;
    assert_eq!(cidrs.current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again() {
    let cluster = Cluster::default();
    cluster.state().service_cidrs = vec![object("kubernetes", &["10.96.0.0/16"])];
    cluster.state().failure = Some((Method::GET, StatusCode::INTERNAL_SERVER_ERROR));
    let (cidrs, metrics) = watched(&cluster, 30).await;
    assert_eq!(cidrs.current().unwrap().to_string(), "10.96.0.0/16");
    assert!(metrics.encode().contains("weft_injector_source_errors_total 1"));
}

#[test]
fn a_new_listing_takes_the_old_ones_place_at_once() {
    let mut view = View::default();
    assert_eq!(view.take(Event::Init), None);
    assert_eq!(view.take(Event::InitApply(decoded("a", &["10.0.0.0/24"]))), None);
    assert_eq!(view.take(Event::InitDone).unwrap().to_string(), "10.0.0.0/24");
    let more = view.take(Event::Apply(decoded("b", &["10.1.0.0/24"]))).unwrap();
    assert_eq!(more.to_string(), "10.0.0.0/24,10.1.0.0/24");
    // A listing that breaks off is forgotten.
    assert_eq!(view.take(Event::Init), None);
    assert_eq!(view.take(Event::InitApply(decoded("c", &["10.9.0.0/24"]))), None);
    assert_eq!(view.take(Event::Init), None);
    assert_eq!(view.take(Event::InitApply(decoded("b", &["10.1.0.0/24"]))), None);
    assert_eq!(view.take(Event::InitDone).unwrap().to_string(), "10.1.0.0/24");
    let none = view.take(Event::Delete(decoded("b", &[]))).unwrap();
    assert!(none.is_empty());
}

#[test]
fn the_last_ranges_stay_when_none_are_left() {
    let cidrs = ServiceCidrs::fixed("10.0.0.0/24".parse().unwrap());
    publish(&cidrs, CidrList::default(), &Metrics::default());
    assert_eq!(cidrs.current().unwrap().to_string(), "10.0.0.0/24");
}

#[test]
fn what_is_no_range_is_set_aside() {
    let ranges = ranges_of(&decoded("odd", &["10.0.0.0/24", "x", "10.0.0.1/8"]));
    assert_eq!(CidrList::new(ranges).to_string(), "10.0.0.0/24");
}

#[test]
fn advice_names_what_is_missing() {
    let error = |code| {
        let status = kube::core::Status { code, ..Default::default() };
        advice(&watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
    };
    assert!(error(403).contains("servicecidrs.networking.k8s.io"));
    assert!(error(404).contains("set --service-cidrs"));
}
