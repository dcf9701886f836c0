use super::{Place, Readiness, all, for_pod, zone_of_node};
use crate::object::{InternalTraffic, Objects};
use crate::testing::objects;

const HEAD: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
";

fn slice(name: &str, rest: &str) -> String {
    format!(
        "{HEAD}metadata: {{name: {name}, labels: {{kubernetes.io/service-name: demo}}}}\n{rest}"
    )
}

fn addresses(objects: &Objects, port: &str) -> Vec<String> {
    addresses_for(objects, port, InternalTraffic::Cluster, &Place::default())
}

fn addresses_for(
    objects: &Objects,
    port: &str,
    policy: InternalTraffic,
    place: &Place,
) -> Vec<String> {
    let slices = objects.slices.values().map(|slice| &**slice);
    for_pod(slices, port, policy, place).iter().map(|endpoint| endpoint.addr.to_string()).collect()
}

/// The last bytes of the addresses of a slice's endpoints that a pod on `node`, in `zone`, is sent to;
/// endpoint N has the address 10.0.0.N and what row N says.
fn chosen(rows: &[&str], policy: InternalTraffic, node: &str, zone: &str) -> Vec<usize> {
    let endpoints: Vec<String> = rows
        .iter()
        .zip(1..)
        .map(|(row, number)| format!("- {{addresses: [10.0.0.{number}], {row}}}"))
        .collect();
    let text = slice("s", &format!("ports: [{{port: 80}}]\nendpoints:\n{}", endpoints.join("\n")));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let place = Place { node: some(node), zone: some(zone) };
    let addresses = addresses_for(&objects(&text), "", policy, &place);
    let last = |addr: &String| addr.split(['.', ':']).nth(3).unwrap().parse().unwrap();
    addresses.iter().map(last).collect()
}

#[test]
fn ready_endpoints_of_the_named_tcp_port_sorted_and_once() {
    let one = slice(
        "one",
        "
ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}, {name: dns, port: 54}]
endpoints:
- {addresses: [10.0.0.9], conditions: {ready: true}}
- {addresses: [10.0.0.2, 10.0.0.3]}
- {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.5], conditions: {ready: false}}
",
    );
    let two = slice(
        "two",
        "
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.9], targetRef: {kind: Pod, uid: a-uid, name: p}}]
",
    );
    let objects = objects(&[one, two].join("\n---\n"));
    assert_eq!(addresses(&objects, "http"), ["10.0.0.2:8080", "10.0.0.9:8080"]);
    assert_eq!(addresses(&objects, "dns"), ["10.0.0.2:54", "10.0.0.9:54"]);
    assert_eq!(addresses(&objects, ""), [""; 0]);
    let slices = objects.slices.values().map(|slice| &**slice);
    let endpoints = for_pod(slices, "http", InternalTraffic::Cluster, &Place::default());
    assert_eq!(endpoints[1].target.as_deref(), Some("a-uid"));
    assert_eq!(endpoints[0].target, None);
}

#[test]
fn endpoints_on_their_way_out_serve_when_nothing_is_ready() {
    let leaving = "
ports: [{port: 8080}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: false, terminating: true}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true}}
- {addresses: [10.0.0.4], conditions: {ready: false}}
";
    assert_eq!(addresses(&objects(&slice("one", leaving)), ""), ["10.0.0.1:8080"]);
    let nobody = "
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.4], conditions: {ready: false}}]
";
    assert_eq!(addresses(&objects(&slice("one", nobody)), ""), [""; 0]);
}

#[test]
fn ipv6_endpoints() {
    let text = slice("one", "ports: [{port: 80}]\nendpoints: [{addresses: ['fd00::1']}]")
        .replace("IPv4", "IPv6");
    assert_eq!(addresses(&objects(&text), ""), ["[fd00::1]:80"]);
}

const GOING: &str = "conditions: {ready: false, serving: true, terminating: true}";

#[test]
fn local_traffic_stays_on_the_node() {
    let local = |rows: &[&str], node: &str| chosen(rows, InternalTraffic::Local, node, "z1");
    let rows = ["nodeName: n1", "nodeName: n2", "nodeName: n1", "conditions: {}"];
    assert_eq!(local(&rows, "n1"), [1, 3]);
    assert_eq!(local(&rows, "n2"), [2]);
    // "dropping the traffic if there are no local endpoints"
    assert_eq!(local(&rows, "n3"), [0; 0]);
    // Who does not know where it is has nothing near.
    assert_eq!(local(&rows, ""), [0; 0]);
    // What leaves the node is still nearer than any other, and what is not ready is no endpoint.
    let leaving = [format!("nodeName: n1, {GOING}"), "nodeName: n2".to_owned()];
    let leaving: Vec<&str> = leaving.iter().map(String::as_str).collect();
    assert_eq!(local(&leaving, "n1"), [1]);
    assert_eq!(local(&["nodeName: n1, conditions: {ready: false}", "nodeName: n2"], "n1"), [0; 0]);
    // Hints are for traffic that may go elsewhere.
    let hinted = "nodeName: n1, hints: {forZones: [{name: z2}]}";
    assert_eq!(local(&[hinted, "nodeName: n2, hints: {forZones: [{name: z1}]}"], "n1"), [1]);
}

