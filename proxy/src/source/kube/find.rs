//! Which Service has an address.

use std::net::IpAddr;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use tokio::sync::mpsc;
use weft_gamma::object::NamespacedName;

/// The answer: a Service, none, or that the API server could not say.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ip: IpAddr,
    pub(super) service: Result<Option<NamespacedName>, kube::Error>,
}

/// Looks for the Service and sends the answer.
pub(super) async fn find(client: kube::Client, ip: IpAddr, found: mpsc::UnboundedSender<Found>) {
    let service = by_address(&client, ip).await;
    // Nobody listens once the process ends.
    let _ = found.send(Found { ip, service });
}

/// `spec.clusterIP` is a field selector, but has the address of one family only; the other one's
/// stands in `spec.clusterIPs`, for which all Services have to be looked through. That happens once
/// for a dual-stack Service that is dialled by its second address.
async fn by_address(
    client: &kube::Client,
    ip: IpAddr,
) -> Result<Option<NamespacedName>, kube::Error> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"));
    let services: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let primary = ListParams::default().fields(&format!("spec.clusterIP={ip}"));
    if let Some(service) = services.list(&primary).await?.items.first() {
        return Ok(name(service));
    }
    let mut page = ListParams::default().limit(500);
    loop {
        let list = services.list(&page).await?;
        if let Some(service) = list.items.iter().find(|service| has_address(service, ip)) {
            return Ok(name(service));
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(None),
        }
    }
}

fn has_address(service: &DynamicObject, ip: IpAddr) -> bool {
    service.data["spec"]["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|address| address.as_str()?.parse::<IpAddr>().ok())
        .any(|address| address == ip)
}

fn name(service: &DynamicObject) -> Option<NamespacedName> {
    Some(NamespacedName {
        namespace: service.metadata.namespace.clone()?,
        name: service.metadata.name.clone()?,
    })
}
