//! A pod as it is about to be created → the patch that injects it, or why it gets none.
//!
//! [`inject`] is called by [`crate::review`] for every admission. It is pure: the same pod gets the
//! same patch from every replica, on a dry run as well, and a pod that was injected gets none,
//! however often it is asked about.
//!
//! | the pod | gets |
//! |---|---|
//! | labelled `weft.mesh/inject: disabled` | nothing |
//! | of Weft's own or a system's namespace | nothing, and a warning |
//! | that already has both containers | nothing |
//! | that has one of them | nothing, and a warning |
//! | on its node's network (`hostNetwork`) | nothing, and a warning: rules would redirect the node |
//! | for Windows nodes | nothing, and a warning |
//! | with a value that Weft cannot honour | a denial |
//! | of a namespace whose pod security standard forbids `weft-init` | a denial |
//! | any other | `weft-init` and `weft-proxy` ahead of its own init containers |

use std::fmt;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use thiserror::Error;
use weft_init::cidr::CidrList;

use crate::annotations::{AnnotationError, Annotations, DRAIN_SECONDS};
use crate::container::{
    self, API_ACCESS, INIT, INJECT_LABEL, METRICS_PORT, PROXY, PROXY_PORTS, PROXY_UID, Settings,
};
use crate::patch::Patch;

/// What is known besides the pod itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The namespace of the request: a pod that is about to be created may not name its own.
    pub namespace: &'a str,
    /// The cluster's Service ranges; `None` as long as nobody has told them.
    pub service_cidrs: Option<&'a CidrList>,
    /// What the namespace enforces.
    pub standard: Standard,
}

/// Whether the pod security standard that a namespace enforces lets `weft-init` be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    Permits,
    /// `baseline` and `restricted` forbid NET_ADMIN. The API server would refuse the injected pod,
    /// after us, and could not say what to do.
    Forbids,
}

/// What becomes of a pod.
#[derive(Debug, PartialEq)]
pub struct Injection {
    pub outcome: Outcome,
    /// Empty unless the pod is injected.
    pub patch: Patch,
    /// For whoever creates the pod.
    pub warnings: Vec<String>,
}

/// How an admission ends.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Injected,
    /// The pod may start as it is.
    LeftAlone(Reason),
    Denied(Denial),
}

/// Why a pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Disabled,
    IgnoredNamespace,
    AlreadyInjected,
    HalfInjected,
    HostNetwork,
    Windows,
    /// Not the creation of a pod: the webhook's rules are wider than they should be.
    NotAPod,
}

impl Reason {
    /// As metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Disabled => "disabled",
            Reason::IgnoredNamespace => "ignored_namespace",
            Reason::AlreadyInjected => "already_injected",
            Reason::HalfInjected => "half_injected",
            Reason::HostNetwork => "host_network",
            Reason::Windows => "windows",
            Reason::NotAPod => "not_a_pod",
        }
    }

    /// What to tell the pod's author, unless it is what was asked for.
    pub(crate) fn warning(self) -> Option<&'static str> {
        match self {
            Reason::Disabled | Reason::AlreadyInjected => None,
            Reason::IgnoredNamespace => {
                Some("no sidecar is injected: this namespace is Weft's own or the system's")
            }
            Reason::HalfInjected => Some(
                "no sidecar is injected: the pod has one of the containers weft-init and \
                 weft-proxy, but not both as init containers",
            ),
            Reason::HostNetwork => Some(
                "no sidecar is injected: the pod uses its node's network (hostNetwork), whose \
                 connections must not be redirected",
            ),
            Reason::Windows => Some("no sidecar is injected: the pod is for Windows nodes"),
            Reason::NotAPod => Some(
                "weft-injector was asked about something that is not the creation of a pod: \
                 correct the rules of its webhook",
            ),
        }
    }
}

/// Why a pod may not be created as it is.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Denial {
    #[error("{}", joined(.0))]
    Annotations(Vec<AnnotationError>),
    #[error("the pod has a volume named {API_ACCESS}, which is the sidecar's: rename it")]
    VolumeName,
    #[error(
        "the cluster's Service ranges are not known yet: try again; if it lasts, set them with \
         weft-injector's option --service-cidrs"
    )]
    NoServiceCidrs,
    #[error(
        "namespace {namespace} enforces a pod security standard that forbids weft-init's NET_ADMIN: \
         label the namespace pod-security.kubernetes.io/enforce=privileged (its warn and audit may \
         stay as they are), or the pod weft.mesh/inject=disabled, which leaves it without a sidecar"
    )]
    PodSecurity { namespace: String },
    #[error("this is no pod: {0}")]
    Malformed(Malformed),
}

impl Denial {
    /// As metrics and logs name it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Denial::Annotations(_) => "annotations",
            Denial::VolumeName => "volume_name",
            Denial::NoServiceCidrs => "no_service_cidrs",
            Denial::PodSecurity { .. } => "pod_security",
            Denial::Malformed(_) => "malformed",
        }
    }
}

/// A part of the pod that has not the form that every pod's has.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{path} is not {form}")]
pub struct Malformed {
    path: &'static str,
    form: &'static str,
}

