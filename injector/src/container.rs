//! The containers and the volume that an injected pod gets, as JSON.
//!
//! `pod` decides whether and where; here stands what. Privileges are as small as each job allows,
//! and set in the container, so that the pod's own security context changes none of them.

use serde_json::{Map, Value, json};
use weft_init::cidr::{CidrList, Includes};

use crate::annotations::Annotations;
use crate::log::LogFormat;
use crate::quantity::Quantity;

/// Name of the init container that redirects the pod's connections.
pub const INIT: &str = "weft-init";
/// Name of the sidecar.
pub const PROXY: &str = "weft-proxy";
/// Name of the volume with the sidecar's own credentials.
pub const API_ACCESS: &str = "weft-api-access";
/// Label of namespaces and pods that asks for injection, or refuses it.
pub const INJECT_LABEL: &str = "weft.mesh/inject";
/// The user and group that the sidecar runs as; what they send is not redirected.
pub const PROXY_UID: u32 = 65101;
/// The sidecar's ports: outbound, admin, reserved for inbound, metrics.
pub const PROXY_PORTS: [u16; 4] = [15000, 15001, 15006, METRICS_PORT];

pub const METRICS_PORT: u16 = 15020;

/// Where Kubernetes puts the credentials of a pod's ServiceAccount. Since the sidecar has its own
/// there, the API server's ServiceAccount plugin, which comes by once more, leaves it alone.
const API_ACCESS_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a token of the sidecar is good for. kubelet replaces it in time, the proxy reads it
/// again; 600 is the least that the API allows.
const TOKEN_SECONDS: u32 = 3600;

/// What a sidecar is given where its pod does not ask for something else.
#[derive(Clone, Debug)]
pub struct Settings {
    pub proxy_image: String,
    pub init_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: &'static str,
    pub resources: Resources,
    pub drain_seconds: u32,
    pub log_level: String,
    pub log_format: LogFormat,
    /// More options of the sidecar, as environment variables.
    pub proxy_environment: Vec<Variable>,
    /// Whether pods without any get annotations by which Prometheus finds the sidecar.
    pub scrape_annotations: bool,
    /// Namespaces whose pods are left alone, whatever their labels: Weft's own and the system's.
    pub ignored_namespaces: Vec<String>,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

/// Requests and limits, where there are any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub cpu_request: Option<Quantity>,
    pub cpu_limit: Option<Quantity>,
    pub memory_request: Option<Quantity>,
    pub memory_limit: Option<Quantity>,
}

impl Resources {
    /// What a pod asks for, and the defaults beside it. A default gives way where it does not fit:
    /// a request shrinks to the limit that was asked for, a limit grows to the request.
    pub fn or(&self, default: &Resources) -> Resources {
        let (cpu_request, cpu_limit) = amounts(
            (&self.cpu_request, &self.cpu_limit),
            (&default.cpu_request, &default.cpu_limit),
        );
        let (memory_request, memory_limit) = amounts(
            (&self.memory_request, &self.memory_limit),
            (&default.memory_request, &default.memory_limit),
        );
        Resources { cpu_request, cpu_limit, memory_request, memory_limit }
    }

    /// Whether a container with these counts as Guaranteed: limits that equal the requests.
    pub fn guaranteed(&self) -> bool {
        let equal = |request: &Option<Quantity>, limit: &Option<Quantity>| {
            limit.is_some() && request == limit
        };
        equal(&self.cpu_request, &self.cpu_limit) && equal(&self.memory_request, &self.memory_limit)
    }

    fn to_json(&self) -> Value {
        let object = |cpu: &Option<Quantity>, memory: &Option<Quantity>| -> Map<String, Value> {
            [("cpu", cpu), ("memory", memory)]
                .into_iter()
                .filter_map(|(name, amount)| {
                    amount.as_ref().map(|amount| (name.to_owned(), json!(amount.to_string())))
                })
                .collect()
        };
        let requests = object(&self.cpu_request, &self.memory_request);
        let limits = object(&self.cpu_limit, &self.memory_limit);
        let mut resources = Map::new();
        for (name, amounts) in [("requests", requests), ("limits", limits)] {
            if !amounts.is_empty() {
                resources.insert(name.to_owned(), Value::Object(amounts));
            }
        }
        Value::Object(resources)
    }
}

type Amounts<'a> = (&'a Option<Quantity>, &'a Option<Quantity>);

fn amounts(asked: Amounts<'_>, default: Amounts<'_>) -> (Option<Quantity>, Option<Quantity>) {
    let (asked_request, asked_limit) = asked;
    let mut request = asked_request.clone().or_else(|| default.0.clone());
    let mut limit = asked_limit.clone().or_else(|| default.1.clone());
    if let (Some(least), Some(most)) = (&request, &limit)
        && least > most
    {
        // Both asked for cannot be: that pod was denied.
        if asked_request.is_some() {
            limit = request.clone();
        } else {
            request = limit.clone();
        }
    }
    (request, limit)
}

