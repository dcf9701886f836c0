//! What a Service says of the choice among its endpoints: `sessionAffinity`, `internalTrafficPolicy`,
//! and the hints that its endpoints carry.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_gamma::endpoints::Place;
use weft_gamma::object::{InternalTraffic, Objects, Service, SliceEndpoint};

use crate::pod::Pod;
use crate::testing::{End, Mesh, RawBackend, Server, namespaced, run};
use crate::worker::Worker;

/// A pod on node `n1`.
fn mesh() -> Mesh {
    let place = Place { node: Some("n1".into()), zone: None };
    let address = Some([10, 2, 0, 7].into());
    Mesh::of(Pod { namespace: "default".into(), place, address }, |_limits| {})
}

fn change_service(mesh: &Mesh, name: &str, change: impl FnOnce(&mut Service)) {
    mesh.change(|objects| {
        change(Arc::make_mut(objects.services.get_mut(&namespaced(name)).unwrap()));
    });
}

fn change_endpoints(
    objects: &mut Objects,
    service: &str,
    mut change: impl FnMut(usize, &mut SliceEndpoint),
) {
    let service = namespaced(service);
    let slices = objects.slices.values_mut().filter(|slice| {
        slice.name.namespace == service.namespace && slice.service.as_ref() == Some(&service.name)
    });
    for (index, slice) in slices.enumerate() {
        change(index, &mut Arc::make_mut(slice).endpoints[0]);
    }
}

fn keep_clients(service: &mut Service) {
    service.client_affinity = Some(Duration::from_secs(60));
}

async fn servers() -> [Server; 3] {
    [Server::http1("a").await, Server::http1("b").await, Server::http1("c").await]
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.addr).collect()
}

/// The numbers of the servers that the Service's requests can go to.
fn choice(mesh: &Mesh, service: SocketAddr, servers: &[Server]) -> Vec<usize> {
    let table = mesh.shared.table();
    let set = table.destination(service.ip(), service.port()).unwrap().own().endpoints();
    let number = |addr| servers.iter().position(|server| server.addr == addr).unwrap();
    let mut numbers: Vec<usize> = set.endpoints.iter().map(|it| number(it.addr)).collect();
    numbers.sort_unstable();
    numbers
}

/// Who answers, of requests on connections of their own. Which of several it is depends on how busy
/// the machine was when each was new.
async fn who_answers(mesh: &Mesh, service: SocketAddr) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..30 {
        let answer = mesh.get(service, "/").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        seen.insert(answer.text().to_owned());
    }
    seen
}

#[test]
fn a_pod_stays_with_an_endpoint() {
    run(async {
        let mut mesh = mesh();
        let servers = servers().await;
        let service = mesh.service("default/svc", "http", &addresses(&servers));
        assert!(who_answers(&mesh, service).await.len() > 1);
        change_service(&mesh, "default/svc", keep_clients);
        let first = who_answers(&mesh, service).await;
        assert_eq!(first.len(), 1, "{first:?}");
        // The same on another worker.
        mesh.worker = Worker::start(mesh.shared.clone());
        assert_eq!(who_answers(&mesh, service).await, first);

        // Its endpoint goes, and comes back.
        let left: Vec<SocketAddr> = servers
            .iter()
            .zip(["a", "b", "c"])
            .filter(|(_, name)| !first.contains(*name))
            .map(|(server, _)| server.addr)
            .collect();
        mesh.endpoints("default/svc", &left);
        let second = who_answers(&mesh, service).await;
        assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
        mesh.endpoints("default/svc", &addresses(&servers));
        assert_eq!(who_answers(&mesh, service).await, second);
    });
}

#[test]
fn so_it_does_with_the_backend_of_a_route() {
    run(async {
        let mesh = mesh();
        let servers = servers().await;
        let service = mesh.service("default/svc", "http", &[]);
        mesh.service("default/backend", "http", &addresses(&servers));
        change_service(&mesh, "default/backend", keep_clients);
        mesh.http_route("default/r", "default/svc", "[{backendRefs: [{name: backend, port: 80}]}]");
        assert_eq!(who_answers(&mesh, service).await.len(), 1);
        // The parent's own affinity is about its own endpoints.
        change_service(&mesh, "default/svc", keep_clients);
        change_service(&mesh, "default/backend", |service| service.client_affinity = None);
        assert!(who_answers(&mesh, service).await.len() > 1);
    });
}

