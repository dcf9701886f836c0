//! Weft in a real Kubernetes: what its cluster tests are written with.
//!
//! A test is a function that calls [`run`] with a name and an async closure:
//!
//! ```no_run
//! weft_e2e::run("greeting", async |cluster| {
//!     let shop = cluster.namespace("shop").await?; // labelled for injection
//!     shop.server(&weft_e2e::Server::new("reviews", "v1")).await?;
//!     let client = shop.client().await?;
//!     let answer = client.curl(&["http://reviews/"]).await?.success()?;
//!     anyhow::ensure!(answer.contains("reviews"), "{answer}");
//!     Ok(())
//! });
//! ```
//!
//! Namespaces get unique names and go when the test ends, whichever way; a test that fails shows
//! first what its pods and their events say. The cluster is the one that KUBECONFIG names.

mod admission;
mod cluster;
mod helm;
mod manifest;
mod namespace;
pub mod node;
pub mod objects;
mod out;
mod pod;
pub mod prometheus;
pub mod rate;
mod report;
mod run;
mod status;
mod template;
mod wait;
pub mod web;

pub use admission::{Admission, admit};
pub use cluster::Cluster;
pub use helm::{checkout, helm, kubectl};
pub use manifest::{documents, resource_of};
pub use namespace::{INJECT, Namespace};
pub use out::{figure, keep};
pub use pod::Pod;
pub use run::{run, times};
pub use status::{Parent, parents, verdict};
pub use template::{Client, Server, test_image};
pub use wait::{PATIENCE, eventually};
pub use weft_tests::lab::Output;
