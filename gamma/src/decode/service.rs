//! Reads Services and EndpointSlices. [`crate::decode`] calls it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ServiceSpec, SessionAffinityConfig};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort};
use serde_json::Value;

use super::part::{Faults, items, port, read_core};
use crate::object::{
    EndpointSlice, Hints, InternalTraffic, NamespacedName, Service, ServicePort, SliceEndpoint,
    SlicePort, Transport,
};

/// The label that says whose endpoints a slice has.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// "default value is 10800(for 3 hours)"
const CLIENT_AFFINITY_SECONDS: i32 = 10_800;

/// "The value must be >0 && <=86400(for 1 day)"
const MAX_CLIENT_AFFINITY_SECONDS: i32 = 86_400;

/// Reads the Service whose `spec` is given; None if nothing of it can be used.
pub(super) fn service(
    spec: &Value,
    name: NamespacedName,
    uid: Option<String>,
    faults: &mut Faults,
) -> Option<Service> {
    let spec: ServiceSpec = read_core(spec, "spec", faults)?;
    let mut addresses = spec.cluster_ips.unwrap_or_default();
    if addresses.is_empty() {
        addresses.extend(spec.cluster_ip);
    }
    let headless = addresses.first().is_some_and(|address| address == "None");
    let mut cluster_ips = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        // "None" is a headless Service, and an empty string one without an address yet.
        if address.is_empty() || address == "None" {
            continue;
        }
        match address.parse::<IpAddr>() {
            Ok(address) => cluster_ips.push(address),
            Err(_) => faults.unsupported(
                format!("spec.clusterIPs[{index}]"),
                format!("{address:?} is not an IP address"),
            ),
        }
    }
    let mut ports = Vec::new();
    for (index, part) in spec.ports.unwrap_or_default().into_iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let Some(transport) = transport(part.protocol.as_deref(), &at, faults) else {
            continue;
        };
        if let Some(port) = port(part.port, &format!("{at}.port"), faults) {
            let name = part.name.unwrap_or_default();
            ports.push(ServicePort { name, port, transport, app_protocol: part.app_protocol });
        }
    }
    let external_name = spec.type_.as_deref() == Some("ExternalName");
    let affinity = spec.session_affinity.as_deref();
    Some(Service {
        name,
        cluster_ips,
        ports,
        external_name,
        headless,
        uid,
        client_affinity: client_affinity(affinity, spec.session_affinity_config, faults),
        internal_traffic: internal_traffic(spec.internal_traffic_policy.as_deref(), faults),
    })
}

fn client_affinity(
    kind: Option<&str>,
    config: Option<SessionAffinityConfig>,
    faults: &mut Faults,
) -> Option<Duration> {
    match kind {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            let message = format!("{other:?} is not known; use None or ClientIP");
            faults.unsupported("spec.sessionAffinity", message);
            return None;
        }
    }
    let asked = config.and_then(|config| config.client_ip?.timeout_seconds);
    let mut seconds = asked.unwrap_or(CLIENT_AFFINITY_SECONDS);
    if !(1..=MAX_CLIENT_AFFINITY_SECONDS).contains(&seconds) {
        faults.unsupported(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} cannot be; use 1 to {MAX_CLIENT_AFFINITY_SECONDS}"),
        );
        seconds = CLIENT_AFFINITY_SECONDS;
    }
    Some(Duration::from_secs(u64::from(seconds.unsigned_abs())))
}

fn internal_traffic(policy: Option<&str>, faults: &mut Faults) -> InternalTraffic {
    match policy {
        None | Some("" | "Cluster") => InternalTraffic::Cluster,
        Some("Local") => InternalTraffic::Local,
        Some(other) => {
            let message = format!("{other:?} is not known; use Cluster or Local");
            faults.unsupported("spec.internalTrafficPolicy", message);
            InternalTraffic::Cluster
        }
    }
}

/// Reads the EndpointSlice that `value` is.
pub(super) fn slice(
    value: &Value,
    name: NamespacedName,
    labels: &BTreeMap<String, String>,
    faults: &mut Faults,
) -> EndpointSlice {
    let mut slice = EndpointSlice {
        name,
        service: labels.get(SERVICE_NAME_LABEL).cloned(),
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    let ports = items(value.get("ports"), "ports", faults).unwrap_or_default();
    for (index, value) in ports.iter().enumerate() {
        let at = format!("ports[{index}]");
        slice.ports.extend(slice_port(value, &at, faults));
    }
    if value.get("addressType").and_then(Value::as_str) == Some("FQDN") {
        let message = "FQDN endpoints cannot be used; use IPv4 or IPv6";
        faults.unsupported("addressType", message);
        return slice;
    }
    let endpoints = items(value.get("endpoints"), "endpoints", faults).unwrap_or_default();
    for (index, value) in endpoints.iter().enumerate() {
        let at = format!("endpoints[{index}]");
        slice.endpoints.extend(endpoint(value, &at, faults));
    }
    slice
}

fn slice_port(value: &Value, at: &str, faults: &mut Faults) -> Option<SlicePort> {
    let part: EndpointPort = read_core(value, at, faults)?;
    let transport = transport(part.protocol.as_deref(), at, faults)?;
    let Some(number) = part.port else {
        // "If this is not specified, ports are not restricted and must be interpreted in the
        // context of the specific consumer." A Service port cannot be mapped to it.
        faults.unsupported(format!("{at}.port"), "is not set, so no Service port leads here");
        return None;
    };
    let port = port(number, &format!("{at}.port"), faults)?;
    let name = part.name.unwrap_or_default();
    Some(SlicePort { name, port, transport, app_protocol: part.app_protocol })
}

fn endpoint(value: &Value, at: &str, faults: &mut Faults) -> Option<SliceEndpoint> {
    let part: Endpoint = read_core(value, at, faults)?;
    let at = format!("{at}.addresses");
    let Some(address) = part.addresses.first() else {
        faults.unsupported(at, "is empty");
        return None;
    };
    let Ok(address) = address.parse() else {
        faults.unsupported(format!("{at}[0]"), format!("{address:?} is not an IP address"));
        return None;
    };
    let conditions = part.conditions.unwrap_or_default();
    // "A nil value indicates an unknown state. In most cases consumers should interpret this unknown
    // state as ready."
    let ready = conditions.ready.unwrap_or(true);
    let target = part.target_ref.and_then(|target| {
        let name = || Some(format!("{}/{}", target.namespace.unwrap_or_default(), target.name?));
        target.uid.or_else(name)
    });
    Some(SliceEndpoint {
        address,
        ready,
        // "If nil, consumers should defer to the ready condition."
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        target: target.map(Arc::from),
        node: part.node_name,
        zone: part.zone,
        hints: part.hints.map(hints).unwrap_or_default(),
    })
}

fn hints(part: EndpointHints) -> Hints {
    Hints {
        zones: part.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
        nodes: part.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
    }
}

fn transport(protocol: Option<&str>, at: &str, faults: &mut Faults) -> Option<Transport> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        "SCTP" => Some(Transport::Sctp),
        other => {
            let message = format!("{other:?} is not known; use TCP, UDP or SCTP");
            faults.unsupported(format!("{at}.protocol"), message);
            None
        }
    }
}