/// The init container: writes the redirect rules and ends.
pub fn init(settings: &Settings, asked: &Annotations, service_cidrs: &CidrList) -> Value {
    let mut environment = vec![variable("WEFT_SERVICE_CIDRS", &service_cidrs.to_string())];
    for (name, value) in [
        ("WEFT_INCLUDE_OUTBOUND_CIDRS", includes(&asked.include_outbound_cidrs)),
        ("WEFT_EXCLUDE_OUTBOUND_CIDRS", asked.exclude_outbound_cidrs.to_string()),
        ("WEFT_EXCLUDE_OUTBOUND_PORTS", asked.exclude_outbound_ports.to_string()),
    ] {
        if !value.is_empty() {
            environment.push(variable(name, &value));
        }
    }
    environment.push(variable("WEFT_PROXY_UID", &PROXY_UID.to_string()));
    environment.push(variable("WEFT_LOG_FORMAT", settings.log_format.as_str()));
    json!({
        "name": INIT,
        "image": settings.init_image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": environment,
        // The sidecar's own: they cost nothing more, as the sidecar needs them all the while, and
        // a pod whose sidecar is Guaranteed stays so.
        "resources": asked.resources.or(&settings.resources).to_json(),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The sidecar. `grace_seconds` is how long the pod has to end.
pub fn proxy(settings: &Settings, asked: &Annotations, grace_seconds: u64) -> Value {
    let drain_seconds = asked
        .drain_seconds
        .map(u64::from)
        // What the pod has not cannot be waited for.
        .unwrap_or_else(|| grace_seconds.min(u64::from(settings.drain_seconds)));
    let log_level = asked.log_level.as_deref().unwrap_or(&settings.log_level);
    let mut environment = vec![
        field("POD_NAME", "metadata.name"),
        field("WEFT_NAMESPACE", "metadata.namespace"),
        field("WEFT_POD_IP", "status.podIP"),
        field("WEFT_NODE_NAME", "spec.nodeName"),
        // From Kubernetes 1.35 on pods get the label of their node; before, this is empty.
        field("WEFT_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
        variable("WEFT_DRAIN_SECONDS", &drain_seconds.to_string()),
        variable("WEFT_LOG_LEVEL", log_level),
        variable("WEFT_LOG_FORMAT", settings.log_format.as_str()),
    ];
    environment
        .extend(settings.proxy_environment.iter().map(|more| variable(&more.name, &more.value)));
    json!({
        "name": PROXY,
        "image": asked.proxy_image.as_deref().unwrap_or(&settings.proxy_image),
        "imagePullPolicy": settings.image_pull_policy,
        // Makes an init container a sidecar: it stays, and the pod's own containers start once it
        // is up and end before it does.
        "restartPolicy": "Always",
        "env": environment,
        "ports": [{"containerPort": METRICS_PORT, "name": "weft-metrics", "protocol": "TCP"}],
        // Two minutes until the API server has answered once; then the pod's own containers start.
        "startupProbe": probe("/readyz", 1, 120),
        // Slow to act: a node that is short of CPU must not lose its sidecars as well.
        "livenessProbe": probe("/livez", 10, 6),
        "resources": asked.resources.or(&settings.resources).to_json(),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": true,
            "runAsUser": PROXY_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": API_ACCESS, "mountPath": API_ACCESS_PATH, "readOnly": true},
        ],
    })
}

/// The sidecar's credentials: its own, so that pods without any of theirs are meshed too, and so
/// that the application's containers get none.
pub fn api_access() -> Value {
    json!({
        "name": API_ACCESS,
        "projected": {
            "defaultMode": 0o444,
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

/// Whether a text can be the name of an image: what no registry could have is refused, the rest is
/// the container runtime's to judge.
pub fn is_image(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    (1..=512).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Whether a variable is one that the injector sets by itself.
pub fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 8] = [
        "POD_NAME",
        "WEFT_NAMESPACE",
        "WEFT_POD_IP",
        "WEFT_NODE_NAME",
        "WEFT_ZONE",
        "WEFT_DRAIN_SECONDS",
        "WEFT_LOG_LEVEL",
        "WEFT_LOG_FORMAT",
    ];
    // The ports stand in the probes, the redirect rules and the annotations for Prometheus too.
    const PORTS: [&str; 3] = ["WEFT_OUTBOUND_PORT", "WEFT_ADMIN_PORT", "WEFT_METRICS_PORT"];
    RESERVED.contains(&name) || PORTS.contains(&name)
}

fn includes(includes: &Includes) -> String {
    match (includes.everything, includes.cidrs.is_empty()) {
        (true, true) => "*".to_owned(),
        (true, false) => format!("*,{}", includes.cidrs),
        (false, _) => includes.cidrs.to_string(),
    }
}

fn probe(path: &str, period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": METRICS_PORT, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

/// A value in which `$(NAME)` means nothing, unlike in a container's `env` otherwise.
fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value.replace('$', "$$")})
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}

#[cfg(test)]
mod tests;
