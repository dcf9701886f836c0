//! Weft's mutating admission webhook: puts `weft-init` and `weft-proxy` into pods as they are
//! created.
//!
//! | module | |
//! |---|---|
//! | [`config`] | the command line, parsed into types that cannot be wrong |
//! | [`server`] | HTTPS: a request's bytes in, an answer out |
//! | [`review`] | the AdmissionReview around a pod |
//! | [`pod`] | a pod → the patch that injects it, or the reason why not; pure |
//! | [`container`] | the containers and the volume that are injected; pure |
//! | [`annotations`], [`quantity`] | what a pod may ask for; pure |
//! | [`patch`] | JSON patch (RFC 6902) |
//! | [`certificate`] | the serving certificate: made, shared by the replicas, rotated |
//! | [`service_cidr`] | the cluster's Service ranges, watched |
//! | [`health`], [`metrics`] | what the cluster sees of the injector |
//!
//! A newcomer follows one admission by reading [`server`], then [`review::answer`], then
//! [`pod::inject`], top to bottom.
//!
//! # When the webhook cannot be reached
//!
//! The API server then does what `failurePolicy` says, for the pods that the selectors of the
//! webhook configuration choose and for no others:
//!
//! - `Fail` (the chart's default): such a pod is not created, and its ReplicaSet tries again. A pod
//!   that runs without its sidecar would send requests past the routes, in silence: a canary would
//!   get no share, a redirect would not happen.
//! - `Ignore`: such a pod starts without a sidecar; the controller reports it.
//!
//! With either, pods of namespaces without the label start as if Weft were not there, because no
//! request is made for them; so do those of Weft's own namespace and of the system's, which the
//! chart excludes, so that the injector can always start its own replacement. What else keeps the
//! webhook reachable: two replicas behind a PodDisruptionBudget, certificates that rotate before
//! they expire while both are trusted, and a shutdown that first waits until no API server sends
//! requests here any more. An answer takes less than a millisecond and asks nobody else, so a short
//! `timeoutSeconds` is safe.
//!
//! A pod that is asked about and must not be let through as it is (see [`pod`]) is denied whatever
//! the policy.

pub mod annotations;
pub mod certificate;
pub mod config;
pub mod container;
pub mod health;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod patch;
pub mod pod;
pub mod quantity;
mod retry;
pub mod review;
pub mod server;
pub mod service_cidr;
#[cfg(test)]
mod testing;
