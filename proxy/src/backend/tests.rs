//! Balancing, ejection, and what becomes of endpoints that change. How connections of the pool are
//! used is in the tests of [`crate::request`].

mod affinity;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_gamma::endpoints::Endpoint;
use weft_gamma::policy::RetryConstraint;

use super::balance::{Load, two_choices};
use super::local::{LocalBackend, LocalEndpoint};
use super::{Backend, BackendName, Registry, Terms};
use crate::testing::namespaced;

fn name(service: &str) -> BackendName {
    BackendName { service: namespaced(service), port: 80 }
}

fn endpoint(number: u8, pod: &str) -> Endpoint {
    Endpoint { addr: SocketAddr::from(([10, 1, 0, number], 8080)), target: Some(pod.into()) }
}

fn endpoints(count: u8) -> Vec<Endpoint> {
    (0..count).map(|number| endpoint(number, &format!("pod-{number}"))).collect()
}

fn backend(count: u8) -> (Registry, Arc<Backend>, LocalBackend) {
    let mut registry = Registry::new(None);
    let shared = registry.intern(&name("default/svc"), endpoints(count), Terms::default());
    let local = LocalBackend::new(shared.clone(), u32::MAX);
    (registry, shared, local)
}

/// How often each of the endpoints is picked, with nothing in flight meanwhile.
fn picks(backend: &LocalBackend, count: usize, draws: usize) -> Vec<usize> {
    let mut seen = vec![0; count];
    for _ in 0..draws {
        let lease = backend.pick(&[], Instant::now()).unwrap();
        seen[usize::from(number(lease.endpoint()))] += 1;
    }
    seen
}

fn number(endpoint: &LocalEndpoint) -> u8 {
    match endpoint.endpoint.addr {
        SocketAddr::V4(addr) => addr.ip().octets()[3],
        SocketAddr::V6(_) => panic!("not an address of these tests"),
    }
}

/// The leases of all endpoints, in their order.
fn lease_all(backend: &LocalBackend, count: u8) -> Vec<super::local::Lease> {
    let mut tried: Vec<Rc<LocalEndpoint>> = Vec::new();
    let mut leases: Vec<_> = (0..count)
        .map(|_| {
            let lease = backend.pick(&tried, Instant::now()).unwrap();
            tried.push(lease.endpoint().clone());
            lease
        })
        .collect();
    leases.sort_by_key(|lease| number(lease.endpoint()));
    leases
}

#[test]
fn endpoints_that_are_alike_get_the_same() {
    for count in [1, 2, 3, 10] {
        let (_registry, _shared, backend) = backend(count);
        let count = usize::from(count);
        let draws = 10_000 * count;
        let seen = picks(&backend, count, draws);
        // Binomial with a mean of 10,000 each: five standard deviations are below 500.
        assert!(seen.iter().all(|seen| seen.abs_diff(10_000) < 500), "{seen:?}");
    }
}

#[test]
fn two_choices_are_unbiased_whatever_cannot_be_used() {
    let usable = [3, 4, 9];
    let mut seen = [0_u32; 10];
    for _ in 0..30_000 {
        let picked = two_choices(10, |index| usable.contains(&index), |_, _| false).unwrap();
        seen[picked] += 1;
    }
    assert_eq!(seen.iter().filter(|seen| **seen > 0).count(), 3, "{seen:?}");
    assert!(usable.iter().all(|index| seen[*index].abs_diff(10_000) < 500), "{seen:?}");
    assert_eq!(two_choices(0, |_| true, |_, _| false), None);
    assert_eq!(two_choices(1, |_| false, |_, _| false), None);
    assert_eq!(two_choices(5, |_| false, |_, _| false), None);
}

