//! The loop that looks after the certificate, and all that it asks of the API server.
//!
//! `main` runs [`Keeper::run`] for as long as the process lives. One look ([`Keeper::look`]) brings
//! the Secret, the bundle and the served certificate to where they should be, and can be repeated at
//! any time by any number of replicas.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt, stream};
use k8s_openapi_kube::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi_kube::api::core::v1::Secret;
use k8s_openapi_kube::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use thiserror::Error;

use super::generation::{Generation, GenerationError};
use super::schedule::{self, Candidate};
use super::{Served, bundle, secret};
use crate::health::Readiness;
use crate::metrics::Metrics;
use crate::retry::{self, Backoff};

/// As the API server shows who has set a field.
const MANAGER: &str = "weft-injector";

/// Changes come in bursts, our own among them.
const BURST: Duration = Duration::from_millis(100);

/// What the keeper looks after, by name.
#[derive(Clone, Debug)]
pub struct Names {
    /// The injector's own namespace: of the Secret and the Service.
    pub namespace: String,
    pub secret: String,
    pub service: String,
    pub webhook_configuration: String,
}

impl Names {
    /// As API servers call the webhook.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// Looks after the serving certificate.
pub struct Keeper {
    names: Names,
    validity: Duration,
    client: Client,
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    served: Served,
    serving: Option<Generation>,
    /// Since when each CA has been in the bundle, without a break.
    trusted: Vec<(CertificateDer<'static>, SystemTime)>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    /// So that a configuration which does not come is said once, and not at every look.
    missed: bool,
}

/// Why a look did not get to its end.
#[derive(Debug, Error)]
pub enum KeeperError {
    #[error("{what} Secret {name}: {}{}", retry::told(.source), advice(.source, "secrets", .what))]
    Secret { what: &'static str, name: String, source: kube::Error },
    #[error(
        "{what} MutatingWebhookConfiguration {name}: {}{}",
        retry::told(.source),
        advice(.source, "mutatingwebhookconfigurations.admissionregistration.k8s.io", .what)
    )]
    Configuration { what: &'static str, name: String, source: kube::Error },
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error("the {0} changes faster than it can be written")]
    Contended(&'static str),
}

fn advice(error: &kube::Error, resource: &str, verb: &str) -> String {
    match retry::status(error) {
        Some(status) if status.code == 403 => {
            format!(" (the injector's ServiceAccount needs the permission to {verb} {resource})")
        }
        _ => String::new(),
    }
}

impl Keeper {
    pub fn new(
        client: Client,
        names: Names,
        validity: Duration,
        served: Served,
        readiness: Readiness,
        metrics: Arc<Metrics>,
    ) -> Keeper {
        Keeper {
            secrets: Api::namespaced(client.clone(), &names.namespace),
            configurations: Api::all(client.clone()),
            client,
            names,
            validity,
            served,
            serving: None,
            trusted: Vec::new(),
            readiness,
            metrics,
            missed: false,
        }
    }

    /// Looks after the certificate until the process ends: regularly, and at once when somebody
    /// changes the Secret or the configuration.
    pub async fn run(mut self) {
        let mut changes = pin!(self.changes());
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.look(SystemTime::now()).await {
                Ok(pause) => {
                    backoff.reset();
                    pause
                }
                Err(error) => {
                    self.metrics.certificate_error();
                    tracing::warn!("certificate: {error}");
                    backoff.pause()
                }
            };
            // Until something changes; then until that is over.
            if tokio::time::timeout(pause, changes.next()).await.is_ok() {
                while tokio::time::timeout(BURST, changes.next()).await.is_ok_and(|c| c.is_some()) {
                }
            }
        }
    }

    /// Brings everything to where it should be. Returns when to look again.
    pub async fn look(&mut self, now: SystemTime) -> Result<Duration, KeeperError> {
        // This order matters. If a replica adds a generation and its CA after we have read the
        // configuration, the bundle that we write conflicts with its; if it did so before, we find
        // its generation in the Secret. So no bundle is ever written without a CA that is in use.
        for _ in 0..ATTEMPTS {
            let configuration = self.configuration().await?;
            let generations = self.agree(now).await?;
            if self.publish(configuration, &generations, now).await? {
                self.serve(generations, now);
                return Ok(schedule::pause(self.validity));
            }
        }
        Err(KeeperError::Contended("MutatingWebhookConfiguration"))
    }

