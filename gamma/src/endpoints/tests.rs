use super::ready;
use crate::object::Objects;
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
    let slices = objects.slices.values().map(|slice| &**slice);
    ready(slices, port).iter().map(|endpoint| endpoint.addr.to_string()).collect()
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
    let endpoints = ready(objects.slices.values().map(|slice| &**slice), "http");
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
