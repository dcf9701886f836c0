//! Which Service has an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectList};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::Instant;
use weft_gamma::object::NamespacedName;

/// How long the API server may take for a list.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long when it did not answer the last time: whoever connects waits for this.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How many addresses are looked for at the same time.
const AT_ONCE: usize = 8;
/// How long what looking through all Services has told is used. A pod that connects to many
/// addresses that are no Service's must not list all Services for each.
const SCAN_AGAIN_AFTER: Duration = Duration::from_secs(30);
const PAGE: u32 = 500;

/// What was found at an address.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ip: IpAddr,
    /// None where it is no Service's.
    pub(super) service: Result<Option<NamespacedName>, NotFound>,
}

/// Why the API server did not say.
#[derive(Debug)]
pub(super) enum NotFound {
    /// 403: a rule is missing in the RBAC of the pod's ServiceAccount.
    Forbidden,
    Failed(String),
}

/// Looks for Services by their addresses.
pub(super) struct Finder {
    services: Api<DynamicObject>,
    found: mpsc::UnboundedSender<Found>,
    at_once: Semaphore,
    /// Held while all Services are looked through: whoever needs that, too, waits for the outcome.
    scan: Mutex<Option<Scan>>,
}

/// The Services by their second addresses; empty in a cluster of one address family.
struct Scan {
    at: Instant,
    services: HashMap<IpAddr, NamespacedName>,
}

impl Finder {
    pub(super) fn new(client: kube::Client, found: mpsc::UnboundedSender<Found>) -> Arc<Self> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"));
        Arc::new(Self {
            services: Api::all_with(client, &resource),
            found,
            at_once: Semaphore::new(AT_ONCE),
            scan: Mutex::new(None),
        })
    }

    /// Looks for the Service and sends the answer. `timeout` is that of each list.
    pub(super) async fn find(self: Arc<Self>, ip: IpAddr, timeout: Duration) {
        // Never closed: an error only means that there is no bound.
        let _permit = self.at_once.acquire().await;
        let service = self.by_address(ip, timeout).await;
        // Nobody listens once the process ends.
        let _ = self.found.send(Found { ip, service });
    }

    /// `spec.clusterIP` is a field selector, but has the address of one family only; the other one's
    /// stands in `spec.clusterIPs`, for which all Services have to be looked through.
    async fn by_address(
        &self,
        ip: IpAddr,
        timeout: Duration,
    ) -> Result<Option<NamespacedName>, NotFound> {
        let primary = ListParams::default().fields(&format!("spec.clusterIP={ip}"));
        if let Some(service) = self.list(&primary, timeout).await?.items.first() {
            return Ok(name(service));
        }
        let mut scan = self.scan.lock().await;
        if let Some(scan) = scan.as_ref().filter(|scan| scan.at.elapsed() < SCAN_AGAIN_AFTER) {
            return Ok(scan.services.get(&ip).cloned());
        }
        let services = self.second_addresses(timeout).await?;
        let service = services.get(&ip).cloned();
        *scan = Some(Scan { at: Instant::now(), services });
        Ok(service)
    }

    async fn second_addresses(
        &self,
        timeout: Duration,
    ) -> Result<HashMap<IpAddr, NamespacedName>, NotFound> {
        let mut services = HashMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = self.list(&page, timeout).await?;
            for service in &list.items {
                let addresses = service.data["spec"]["clusterIPs"].as_array().into_iter().flatten();
                for address in addresses.skip(1).filter_map(|address| address.as_str()) {
                    if let (Ok(ip), Some(name)) = (address.parse(), name(service)) {
                        services.insert(ip, name);
                    }
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(services),
            }
        }
    }

    async fn list(
        &self,
        params: &ListParams,
        timeout: Duration,
    ) -> Result<ObjectList<DynamicObject>, NotFound> {
        match tokio::time::timeout(timeout, self.services.list(params)).await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(NotFound::Forbidden),
            Ok(Err(error)) => Err(NotFound::Failed(error.to_string())),
            Err(_) => Err(NotFound::Failed(format!("no answer in {} s", timeout.as_secs()))),
        }
    }
}

fn name(service: &DynamicObject) -> Option<NamespacedName> {
    Some(NamespacedName {
        namespace: service.metadata.namespace.clone()?,
        name: service.metadata.name.clone()?,
    })
}
