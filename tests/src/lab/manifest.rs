//! The cluster's objects as files, and the part of the endpoint controller that Services need.
//!
//! Every object is a file of its own in the folder that the proxies read. Services are also read
//! here: their selectors choose pods, and EndpointSlices are written as the controller of a real
//! cluster would.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// A pod as the endpoint controller sees it.
#[derive(Clone, Debug)]
pub(super) struct PodRecord {
    /// The pod's name.
    pub(super) name: String,
    /// The pod's namespace.
    pub(super) namespace: String,
    /// What Services select on.
    pub(super) labels: BTreeMap<String, String>,
    /// Its IPv4 and its IPv6 address.
    pub(super) addresses: [String; 2],
    /// Named container ports, for Services with a named target port.
    pub(super) ports: BTreeMap<String, u16>,
    /// Its readiness.
    pub(super) ready: bool,
    /// Whether it is being deleted; it still serves then.
    pub(super) terminating: bool,
    /// Whether EndpointSlices have it.
    pub(super) listed: bool,
}

/// What the lab has to know of any object.
#[derive(Clone, Debug, Deserialize)]
struct Head {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: serde_json::Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default = "default_namespace")]
    namespace: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// The part of a Service's spec that names and EndpointSlices are made from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    selector: BTreeMap<String, String>,
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    name: Option<String>,
    port: u16,
    app_protocol: Option<String>,
    target_port: Option<TargetPort>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TargetPort {
    Number(u16),
    Name(String),
}

impl ServiceSpec {
    /// Every address of the Service, the first family first.
    fn addresses(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.cluster_ips.iter().map(String::as_str).collect();
        if all.is_empty() {
            all.extend(self.cluster_ip.as_deref());
        }
        all.retain(|address| *address != "None");
        all
    }
}

/// A Service of the lab's own whose port tells how many changes the manifests have seen.
pub(super) const MARK: &str = "lab/change";

/// The folder of manifests and what has been written to it.
pub(super) struct Manifests {
    folder: PathBuf,
    staging: PathBuf,
    services: BTreeMap<(String, String), ServiceSpec>,
}

impl Manifests {
    pub(super) fn new(lab: &Path) -> Manifests {
        let (folder, staging) = (lab.join("manifests"), lab.join("staging"));
        Manifests { folder, staging, services: BTreeMap::new() }
    }

    /// Writes every object of a YAML text to a file of its own; returns `Kind name` of each.
    pub(super) fn apply(&mut self, yaml: &str) -> Result<Vec<String>> {
        let mut applied = Vec::new();
        for document in documents(yaml) {
            let head: Head = serde_saphyr::from_str(document)
                .with_context(|| format!("a manifest of the lab itself:\n{document}"))?;
            let Metadata { name, namespace } = head.metadata.clone();
            if head.kind == "Service" {
                let spec = serde_json::from_value(head.spec).context("a Service of the lab")?;
                self.services.insert((namespace.clone(), name.clone()), spec);
            }
            self.write(&file_name(&head.kind, &namespace, &name), document.as_bytes())?;
            applied.push(format!("{} {namespace}/{name}", head.kind));
        }
        Ok(applied)
    }