    async fn configuration(&self) -> Result<Option<MutatingWebhookConfiguration>, KeeperError> {
        let name = &self.names.webhook_configuration;
        self.configurations.get_opt(name).await.map_err(|source| self.unconfigured("get", source))
    }

    /// The generations that all replicas share, with a new one if it is time for it.
    async fn agree(&self, now: SystemTime) -> Result<Vec<Generation>, KeeperError> {
        for _ in 0..ATTEMPTS {
            let name = &self.names.secret;
            let found = self.secrets.get_opt(name).await.map_err(|e| self.unsecret("get", e))?;
            let data = found.as_ref().and_then(|found| found.data.as_ref());
            let empty = secret::Data::new();
            let read = secret::read(data.unwrap_or(&empty), &self.names.host(), now);
            for problem in &read.problems {
                tracing::warn!(secret = name, "{problem}: it is replaced");
            }
            let mut generations = read.generations;
            let newest = generations.last().map(|generation| &generation.valid);
            let wants = |newest| schedule::wants_successor(newest, self.validity, now);
            if newest.is_none_or(wants) {
                let number = read.newest_number.saturating_add(1);
                let host = self.names.host();
                generations.push(Generation::issue(number, &host, now, self.validity)?);
            }
            let wanted = secret::write(&generations);
            // Also without the keys of those that have ended.
            if data == Some(&wanted) || self.write(found, wanted).await? {
                return Ok(generations);
            }
            // Another replica was faster: what it has written is as good.
        }
        Err(KeeperError::Contended("Secret"))
    }

