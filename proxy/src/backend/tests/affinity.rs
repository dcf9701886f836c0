//! `sessionAffinity: ClientIP`: where a pod is kept, and what moves it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::backend::affinity::{self, Affinity};

const TIMEOUT: Duration = Duration::from_secs(100);

fn terms() -> Terms {
    Terms { client_affinity: Some(TIMEOUT), ..Terms::default() }
}

fn pod(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 2, 0, number]))
}

/// As a pod sees it, on two of its workers.
fn kept(pod: Option<IpAddr>, count: u8) -> (Registry, Arc<Backend>, [LocalBackend; 2]) {
    let mut registry = Registry::new(pod);
    let shared = registry.intern(&name("default/svc"), endpoints(count), terms());
    let workers = [(); 2].map(|()| LocalBackend::new(shared.clone(), u32::MAX));
    (registry, shared, workers)
}

fn picked(backend: &LocalBackend) -> u8 {
    number(backend.pick(&[], Instant::now()).unwrap().endpoint())
}

#[test]
fn one_pod_one_endpoint_on_all_workers() {
    for number in 0..20 {
        let (_registry, _shared, [one, other]) = kept(pod(number), 10);
        let first = picked(&one);
        for _ in 0..20 {
            assert_eq!((picked(&one), picked(&other)), (first, first));
        }
        // What is under way there does not count.
        let _leases: Vec<_> = (0..50).map(|_| one.pick(&[], Instant::now()).unwrap()).collect();
        assert_eq!(picked(&one), first);
    }
}

#[test]
fn a_sidecar_that_starts_anew_chooses_alike_and_pods_choose_differently() {
    let mut seen: BTreeMap<u8, u32> = BTreeMap::new();
    for number in 0..200 {
        let first = picked(&kept(pod(number), 4).2[0]);
        assert_eq!(picked(&kept(pod(number), 4).2[1]), first);
        *seen.entry(first).or_default() += 1;
    }
    // Binomial with a mean of 50 each: five standard deviations are 31.
    assert!(seen.len() == 4 && seen.values().all(|seen| seen.abs_diff(50) < 31), "{seen:?}");
    // Of unknown address it is kept all the same.
    let (_registry, _shared, [one, other]) = kept(None, 10);
    assert_eq!(picked(&one), picked(&other));
}

#[test]
fn endpoints_that_come_move_nobody_and_one_that_goes_moves_its_pods() {
    for number in 0..20 {
        let (mut registry, shared, [one, other]) = kept(pod(number), 5);
        let first = picked(&one);
        registry.intern(&shared.name, endpoints(50), terms());
        assert_eq!((picked(&one), picked(&other)), (first, first));

        let mut left = endpoints(50);
        left.remove(first.into());
        registry.intern(&shared.name, left, terms());
        let second = picked(&other);
        assert_ne!(second, first);
        assert_eq!(picked(&one), second);
        // It comes back: the pod is somewhere else now.
        registry.intern(&shared.name, endpoints(50), terms());
        assert_eq!((picked(&one), picked(&other)), (second, second));
        // The address comes back under another pod.
        let mut others = endpoints(50);
        others[usize::from(second)].target = Some("another".into());
        others.truncate(usize::from(second) + 1);
        registry.intern(&shared.name, others.split_off(second.into()), terms());
        assert_eq!(picked(&one), second, "the only one");
    }
}

#[test]
fn a_failure_moves_a_request_and_an_ejection_the_pod() {
    let (_registry, _shared, [one, other]) = kept(pod(1), 5);
    let lease = one.pick(&[], Instant::now()).unwrap();
    let first = lease.endpoint().clone();
    // Tried without success: this request goes elsewhere, and twice not to the same.
    let second = one.pick(std::slice::from_ref(&first), Instant::now()).unwrap().endpoint().clone();
    assert!(!Rc::ptr_eq(&first, &second));
    let third =
        one.pick(&[first.clone(), second.clone()], Instant::now()).unwrap().endpoint().clone();
    assert!(!Rc::ptr_eq(&first, &third) && !Rc::ptr_eq(&second, &third));
    one.failed(&first);
    assert_eq!(picked(&one), number(&first));
    // Ejected by one worker: the pod moves, on all of them, to the next in its order, and stays.
    one.failed(&first);
    assert_eq!((picked(&one), picked(&other)), (number(&second), number(&second)));
}

#[test]
fn a_single_endpoint_is_never_given_up() {
    let (_registry, _shared, [one, _other]) = kept(pod(1), 1);
    let only = one.pick(&[], Instant::now()).unwrap().endpoint().clone();
    for _ in 0..5 {
        one.failed(&only);
    }
    assert!(one.pick(&[only], Instant::now()).is_some());
    assert!(kept(pod(1), 0).2[0].pick(&[], Instant::now()).is_none());
}

#[test]
fn who_pauses_for_too_long_is_forgotten() {
    let start = Instant::now();
    let affinity = Affinity::new(affinity::key(pod(1)));
    assert_eq!(affinity.kept(start, TIMEOUT), None);
    affinity.keep(start, 7);
    let second = Duration::from_secs(1);
    assert_eq!(affinity.kept(start + TIMEOUT, TIMEOUT), Some(7));
    assert_eq!(affinity.kept(start + TIMEOUT + 2 * second, TIMEOUT), None);
    // Each use counts anew.
    affinity.touch(start + TIMEOUT);
    assert_eq!(affinity.kept(start + TIMEOUT + TIMEOUT, TIMEOUT), Some(7));
    assert_eq!(affinity.kept(start + TIMEOUT + TIMEOUT + 2 * second, TIMEOUT), None);
}

#[test]
fn affinity_comes_and_goes_with_the_service() {
    let (mut registry, shared, [one, _other]) = kept(pod(1), 2);
    let first = picked(&one);
    registry.intern(&shared.name, endpoints(2), Terms::default());
    let seen = picks(&one, 2, 1_000);
    assert!(seen.iter().all(|seen| *seen > 300), "{seen:?}");
    registry.intern(&shared.name, endpoints(2), terms());
    assert_eq!(picked(&one), first);
}

#[test]
fn the_ports_of_a_service_lead_to_one_pod() {
    for number in 0..20 {
        let mut registry = Registry::new(pod(number));
        let ports = [80, 81].map(|port| {
            let name = BackendName { service: namespaced("default/svc"), port };
            let mut endpoints = endpoints(10);
            endpoints.iter_mut().for_each(|endpoint| endpoint.addr.set_port(port));
            LocalBackend::new(registry.intern(&name, endpoints, terms()), u32::MAX)
        });
        assert_eq!(picked(&ports[0]), picked(&ports[1]));
    }
}

#[test]
fn an_endpoint_by_its_name() {
    let (_registry, _shared, backend) = backend(3);
    let leases = lease_all(&backend, 3);
    let endpoint = leases[1].endpoint().clone();
    let named = |tried: &[Rc<LocalEndpoint>]| {
        backend.named(endpoint.digest, tried).map(|lease| number(lease.endpoint()))
    };
    assert_eq!(named(&[]), Some(1));
    assert_eq!(named(std::slice::from_ref(&endpoint)), None, "tried");
    assert!(backend.named(endpoint.digest ^ 1, &[]).is_none(), "nobody's name");
    (0..2).for_each(|_| backend.failed(&endpoint));
    assert_eq!(named(&[]), None, "ejected");
}