/// Decides about a pod, and makes the patch.
pub fn inject(pod: &Value, context: &Context<'_>, settings: &Settings) -> Injection {
    match consider(pod, context, settings) {
        Ok(injection) => injection,
        Err(denial) => Injection {
            outcome: Outcome::Denied(denial),
            patch: Patch::default(),
            warnings: Vec::new(),
        },
    }
}

fn consider(pod: &Value, context: &Context<'_>, settings: &Settings) -> Result<Injection, Denial> {
    let pod = Pod::new(pod).map_err(Denial::Malformed)?;
    let mut warnings = Vec::new();
    let is_disabled = pod.is_disabled(&mut warnings);
    if let Some(reason) = reason_to_leave_alone(&pod, is_disabled, context, settings) {
        warnings.extend(reason.warning().map(str::to_owned));
        let outcome = Outcome::LeftAlone(reason);
        return Ok(Injection { outcome, patch: Patch::default(), warnings });
    }
    if context.standard == Standard::Forbids {
        return Err(Denial::PodSecurity { namespace: context.namespace.to_owned() });
    }
    let mut asked = Annotations::parse(pod.annotations).map_err(Denial::Annotations)?;
    warnings.append(&mut asked.warnings);
    if pod.volumes.iter().any(|volume| name_of(volume) == Some(API_ACCESS)) {
        return Err(Denial::VolumeName);
    }
    let service_cidrs = context.service_cidrs.ok_or(Denial::NoServiceCidrs)?;
    warn(&pod, &asked, settings, &mut warnings);
    let patch = patch(&pod, &asked, settings, service_cidrs);
    Ok(Injection { outcome: Outcome::Injected, patch, warnings })
}

fn reason_to_leave_alone(
    pod: &Pod<'_>,
    is_disabled: bool,
    context: &Context<'_>,
    settings: &Settings,
) -> Option<Reason> {
    if is_disabled {
        return Some(Reason::Disabled);
    }
    if settings.ignored_namespaces.iter().any(|ignored| ignored == context.namespace) {
        return Some(Reason::IgnoredNamespace);
    }
    let names = |containers: &[Value], name| {
        containers.iter().any(|container| name_of(container) == Some(name))
    };
    if names(pod.init_containers, INIT) && names(pod.init_containers, PROXY) {
        return Some(Reason::AlreadyInjected);
    }
    let all = [pod.init_containers, pod.containers];
    if all.iter().any(|list| names(list, INIT) || names(list, PROXY)) {
        return Some(Reason::HalfInjected);
    }
    if pod.spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Some(Reason::HostNetwork);
    }
    if pod.is_for_windows() {
        return Some(Reason::Windows);
    }
    None
}

/// What works, but perhaps not as the pod's author thinks.
fn warn(pod: &Pod<'_>, asked: &Annotations, settings: &Settings, warnings: &mut Vec<String>) {
    for container in pod.all_containers() {
        let name = name_of(container).unwrap_or_default();
        if pod.user_of(container) == Some(u64::from(PROXY_UID)) {
            warnings.push(format!(
                "container {name} runs as user {PROXY_UID}, the sidecar's: its connections are \
                 not redirected, no route applies to them"
            ));
        }
        for port in ports_of(container).filter(|port| PROXY_PORTS.contains(port)) {
            warnings.push(format!(
                "container {name} has port {port}, which is one of the sidecar's: one of the two \
                 cannot start"
            ));
        }
    }
    let grace = pod.grace_seconds();
    if let Some(drain) = asked.drain_seconds
        && u64::from(drain) > grace
    {
        warnings.push(format!(
            "annotation {DRAIN_SECONDS} ({drain}) is more than the pod's \
             terminationGracePeriodSeconds ({grace}), after which the sidecar is killed"
        ));
    }
    if pod.is_guaranteed() && !asked.resources.or(&settings.resources).guaranteed() {
        warnings.push(
            "the pod's quality of service becomes Burstable: to keep it Guaranteed, give \
             weft.mesh/proxy-cpu-request and -limit, and weft.mesh/proxy-memory-request and \
             -limit, equal values"
                .to_owned(),
        );
    }
}

fn patch(
    pod: &Pod<'_>,
    asked: &Annotations,
    settings: &Settings,
    service_cidrs: &CidrList,
) -> Patch {
    let mut patch = Patch::default();
    if settings.scrape_annotations {
        add_scrape_annotations(pod, &mut patch);
    }
    let init = container::init(settings, asked, service_cidrs);
    let proxy = container::proxy(settings, asked, pod.grace_seconds());
    // Ahead of the pod's own: these have the mesh already.
    if pod.spec.get("initContainers").is_some_and(Value::is_array) {
        patch.add(&["spec", "initContainers", "0"], init);
        patch.add(&["spec", "initContainers", "1"], proxy);
    } else {
        patch.add(&["spec", "initContainers"], json!([init, proxy]));
    }
    if pod.spec.get("volumes").is_some_and(Value::is_array) {
        patch.add(&["spec", "volumes", "-"], container::api_access());
    } else {
        patch.add(&["spec", "volumes"], json!([container::api_access()]));
    }
    patch
}

