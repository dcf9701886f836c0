//! What follows from what is known.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weft_gamma::object::{InternalTraffic, Kind, ObjectKey};
use weft_gamma::route::RouteKind;

use super::objects::{backend_ref, grant, name, route, route_of, service, slice};
use super::scenario::{endpoints_of, problems};
use crate::source::Snapshot;
use crate::source::kube::lean::LeanObject;
use crate::source::kube::selection::Selection;
use crate::source::kube::view::View;
use crate::source::kube::watch::{Change, Unavailable};

const IP: &str = "10.96.0.1";

/// The routes that the traffic from `pod` to `shop/a` depends on.
const ROUTES: [&str; 8] = [
    "http pod",
    "http shop",
    "grpc pod",
    "grpc shop",
    "tls pod",
    "tls shop",
    "tcp pod",
    "tcp shop",
];

/// A view of a pod in namespace `pod`, with the objects that have been listed for it.
struct Cluster {
    view: View,
}

impl Cluster {
    /// Wants `shop/a`, of which nothing is listed yet.
    fn new() -> Self {
        let mut view = View::new("pod".into());
        view.want(name("shop/a"), IP.parse().unwrap());
        Self { view }
    }

    /// Wants `shop/a`, which has an endpoint and is published.
    fn with_a() -> Self {
        let mut cluster = Self::new();
        cluster.list(selected("services shop/a"), &[service("shop/a", &[IP])]);
        cluster.list(selected("slices shop/a"), &[slice("shop/a", &["10.0.0.1"])]);
        for routes in ROUTES {
            cluster.list(selected(routes), &[]);
        }
        assert!(cluster.news().is_some());
        cluster
    }

    fn list(&mut self, selection: Selection, objects: &[Value]) {
        let objects = objects.iter().map(|it| selection.decode(object(it), 0)).collect();
        self.view.change(&selection, Change::Listed(objects));
    }

    fn apply(&mut self, selection: &str, value: &Value) {
        let selection = selected(selection);
        let decoded = selection.decode(object(value), 0);
        self.view.change(&selection, Change::Applied(Box::new(decoded)));
    }

    fn unavailable(&mut self, selection: &str, why: Unavailable) {
        self.view.change(&selected(selection), Change::Unavailable(why));
    }

    /// What the source does after each change.
    fn news(&mut self) -> Option<Snapshot> {
        let needed = self.view.needed();
        self.view.keep_only(&needed);
        self.view.news()
    }

    /// What of the needed is there besides what the Service `shop/a` alone needs, sorted.
    fn also_needed(&self) -> Vec<String> {
        let of_a = View::needed(&Cluster::new().view);
        self.view.needed().difference(&of_a).map(ToString::to_string).collect()
    }
}

/// From `slices shop/a`.
fn selected(text: &str) -> Selection {
    match text.split_once(' ').unwrap() {
        ("services", service) => Selection::Service(name(service)),
        ("slices", service) => Selection::Slices(name(service)),
        ("http", namespace) => Selection::Routes(RouteKind::Http, namespace.into()),
        ("grpc", namespace) => Selection::Routes(RouteKind::Grpc, namespace.into()),
        ("tls", namespace) => Selection::Routes(RouteKind::Tls, namespace.into()),
        ("tcp", namespace) => Selection::Routes(RouteKind::Tcp, namespace.into()),
        ("grants", namespace) => Selection::Grants(namespace.into()),
        other => panic!("{other:?}"),
    }
}

fn object(value: &Value) -> LeanObject {
    serde_json::from_value(value.clone()).unwrap()
}

fn backends(snapshot: &Snapshot, of: &str) -> Vec<String> {
    let name = name(of);
    let key = ObjectKey { kind: Kind::HttpRoute, namespace: name.namespace, name: name.name };
    let backends = snapshot.objects.routes[&key].rules.iter().flat_map(|rule| &rule.backends);
    backends.map(|backend| backend.name.clone()).collect()
}

