//! Everything of Weft that needs more than one program: the lab, the scenarios, the demo.
//!
//! * [`lab`]: network namespaces as a small cluster without Kubernetes: backends, Services,
//!   client pods with `weft-init` and `weft-proxy` as they stand in a real pod.
//! * [`scenario`]: the six walk-throughs, as manifests and checks. `make demo` prints them and
//!   `tests/scenarios.rs` asserts them: the same code, so the demo cannot drift from the tests.
//! * [`grpc`]: the messages that `weft-echo` and `weft-client` exchange.
//! * [`attack`]: what an attack of `weft-client` has sent, and a witness has seen.
//! * [`answer`]: what `weft-echo` tells about a request that it has seen.
//! * [`load`]: what a load of `weft-client` has seen.

pub mod answer;
pub mod attack;
pub mod grpc;
pub mod lab;
pub mod load;
pub mod scenario;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The top of the checkout: the working folder, or the one above it that holds `Cargo.lock`. Cargo
/// starts a test in its package's folder, make a program at the top. (Where the checkout stood when
/// it was built does not count: it may have been moved.)
///
/// # Errors
/// When no such folder is found.
pub fn checkout() -> Result<PathBuf> {
    let folder = std::env::current_dir().context("the working folder is gone")?;
    let top = folder.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    let top = top.with_context(|| {
        format!("{} is not in a checkout of Weft: run this from its top", folder.display())
    })?;
    Ok(top.to_owned())
}
