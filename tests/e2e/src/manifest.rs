//! Manifests: YAML in, objects applied.

use anyhow::{Context, Result, bail};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;

/// Who applies: the server keeps track of the fields by it.
const FIELD_MANAGER: &str = "weft-e2e";

/// The kinds that the tests work with, by group and version. Others are added here.
const KINDS: &[(&str, &str, &[&str])] = &[
    (
        "",
        "v1",
        &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "Namespace",
            "Pod",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
    ),
    ("apps", "v1", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch", "v1", &["Job"]),
    ("coordination.k8s.io", "v1", &["Lease"]),
    ("discovery.k8s.io", "v1", &["EndpointSlice"]),
    ("gateway.networking.k8s.io", "v1", &["GRPCRoute", "HTTPRoute", "TCPRoute", "TLSRoute"]),
    ("gateway.networking.k8s.io", "v1beta1", &["ReferenceGrant"]),
    ("gateway.networking.x-k8s.io", "v1alpha1", &["XMesh"]),
    ("networking.k8s.io", "v1", &["NetworkPolicy"]),
    ("policy", "v1", &["PodDisruptionBudget"]),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
];

/// The objects of a YAML text.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).with_context(|| format!("a manifest:\n{yaml}"))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// A kind as the client names it, in the version that the tests use.
pub fn resource_of(kind: &str) -> Result<ApiResource> {
    let known = KINDS.iter().find(|(_, _, kinds)| kinds.contains(&kind));
    let (group, version, _) = known.with_context(|| format!("{kind}: add it to {}", file!()))?;
    Ok(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
}

/// Everything that can be done with a kind; without a namespace, with the cluster-scoped objects.
pub(crate) fn api(
    client: &Client,
    kind: &str,
    namespace: Option<&str>,
) -> Result<Api<DynamicObject>> {
    let resource = resource_of(kind)?;
    Ok(match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Applies an object, in its own namespace or else in this one.
pub(crate) async fn apply(
    client: &Client,
    namespace: Option<&str>,
    object: Value,
) -> Result<DynamicObject> {
    let title = title(&object);
    let api = api_of(client, namespace, &object)?;
    let parsed: DynamicObject =
        serde_json::from_value(object).with_context(|| format!("{title} is no object"))?;
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api.patch(&parsed.name_any(), &parameters, &Patch::Apply(&parsed)).await;
    applied.with_context(|| format!("cannot apply {title}"))
}

/// Deletes an object, if it is there.
pub(crate) async fn delete(client: &Client, namespace: Option<&str>, object: &Value) -> Result<()> {
    let Some(name) = object["metadata"]["name"].as_str() else { bail!("an object without a name") };
    match api_of(client, namespace, object)?.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot delete {}", title(object))),
    }
}

/// `HTTPRoute shop/reviews`, for messages.
pub(crate) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) =
        (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{} {namespace}{slash}{name}", text(&object["kind"]))
}

fn api_of(client: &Client, namespace: Option<&str>, object: &Value) -> Result<Api<DynamicObject>> {
    let kind = object["kind"].as_str().context("an object without a kind")?;
    let own = object["metadata"]["namespace"].as_str();
    api(client, kind, own.or(namespace))
}