#[test]
fn a_service_needs_itself_its_slices_and_the_routes_of_both_namespaces() {
    let needed: BTreeSet<String> =
        Cluster::new().view.needed().iter().map(ToString::to_string).collect();
    let expected = [
        "EndpointSlices of Service shop/a",
        "GRPCRoutes of namespace pod",
        "GRPCRoutes of namespace shop",
        "HTTPRoutes of namespace pod",
        "HTTPRoutes of namespace shop",
        "Service shop/a",
        "TCPRoutes of namespace pod",
        "TCPRoutes of namespace shop",
        "TLSRoutes of namespace pod",
        "TLSRoutes of namespace shop",
    ];
    assert_eq!(needed.iter().collect::<Vec<_>>(), expected);
    let mut idle = Cluster::new();
    idle.view.forget(&name("shop/a"));
    assert!(idle.view.needed().is_empty());
}

#[test]
fn a_route_needs_its_backends_and_mirrors_and_the_grants_of_their_namespaces() {
    let mut producer = route("shop/r", "shop/a", &["shop/b", "far/c"]);
    producer["spec"]["rules"][0]["filters"] = json!([
        {"type": "RequestMirror", "requestMirror": {"backendRef": backend_ref("shop/m")}},
    ]);
    producer["spec"]["rules"][0]["backendRefs"][0]["filters"] = json!([
        {"type": "RequestMirror", "requestMirror": {"backendRef": backend_ref("away/n")}},
    ]);
    let mut cluster = Cluster::with_a();
    cluster.list(selected("http shop"), &[producer]);
    assert_eq!(
        cluster.also_needed(),
        [
            "Service away/n",
            "Service far/c",
            "Service shop/b",
            "Service shop/m",
            "EndpointSlices of Service away/n",
            "EndpointSlices of Service far/c",
            "EndpointSlices of Service shop/b",
            "EndpointSlices of Service shop/m",
            "ReferenceGrants of namespace away",
            "ReferenceGrants of namespace far",
        ]
    );
}

#[test]
fn consumer_routes_and_other_kinds_count_too() {
    for (selection, kind) in [("grpc", "GRPCRoute"), ("tls", "TLSRoute"), ("tcp", "TCPRoute")] {
        let mut cluster = Cluster::with_a();
        let routes = selected(&format!("{selection} pod"));
        cluster.list(routes, &[route_of(kind, "pod/r", "shop/a", &["pod/b"])]);
        let needed = cluster.also_needed();
        assert_eq!(needed, ["Service pod/b", "EndpointSlices of Service pod/b"], "{kind}");
    }
}

/// A consumer route sends back into the parent's namespace, for which nobody has to permit it.
#[test]
fn a_backend_in_the_parents_namespace_needs_no_grants() {
    let mut cluster = Cluster::with_a();
    cluster.list(selected("http pod"), &[route("pod/r", "shop/a", &["shop/b"])]);
    let needed = cluster.also_needed();
    assert_eq!(needed, ["Service shop/b", "EndpointSlices of Service shop/b"]);
}

#[test]
fn routes_of_other_services_and_other_kinds_of_backends_need_nothing() {
    let mut bucket = route("shop/bucket", "shop/a", &["shop/b"]);
    bucket["spec"]["rules"][0]["backendRefs"][0]["group"] = "storage.example".into();
    bucket["spec"]["rules"][0]["backendRefs"][0]["kind"] = "Bucket".into();
    let mut cluster = Cluster::with_a();
    let other = route("shop/other", "shop/z", &["shop/b"]);
    cluster.list(selected("http shop"), &[other, bucket]);
    assert!(cluster.also_needed().is_empty());
    let snapshot = cluster.news().unwrap();
    let routes: Vec<_> = snapshot.objects.routes.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(routes, ["bucket"], "a route that has nothing to do with the pod is left out");
}

#[test]
fn a_third_namespace_s_routes_do_not_apply_to_a_service() {
    let mut cluster = Cluster::with_a();
    cluster.view.want(name("far/c"), "10.96.0.3".parse().unwrap());
    cluster.list(selected("http far"), &[route("far/r", "shop/a", &["far/b"])]);
    let needed = cluster.also_needed();
    assert!(!needed.contains(&"Service far/b".to_owned()), "{needed:?}");
}

