//! Leader election by a Lease: of several replicas, one writes.
//!
//! The holder renews the Lease every [`Timing::retry`]. Another replica takes it over when the Lease
//! names no holder, or when it has seen no renewal for the Lease's duration by its own clock: clocks
//! of different nodes are never compared. The holder stops by itself when it could not renew for
//! [`Timing::renew_deadline`], and a request takes at most [`crate::request::DEADLINE`]; the sum of
//! both is less than [`Timing::duration`], so that the last write of the old leader has ended before
//! the first one of the new leader begins. Every write asks its [`Tenure`] first, so that this holds
//! for a process that was stopped for a while, too.

use std::time::Duration;

use k8s_openapi_kube::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi_kube::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi_kube::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::FIELD_MANAGER;
use crate::permission::{Need, Permissions};
use crate::request::{RequestError, bounded};

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others wait for a renewal before they take over.
    pub duration: Duration,
    /// How long the holder goes on without being able to renew.
    pub renew_deadline: Duration,
    /// How often the holder renews, and the others look.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// The leader's right to write, which ends by itself.
#[derive(Clone, Debug)]
pub struct Tenure {
    until: watch::Receiver<Instant>,
}

impl Tenure {
    /// Whether a request may begin now.
    pub fn holds(&self) -> bool {
        Instant::now() < *self.until.borrow()
    }

    /// One that never ends, for tests of what leaders do.
    #[cfg(test)]
    pub(crate) fn endless() -> Tenure {
        let (sender, until) = watch::channel(Instant::now() + Duration::from_secs(1 << 30));
        drop(sender);
        Tenure { until }
    }

    /// One that has ended.
    #[cfg(test)]
    pub(crate) fn over() -> Tenure {
        let (sender, until) = watch::channel(Instant::now());
        drop(sender);
        Tenure { until }
    }
}

/// A replica that takes part in the election.
pub struct Election<'a> {
    api: Api<Lease>,
    permissions: &'a Permissions,
    name: String,
    identity: String,
    timing: Timing,
    until: watch::Sender<Instant>,
    /// The Lease as it was seen last, and since when it has looked so.
    observed: Option<(LeaseSpec, Instant)>,
    /// The Lease as it was written last, while this replica holds it.
    held: Option<Lease>,
}

/// The Lease is somebody else's.
struct Lost;

impl<'a> Election<'a> {
    /// An election about the Lease `name` in `namespace`. No two replicas that run at one time may
    /// have the same identity.
    pub fn new(
        client: Client,
        permissions: &'a Permissions,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> Election<'a> {
        Election {
            api: Api::namespaced(client, namespace),
            permissions,
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            until: watch::Sender::new(Instant::now()),
            observed: None,
            held: None,
        }
    }

    /// Asks for the Lease once; None if it is somebody else's. It has to be
    /// [held](Election::hold) from then on.
    pub async fn try_acquire(&mut self) -> Result<Option<Tenure>, RequestError> {
        let begin = Instant::now();
        let acquired = self.take().await.inspect_err(|error| self.check_refused(error))?;
        if !acquired {
            return Ok(None);
        }
        self.until.send_replace(begin + self.timing.renew_deadline);
        Ok(Some(Tenure { until: self.until.subscribe() }))
    }

    /// How long to wait before [`Election::try_acquire`] is called again.
    pub fn pause(&self) -> Duration {
        // A little apart from each other, so that two candidates do not keep meeting.
        self.timing.retry.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// Renews the Lease for as long as that is possible; returns when it is lost.
    pub async fn hold(&mut self) {
        loop {
            tokio::time::sleep(self.timing.retry).await;
            let begin = Instant::now();
            match self.renew().await {
                Ok(Ok(())) => {
                    self.until.send_replace(begin + self.timing.renew_deadline);
                }
                Ok(Err(Lost)) => {
                    tracing::warn!(lease = self.name, "another replica has taken the lease");
                    break;
                }
                Err(error) => {
                    self.check_refused(&error);
                    tracing::warn!(lease = self.name, %error, "cannot renew the lease");
                    if Instant::now() + self.timing.retry >= *self.until.borrow() {
                        break;
                    }
                }
            }
        }
        self.held = None;
        self.until.send_replace(Instant::now());
    }

    /// Gives the Lease up, so that another replica need not wait until it ends. To be called when
    /// nothing is written any more.
    pub async fn release(&mut self) {
        self.until.send_replace(Instant::now());
        let Some(mut lease) = self.held.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match bounded(self.api.replace(&self.name, &post(), &lease)).await {
            Ok(_) => tracing::info!(lease = self.name, "lease released"),
            // The namespace is being deleted, say.
            Err(error) => tracing::info!(lease = self.name, %error, "lease not released"),
        }
    }

    async fn take(&mut self) -> Result<bool, RequestError> {
        let Some(lease) = bounded(self.api.get_opt(&self.name)).await? else {
            return self.create().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.observe(&spec);
        if !self.is_free(&spec) {
            return Ok(false);
        }
        let mut lease = lease;
        let transitions = spec.lease_transitions.unwrap_or_default();
        let same_holder = spec.holder_identity.as_ref() == Some(&self.identity);
        lease.spec = Some(LeaseSpec {
            lease_transitions: Some(if same_holder { transitions } else { transitions + 1 }),
            ..self.spec()
        });
        match bounded(self.api.replace(&self.name, &post(), &lease)).await {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            // Another candidate was quicker.
            Err(error) if error.code() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self) -> Result<bool, RequestError> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(self.spec()) };
        match bounded(self.api.create(&post(), &lease)).await {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            Err(error) if error.code() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn renew(&mut self) -> Result<Result<(), Lost>, RequestError> {
        let Some(mut lease) = self.held.clone() else { return Ok(Err(Lost)) };
        loop {
            if let Some(spec) = &mut lease.spec {
                spec.renew_time = Some(MicroTime(Timestamp::now()));
                spec.lease_duration_seconds = Some(seconds(self.timing.duration));
            }
            match bounded(self.api.replace(&self.name, &post(), &lease)).await {
                Ok(lease) => {
                    self.held = Some(lease);
                    return Ok(Ok(()));
                }
                // Somebody labelled it, an answer to an earlier renewal got lost, or it is taken.
                Err(error) if error.code() == Some(409) => {}
                Err(error) if error.code() == Some(404) => return Ok(Err(Lost)),
                Err(error) => return Err(error),
            }
            lease = bounded(self.api.get(&self.name)).await?;
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
            if holder != Some(&self.identity) {
                return Ok(Err(Lost));
            }
        }
    }

    fn observe(&mut self, spec: &LeaseSpec) {
        if self.observed.as_ref().is_none_or(|(seen, _)| seen != spec) {
            self.observed = Some((spec.clone(), Instant::now()));
        }
    }

    fn is_free(&self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        // With the own name in it, it is from before a restart of this container.
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let told = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = told.map_or(self.timing.duration, Duration::from_secs);
        self.observed.as_ref().is_some_and(|(_, since)| since.elapsed() >= duration)
    }

    fn spec(&self) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(self.timing.duration)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    fn check_refused(&self, error: &RequestError) {
        if error.code() == Some(403) {
            let verbs = &["get", "create", "update"];
            let resource = "leases".to_owned();
            let need = Need { group: "coordination.k8s.io", resource, verbs };
            self.permissions.refused(&need, &error.to_string());
        }
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
