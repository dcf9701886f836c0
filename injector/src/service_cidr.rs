//! The cluster's Service ranges, which `weft-init` redirects: told by an option, or read from the
//! API server's ServiceCIDR objects (networking.k8s.io/v1, Kubernetes 1.33 and later).
//!
//! `main` runs [`watch`] for as long as the process lives; [`crate::review`] asks
//! [`ServiceCidrs::current`] for every pod. Once known, the ranges stay known: while the API server
//! is away or lists anew, the last ones are in force.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::StreamExt;
use k8s_openapi_kube::api::networking::v1::ServiceCIDR;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use weft_init::cidr::{Cidr, CidrList};

use crate::metrics::Metrics;
use crate::retry;

/// The ranges, as far as they are known. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ServiceCidrs {
    known: Arc<ArcSwapOption<CidrList>>,
}

impl ServiceCidrs {
    /// Ranges that somebody has told, and that no watch changes.
    pub fn fixed(cidrs: CidrList) -> ServiceCidrs {
        ServiceCidrs { known: Arc::new(ArcSwapOption::from_pointee(cidrs)) }
    }

    /// `None` as long as nobody has told them.
    pub fn current(&self) -> Option<Arc<CidrList>> {
        self.known.load_full()
    }
}

/// Keeps `cidrs` as the API server has them, until the process ends.
pub async fn watch(client: Client, cidrs: ServiceCidrs, metrics: Arc<Metrics>) {
    let objects: Api<ServiceCIDR> = Api::all(client);
    let mut events = pin!(watcher(objects, watcher::Config::default()).default_backoff());
    let mut view = View::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if let Some(list) = view.take(event) {
                    publish(&cidrs, list, &metrics);
                }
            }
            Err(error) => {
                metrics.source_error();
                tracing::warn!("{}", advice(&error));
            }
        }
    }
}

fn publish(cidrs: &ServiceCidrs, list: CidrList, metrics: &Metrics) {
    if list.is_empty() {
        tracing::warn!("the API server has no ServiceCIDR: set --service-cidrs");
        return;
    }
    if cidrs.current().is_none_or(|before| *before != list) {
        tracing::info!(cidrs = %list, "Service ranges");
        metrics.service_cidrs(list.iter().count());
        cidrs.known.store(Some(Arc::new(list)));
    }
}

/// The objects as the watch tells them; a new listing is gathered apart and then takes the place of
/// the old one, so that there is no moment without ranges.
#[derive(Default)]
struct View {
    ranges: BTreeMap<String, Vec<Cidr>>,
    listing: BTreeMap<String, Vec<Cidr>>,
}

impl View {
    /// Takes in an event; returns the ranges where it could have changed them.
    fn take(&mut self, event: Event<ServiceCIDR>) -> Option<CidrList> {
        match event {
            Event::Init => {
                self.listing.clear();
                return None;
            }
            Event::InitApply(object) => {
                self.listing.insert(object.name_any(), ranges_of(&object));
                return None;
            }
            Event::InitDone => self.ranges = std::mem::take(&mut self.listing),
            Event::Apply(object) => {
                self.ranges.insert(object.name_any(), ranges_of(&object));
            }
            Event::Delete(object) => {
                self.ranges.remove(&object.name_any());
            }
        }
        Some(CidrList::new(self.ranges.values().flatten().copied()))
    }
}

fn ranges_of(object: &ServiceCIDR) -> Vec<Cidr> {
    let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    let parse = |text: &String| match text.parse() {
        Ok(cidr) => Some(cidr),
        Err(error) => {
            tracing::warn!(object = object.name_any(), "ServiceCIDR: {error}");
            None
        }
    };
    texts.filter_map(parse).collect()
}

fn advice(error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            retry::status(error)
        }
        _ => None,
    };
    match status.map(|status| status.code) {
        Some(403) => "the ServiceCIDRs may not be read: grant get, list and watch on \
                      servicecidrs.networking.k8s.io, or set --service-cidrs"
            .to_owned(),
        Some(404) => "this API server has no ServiceCIDR (networking.k8s.io/v1, since Kubernetes \
                      1.33): set --service-cidrs"
            .to_owned(),
        _ => format!("the ServiceCIDRs could not be watched: {error}"),
    }
}

#[cfg(test)]
mod tests;
