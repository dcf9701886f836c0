//! The cluster's objects, all by number, so that nothing has to be remembered of them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::backend::PORT;

/// How many Services, each with its route, are in a namespace.
pub(crate) const IN_NAMESPACE: usize = 100;
/// How many endpoints an EndpointSlice has at most: what Kubernetes makes.
pub(crate) const IN_SLICE: usize = 100;
/// The endpoints of every 200th Service.
pub(crate) const MANY: usize = 1_000;
/// The header by which the route's first rule is asked for.
pub(crate) const USER: &str = "end-user";
/// The header that the route's first rule adds to answers.
pub(crate) const EDIT: &str = "x-edit";

/// The Service that the sidecar uses as its first, second, …: each in a namespace of its own, the
/// first one in the pod's, and with many endpoints.
pub(crate) fn used(index: usize) -> usize {
    index * (IN_NAMESPACE + 10)
}

/// A namespace's name.
pub(crate) fn namespace(number: usize) -> String {
    format!("team-{number:02}")
}

/// A Service's namespace and name. Its route has the same.
pub(crate) fn name(number: usize) -> (String, String) {
    (namespace(number / IN_NAMESPACE), format!("service-{number:04}"))
}

pub(crate) fn cluster_ip(number: usize) -> Ipv4Addr {
    offset(Ipv4Addr::new(10, 96, 16, 0), number)
}

/// How many endpoints a Service has. Of 10,000 Services, 50 have 1,000 each, and all together have
/// 100,000.
pub(crate) fn endpoints(number: usize) -> usize {
    match number {
        number if number.is_multiple_of(200) => MANY,
        number if number % 40 == 1 => 6,
        _ => 5,
    }
}

/// The address of one of a Service's endpoints.
pub(crate) fn address(number: usize, endpoint: usize) -> Ipv4Addr {
    if endpoints(number) == MANY {
        offset(Ipv4Addr::new(10, 129, 0, 0), number / 200 * MANY + endpoint)
    } else {
        offset(Ipv4Addr::new(10, 128, 1, 0), number * 6 + endpoint)
    }
}

/// An address that no endpoint has at first.
pub(crate) fn new_address(number: usize) -> Ipv4Addr {
    offset(Ipv4Addr::new(10, 130, 0, 0), number)
}

fn offset(base: Ipv4Addr, by: usize) -> Ipv4Addr {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    Ipv4Addr::from_bits(base.to_bits().saturating_add(by))
}

/// All objects of a cluster with so many Services, namespaces first.
pub(crate) fn all(services: usize) -> impl Iterator<Item = Value> {
    let namespaces = (0..services.div_ceil(IN_NAMESPACE)).map(|number| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace(number)},
        })
    });
    let others = (0..services).flat_map(|number| {
        let slices = (0..endpoints(number).div_ceil(IN_SLICE)).map(move |it| slice(number, it));
        [service(number), route(number)].into_iter().chain(slices)
    });
    namespaces.chain(others)
}

pub(crate) fn service(number: usize) -> Value {
    let (namespace, name) = name(number);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"},
        },
        "spec": {
            "clusterIP": cluster_ip(number).to_string(),
            "selector": {"app.kubernetes.io/name": name},
            "ports": [
                {"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"},
                {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"},
            ],
        },
    })
}

/// What a user is sent by goes to the Service itself; everybody else is split between it and the next
/// one of the namespace.
pub(crate) fn route(number: usize) -> Value {
    let (namespace, name) = name(number);
    let (_, next) = self::name(number / IN_NAMESPACE * IN_NAMESPACE + (number + 1) % IN_NAMESPACE);
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": name, "port": 80}],
            "rules": [
                first_rule(&name, "0"),
                {
                    "backendRefs": [
                        {"name": name, "port": 80, "weight": 90},
                        {"name": next, "port": 80, "weight": 10},
                    ],
                },
            ],
        },
    });
    // What kubectl leaves in a route, and a sidecar has no use for.
    let applied = route.to_string();
    route["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    route
}

/// A route's first rule, at one of its edits.
fn first_rule(service: &str, edit: &str) -> Value {
    json!({
        "matches": [{"headers": [{"name": USER, "value": format!("user-of-{service}")}]}],
        "filters": [{
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {"set": [{"name": EDIT, "value": edit}]},
        }],
        "backendRefs": [{"name": service, "port": 80}],
    })
}

