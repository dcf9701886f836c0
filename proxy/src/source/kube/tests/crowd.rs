//! In a large cluster a sidecar asks for, is sent and publishes what its pod uses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;
use weft_gamma::route::RouteKind;

use super::objects::{route, service, slice};
use super::scenario::Scenario;
use super::server::ApiServer;

const NAMESPACES: usize = 100;
const IN_NAMESPACE: usize = 100;
const ENDPOINTS: usize = 10;
/// How many Services the pod uses, each in a namespace of its own.
const USED: usize = 5;

/// `namespace/name` of a Service and of its route.
fn name(number: usize) -> String {
    format!("team-{}/service-{}", number / IN_NAMESPACE, number % IN_NAMESPACE)
}

fn address(base: Ipv4Addr, number: usize) -> String {
    Ipv4Addr::from_bits(base.to_bits() + u32::try_from(number).unwrap()).to_string()
}

fn cluster_ip(number: usize) -> String {
    address(Ipv4Addr::new(10, 96, 0, 1), number)
}

/// A Service with its endpoints, and its route, which has the next one of the namespace as a second
/// backend.
fn objects(number: usize) -> [Value; 3] {
    let first = number * ENDPOINTS;
    let endpoints: Vec<String> = (first..first + ENDPOINTS)
        .map(|endpoint| address(Ipv4Addr::new(10, 128, 0, 0), endpoint))
        .collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let next = number / IN_NAMESPACE * IN_NAMESPACE + (number + 1) % IN_NAMESPACE;
    let name = name(number);
    [
        service(&name, &[&cluster_ip(number)]),
        slice(&name, &endpoints),
        route(&name, &name, &[&name, &self::name(next)]),
    ]
}

/// What is watched, by the plural.
fn watches(server: &ApiServer) -> BTreeMap<String, usize> {
    let mut watches = BTreeMap::new();
    for watched in server.watched() {
        let plural = watched.split(' ').next().unwrap_or_default();
        *watches.entry(plural.to_owned()).or_default() += 1;
    }
    watches
}

#[tokio::test(start_paused = true)]
async fn among_10_000_routes_and_100_000_endpoints_a_sidecar_has_what_its_pod_uses() {
    let server = ApiServer::new((0..NAMESPACES * IN_NAMESPACE).flat_map(objects));
    let mut scenario = Scenario::start(&server).await;
    for used in 0..USED {
        scenario.look_up(&cluster_ip(used * IN_NAMESPACE)).await;
        assert!(scenario.knows(&name(used * IN_NAMESPACE)));
    }
    let objects_in_force = &scenario.latest.objects;
    assert_eq!(objects_in_force.services.len(), 2 * USED, "each with its second backend");
    assert_eq!(objects_in_force.slices.len(), 2 * USED);
    assert_eq!(objects_in_force.routes.len(), USED);
    let endpoints = objects_in_force.slices.values().map(|slice| slice.endpoints.len());
    assert_eq!(endpoints.sum::<usize>(), 2 * USED * ENDPOINTS);

    // Of routes, those of the pod's namespace and of the Services'; of the rest, single objects.
    let kinds = RouteKind::ALL.len();
    let of_routes = (USED + 1) * kinds;
    server.until("all watches", |server| server.watched().len() == of_routes + 4 * USED).await;
    let watches = watches(&server);
    assert_eq!((watches["services"], watches["endpointslices"]), (2 * USED, 2 * USED));
    assert_eq!(watches["httproutes"], USED + 1);

    // Each Service by its address and by its name, the slices, and the routes of the namespaces.
    let listed = USED + 2 * USED + 2 * USED + USED * IN_NAMESPACE;
    assert_eq!(server.sent(), listed);

    // Of what the pod does not use, nothing is sent …
    let elsewhere = (USED * IN_NAMESPACE..NAMESPACES * IN_NAMESPACE).step_by(10);
    for object in elsewhere.flat_map(objects) {
        server.apply(object);
    }
    for number in (0..USED).map(|used| used * IN_NAMESPACE + 50) {
        let [service, slice, _] = objects(number);
        server.apply(service);
        server.apply(slice);
    }
    assert_eq!(server.sent(), listed);
    // … but the routes of its Services' namespaces, and nothing is published for these.
    let published = scenario.count;
    for number in (0..USED).map(|used| used * IN_NAMESPACE + 50) {
        let name = name(number);
        server.apply(route(&name, &name, &[&self::name(number + 1)]));
    }
    assert_eq!(server.sent(), listed + USED);
    // Whatever would have been published for all that comes before this.
    server.apply(slice(&name(0), &["10.132.0.1"]));
    scenario.next().await;
    assert_eq!(scenario.endpoints(&name(0)).len(), 1);
    assert_eq!(scenario.count, published + 1);
}