#[test]
fn the_better_of_two_is_taken_and_the_worst_of_many_never() {
    // Cost by index: 9 is better than everything else, 0 is better than nothing.
    let mut seen = [0_u32; 10];
    for _ in 0..20_000 {
        seen[two_choices(10, |_| true, |one, other| one > other).unwrap()] += 1;
    }
    assert_eq!(seen[0], 0);
    // 9 wins whenever it is thrown: in 2 of 10 draws.
    assert!(seen[9].abs_diff(4_000) < 400, "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
}

#[test]
fn what_is_under_way_counts() {
    let (_registry, _shared, backend) = backend(2);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(backend.pick(&[], Instant::now()).unwrap());
    }
    let at_first = held.iter().filter(|lease| number(lease.endpoint()) == 0).count();
    assert_eq!(at_first, 50, "the emptier of two is always taken");
    let endpoint = held[0].endpoint().clone();
    assert_eq!(endpoint.load().in_flight(), 50);
    held.clear();
    assert_eq!(endpoint.load().in_flight(), 0);
}

#[test]
fn a_slow_endpoint_is_avoided_until_its_slowness_is_forgotten() {
    let start = Instant::now();
    let (fast, slow) = (Load::new(start), Load::new(start));
    fast.succeeded(start, Duration::from_millis(1));
    slow.succeeded(start, Duration::from_millis(100));
    assert!(fast.is_better_than(&slow, start) && !slow.is_better_than(&fast, start));
    // Unless the fast one is busier than it is faster.
    for _ in 0..100 {
        fast.begin();
    }
    assert!(slow.is_better_than(&fast, start));
    for _ in 0..100 {
        fast.end();
    }
    // A single quick answer does not make up for a slow one at once.
    slow.succeeded(start + Duration::from_millis(10), Duration::from_millis(1));
    assert!(fast.is_better_than(&slow, start + Duration::from_millis(10)));
    let later = start + Duration::from_secs(100_000);
    assert!(!fast.is_better_than(&slow, later) && !slow.is_better_than(&fast, later));
}

#[test]
fn microseconds_make_no_difference() {
    let start = Instant::now();
    let (one, other) = (Load::new(start), Load::new(start));
    one.succeeded(start, Duration::from_micros(80));
    other.succeeded(start, Duration::from_micros(240));
    let new = Load::new(start);
    for (left, right) in [(&one, &other), (&one, &new), (&other, &new)] {
        assert!(!left.is_better_than(right, start) && !right.is_better_than(left, start));
    }
    one.begin();
    assert!(other.is_better_than(&one, start) && !one.is_better_than(&other, start));
}

/// Of a stream nothing else is ever known to have succeeded.
#[test]
fn a_connection_that_was_made_forgives_and_says_nothing_of_time() {
    let now = Instant::now();
    let (load, other) = (Load::new(now), Load::new(now));
    for _ in 0..5 {
        assert!(!load.failed(), "never two in a row");
        load.connected();
    }
    assert!(!load.is_better_than(&other, now) && !other.is_better_than(&load, now));
}

#[test]
fn an_ejection_grows_and_a_success_forgives() {
    let mut now = Instant::now();
    let load = Load::new(now);
    assert!(!load.failed(), "once is no reason");
    load.succeeded(now, Duration::ZERO);
    assert!(!load.failed());
    assert!(load.failed());
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let length = load.eject(now);
        assert_eq!(length, Duration::from_secs(seconds));
        assert!(load.is_ejected(now + length - Duration::from_millis(1)));
        now += length;
        assert!(!load.is_ejected(now));
        assert!(load.failed(), "on probation once is enough");
    }
    load.succeeded(now, Duration::ZERO);
    assert!(!load.failed());
    assert!(load.failed());
    assert_eq!(load.eject(now), Duration::from_secs(1));
}

#[test]
fn never_more_than_half_are_ejected() {
    for (count, expected) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let (_registry, _shared, backend) = backend(count);
        let leases = lease_all(&backend, count);
        let now = Instant::now();
        for _ in 0..5 {
            for lease in &leases {
                backend.failed(lease.endpoint());
            }
        }
        let ejected: Vec<_> =
            leases.iter().map(|lease| lease.endpoint().load().is_ejected(now)).collect();
        assert_eq!(ejected.iter().filter(|ejected| **ejected).count(), expected, "of {count}");
        drop(leases);
        let seen = picks(&backend, usize::from(count), 200);
        for (seen, ejected) in seen.iter().zip(&ejected) {
            assert_eq!(*seen == 0, *ejected, "of {count}: {seen}");
        }
    }
}

