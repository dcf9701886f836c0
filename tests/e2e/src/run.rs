//! What stands around the body of every test.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::FutureExt;

use crate::cluster::Cluster;
use crate::out;

/// With this variable set, a test that fails leaves its namespaces for people to look at.
const KEEP: &str = "WEFT_E2E_KEEP";

/// Runs a test's body with a way into the cluster, and clears away after it.
///
/// `name` becomes a part of the namespaces' names: short, lower case, unique among the tests.
///
/// # Panics
/// When the body fails, and when there is no cluster.
#[allow(clippy::panic, reason = "how a test fails")]
pub fn run(name: &str, body: impl AsyncFnOnce(&Cluster) -> Result<()>) {
    // More than one thread: what is not async (the scenarios) blocks one of them.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let began = Instant::now();
    runtime.block_on(async {
        let cluster = match Cluster::connect(name).await {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error:#}"),
        };
        let ended = AssertUnwindSafe(body(&cluster)).catch_unwind().await;
        let failed = !matches!(ended, Ok(Ok(())));
        if failed {
            eprintln!("--- {name} failed; what its namespaces look like ---");
            eprintln!("{}", cluster.report().await);
        }
        if !failed || std::env::var_os(KEEP).is_none() {
            cluster.clear().await;
        }
        match ended {
            Ok(Ok(())) => {
                if let Err(error) = out::took(name, began.elapsed()) {
                    panic!("{error:#}");
                }
            }
            Ok(Err(error)) => panic!("{error:#}"),
            Err(panicked) => resume_unwind(panicked),
        }
    });
}

/// How often a test is to do its work: what the variable says, else the default, which keeps a run
/// short.
pub fn times(variable: &str, default: u64) -> Result<u64> {
    let Some(text) = std::env::var_os(variable) else { return Ok(default) };
    let times = text.to_str().and_then(|text| text.parse().ok());
    times.with_context(|| format!("{variable} is no number: {}", text.display()))
}