/// The path of a route, and a merge patch that makes another edit of it.
pub(crate) fn route_edit(number: usize, edit: &str) -> (String, Value) {
    let mut rules = route(number)["spec"]["rules"].take();
    let (_, name) = name(number);
    rules[0] = first_rule(&name, edit);
    (path(&route(number)), json!({"spec": {"rules": rules}}))
}

pub(crate) fn slice(number: usize, slice: usize) -> Value {
    let (namespace, name) = name(number);
    let range = (slice * IN_SLICE)..((slice + 1) * IN_SLICE).min(endpoints(number));
    let endpoints: Vec<Value> =
        range.map(|index| endpoint(number, index, address(number, index))).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": format!("{name}-{slice}"),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": PORT, "protocol": "TCP"},
            {"name": "metrics", "port": 9090, "protocol": "TCP"},
        ],
        "endpoints": endpoints,
    })
}

/// The path of a slice, and a merge patch that gives it one endpoint only, or else the first one
/// another address.
pub(crate) fn slice_edit(number: usize, address: Ipv4Addr) -> (String, Value) {
    let mut slice = slice(number, 0);
    let path = path(&slice);
    let mut endpoints = slice["endpoints"].take();
    endpoints[0] = endpoint(number, 0, address);
    if let Some(endpoints) = endpoints.as_array_mut()
        && self::endpoints(number) < MANY
    {
        endpoints.truncate(1);
    }
    (path, json!({"endpoints": endpoints}))
}

fn endpoint(number: usize, index: usize, address: Ipv4Addr) -> Value {
    let (namespace, name) = name(number);
    json!({
        "addresses": [address.to_string()],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": format!("node-{}", (number + index) % 500),
        "zone": format!("zone-{}", index % 3),
        "targetRef": {
            "kind": "Pod",
            "namespace": namespace,
            "name": format!("{name}-{index:04}"),
            "uid": format!("00000000-0000-4000-8000-{:012}", number * MANY + index),
        },
    })
}

/// The path of an object in the API.
pub(crate) fn path(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{}/{}", collection(object), metadata["name"].as_str().unwrap_or_default())
}

/// The path at which objects like this one are made.
pub(crate) fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_whole_cluster_is_as_large_as_is_said() {
        let mut kinds = std::collections::BTreeMap::<String, usize>::new();
        let mut endpoints = 0;
        for object in all(10_000) {
            *kinds.entry(object["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            endpoints += object["endpoints"].as_array().map_or(0, Vec::len);
        }
        assert_eq!(kinds["Service"], 10_000);
        assert_eq!(kinds["HTTPRoute"], 10_000);
        assert_eq!(kinds["Namespace"], 100);
        assert_eq!(endpoints, 100_000);
    }

    #[test]
    fn no_two_endpoints_share_an_address() {
        let all = (0..10_000)
            .flat_map(|number| (0..endpoints(number)).map(move |index| address(number, index)));
        assert_eq!(all.collect::<BTreeSet<_>>().len(), 100_000);
        let services: BTreeSet<_> = (0..10_000).map(cluster_ip).collect();
        assert_eq!(services.len(), 10_000);
    }

    #[test]
    fn used_services_are_in_a_small_cluster_too_and_in_namespaces_of_their_own() {
        let used: Vec<_> = (0..10).map(used).collect();
        assert!(used.iter().all(|number| *number < 1_000));
        let namespaces: BTreeSet<_> = used.iter().map(|number| name(*number).0).collect();
        assert_eq!(namespaces.len(), 10);
        assert_eq!(endpoints(used[0]), MANY);
        assert!(used[1..].iter().all(|number| endpoints(*number) < MANY));
    }

    #[test]
    fn paths_are_the_api_s() {
        assert_eq!(path(&service(110)), "/api/v1/namespaces/team-01/services/service-0110");
        assert_eq!(
            path(&route(0)),
            "/apis/gateway.networking.k8s.io/v1/namespaces/team-00/httproutes/service-0000"
        );
        let (path, patch) = slice_edit(110, new_address(7));
        assert!(path.ends_with("/endpointslices/service-0110-0"), "{path}");
        assert_eq!(patch["endpoints"].as_array().map(Vec::len), Some(1));
        let (_, patch) = slice_edit(0, new_address(7));
        assert_eq!(patch["endpoints"].as_array().map(Vec::len), Some(IN_SLICE));
    }
}