    /// Whether the Secret was written; `false` if somebody else has changed it meanwhile.
    async fn write(&self, found: Option<Secret>, data: secret::Data) -> Result<bool, KeeperError> {
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        let (what, result) = match found {
            Some(found) => {
                // With the resourceVersion that it was read with: the API server refuses to write
                // over what we have not seen.
                let secret = Secret { data: Some(data), ..found };
                let name = &self.names.secret;
                ("update", self.secrets.replace(name, &parameters, &secret).await)
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.names.secret.clone()),
                    labels: Some(BTreeMap::from([(
                        "app.kubernetes.io/managed-by".to_owned(),
                        MANAGER.to_owned(),
                    )])),
                    ..ObjectMeta::default()
                };
                let secret = Secret { metadata, data: Some(data), ..Secret::default() };
                ("create", self.secrets.create(&parameters, &secret).await)
            }
        };
        match result {
            Ok(_) => Ok(true),
            Err(error) if has_moved_on(&error) => Ok(false),
            Err(source) => Err(self.unsecret(what, source)),
        }
    }

    /// Puts the CAs into every webhook of the configuration, and remembers since when they are there.
    /// `false` if somebody else has changed the configuration since it was read.
    async fn publish(
        &mut self,
        configuration: Option<MutatingWebhookConfiguration>,
        generations: &[Generation],
        now: SystemTime,
    ) -> Result<bool, KeeperError> {
        let Some(configuration) = configuration else {
            if !self.missed {
                let name = &self.names.webhook_configuration;
                tracing::warn!(name, "there is no such MutatingWebhookConfiguration: waiting");
            }
            self.missed = true;
            self.trusted.clear();
            return Ok(true);
        };
        self.missed = false;
        let mut in_all: Option<Vec<CertificateDer<'static>>> = None;
        let mut changed = Vec::new();
        for webhook in configuration.webhooks.iter().flatten() {
            let before = webhook.client_config.ca_bundle.as_ref().map_or(&[][..], |ca| &ca.0);
            let merged = bundle::merged(before, generations, now);
            let authorities = bundle::authorities(merged.as_bytes());
            in_all = Some(match in_all {
                None => authorities,
                Some(others) => others.into_iter().filter(|ca| authorities.contains(ca)).collect(),
            });
            if merged.as_bytes() != before {
                let bundle = k8s_openapi_kube::ByteString(merged.into_bytes());
                changed.push(json!({
                    "name": webhook.name,
                    "clientConfig": {"caBundle": bundle},
                }));
            }
        }
        if !changed.is_empty() {
            let version = configuration.metadata.resource_version;
            // Webhooks are merged by their names; the version makes it conflict with a change that
            // we have not seen.
            let patch = Patch::Strategic(
                json!({"metadata": {"resourceVersion": version}, "webhooks": changed}),
            );
            let name = &self.names.webhook_configuration;
            let parameters =
                PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
            match self.configurations.patch(name, &parameters, &patch).await {
                Ok(_) => {}
                Err(error) if has_moved_on(&error) => return Ok(false),
                Err(source) => return Err(self.unconfigured("patch", source)),
            }
            tracing::info!(name, webhooks = changed.len(), "the webhooks have the CAs");
        }
        self.remember(in_all.unwrap_or_default(), now);
        Ok(true)
    }

    fn remember(&mut self, present: Vec<CertificateDer<'static>>, now: SystemTime) {
        self.trusted.retain(|(ca, _)| present.contains(ca));
        for ca in present {
            if !self.trusted.iter().any(|(known, _)| *known == ca) {
                self.trusted.push((ca, now));
            }
        }
    }

    /// Serves the generation whose turn it is.
    fn serve(&mut self, mut generations: Vec<Generation>, now: SystemTime) {
        // What is served counts also if the Secret has been deleted under it.
        if let Some(serving) = &self.serving
            && !generations.iter().any(|generation| generation.ca == serving.ca)
        {
            generations.insert(0, serving.clone());
        }
        let candidates: Vec<Candidate> =
            generations.iter().map(|generation| self.candidate(generation)).collect();
        let Some(position) = schedule::choose(&candidates, now) else { return };
        let (candidate, generation) = (candidates[position], generations.swap_remove(position));
        if !candidate.is_served {
            self.served.set(generation.certified_key.clone());
            self.metrics.serving(generation.valid.until, self.serving.is_some());
            tracing::info!(
                generation = generation.number,
                seconds = generation.valid.until.duration_since(now).unwrap_or_default().as_secs(),
                "serving a certificate, good for so many seconds",
            );
            self.serving = Some(generation);
        }
        if candidate.in_bundle_since.is_some() {
            self.readiness.certificate_is_trusted();
        }
    }

    fn candidate(&self, generation: &Generation) -> Candidate {
        let trusted = self.trusted.iter().find(|(ca, _)| *ca == generation.ca);
        Candidate {
            valid: generation.valid,
            in_bundle_since: trusted.map(|(_, since)| *since),
            is_served: self.serving.as_ref().is_some_and(|serving| serving.ca == generation.ca),
        }
    }

    /// One item for each change of the Secret or of the configuration; it never ends.
    fn changes(&self) -> impl Stream<Item = ()> + use<> {
        let secrets: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(self.client.clone(), &self.names.namespace);
        let configurations: Api<PartialObjectMeta<MutatingWebhookConfiguration>> =
            Api::all(self.client.clone());
        let secret = touched(secrets, &self.names.secret);
        let configuration = touched(configurations, &self.names.webhook_configuration);
        stream::select(secret.boxed(), configuration.boxed())
    }

    fn unsecret(&self, what: &'static str, source: kube::Error) -> KeeperError {
        let name = format!("{}/{}", self.names.namespace, self.names.secret);
        KeeperError::Secret { what, name, source }
    }

    fn unconfigured(&self, what: &'static str, source: kube::Error) -> KeeperError {
        let name = self.names.webhook_configuration.clone();
        KeeperError::Configuration { what, name, source }
    }
}

/// How often to try to write what others write too.
const ATTEMPTS: usize = 5;

/// Whether an object has been changed, made or deleted since it was read.
fn has_moved_on(error: &kube::Error) -> bool {
    retry::status(error).is_some_and(|status| matches!(status.code, 404 | 409))
}

/// An item for every event of one object. Only its metadata is watched.
fn touched<K>(objects: Api<K>, name: &str) -> impl Stream<Item = ()> + use<K>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    // The selector is also what lets RBAC grant the watch of this one name.
    let selector = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(objects, selector).default_backoff();
    events.filter_map(async |event| match event {
        Ok(_) => Some(()),
        Err(error) => {
            // The regular looks go on.
            tracing::debug!(%error, "cannot watch for changes of the certificate");
            None
        }
    })
}

#[cfg(test)]
mod tests;
