//! Whatever happens in whatever order, resolving what a change concerns is resolving everything.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kinds::{
    BACKEND_TRAFFIC_POLICY, GRPC_ROUTE, HTTP_ROUTE, REFERENCE_GRANT, SERVICE, TCP_ROUTE, TLS_ROUTE,
};

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

fn service(namespace: &str, name: &str, headless: bool) -> DynamicObject {
    let address = if headless { "None" } else { "10.96.0.1" };
    object(json!({
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "clusterIP": address, "ports": [{ "port": 80 }, { "name": "b", "port": 81 }] },
    }))
}

fn grant(namespace: &str, from: &str) -> DynamicObject {
    object(json!({
        "metadata": { "namespace": namespace, "name": "grant" },
        "spec": {
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from }],
            "to": [{ "group": "", "kind": "Service" }],
        },
    }))
}

/// A route with a parent, a backend and a mirror in one namespace or another.
fn route(
    name: &str,
    generation: i64,
    refs: &[(&str, &str); 3],
    port: Option<u16>,
) -> DynamicObject {
    let [parent, backend, mirror] =
        refs.map(|(namespace, name)| json!({ "namespace": namespace, "name": name, "port": 80 }));
    let mut parent = parent;
    parent["group"] = json!("");
    parent["kind"] = json!("Service");
    parent["port"] = json!(port);
    let filter = json!({ "type": "RequestMirror", "requestMirror": { "backendRef": mirror } });
    object(json!({
        "metadata": { "namespace": "a", "name": name, "uid": name, "generation": generation },
        "spec": {
            "parentRefs": [parent],
            "rules": [{ "backendRefs": [backend] }, { "filters": [filter] }],
        },
    }))
}

fn applied(kind: &'static WatchedKind, object: DynamicObject) -> Update {
    Update { kind, version: "v1", change: Change::Applied(Box::new(object)) }
}

fn deleted(kind: &'static WatchedKind, object: DynamicObject) -> Update {
    Update { kind, version: "v1", change: Change::Deleted(Box::new(object)) }
}

fn listed(kind: &'static WatchedKind, objects: Vec<DynamicObject>) -> Update {
    Update { kind, version: "v1", change: Change::Listed(objects) }
}

const NAMES: [(&str, &str); 4] = [("a", "s"), ("a", "t"), ("b", "s"), ("b", "t")];

/// Something that happens, of a small world in which everything meets.
fn happening() -> impl Strategy<Value = Happening> {
    let name = || 0..NAMES.len();
    let kind =
        prop_oneof![Just(&HTTP_ROUTE), Just(&GRPC_ROUTE), Just(&TLS_ROUTE), Just(&TCP_ROUTE)];
    prop_oneof![
        (name(), any::<bool>()).prop_map(|(name, headless)| Happening::Service(name, headless)),
        name().prop_map(Happening::NoService),
        any::<bool>().prop_map(Happening::Grant),
        (kind.clone(), 0..3_usize, [name(), name(), name()], prop::option::of(80..82_u16))
            .prop_map(|(kind, route, refs, port)| Happening::Route(kind, route, refs, port)),
        (kind.clone(), 0..3_usize).prop_map(|(kind, route)| Happening::NoRoute(kind, route)),
        kind.prop_map(Happening::Relist),
    ]
}

