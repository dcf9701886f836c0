//! What a snapshot's problems and its routes' verdicts become.

use std::net::SocketAddr;

use weft_gamma::object;

use super::*;
use crate::testing::{Mesh, run, yaml};

const CLUSTER: &str = "
    apiVersion: v1
    kind: List
    items:
    - {apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: default},
       spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
    - {apiVersion: v1, kind: Service, metadata: {name: other, namespace: default},
       spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}}
    - {apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute,
       metadata: {name: to-nowhere, namespace: default},
       spec: {parentRefs: [{group: '', kind: Service, name: reviews}],
              rules: [{backendRefs: [{name: missing, port: 80}]}]}}
    - {apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute,
       metadata: {name: no-such-port, namespace: default},
       spec: {parentRefs: [{group: '', kind: Service, name: other, port: 81}],
              rules: [{backendRefs: [{name: other, port: 80}]}]}}";

fn snapshot(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for object in object::decode(yaml(text)).objects {
        snapshot.objects.insert(object);
    }
    snapshot
}

fn publisher(mesh: &Mesh) -> Publisher {
    Publisher::new(mesh.shared.clone(), "default".into(), Settings::default())
}

#[test]
fn what_a_route_s_status_would_say_is_a_problem() {
    run(async {
        let mesh = Mesh::new();
        let mut publisher = publisher(&mesh);
        publisher.publish(snapshot(CLUSTER));
        let dump = publisher.in_force().dump();
        let problems = dump["problems"].to_string();
        assert!(
            problems.contains("HTTPRoute default/to-nowhere: ResolvedRefs=False"),
            "{problems}"
        );
        assert!(problems.contains("spec.rules[0].backendRefs[0].name"), "{problems}");
        assert!(problems.contains("HTTPRoute default/no-such-port: Accepted=False"), "{problems}");
        assert!(mesh.shared.metrics.encode().contains("\nweft_source_problems 2\n"));
        assert_eq!(mesh.shared.table().generation, 1);

        publisher.publish(snapshot("{kind: List, apiVersion: v1, items: []}"));
        assert_eq!(publisher.in_force().dump()["problems"], serde_json::json!([]));
        assert!(mesh.shared.metrics.encode().contains("\nweft_source_problems 0\n"));
    });
}

#[test]
fn where_only_some_services_are_known_the_others_are_no_destinations_and_no_problems() {
    run(async {
        let mesh = Mesh::new();
        let mut publisher = publisher(&mesh);
        let mut some = snapshot(CLUSTER);
        some.destinations = Some([crate::testing::namespaced("default/reviews")].into());
        publisher.publish(some);
        let at = |ip: [u8; 4]| {
            let addr = SocketAddr::from((ip, 80));
            mesh.shared.table().destination(addr.ip(), addr.port()).is_some()
        };
        assert!(at([10, 96, 0, 1]) && !at([10, 96, 0, 2]));
        let problems = publisher.in_force().dump()["problems"].to_string();
        assert!(
            problems.contains("to-nowhere") && !problems.contains("no-such-port"),
            "{problems}"
        );
    });
}
