//! `make scale`: what a sidecar costs in a large cluster, and how soon it does what was edited there.
//!
//! ```text
//!   this program ──► 10.96.x.y:80 ──REDIRECT by weft-init──► weft-proxy ──► 10.128.0.0/14:8080, this
//!        │                                                       │          program, on any address
//!        └──writes, edits──► kube-apiserver ◄──lists, watches────┘
//! ```
//!
//! A real etcd and a real kube-apiserver hold Services, routes and endpoints, and no kubelet is there:
//! the pods exist as endpoints only. The sidecar asks the API server as in a pod, by its
//! ServiceAccount and the chart's own RBAC. Everything stands in namespaces of the run's own.

mod backend;
mod cluster;
mod controller;
mod edit;
mod network;
mod objects;
mod report;
mod run;
mod sidecar;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use weft_bench::namespace;

/// Measures a sidecar in a cluster of 10,000 Services, 10,000 HTTPRoutes and 100,000 endpoints.
#[derive(Debug, Parser)]
#[command(name = "weft-scale")]
struct Options {
    /// A cluster of a tenth, and fewer edits.
    #[arg(long)]
    quick: bool,
    /// Folder of the programs that were built.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// The sidecar that is measured: as it is released, for its size is most of its memory.
    #[arg(long, value_name = "FILE")]
    sidecar: PathBuf,
    /// Folder of etcd and kube-apiserver.
    #[arg(long, value_name = "FOLDER")]
    kubernetes: PathBuf,
    /// Folder of the Gateway API's CRDs.
    #[arg(long, value_name = "FOLDER")]
    crds: PathBuf,
    /// The chart's RBAC, as manifests.
    #[arg(long, value_name = "FILE")]
    rbac: PathBuf,
    /// Folder to write report.md and report.json to.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The second half, inside the namespaces.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.inside { inside(&options) } else { namespace::enter() };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn inside(options: &Options) -> Result<ExitCode> {
    namespace::end_with_parent();
    network::lay(options)?;
    backend::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run::run(options))?;
    report.write(&options.out)?;
    Ok(ExitCode::SUCCESS)
}
