//! Which Service has an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, GroupVersionKind, ListParams};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::Instant;
use weft_gamma::object::NamespacedName;

use super::lean::LeanObject;
use super::list::{self, Page};

/// How long the API server may take for a list.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many questions are asked at the same time.
const AT_ONCE: usize = 8;
/// How long an address is taken for that of the Service which had it when all were looked through.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// Between two looks through all Services: a pod that connects to many addresses that are no Service's
/// must not list all Services for each. Whoever asks in the meantime waits, and shares the next look.
const SCAN_PAUSE: Duration = Duration::from_secs(1);
const PAGE: u32 = 250;

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
    client: kube::Client,
    services: Api<LeanObject>,
    found: mpsc::UnboundedSender<Found>,
    at_once: Semaphore,
    /// Held while all Services are looked through: whoever needs that, too, waits for the outcome.
    scan: Mutex<Option<Scan>>,
}

/// The Services by their second addresses; empty in a cluster of one address family.
struct Scan {
    began: Instant,
    ended: Instant,
    services: HashMap<IpAddr, NamespacedName>,
}

impl Finder {
    pub(super) fn new(client: kube::Client, found: mpsc::UnboundedSender<Found>) -> Arc<Self> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"));
        Arc::new(Self {
            services: Api::all_with(client.clone(), &resource),
            client,
            found,
            at_once: Semaphore::new(AT_ONCE),
            scan: Mutex::new(None),
        })
    }

    /// Looks for the Service and sends the answer.
    pub(super) async fn find(self: Arc<Self>, ip: IpAddr) {
        let service = self.by_address(ip).await;
        // Nobody listens once the process ends.
        let _ = self.found.send(Found { ip, service });
    }

    /// `spec.clusterIP` is a field selector, but has the address of one family only; the other one's
    /// stands in `spec.clusterIPs`, for which all Services have to be looked through.
    async fn by_address(&self, ip: IpAddr) -> Result<Option<NamespacedName>, NotFound> {
        let asked = Instant::now();
        let primary = ListParams::default().fields(&format!("spec.clusterIP={ip}"));
        if let Some(service) = self.list(&primary).await?.read()?.1.next() {
            return Ok(name(&service?));
        }
        loop {
            let mut scan = self.scan.lock().await;
            if let Some(last) = scan.as_ref() {
                let service = last.services.get(&ip);
                // That nothing has the address is known by a later look only: the Service may be new.
                if last.began >= asked || (service.is_some() && last.began.elapsed() < KNOWN_FOR) {
                    return Ok(service.cloned());
                }
                let next = last.ended + SCAN_PAUSE;
                if Instant::now() < next {
                    drop(scan);
                    tokio::time::sleep_until(next).await;
                    continue;
                }
            }
            let began = Instant::now();
            let services = self.second_addresses().await?;
            *scan = Some(Scan { began, ended: Instant::now(), services });
        }
    }

    async fn second_addresses(&self) -> Result<HashMap<IpAddr, NamespacedName>, NotFound> {
        let mut services = HashMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = self.list(&page).await?;
            let (metadata, listed) = list.read()?;
            for service in listed {
                let service = service?;
                let addresses =
                    service.field("spec")["clusterIPs"].as_array().into_iter().flatten();
                for address in addresses.skip(1).filter_map(|address| address.as_str()) {
                    if let (Ok(ip), Some(name)) = (address.parse(), name(&service)) {
                        services.insert(ip, name);
                    }
                }
            }
            match metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(services),
            }
        }
    }

    async fn list(&self, params: &ListParams) -> Result<Page, NotFound> {
        // Never closed: an error only means that there is no bound.
        let _permit = self.at_once.acquire().await;
        let page = list::page(&self.client, &self.services, params);
        match tokio::time::timeout(TIMEOUT, page).await {
            Ok(page) => Ok(page?),
            Err(_) => Err(NotFound::Failed(format!("no answer in {} s", TIMEOUT.as_secs()))),
        }
    }
}

impl From<kube::Error> for NotFound {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden,
            error => Self::Failed(error.to_string()),
        }
    }
}

fn name(service: &LeanObject) -> Option<NamespacedName> {
    Some(NamespacedName {
        namespace: service.metadata.namespace.clone()?,
        name: service.metadata.name.clone()?,
    })
}
