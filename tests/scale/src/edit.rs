//! Edits of what the sidecar uses, and how soon each is in effect.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use http::HeaderMap;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, WatchEvent, WatchParams};
use tokio::sync::mpsc;

use crate::backend::ENDPOINT;
use crate::cluster::Cluster;
use crate::objects::{self, EDIT};
use crate::sidecar::{Client, Sidecar};

/// How long an edit may take before the run is given up.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether an edit is in effect.
const POLL: Duration = Duration::from_millis(1);
/// Between two edits, so that none is published together with the one before.
const PAUSE: Duration = Duration::from_millis(25);
/// The sidecar's count of its tables.
pub(crate) const PUBLISHES: &str = "weft_table_publishes_total";
const COMPILE: &str = "weft_table_last_compile_duration_seconds";

/// Times of many edits in seconds, each from the API server's answer to the write.
#[derive(Default)]
pub(crate) struct Times {
    /// To the first answer, or table, that shows it.
    pub(crate) effect: Vec<f64>,
    /// Of that, until a plain watch of the same object heard of it.
    pub(crate) heard: Vec<f64>,
    /// What the sidecar took to make and publish the table, as it says itself.
    pub(crate) applied: Vec<f64>,
}

impl Times {
    /// An edit that was written then is in effect.
    async fn note(&mut self, written: Instant, sidecar: &Sidecar) -> Result<()> {
        self.effect.push(written.elapsed().as_secs_f64());
        self.applied.push(sidecar.metric(COMPILE).await?);
        Ok(())
    }
}

/// Edits the route of a Service: another value of a header in answers.
pub(crate) async fn routes(
    cluster: &Cluster,
    sidecar: &Sidecar,
    number: usize,
    edits: usize,
) -> Result<Times> {
    let mut times = Times::default();
    let mut client = Client::to_service(number).await?;
    let mut events = watch(cluster, number).await?;
    for edit in 0..edits {
        let value = format!("edit-{edit}-{}", fresh());
        let (path, patch) = objects::route_edit(number, &value);
        cluster.edit(&path, &patch).await?;
        let written = Instant::now();
        until(&mut client, number, written, |headers| {
            headers.get(EDIT).is_some_and(|it| *it == value)
        })
        .await
        .with_context(|| format!("edit {edit} of a route"))?;
        times.note(written, sidecar).await?;
        // A watch of a busy API server may end; then there is no more to compare with.
        if let Some(heard) = events.recv().await {
            times.heard.push(heard.saturating_duration_since(written).as_secs_f64());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

/// Edits the endpoints of a Service that has few: another one in place of all.
pub(crate) async fn endpoints(
    cluster: &Cluster,
    sidecar: &Sidecar,
    number: usize,
    edits: usize,
) -> Result<Times> {
    let mut times = Times::default();
    let mut client = Client::to_service(number).await?;
    for edit in 0..edits {
        let address = objects::new_address(fresh());
        let (path, patch) = objects::slice_edit(number, address);
        cluster.edit(&path, &patch).await?;
        let written = Instant::now();
        let address = address.to_string();
        until(&mut client, number, written, |headers| {
            headers.get(ENDPOINT).is_some_and(|it| *it == address)
        })
        .await
        .with_context(|| format!("edit {edit} of endpoints"))?;
        times.note(written, sidecar).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

/// Edits one endpoint of a Service that has many: to the next table, as the sidecar counts them.
pub(crate) async fn many_endpoints(
    cluster: &Cluster,
    sidecar: &Sidecar,
    number: usize,
    edits: usize,
) -> Result<Times> {
    let mut times = Times::default();
    for edit in 0..edits {
        let before = sidecar.metric(PUBLISHES).await?;
        let (path, patch) = objects::slice_edit(number, objects::new_address(fresh()));
        cluster.edit(&path, &patch).await?;
        let written = Instant::now();
        while sidecar.metric(PUBLISHES).await? <= before {
            ensure!(written.elapsed() < LIMIT, "edit {edit} of many endpoints: no new table");
            tokio::time::sleep(POLL).await;
        }
        times.note(written, sidecar).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

/// Asks until an answer is as it should be.
async fn until(
    client: &mut Client,
    number: usize,
    since: Instant,
    holds: impl Fn(&HeaderMap) -> bool,
) -> Result<()> {
    loop {
        let headers = client.ask(number).await?;
        if holds(&headers) {
            return Ok(());
        }
        ensure!(since.elapsed() < LIMIT, "not in effect after {LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// When events of a Service's route come.
async fn watch(cluster: &Cluster, number: usize) -> Result<mpsc::UnboundedReceiver<Instant>> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let (namespace, name) = objects::name(number);
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &namespace, &ApiResource::from_gvk(&kind));
    let version = api.get(&name).await?.metadata.resource_version.context("no version")?;
    let named = WatchParams::default().fields(&format!("metadata.name={name}"));
    let (heard, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let Ok(stream) = api.watch(&named, &version).await else { return };
        let mut stream = pin!(stream);
        while let Some(Ok(event)) = stream.next().await {
            let is_edit = matches!(event, WatchEvent::Modified(_));
            if is_edit && heard.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    Ok(events)
}

/// A number that no edit has had yet.
fn fresh() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LAST: AtomicUsize = AtomicUsize::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}