#[test]
fn nothing_is_published_of_a_service_before_all_of_it_is_listed() {
    let mut cluster = Cluster::new();
    assert!(cluster.news().is_none());
    cluster.list(selected("services shop/a"), &[service("shop/a", &[IP])]);
    cluster.list(selected("slices shop/a"), &[slice("shop/a", &["10.0.0.1"])]);
    cluster.list(selected("http shop"), &[route("shop/r", "shop/a", &["shop/b"])]);
    for routes in ROUTES.into_iter().filter(|it| !["http shop", "grpc pod"].contains(it)) {
        cluster.list(selected(routes), &[]);
    }
    let destinations =
        |news: Option<Snapshot>| news.map_or(0, |snapshot| snapshot.destinations.unwrap().len());
    assert_eq!(destinations(cluster.news()), 0);
    cluster.list(selected("grpc pod"), &[]);
    assert_eq!(destinations(cluster.news()), 0, "the route's backend is not listed");
    cluster.list(selected("services shop/b"), &[service("shop/b", &["10.96.0.2"])]);
    assert_eq!(destinations(cluster.news()), 0, "nor are the backend's slices");
    cluster.list(selected("slices shop/b"), &[slice("shop/b", &["10.0.0.2"])]);
    let snapshot = cluster.news().unwrap();
    assert_eq!(
        snapshot.destinations,
        Some(BTreeSet::from([name("shop/a")])),
        "b is no destination"
    );
    assert_eq!(endpoints_of(&snapshot, "shop/b"), ["10.0.0.2:8080".parse().unwrap()]);
    assert!(cluster.view.is_published(&name("shop/a")));
    assert!(cluster.news().is_none(), "published once");
}

#[test]
fn a_route_stays_as_it_was_until_its_new_backends_are_listed() {
    let mut cluster = Cluster::with_a();
    cluster.apply("http shop", &route("shop/r", "shop/a", &["shop/b"]));
    assert!(cluster.news().is_none(), "a new route waits for its backends");
    cluster.list(selected("services shop/b"), &[service("shop/b", &["10.96.0.2"])]);
    cluster.list(selected("slices shop/b"), &[slice("shop/b", &["10.0.0.2"])]);
    assert_eq!(backends(&cluster.news().unwrap(), "shop/r"), ["b"]);

    cluster.apply("http shop", &route("shop/r", "shop/a", &["far/c"]));
    assert!(cluster.news().is_none());
    let needed = cluster.also_needed();
    assert!(needed.contains(&"Service shop/b".to_owned()), "still in force: {needed:?}");
    assert!(needed.contains(&"ReferenceGrants of namespace far".to_owned()), "{needed:?}");

    // Endpoints do not wait, those of the backend that goes among them.
    cluster.apply("slices shop/a", &slice("shop/a", &["10.0.0.9"]));
    cluster.apply("slices shop/b", &slice("shop/b", &["10.0.0.8"]));
    let snapshot = cluster.news().unwrap();
    assert_eq!(endpoints_of(&snapshot, "shop/a"), ["10.0.0.9:8080".parse().unwrap()]);
    assert_eq!(endpoints_of(&snapshot, "shop/b"), ["10.0.0.8:8080".parse().unwrap()]);
    assert_eq!(backends(&snapshot, "shop/r"), ["b"]);

    cluster.list(selected("services far/c"), &[service("far/c", &["10.96.0.3"])]);
    cluster.list(selected("slices far/c"), &[slice("far/c", &["10.0.0.3"])]);
    assert!(cluster.news().is_none(), "its backend is there, but not yet who may refer to it");
    cluster.list(selected("grants far"), &[grant("far/g", "shop", "v1beta1")]);
    let snapshot = cluster.news().unwrap();
    assert_eq!(backends(&snapshot, "shop/r"), ["c"]);
    assert_eq!(snapshot.objects.grants.len(), 1);
    // Now nothing holds the earlier backend any more.
    assert!(!cluster.also_needed().contains(&"Service shop/b".to_owned()));
    cluster.news();
    assert!(!cluster.view.needed().contains(&selected("services shop/b")));
}

#[test]
fn a_relist_is_swapped_whole() {
    let mut cluster = Cluster::with_a();
    let backend = &["shop/a"];
    let (one, two) = (route("shop/1", "shop/a", backend), route("shop/2", "shop/a", backend));
    cluster.list(selected("http shop"), &[one, two.clone()]);
    assert_eq!(cluster.news().unwrap().objects.routes.len(), 2);
    let three = route("shop/3", "shop/a", backend);
    cluster.list(selected("http shop"), &[two.clone(), three.clone()]);
    let snapshot = cluster.news().unwrap();
    let routes: Vec<_> = snapshot.objects.routes.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(routes, ["2", "3"]);
    cluster.list(selected("http shop"), &[three, two]);
    assert!(cluster.news().is_none(), "the same list is no news");
}

