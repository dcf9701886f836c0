//! The injector's process: ports, watches and signals.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use weft_injector::certificate::{Keeper, Served};
use weft_injector::config::Config;
use weft_injector::health::{self, Readiness};
use weft_injector::listen::listen;
use weft_injector::log;
use weft_injector::metrics::Metrics;
use weft_injector::server::{self, Admissions};
use weft_injector::service_cidr::{self, ServiceCidrs};

/// How long requests in flight may take to finish.
const DRAIN: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let config = Config::parse();
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-injector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> anyhow::Result<()> {
    log::init(&config.log_level, config.log_format)?;
    // One thread: an answer takes some tens of microseconds, a handshake less than a millisecond.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let settings = config.settings()?;
    let metrics = Arc::new(Metrics::default());
    let client = Client::try_default().await.context(
        "cannot tell where the API server is: run in a pod with a ServiceAccount, or set KUBECONFIG",
    )?;
    let service_cidrs = if config.service_cidrs.is_empty() {
        let watched = ServiceCidrs::default();
        let watching = service_cidr::watch(client.clone(), watched.clone(), Arc::clone(&metrics));
        tokio::spawn(watching);
        watched
    } else {
        ServiceCidrs::fixed(config.service_cidrs.clone())
    };
    let readiness = Readiness::new(service_cidrs.clone());
    let served = Served::default();
    let keeper = Keeper::new(
        client,
        config.names(),
        config.certificate_validity,
        served.clone(),
        readiness.clone(),
        Arc::clone(&metrics),
    );

    let webhook = listen(config.webhook_port, "--webhook-port")?;
    let health = listen(config.metrics_port, "--metrics-port")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = config.namespace,
        webhook_port = config.webhook_port,
        "weft-injector is up",
    );
    let admissions =
        Arc::new(Admissions { settings, service_cidrs, metrics: Arc::clone(&metrics) });
    let (end, mut ended) = watch::channel(false);
    let end_of_serving = async move {
        // An error means that `end` has gone, and with it the process's main task.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let serving = server::serve(webhook, served, admissions, end_of_serving, DRAIN);
    let mut serving = tokio::spawn(serving);
    let mut keeping = tokio::spawn(keeper.run());
    let mut showing = tokio::spawn(health::serve(health, readiness.clone(), metrics));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut serving => anyhow::bail!("the webhook has ended: {ended:?}"),
        ended = &mut keeping => anyhow::bail!("the certificate's keeper has ended: {ended:?}"),
        ended = &mut showing => anyhow::bail!("the metrics port has ended: {ended:?}"),
    }
    // The endpoint is taken out of the Service while we are told to end; until every API server's
    // node knows, admissions still come.
    readiness.ending();
    tracing::info!(seconds = config.shutdown_delay_seconds, "ending; still answering for a while");
    tokio::time::sleep(Duration::from_secs(config.shutdown_delay_seconds)).await;
    end.send_replace(true);
    serving.await.context("the webhook panicked")??;
    tracing::info!("ended");
    Ok(())
}