#[test]
fn hints_for_zones() {
    let near = |rows: &[&str], zone: &str| chosen(rows, InternalTraffic::Cluster, "n1", zone);
    let rows = [
        "hints: {forZones: [{name: z1}]}",
        "hints: {forZones: [{name: z2}]}",
        "hints: {forZones: [{name: z2}, {name: z1}]}",
    ];
    assert_eq!(near(&rows, "z1"), [1, 3]);
    assert_eq!(near(&rows, "z2"), [2, 3]);
    // No endpoint is meant for the zone, or nobody knows which it is.
    assert_eq!(near(&rows, "z3"), [1, 2, 3]);
    assert_eq!(near(&rows, ""), [1, 2, 3]);
    // One ready endpoint without a hint, and all hints are ignored.
    assert_eq!(near(&[rows[0], rows[1], "zone: z1"], "z1"), [1, 2, 3]);
    assert_eq!(near(&[rows[0], rows[1], "hints: {forZones: []}"], "z1"), [1, 2, 3]);
    // One that is not ready says nothing, hinted or not.
    let not_ready = "conditions: {ready: false}";
    assert_eq!(near(&[rows[0], rows[1], not_ready], "z1"), [1]);
    let own_not_ready = "conditions: {ready: false}, hints: {forZones: [{name: z1}]}";
    assert_eq!(near(&[own_not_ready, rows[1]], "z1"), [2]);
    // Where nothing is ready, what leaves serves all zones.
    let leaving = format!("{GOING}, hints: {{forZones: [{{name: z2}}]}}");
    assert_eq!(near(&[&leaving], "z1"), [1]);
}

#[test]
fn hints_for_nodes_come_before_those_for_zones() {
    let rows = [
        "hints: {forZones: [{name: z1}], forNodes: [{name: n1}]}",
        "hints: {forZones: [{name: z1}], forNodes: [{name: n2}]}",
        "hints: {forZones: [{name: z2}], forNodes: [{name: n3}]}",
    ];
    let near = |rows: &[&str], node: &str| chosen(rows, InternalTraffic::Cluster, node, "z1");
    assert_eq!(near(&rows, "n1"), [1]);
    assert_eq!(near(&rows, "n3"), [3]);
    // Nothing is meant for the node: then what is meant for its zone.
    assert_eq!(near(&rows, "n4"), [1, 2]);
    assert_eq!(near(&rows, ""), [1, 2]);
    let one_without = [rows[0], rows[2], "hints: {forZones: [{name: z1}]}"];
    assert_eq!(near(&one_without, "n1"), [1, 3]);
}

#[test]
fn a_zone_is_learnt_from_what_runs_on_the_node() {
    let text = slice(
        "s",
        "ports: [{port: 80}]
endpoints:
- {addresses: [10.0.0.1], nodeName: n1}
- {addresses: [10.0.0.2], nodeName: n2, zone: z2}
- {addresses: [10.0.0.3], nodeName: n1, zone: z1, conditions: {ready: false}}
",
    );
    let objects = objects(&text);
    let zone = |node: &str| zone_of_node(objects.slices.values().map(|slice| &**slice), node);
    assert_eq!([zone("n1"), zone("n2"), zone("n3")], [Some("z1"), Some("z2"), None]);
}

#[test]
fn all_endpoints_with_their_readiness() {
    let one = slice(
        "one",
        "
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.9]}
- {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.5], conditions: {ready: false}}
",
    );
    // It is on its way from one slice to another.
    let two = slice(
        "two",
        "
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.5], conditions: {ready: true}}]
",
    );
    let objects = objects(&[one, two].join("\n---\n"));
    let all = all(objects.slices.values().map(|slice| &**slice), "http");
    let all: Vec<_> = all.iter().map(|(addr, it)| (addr.to_string(), *it)).collect();
    assert_eq!(
        all,
        [
            ("10.0.0.4:8080".to_owned(), Readiness::Leaving),
            ("10.0.0.5:8080".to_owned(), Readiness::Ready),
            ("10.0.0.9:8080".to_owned(), Readiness::Ready),
        ]
    );
}