#[test]
fn what_was_tried_is_taken_again_only_where_there_is_no_other() {
    let (_registry, _shared, backend) = backend(3);
    let leases = lease_all(&backend, 3);
    let mut tried: Vec<_> = leases.iter().map(|lease| lease.endpoint().clone()).collect();
    assert!(backend.pick(&tried, Instant::now()).is_some());
    // An ejected endpoint that was not tried comes before a healthy one that was.
    let untried = tried.pop().unwrap();
    for _ in 0..2 {
        backend.failed(&untried);
    }
    assert!(untried.load().is_ejected(Instant::now()));
    assert!(Rc::ptr_eq(backend.pick(&tried, Instant::now()).unwrap().endpoint(), &untried));
    assert!(super::tests::backend(0).2.pick(&[], Instant::now()).is_none());
}

#[test]
fn endpoints_that_stay_keep_their_load_and_those_that_go_are_retired() {
    let (mut registry, shared, backend) = backend(3);
    let leases = lease_all(&backend, 3);
    // 0 goes, 1 stays, 2 comes back under another pod.
    let next = vec![endpoint(1, "pod-1"), endpoint(2, "another"), endpoint(3, "pod-3")];
    assert!(Arc::ptr_eq(&registry.intern(&shared.name, next, Terms::default()), &shared));
    let now = lease_all(&backend, 3);
    let is_retired = |lease: &super::local::Lease| lease.endpoint().is_retired();
    assert_eq!(leases.iter().map(is_retired).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(now.iter().map(is_retired).collect::<Vec<_>>(), [false; 3]);
    assert!(Rc::ptr_eq(leases[1].endpoint(), now[0].endpoint()));
    assert_eq!(now[0].endpoint().load().in_flight(), 2);
    // The same address, and yet another endpoint: nothing of the old one's load is left.
    assert_eq!(leases[2].endpoint().endpoint.addr, now[1].endpoint().endpoint.addr);
    assert!(!Rc::ptr_eq(leases[2].endpoint(), now[1].endpoint()));
    assert_eq!(now[1].endpoint().load().in_flight(), 1);
}

#[test]
fn the_same_endpoints_again_change_nothing() {
    let (mut registry, shared, _local) = backend(2);
    let before = shared.endpoints().generation;
    let terms = Terms::default();
    registry.intern(&shared.name, endpoints(2), terms.clone());
    assert_eq!(shared.endpoints().generation, before);
    registry.intern(&shared.name, endpoints(1), terms.clone());
    let after = shared.endpoints().generation;
    assert_ne!(after, before);
    let retries = RetryConstraint { percent: 0, ..terms.retries };
    registry.intern(&shared.name, endpoints(1), Terms { retries, ..terms });
    assert_ne!(shared.endpoints().generation, after);
}

#[test]
fn slots_are_unique_among_those_in_use_and_used_again() {
    let mut registry = Registry::new(None);
    let names = [name("default/a"), name("default/b"), name("other/a")];
    let backends: Vec<_> =
        names.iter().map(|name| registry.intern(name, Vec::new(), Terms::default())).collect();
    assert_eq!(backends.iter().map(|backend| backend.id).collect::<Vec<_>>(), [0, 1, 2]);
    registry.retain(|kept| *kept != names[1]);
    assert_eq!(
        backends.iter().map(|backend| backend.is_retired()).collect::<Vec<_>>(),
        [false, true, false]
    );
    // Of the same name, and yet another backend: workers may still hold the old one.
    let again = registry.intern(&names[1], Vec::new(), Terms::default());
    assert!(!Arc::ptr_eq(&again, &backends[1]) && !again.is_retired());
    assert_eq!(again.id, 1);
    assert_eq!(registry.intern(&name("default/c"), Vec::new(), Terms::default()).id, 3);
    assert!(Arc::ptr_eq(&registry.intern(&names[0], Vec::new(), Terms::default()), &backends[0]));
}
