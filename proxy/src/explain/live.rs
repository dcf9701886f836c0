//! Explains from what is in force in the running sidecar. The admin port calls it.
//!
//! A Service that the sidecar has not met yet is looked up as a connection to it would be, and is
//! known from then on, as after a connection.

use std::sync::Arc;

use weft_gamma::object::{NamespacedName, Service};
use weft_gamma::resolve::Settings;
use weft_gamma::route::Route;

use super::question::Host;
use super::{Explanation, Extent, Question, Unexplained, World, address, find};
use crate::publish::InForce;
use crate::source::kube::ask;
use crate::worker::Shared;

/// The running sidecar, as one that can be asked.
pub struct Live {
    pub shared: Arc<Shared>,
    pub in_force: InForce,
    /// The pod's own.
    pub namespace: String,
    pub settings: Settings,
    /// Where what is not known yet can be asked for; None where all there is stands in manifests.
    pub cluster: Option<kube::Client>,
}

impl Live {
    /// Explains what becomes of the request now.
    pub async fn explain(&self, question: &Question) -> Result<Explanation, Unexplained> {
        let host = question.leads_to(&self.namespace);
        let mut bystanders = Vec::new();
        if let Some(client) = &self.cluster {
            self.meet(client, &host).await?;
            bystanders = self.bystanders(client, &host).await;
        }
        let published = self.in_force.load();
        let world = World {
            objects: &published.objects,
            table: &published.table,
            problems: &published.problems,
            namespace: &self.namespace,
            settings: &self.settings,
            max_headers: self.shared.limits.max_headers,
            bystanders: &bystanders,
            extent: match self.cluster {
                Some(_) => Extent::OnDemand,
                None => Extent::Whole,
            },
        };
        super::explain(&world, question)
    }

    /// Makes the Service known, as a connection to it would.
    async fn meet(&self, client: &kube::Client, host: &Host) -> Result<(), Unexplained> {
        let known = || {
            let published = self.in_force.load();
            find(&published.objects, &published.table, host).is_some()
        };
        if known() {
            return Ok(());
        }
        let ip = match host {
            Host::Address(ip) => *ip,
            Host::Service(name) if name.namespace.is_empty() => return Ok(()),
            Host::Service(name) => match service(client, name).await? {
                // What a Service without an address is, is said where all are.
                Some(service) => address(&service, host)?,
                None => return Ok(()),
            },
        };
        self.shared.look_up(ip).await;
        match host {
            Host::Service(name) if !known() => Err(Unexplained::Unavailable(format!(
                "Service {name} is there, but the sidecar does not get to know it: the API server \
                 does not answer in time, or does not let the pod's ServiceAccount read what it must; \
                 the sidecar's log and /config on its admin port say what"
            ))),
            _ => Ok(()),
        }
    }

    /// The routes of the namespaces that have to do with the Service: among them may be one that was
    /// meant for it. What cannot be listed is left out; the source tells of it.
    async fn bystanders(&self, client: &kube::Client, host: &Host) -> Vec<Route> {
        let published = self.in_force.load();
        let Some(service) = find(&published.objects, &published.table, host) else {
            return Vec::new();
        };
        let mut namespaces = vec![service.name.namespace.as_str(), self.namespace.as_str()];
        namespaces.dedup();
        ask::routes(client, &namespaces).await
    }
}

async fn service(
    client: &kube::Client,
    name: &NamespacedName,
) -> Result<Option<Service>, Unexplained> {
    ask::service(client, name).await.map_err(|why| {
        let message =
            format!("the API server does not say whether there is a Service {name}: {why}");
        Unexplained::Unavailable(message)
    })
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
