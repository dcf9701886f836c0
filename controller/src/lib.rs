//! Weft's controller: tells the truth about routes, and about the mesh.
//!
//! Of several replicas one leads ([`lease`]). The leader watches Services, routes and grants
//! ([`watch`]) into a [`store`]; [`reconcile`] asks [`weft_gamma::resolve`] what the routes deserve,
//! which is what the sidecars do with them too, and [`write`](mod@write) brings that into their
//! [`status`]. Beside that it keeps the mesh's own object ([`mesh`]) and reports pods that should
//! have a sidecar and have none ([`uninjected`]).
//!
//! It is not on the path of any request: while it is away, traffic flows and status grows old.

pub mod config;
pub mod features;
pub mod kinds;
pub mod lead;
pub mod lease;
pub mod log;
pub mod mesh;
pub mod metrics;
pub mod permission;
pub mod reconcile;
pub mod request;
pub mod retry;
pub mod serve;
pub mod status;
pub mod store;
pub mod uninjected;
pub mod watch;
pub mod write;

#[cfg(test)]
mod fake;

/// What stands in the status of the objects that this controller answers for.
pub const CONTROLLER_NAME: &str = "weft.mesh/controller";

/// Who writes, for the managed fields of the objects written.
pub const FIELD_MANAGER: &str = "weft-controller";