#[test]
fn a_pods_connections_of_other_protocols_stay_too() {
    run(async {
        let mesh = mesh();
        let [one, other] = [RawBackend::listen().await, RawBackend::listen().await];
        let service = mesh.service("default/svc", "redis", &[one.addr, other.addr]);
        change_service(&mesh, "default/svc", keep_clients);
        let mut seen = BTreeSet::new();
        for _ in 0..12 {
            let _client = mesh.connect(service).await;
            tokio::select! {
                _peer = one.accept() => seen.insert("one"),
                _peer = other.accept() => seen.insert("other"),
            };
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
    });
}

#[test]
fn local_traffic_stays_on_the_node_or_is_refused() {
    run(async {
        let mesh = mesh();
        let servers = servers().await;
        let service = mesh.service("default/svc", "http", &addresses(&servers));
        let nodes = |names: [&'static str; 3]| {
            move |objects: &mut Objects| {
                change_endpoints(objects, "default/svc", |index, endpoint| {
                    endpoint.node = Some(names[index].to_owned());
                });
            }
        };
        mesh.change(nodes(["n1", "n2", "n1"]));
        change_service(&mesh, "default/svc", |service| {
            service.internal_traffic = InternalTraffic::Local;
        });
        assert_eq!(choice(&mesh, service, &servers), [0, 2]);
        assert!(!who_answers(&mesh, service).await.contains("b"));

        mesh.change(nodes(["n3", "n2", "n3"]));
        let answer = mesh.get(service, "/").await;
        assert_eq!(
            (answer.status(), answer.header("x-weft-reason")),
            (503, Some("no_local_endpoint"))
        );
        let why = "internalTrafficPolicy: Local and no ready endpoint on the node n1";
        assert!(answer.text().contains(why), "{}", answer.text());
        let labels = ["status=\"503\"", "reason=\"no_local_endpoint\""];
        assert_eq!(mesh.requests(&labels), 1);
        let headers = "content-type: application/grpc\r\n";
        let answer = mesh.get_with(service, "/", headers).await;
        assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("14")));
    });
}

#[test]
fn local_traffic_of_other_protocols_is_reset() {
    run(async {
        let mesh = mesh();
        let backend = RawBackend::listen().await;
        let service = mesh.service("default/svc", "redis", &[backend.addr]);
        change_service(&mesh, "default/svc", |service| {
            service.internal_traffic = InternalTraffic::Local;
        });
        let mut client = mesh.connect(service).await;
        assert_eq!(client.end().await, (Vec::new(), End::Reset));
        let labels = ["reason=\"no_local_endpoint\""];
        assert_eq!(mesh.count("weft_tcp_connections_total", &labels), 1);
        assert!(!backend.has_connection().await);
    });
}

#[test]
fn a_sidecar_that_does_not_know_its_node_says_so() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("a").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        change_service(&mesh, "default/svc", |service| {
            service.internal_traffic = InternalTraffic::Local;
        });
        let answer = mesh.get(service, "/").await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().contains("set WEFT_NODE_NAME"), "{}", answer.text());
    });
}

#[test]
fn hints_keep_requests_in_the_zone_once_it_is_known() {
    run(async {
        let mesh = mesh();
        let servers = servers().await;
        let service = mesh.service("default/svc", "http", &addresses(&servers));
        let zones = ["z1", "z2", "z1"];
        mesh.change(|objects| {
            change_endpoints(objects, "default/svc", |index, endpoint| {
                endpoint.zone = Some(zones[index].to_owned());
                endpoint.hints.zones = vec![zones[index].to_owned()];
            });
        });
        // Kubernetes has not told the pod its zone, and nothing is known to run on its node.
        assert_eq!(choice(&mesh, service, &servers), [0, 1, 2]);
        // Anything that does, of any Service, tells it.
        mesh.service("default/other", "http", &[servers[0].addr]);
        mesh.change(|objects| {
            change_endpoints(objects, "default/other", |_, endpoint| {
                (endpoint.node, endpoint.zone) = (Some("n1".into()), Some("z1".into()));
            });
        });
        assert_eq!(choice(&mesh, service, &servers), [0, 2]);
        assert!(!who_answers(&mesh, service).await.contains("b"));
        // What is learnt is kept.
        mesh.change(|objects| change_endpoints(objects, "default/other", |_, it| it.node = None));
        assert_eq!(choice(&mesh, service, &servers), [0, 2]);
    });
}