    /// Removes an object's file.
    pub(super) fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        if kind == "Service" {
            self.services.remove(&(namespace.to_owned(), name.to_owned()));
            for family in ["IPv4", "IPv6"] {
                let slice = slice_name(name, family);
                let _no_such_family = fs::remove_file(self.folder.join(file_name(
                    "EndpointSlice",
                    namespace,
                    &slice,
                )));
            }
        }
        let path = self.folder.join(file_name(kind, namespace, name));
        fs::remove_file(&path).with_context(|| format!("{kind} {namespace}/{name} is not there"))
    }

    /// Writes a file at once: written beside the folder, then renamed into it.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let temporary = self.staging.join(name);
        fs::write(&temporary, content).with_context(|| temporary.display().to_string())?;
        // A tight umask must not hide it from the proxy's user.
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
        fs::rename(&temporary, self.folder.join(name)).context("rename into the manifests")
    }

    /// Writes the mark that comes after a change.
    pub(super) fn write_mark(&self, number: u16) -> Result<()> {
        let yaml = format!(
            "# The lab writes this after a change, to see when a sidecar serves by it.\n\
             apiVersion: v1\nkind: Service\nmetadata:\n  name: change\n  namespace: lab\nspec:\n  \
             clusterIP: 10.96.255.254\n  clusterIPs:\n  - 10.96.255.254\n  ports:\n  \
             - name: tcp\n    port: {number}\n"
        );
        self.write(&file_name("Service", "lab", "change"), yaml.as_bytes())
    }

    /// The EndpointSlices of every Service with a selector, for the pods that there are.
    pub(super) fn write_slices(&self, pods: &[PodRecord]) -> Result<()> {
        for ((namespace, name), spec) in &self.services {
            if spec.selector.is_empty() {
                continue;
            }
            let chosen: Vec<&PodRecord> = pods
                .iter()
                .filter(|pod| pod.listed && pod.namespace == *namespace)
                .filter(|pod| spec.selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v)))
                .collect();
            let has = |v6: bool| spec.addresses().iter().any(|address| address.contains(':') == v6);
            for (family, wanted) in [("IPv4", has(false)), ("IPv6", has(true))] {
                if wanted {
                    let yaml = endpoint_slice(namespace, name, spec, family, &chosen);
                    let file = file_name("EndpointSlice", namespace, &slice_name(name, family));
                    if fs::read(self.folder.join(&file)).ok().as_deref() != Some(yaml.as_bytes()) {
                        self.write(&file, yaml.as_bytes())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `/etc/hosts` for a pod in `namespace`: what the cluster's DNS and search path would answer.
    pub(super) fn hosts(&self, namespace: &str) -> String {
        let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for ((service_namespace, name), spec) in &self.services {
            let long = format!("{name}.{service_namespace}");
            let mut names = format!("{long} {long}.svc {long}.svc.cluster.local");
            if service_namespace == namespace {
                names = format!("{name} {names}");
            }
            for address in spec.addresses() {
                text += &format!("{address} {names}\n");
            }
        }
        text
    }
}

/// The documents of a YAML stream, each as its own text.
fn documents(yaml: &str) -> impl Iterator<Item = &str> {
    yaml.split("\n---\n").map(|text| text.trim_start_matches("---\n")).filter(|text| {
        text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    })
}

/// `httproute_default_reviews.yaml`.
pub(super) fn file_name(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}_{namespace}_{name}.yaml", kind.to_lowercase())
}

/// Like the controller's generated names: the Service's, cut so that the suffix has room.
fn slice_name(service: &str, family: &str) -> String {
    let base: String = service.chars().take(57).collect();
    format!("{base}-{}", family.to_lowercase())
}

/// One EndpointSlice as `kubectl get endpointslice -o yaml` prints it.
fn endpoint_slice(
    namespace: &str,
    service: &str,
    spec: &ServiceSpec,
    family: &str,
    pods: &[&PodRecord],
) -> String {
    let mut text = format!("addressType: {family}\napiVersion: discovery.k8s.io/v1\n");
    let address = usize::from(family == "IPv6");
    text += if pods.is_empty() { "endpoints: []\n" } else { "endpoints:\n" };
    for pod in pods {
        text += &format!(
            "- addresses:\n  - '{}'\n  conditions:\n    ready: {}\n    serving: {}\n    \
             terminating: {}\n  nodeName: lab\n  targetRef:\n    kind: Pod\n    name: {}\n    \
             namespace: {}\n",
            pod.addresses[address],
            pod.ready && !pod.terminating,
            pod.ready,
            pod.terminating,
            pod.name,
            pod.namespace
        );
    }
    text += &format!(
        "kind: EndpointSlice\nmetadata:\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\n  \
         generateName: {service}-\n  generation: 1\n  labels:\n    \
         endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io\n    \
         kubernetes.io/service-name: {service}\n  name: {}\n  namespace: {namespace}\n",
        slice_name(service, family)
    );
    text += "ports:\n";
    for port in &spec.ports {
        // A named target port may differ between pods; those of the lab agree.
        let target = match &port.target_port {
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(name)) => {
                pods.iter().find_map(|pod| pod.ports.get(name).copied())
            }
            None => Some(port.port),
        };
        let Some(target) = target else { continue };
        let name = port.name.as_deref().unwrap_or("");
        text += &format!("- name: \"{name}\"\n  port: {target}\n  protocol: TCP\n");
        if let Some(app_protocol) = &port.app_protocol {
            text += &format!("  appProtocol: {app_protocol}\n");
        }
    }
    text
}