#[test]
fn a_deleted_object_is_gone() {
    let mut cluster = Cluster::with_a();
    let selection = selected("http shop");
    let value = route("shop/r", "shop/a", &["shop/a"]);
    cluster.apply("http shop", &value);
    assert_eq!(cluster.news().unwrap().objects.routes.len(), 1);
    let key = selection.key(&object(&value));
    cluster.view.change(&selection, Change::Deleted(key.clone()));
    assert!(cluster.news().unwrap().objects.routes.is_empty());
    cluster.view.change(&selection, Change::Deleted(key));
    assert!(cluster.news().is_none());

    let selection = selected("services shop/a");
    let key = selection.key(&object(&service("shop/a", &[IP])));
    cluster.view.change(&selection, Change::Deleted(key));
    assert!(cluster.news().unwrap().objects.services.is_empty());
    assert_eq!(cluster.view.service_at(IP.parse().unwrap()), None, "another may have it now");
}

#[test]
fn what_means_nothing_to_traffic_is_no_news() {
    let mut cluster = Cluster::with_a();
    let mut value = service("shop/a", &[IP]);
    value["metadata"]["resourceVersion"] = "77".into();
    value["metadata"]["annotations"] = json!({"note": "changed"});
    value["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Update"}]);
    value["status"] = json!({"loadBalancer": {}});
    cluster.apply("services shop/a", &value);
    assert!(cluster.news().is_none());
    value["spec"]["ports"][0]["port"] = 81.into();
    cluster.apply("services shop/a", &value);
    assert!(cluster.news().is_some());
    cluster.apply("http shop", &route("shop/other", "shop/z", &["shop/y"]));
    assert!(cluster.news().is_none(), "a route of another Service");
    for change in [Change::Current, Change::Failed("refused".into())] {
        cluster.view.change(&selected("http shop"), change);
        assert!(cluster.news().is_none());
    }
}

#[test]
fn what_our_own_annotations_say_is_news() {
    let mut cluster = Cluster::with_a();
    let mut value = route("shop/r", "shop/a", &["shop/a"]);
    cluster.apply("http shop", &value);
    cluster.news();
    let key = selected("http shop").key(&object(&value));
    let sticky = |cluster: &mut Cluster| {
        cluster.news().map(|snapshot| snapshot.objects.routes[&key].sticky_split.is_some())
    };
    value["metadata"]["annotations"] = json!({"note": "x"});
    cluster.apply("http shop", &value);
    assert_eq!(sticky(&mut cluster), None);
    value["metadata"]["annotations"] = json!({"note": "x", "weft.mesh/sticky-split": "session"});
    cluster.apply("http shop", &value);
    assert_eq!(sticky(&mut cluster), Some(true));
    value["metadata"]["annotations"]["note"] = "y".into();
    cluster.apply("http shop", &value);
    assert_eq!(sticky(&mut cluster), None);
    value["metadata"]["annotations"] = json!(null);
    cluster.apply("http shop", &value);
    assert_eq!(sticky(&mut cluster), Some(false));
}

#[test]
fn where_slices_are_forbidden_the_policies_are_kube_proxys() {
    let mut cluster = Cluster::with_a();
    let mut value = service("shop/a", &[IP]);
    value["metadata"]["uid"] = "uid-of-a".into();
    value["spec"]["internalTrafficPolicy"] = "Local".into();
    value["spec"]["sessionAffinity"] = "ClientIP".into();
    cluster.apply("services shop/a", &value);
    let service = |snapshot: &Snapshot| snapshot.objects.services[&name("shop/a")].clone();
    let own = service(&cluster.news().unwrap());
    assert_eq!(own.uid.as_deref(), Some("uid-of-a"));
    assert!(own.client_affinity.is_some() && own.internal_traffic == InternalTraffic::Local);
    cluster.unavailable("slices shop/a", Unavailable::Forbidden);
    let snapshot = cluster.news().unwrap();
    let stand_in = service(&snapshot);
    assert_eq!(
        (stand_in.client_affinity, stand_in.internal_traffic),
        (None, InternalTraffic::Cluster)
    );
    assert_eq!(endpoints_of(&snapshot, "shop/a"), ["10.96.0.1:80".parse().unwrap()]);
}

