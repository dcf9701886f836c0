//! One watch: lists, follows, lists anew when the server has forgotten (410), for as long as it is
//! wanted.

use std::pin::pin;

use futures_util::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use weft_gamma::object::{self, Kind, Object, ObjectKey, Problem};

use super::view::Selection;

/// What a watch says.
#[derive(Debug)]
pub(super) enum Change {
    /// All that there is.
    Listed(Vec<Decoded>),
    Applied(Box<Decoded>),
    Deleted(ObjectKey),
    /// There is nothing to be had, now: what was wanted counts as empty.
    Unavailable(Unavailable),
    /// The server could not be asked: what is known stays.
    Failed(String),
}

/// An object with what could not be read of it.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) object: Object,
    pub(super) problems: Vec<Problem>,
}

/// Why there is nothing to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// 403: a rule is missing in the RBAC of the pod's ServiceAccount.
    Forbidden,
    /// 404: the cluster does not have the kind.
    NotInstalled,
}

/// Follows a selection until it is aborted or nobody listens.
pub(super) async fn watch(
    client: kube::Client,
    selection: Selection,
    changes: mpsc::UnboundedSender<(Selection, Change)>,
) {
    // Served under either version, depending on the release that the cluster has.
    let mut version = 0;
    loop {
        let resource = selection.resource(version);
        let (api, config) = selection.select(&client, &resource);
        let mut events = pin!(watcher::watcher(api, config).default_backoff());
        let mut listing = Vec::new();
        while let Some(event) = events.next().await {
            let change = match event {
                Ok(Event::Init) => {
                    listing.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listing.extend(decode(object, &resource));
                    continue;
                }
                Ok(Event::InitDone) => Change::Listed(std::mem::take(&mut listing)),
                Ok(Event::Apply(object)) => match decode(object, &resource) {
                    Some(decoded) => Change::Applied(Box::new(decoded)),
                    None => continue,
                },
                Ok(Event::Delete(object)) => Change::Deleted(selection.key(&object)),
                Err(error) => explain(&error),
            };
            let other_version = matches!(change, Change::Unavailable(Unavailable::NotInstalled))
                && version + 1 < selection.versions();
            if other_version {
                version += 1;
                break;
            }
            if changes.send((selection.clone(), change)).is_err() {
                return;
            }
        }
    }
}

/// Of an object that cannot be read at all, its absence is all that is left; it is logged here.
fn decode(object: DynamicObject, resource: &ApiResource) -> Option<Decoded> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut value = match serde_json::to_value(object) {
        Ok(value) => value,
        Err(error) => {
            tracing::warn!(kind = resource.kind, name, %error, "an object cannot be read");
            return None;
        }
    };
    // The items of a list do not say what they are.
    value["apiVersion"] = resource.api_version.clone().into();
    value["kind"] = resource.kind.clone().into();
    let decoded = object::decode(value);
    match decoded.objects.into_iter().next() {
        Some(object) => Some(Decoded { object, problems: decoded.problems }),
        None => {
            for problem in decoded.problems {
                tracing::warn!("{problem}");
            }
            None
        }
    }
}

fn explain(error: &watcher::Error) -> Change {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
        _ => 0,
    };
    match code {
        403 => Change::Unavailable(Unavailable::Forbidden),
        404 => Change::Unavailable(Unavailable::NotInstalled),
        _ => Change::Failed(error.to_string()),
    }
}

impl Selection {
    fn versions(&self) -> usize {
        match self {
            Self::Grants(_) => 2,
            _ => 1,
        }
    }

    fn resource(&self, version: usize) -> ApiResource {
        let (group, version, kind) = match self {
            Self::Service(_) => ("", "v1", "Service"),
            Self::Slices(_) => ("discovery.k8s.io", "v1", "EndpointSlice"),
            Self::HttpRoutes(_) => (GATEWAY, "v1", "HTTPRoute"),
            Self::GrpcRoutes(_) => (GATEWAY, "v1", "GRPCRoute"),
            Self::Grants(_) => (GATEWAY, ["v1beta1", "v1"][version.min(1)], "ReferenceGrant"),
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }

    fn select(
        &self,
        client: &kube::Client,
        resource: &ApiResource,
    ) -> (Api<DynamicObject>, watcher::Config) {
        let config = watcher::Config::default();
        let (namespace, config) = match self {
            Self::Service(name) => {
                (&name.namespace, config.fields(&format!("metadata.name={}", name.name)))
            }
            Self::Slices(name) => (
                &name.namespace,
                config.labels(&format!("kubernetes.io/service-name={}", name.name)),
            ),
            Self::HttpRoutes(namespace) | Self::GrpcRoutes(namespace) | Self::Grants(namespace) => {
                (namespace, config)
            }
        };
        (Api::namespaced_with(client.clone(), namespace, resource), config)
    }

    fn key(&self, object: &DynamicObject) -> ObjectKey {
        ObjectKey {
            kind: match self {
                Self::Service(_) => Kind::Service,
                Self::Slices(_) => Kind::EndpointSlice,
                Self::HttpRoutes(_) => Kind::HttpRoute,
                Self::GrpcRoutes(_) => Kind::GrpcRoute,
                Self::Grants(_) => Kind::ReferenceGrant,
            },
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }
}

const GATEWAY: &str = "gateway.networking.k8s.io";

impl Unavailable {
    /// For people: what is missing, by name.
    pub(super) fn message(self, selection: &Selection) -> String {
        let resource = selection.resource(0);
        match self {
            Self::Forbidden => format!(
                "the {selection} may not be read: the pod's ServiceAccount needs get, list and \
                 watch on {} of the API group \"{}\"",
                resource.plural, resource.group
            ),
            Self::NotInstalled => {
                format!("the cluster has no {}: none apply until it is installed", resource.kind)
            }
        }
    }
}
