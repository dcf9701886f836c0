//! The controller's process: options, signals, and nothing of what it decides.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use weft_controller::config::Config;
use weft_controller::lead::Replica;
use weft_controller::lease::Timing;
use weft_controller::metrics::Metrics;
use weft_controller::permission::Permissions;
use weft_controller::{log, serve};

fn main() -> ExitCode {
    let config = Config::parse();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    log::init(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control(config))
}

async fn control(config: Config) -> anyhow::Result<()> {
    let client = Client::try_default().await.context(
        "cannot find the API server: run in a pod with a ServiceAccount, or set KUBECONFIG",
    )?;
    let port = config.metrics_port;
    let listener = serve::listen(port).await.with_context(|| {
        format!("cannot listen on port {port}: choose another with --metrics-port")
    })?;
    let metrics = Metrics::new();
    let served = tokio::spawn(serve::serve(listener, Arc::clone(&metrics)));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), port, "weft-controller is up");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    let permissions = Arc::new(Permissions::default());
    let replica = Replica { config, client, metrics, permissions, timing: Timing::default() };
    let ended = replica.run(stop).await;
    served.abort();
    Ok(ended?)
}