#[test]
fn where_slices_are_forbidden_the_cluster_address_stands_in() {
    let mut cluster = Cluster::with_a();
    cluster.unavailable("slices shop/a", Unavailable::Forbidden);
    let snapshot = cluster.news().unwrap();
    assert_eq!(endpoints_of(&snapshot, "shop/a"), ["10.96.0.1:80".parse().unwrap()]);
    assert_eq!(
        problems(&snapshot),
        "the EndpointSlices of Service shop/a may not be read: the pod's ServiceAccount needs get, \
         list and watch on endpointslices of the API group \"discovery.k8s.io\"\n"
    );
    cluster.unavailable("slices shop/a", Unavailable::Forbidden);
    assert!(cluster.news().is_none(), "said once");
    cluster.list(selected("slices shop/a"), &[slice("shop/a", &["10.0.0.1"])]);
    let snapshot = cluster.news().unwrap();
    assert_eq!(endpoints_of(&snapshot, "shop/a"), ["10.0.0.1:8080".parse().unwrap()]);
    assert_eq!(problems(&snapshot), "");
}

#[test]
fn routes_that_may_not_be_read_any_more_stay_and_uninstalled_ones_go() {
    let mut cluster = Cluster::with_a();
    cluster.apply("http shop", &route("shop/r", "shop/a", &["shop/a"]));
    cluster.news();
    cluster.unavailable("http shop", Unavailable::Forbidden);
    let snapshot = cluster.news().unwrap();
    assert_eq!(snapshot.objects.routes.len(), 1);
    assert!(problems(&snapshot).contains("httproutes of the API group"));
    cluster.unavailable("http shop", Unavailable::NotInstalled);
    let snapshot = cluster.news().unwrap();
    assert!(snapshot.objects.routes.is_empty());
    assert_eq!(
        problems(&snapshot),
        "the cluster has no HTTPRoute: none apply until it is installed\n"
    );
}

#[test]
fn kinds_that_are_not_installed_count_as_empty() {
    let mut cluster = Cluster::new();
    cluster.list(selected("services shop/a"), &[service("shop/a", &[IP])]);
    cluster.list(selected("slices shop/a"), &[]);
    for routes in ROUTES {
        cluster.unavailable(routes, Unavailable::NotInstalled);
    }
    let snapshot = cluster.news().unwrap();
    assert!(cluster.view.is_published(&name("shop/a")));
    assert_eq!(
        problems(&snapshot),
        "the cluster has no GRPCRoute: none apply until it is installed\n\
         the cluster has no HTTPRoute: none apply until it is installed\n",
        "each kind once, whatever the namespaces; TLSRoute and TCPRoute many clusters do without"
    );
}

#[test]
fn an_object_that_cannot_be_read_does_not_hide_the_others_nor_leave_the_earlier_edit_in_force() {
    let mut cluster = Cluster::with_a();
    let good = route("shop/good", "shop/a", &["shop/a"]);
    let mut broken = route("shop/broken", "shop/a", &["shop/a"]);
    cluster.list(selected("http shop"), &[good, broken.clone()]);
    assert_eq!(cluster.news().unwrap().objects.routes.len(), 2);
    broken["spec"] = "text".into();
    cluster.apply("http shop", &broken);
    let snapshot = cluster.news().unwrap();
    let routes: Vec<_> = snapshot.objects.routes.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(routes, ["good"]);
    let said = problems(&snapshot);
    assert!(said.starts_with("HTTPRoute shop/broken: spec: "), "{said}");
    let key = selected("http shop").key(&object(&broken));
    cluster.view.change(&selected("http shop"), Change::Deleted(key));
    assert_eq!(problems(&cluster.news().unwrap()), "");
}

#[test]
fn problems_of_routes_that_have_nothing_to_do_with_the_pod_are_not_said() {
    let mut cluster = Cluster::with_a();
    let mut theirs = route("shop/theirs", "shop/z", &["shop/z"]);
    theirs["spec"]["rules"][0]["unheard"] = "of".into();
    cluster.apply("http shop", &theirs);
    assert!(cluster.news().is_none());
    let mut ours = route("shop/ours", "shop/a", &["shop/a"]);
    ours["spec"]["rules"][0]["unheard"] = "of".into();
    cluster.apply("http shop", &ours);
    let said = problems(&cluster.news().unwrap());
    assert!(said.contains("HTTPRoute shop/ours") && !said.contains("theirs"), "{said}");
}

