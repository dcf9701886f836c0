//! Single questions to the API server, for people who ask: what the source itself has no need to watch.

use std::time::Duration;

use futures_util::future::join_all;
use kube::api::ListParams;
use weft_gamma::object::{NamespacedName, Object, Service};
use weft_gamma::route::{Route, RouteKind};

use super::list;
use super::selection::Selection;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many routes of a kind are looked through.
const MAX_ROUTES: u32 = 500;

/// The Service of that name; None where there is none, and an error where nobody says.
pub(crate) async fn service(
    client: &kube::Client,
    name: &NamespacedName,
) -> Result<Option<Service>, String> {
    let selection = Selection::Service(name.clone());
    let named = ListParams::default().fields(&format!("metadata.name={}", name.name));
    let mut objects = list(client, &selection, &named).await?.into_iter();
    Ok(objects.find_map(|object| match object {
        Object::Service(service) => Some(service),
        _ => None,
    }))
}

/// The routes of all kinds in the namespaces; without those that cannot be listed, of which the source
/// tells where it needs them.
pub(crate) async fn routes(client: &kube::Client, namespaces: &[&str]) -> Vec<Route> {
    let selections = namespaces.iter().flat_map(|namespace| {
        RouteKind::ALL.map(|kind| Selection::Routes(kind, (*namespace).to_owned()))
    });
    let lists = selections.map(|selection| async move {
        list(client, &selection, &ListParams::default().limit(MAX_ROUTES)).await
    });
    let objects = join_all(lists).await.into_iter().flatten().flatten();
    let route = |object| match object {
        Object::Route(route) => Some(route),
        _ => None,
    };
    objects.filter_map(route).collect()
}

/// Lists in the first of the kind's versions that is served.
async fn list(
    client: &kube::Client,
    selection: &Selection,
    params: &ListParams,
) -> Result<Vec<Object>, String> {
    let mut why = String::new();
    for version in 0..selection.versions() {
        let api = selection.api(client, version);
        match tokio::time::timeout(PATIENCE, list::page(client, &api, params)).await {
            Ok(Ok(page)) => {
                let (_, listed) = page.read().map_err(|error| error.to_string())?;
                let mut objects = Vec::new();
                for object in listed {
                    let object = object.map_err(|error| error.to_string())?;
                    objects.extend(selection.read(object, version).0.objects);
                }
                return Ok(objects);
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => why = status.message,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no answer in {} s", PATIENCE.as_secs())),
        }
    }
    Err(why)
}