#[derive(Clone, Debug)]
enum Happening {
    Service(usize, bool),
    NoService(usize),
    Grant(bool),
    Route(&'static WatchedKind, usize, [usize; 3], Option<u16>),
    NoRoute(&'static WatchedKind, usize),
    Relist(&'static WatchedKind),
}

const ROUTES: [&str; 3] = ["one", "two", "three"];

fn update(happening: &Happening, generation: i64) -> Update {
    let route_of = |route: usize, refs: [usize; 3], port| {
        self::route(ROUTES[route], generation, &refs.map(|index| NAMES[index]), port)
    };
    match *happening {
        Happening::Service(name, headless) => {
            applied(&SERVICE, service(NAMES[name].0, NAMES[name].1, headless))
        }
        Happening::NoService(name) => {
            deleted(&SERVICE, service(NAMES[name].0, NAMES[name].1, false))
        }
        Happening::Grant(true) => applied(&REFERENCE_GRANT, grant("b", "a")),
        Happening::Grant(false) => deleted(&REFERENCE_GRANT, grant("b", "a")),
        Happening::Route(kind, route, refs, port) => applied(kind, route_of(route, refs, port)),
        Happening::NoRoute(kind, route) => deleted(kind, route_of(route, [0; 3], None)),
        Happening::Relist(kind) => listed(kind, vec![route_of(0, [1, 2, 3], None)]),
    }
}

proptest! {
    #[test]
    fn what_a_change_concerns_is_all_that_it_changes(
        happenings in prop::collection::vec(prop::collection::vec(happening(), 1..3), 1..12)
    ) {
        let mut store = Store::default();
        let mut known: BTreeMap<ObjectKey, Vec<Verdict>> = BTreeMap::new();
        let mut generation = 0;
        for burst in happenings {
            for happening in &burst {
                generation += 1;
                store.apply(update(happening, generation));
            }
            let concerned = store.take_concerned();
            known.retain(|key, _| store.reported(key).is_some() && !concerned.contains(key));
            known.extend(store.verdicts(&concerned, &Settings::default()));
            // From the surroundings alone, too, of which `verdicts` makes use where few change.
            for key in &concerned {
                let alone = BTreeSet::from([key.clone()]);
                let verdicts = resolve(&store.surroundings(&alone), &Settings::default()).verdicts;
                prop_assert_eq!(verdicts.get(key), known.get(key));
            }
            let all = resolve(&store.objects, &Settings::default()).verdicts;
            prop_assert_eq!(&known, &all);
        }
    }
}

#[test]
fn it_is_complete_when_every_kind_is_listed_or_absent() {
    let mut store = Store::default();
    for kind in [&SERVICE, &HTTP_ROUTE, &REFERENCE_GRANT] {
        assert!(!store.is_complete());
        store.apply(listed(kind, Vec::new()));
    }
    assert_eq!(store.missing(), ["GRPCRoute", "TLSRoute", "TCPRoute", "XBackendTrafficPolicy"]);
    for kind in [&GRPC_ROUTE, &TLS_ROUTE, &TCP_ROUTE, &BACKEND_TRAFFIC_POLICY] {
        store.apply(Update { kind, version: "", change: Change::Absent });
    }
    assert!(store.is_complete());
}

#[test]
fn a_change_of_a_status_concerns_the_route_alone() {
    let mut store = Store::default();
    let refs = [("a", "s"), ("a", "s"), ("a", "s")];
    store.apply(listed(
        &HTTP_ROUTE,
        vec![route("one", 1, &refs, None), route("two", 1, &refs, None)],
    ));
    assert_eq!(store.take_concerned().len(), 2);
    store.apply(applied(&HTTP_ROUTE, route("one", 1, &refs, None)));
    let concerned = store.take_concerned();
    assert_eq!(concerned.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["one"]);
    store.apply(applied(&HTTP_ROUTE, route("one", 2, &refs, None)));
    assert_eq!(store.take_concerned().len(), 2);
}

#[test]
fn a_service_that_is_written_without_a_change_concerns_nobody() {
    let mut store = Store::default();
    store.apply(applied(&SERVICE, service("a", "s", false)));
    store.take_concerned();
    store.apply(applied(&SERVICE, service("a", "s", false)));
    assert!(!store.has_changed());
}

#[test]
fn what_cannot_be_read_any_more_is_not_known_any_more() {
    let mut store = Store::default();
    let refs = [("a", "s"), ("a", "s"), ("a", "s")];
    store.apply(applied(&HTTP_ROUTE, route("one", 1, &refs, None)));
    let mut broken = route("one", 2, &refs, None);
    broken.data["spec"] = json!(7);
    store.apply(applied(&HTTP_ROUTE, broken));
    assert_eq!(store.route_count(), 0);
}