#[test]
fn a_service_has_the_routes_that_were_listed_before_it_was_used() {
    let mut cluster = Cluster::with_a();
    let mut first = route("shop/first", "shop/b", &["shop/b"]);
    first["spec"]["rules"][0]["unheard"] = "of".into();
    let (edited, deleted) = ("shop/edited", "shop/deleted");
    let gone = route(deleted, "shop/b", &["shop/b"]);
    cluster.list(
        selected("http shop"),
        &[
            first,
            route(edited, "shop/b", &["shop/a"]),
            gone.clone(),
            route("shop/to-c", "shop/c", &[]),
        ],
    );
    cluster.apply("http shop", &route(edited, "shop/b", &["shop/b"]));
    let key = selected("http shop").key(&object(&gone));
    cluster.view.change(&selected("http shop"), Change::Deleted(key));
    assert!(cluster.news().is_none(), "nobody uses shop/b");

    cluster.view.want(name("shop/b"), "10.96.0.2".parse().unwrap());
    cluster.list(selected("services shop/b"), &[service("shop/b", &["10.96.0.2"])]);
    cluster.list(selected("slices shop/b"), &[slice("shop/b", &["10.0.0.2"])]);
    let snapshot = cluster.news().unwrap();
    let routes: Vec<_> = snapshot.objects.routes.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(routes, ["edited", "first"]);
    assert_eq!(backends(&snapshot, edited), ["b"]);
    let said = problems(&snapshot);
    assert!(said.contains("HTTPRoute shop/first"), "{said}");

    // Read by now, and followed as ever.
    cluster.apply("http shop", &route(edited, "shop/b", &["shop/a"]));
    assert_eq!(backends(&cluster.news().unwrap(), edited), ["a"]);
    cluster.apply("http shop", &route(edited, "shop/c", &["shop/a"]));
    assert!(!cluster.news().unwrap().objects.routes.keys().any(|key| key.name == "edited"));
    cluster.apply("http shop", &route(edited, "shop/b", &["shop/b"]));
    assert_eq!(backends(&cluster.news().unwrap(), edited), ["b"]);
}

#[test]
fn a_service_is_found_by_any_of_its_addresses() {
    let mut cluster = Cluster::new();
    let at = |cluster: &Cluster, ip: &str| {
        cluster.view.service_at(ip.parse().unwrap()).map(ToString::to_string)
    };
    // Before it is listed, by that by which it was found.
    assert_eq!(at(&cluster, IP).as_deref(), Some("shop/a"));
    assert_eq!(at(&cluster, "fd00::1"), None);
    cluster.list(selected("services shop/a"), &[service("shop/a", &[IP, "fd00::1"])]);
    assert_eq!(at(&cluster, "fd00::1").as_deref(), Some("shop/a"));
    cluster.apply("services shop/a", &service("shop/a", &["10.96.0.7"]));
    assert_eq!(at(&cluster, IP), None);
}

#[test]
fn what_is_not_used_any_more_is_forgotten() {
    let mut cluster = Cluster::with_a();
    cluster.view.want(name("pod/q"), "10.96.0.4".parse().unwrap());
    cluster.list(selected("services pod/q"), &[service("pod/q", &["10.96.0.4"])]);
    cluster.list(selected("slices pod/q"), &[]);
    assert_eq!(cluster.news().unwrap().destinations.unwrap().len(), 2);
    cluster.view.forget(&name("shop/a"));
    let snapshot = cluster.news().unwrap();
    assert_eq!(snapshot.destinations, Some(BTreeSet::from([name("pod/q")])));
    assert_eq!(snapshot.objects.services.keys().collect::<Vec<_>>(), [&name("pod/q")]);
    assert!(!cluster.view.needed().contains(&selected("http shop")));
    cluster.view.forget(&name("pod/q"));
    assert!(cluster.news().unwrap().objects.services.is_empty());
}

#[test]
fn that_services_may_not_be_looked_up_is_said() {
    let mut view = View::new("pod".into());
    view.set_lookups_forbidden(true);
    let said = problems(&view.news().unwrap());
    assert!(said.contains("get, list and watch on services of the API group \"\""), "{said}");
    view.set_lookups_forbidden(false);
    assert_eq!(problems(&view.news().unwrap()), "");
}
