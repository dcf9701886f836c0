//! A replica's life: candidate, leader, candidate again, and an orderly end.
//!
//! Who does not lead watches nothing and knows nothing: a second replica costs the API server one
//! small request every two seconds.

use std::sync::Arc;

use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weft_gamma::resolve::Settings;

use crate::config::Config;
use crate::features;
use crate::kinds::{MESH, ROUTING, WatchedKind};
use crate::lease::{Election, Tenure, Timing};
use crate::mesh::MeshKeeper;
use crate::metrics::Metrics;
use crate::permission::Permissions;
use crate::reconcile::Reconciler;
use crate::uninjected::PodReporter;
use crate::watch::{Update, Watches};
use crate::write::Writer;

/// Updates that wait for the reconciler; more wait in their watches.
const UPDATES: usize = 256;

/// What a replica works with.
pub struct Replica {
    pub config: Config,
    pub client: Client,
    pub metrics: Arc<Metrics>,
    pub permissions: Arc<Permissions>,
    pub timing: Timing,
}

/// A part of the leader's work has failed for good: the process has to start over.
#[derive(Debug, thiserror::Error)]
#[error("a task of the leader: {0}")]
pub struct Broken(String);

impl Replica {
    /// Takes part in the election and does the leader's work when it has won, until `stop` ends.
    /// Then it gives the Lease up.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), Broken> {
        let Config { namespace, lease_name, .. } = &self.config;
        let identity = self.config.identity();
        let mut election = Election::new(
            self.client.clone(),
            &self.permissions,
            namespace,
            lease_name,
            &identity,
            self.timing,
        );
        tracing::info!(lease = format!("{namespace}/{lease_name}"), identity, "candidate");
        let ended = tokio::select! {
            () = stop => Ok(()),
            broken = self.take_turns(&mut election) => Err(broken),
        };
        // What the leader did was dropped with its future: nothing is written any more.
        self.metrics.set_leader(false);
        election.release().await;
        ended
    }

    async fn take_turns(&self, election: &mut Election<'_>) -> Broken {
        loop {
            match election.try_acquire().await {
                Ok(Some(tenure)) => {
                    self.metrics.set_ready();
                    self.metrics.set_leader(true);
                    tracing::info!("leading");
                    tokio::select! {
                        () = election.hold() => {}
                        broken = self.lead(tenure) => return broken,
                    }
                    self.metrics.set_leader(false);
                    tracing::warn!("not leading any more");
                }
                Ok(None) => self.metrics.set_ready(),
                Err(error) => tracing::warn!(%error, "cannot ask for the lease"),
            }
            tokio::time::sleep(election.pause()).await;
        }
    }

    /// The leader's work. Everything of it ends when the future is dropped.
    async fn lead(&self, tenure: Tenure) -> Broken {
        // Dropping the set ends its tasks.
        let mut tasks = JoinSet::new();
        let settings = Settings::default();
        let writer = Writer {
            client: self.client.clone(),
            tenure: tenure.clone(),
            permissions: Arc::clone(&self.permissions),
        };
        let updates = self.watch(&ROUTING, &mut tasks);
        let reconciler = Reconciler::new(settings, writer, Arc::clone(&self.metrics));
        tasks.spawn(reconciler.run(updates));

        let updates = self.watch(&[&MESH], &mut tasks);
        let mesh = MeshKeeper {
            client: self.client.clone(),
            tenure: tenure.clone(),
            permissions: Arc::clone(&self.permissions),
            metrics: Arc::clone(&self.metrics),
            name: self.config.mesh_name.clone(),
            owner: self.config.mesh_owner.clone(),
            features: features::supported(&settings.implemented),
        };
        tasks.spawn(mesh.run(updates));

        if let Some(interval) = self.config.pod_report_interval() {
            let own = std::iter::once(&self.config.namespace);
            let ignored = self.config.ignored_namespaces.iter().chain(own);
            let pods = PodReporter {
                client: self.client.clone(),
                tenure,
                permissions: Arc::clone(&self.permissions),
                metrics: Arc::clone(&self.metrics),
                ignored_namespaces: ignored.cloned().collect(),
                interval,
            };
            tasks.spawn(pods.run());
        }
        // They run for ever: one that ended has panicked, and the others do half of the work.
        match tasks.join_next().await {
            Some(Err(error)) => Broken(error.to_string()),
            Some(Ok(())) | None => Broken("ended early".to_owned()),
        }
    }

    fn watch(
        &self,
        kinds: &[&'static WatchedKind],
        tasks: &mut JoinSet<()>,
    ) -> mpsc::Receiver<Update> {
        let (sender, updates) = mpsc::channel(UPDATES);
        for kind in kinds {
            let watches = Watches {
                client: self.client.clone(),
                metrics: Arc::clone(&self.metrics),
                permissions: Arc::clone(&self.permissions),
            };
            let (kind, sender) = (*kind, sender.clone());
            tasks.spawn(async move { watches.run(kind, sender).await });
        }
        updates
    }
}

#[cfg(test)]
mod tests;