/// By these, Prometheus finds the sidecar. One that finds the application by them must go on to: a
/// pod that has one of them keeps its own.
fn add_scrape_annotations(pod: &Pod<'_>, patch: &mut Patch) {
    let scrape = [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", METRICS_PORT.to_string()),
        ("prometheus.io/path", "/metrics".to_owned()),
    ];
    if pod.annotations.keys().any(|name| name.starts_with("prometheus.io/")) {
        return;
    }
    if pod.has_annotations {
        for (name, value) in scrape {
            patch.add(&["metadata", "annotations", name], json!(value));
        }
    } else {
        let annotations: Map<String, Value> =
            scrape.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        patch.add(&["metadata", "annotations"], Value::Object(annotations));
    }
}

/// The parts of a pod that matter here, each of the form that it must have. What is absent or null
/// is empty.
struct Pod<'a> {
    labels: &'a Map<String, Value>,
    annotations: &'a Map<String, Value>,
    /// Without, they have to be added as a whole.
    has_annotations: bool,
    spec: &'a Map<String, Value>,
    containers: &'a [Value],
    init_containers: &'a [Value],
    volumes: &'a [Value],
}

impl<'a> Pod<'a> {
    fn new(pod: &'a Value) -> Result<Pod<'a>, Malformed> {
        let metadata = object(pod.get("metadata"), "metadata")?;
        let spec = object(pod.get("spec"), "spec")?;
        // An addition below needs both to be there.
        let (Some(metadata), Some(spec)) = (metadata, spec) else {
            let path = if metadata.is_none() { "metadata" } else { "spec" };
            return Err(Malformed { path, form: "there" });
        };
        let annotations = object(metadata.get("annotations"), "metadata.annotations")?;
        Ok(Pod {
            labels: object(metadata.get("labels"), "metadata.labels")?.unwrap_or(empty()),
            annotations: annotations.unwrap_or(empty()),
            has_annotations: annotations.is_some(),
            spec,
            containers: list(spec.get("containers"), "spec.containers")?,
            init_containers: list(spec.get("initContainers"), "spec.initContainers")?,
            volumes: list(spec.get("volumes"), "spec.volumes")?,
        })
    }

    /// Whether the pod itself refuses. That it was asked for, by the pod or by its namespace, is why
    /// the webhook was called.
    fn is_disabled(&self, warnings: &mut Vec<String>) -> bool {
        match self.labels.get(INJECT_LABEL) {
            None => false,
            Some(Value::String(value)) if value == "enabled" => false,
            Some(Value::String(value)) if value == "disabled" => true,
            Some(other) => {
                warnings.push(format!(
                    "label {INJECT_LABEL} of the pod is {other}: it can be enabled or disabled, \
                     anything else is as if it were not there"
                ));
                false
            }
        }
    }

    fn all_containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.init_containers.iter().chain(self.containers)
    }

    /// The user that a container runs as, where the pod says so.
    fn user_of(&self, container: &Value) -> Option<u64> {
        let pods = self.spec.get("securityContext").and_then(|context| context.get("runAsUser"));
        let own = container.pointer("/securityContext/runAsUser").filter(|user| !user.is_null());
        own.or(pods).and_then(Value::as_u64)
    }

    fn grace_seconds(&self) -> u64 {
        let seconds = self.spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
        seconds.unwrap_or(DEFAULT_GRACE_SECONDS)
    }

    fn is_for_windows(&self) -> bool {
        let os = self.spec.get("os").and_then(|os| os.get("name"));
        let node = self.spec.get("nodeSelector").and_then(|labels| labels.get("kubernetes.io/os"));
        [os, node].into_iter().flatten().any(|name| name == "windows")
    }

    /// Whether every container has limits for CPU and memory, and requests that equal them.
    fn is_guaranteed(&self) -> bool {
        let guaranteed = |container: &Value| {
            ["cpu", "memory"].iter().all(|amount| {
                let limit = container.pointer(&format!("/resources/limits/{amount}"));
                let request = container.pointer(&format!("/resources/requests/{amount}"));
                limit.is_some() && (request.is_none() || request == limit)
            })
        };
        !self.containers.is_empty() && self.all_containers().all(guaranteed)
    }
}

/// What Kubernetes gives a pod that does not say.
const DEFAULT_GRACE_SECONDS: u64 = 30;

fn object<'a>(
    value: Option<&'a Value>,
    path: &'static str,
) -> Result<Option<&'a Map<String, Value>>, Malformed> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Malformed { path, form: "an object" }),
    }
}

fn list<'a>(value: Option<&'a Value>, path: &'static str) -> Result<&'a [Value], Malformed> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(Malformed { path, form: "a list" }),
    }
}

fn empty() -> &'static Map<String, Value> {
    static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    &EMPTY
}

fn name_of(named: &Value) -> Option<&str> {
    named.get("name").and_then(Value::as_str)
}

fn ports_of(container: &Value) -> impl Iterator<Item = u16> {
    let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    ports.filter_map(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok())
}

fn joined(errors: &[impl fmt::Display]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
