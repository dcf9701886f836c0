//! The sidecar's process: threads, signals, and nothing of what a request sees.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use weft_gamma::resolve::Settings;
use weft_proxy::admin::{self, AdminState, Readiness};
use weft_proxy::command::Command;
use weft_proxy::config::Config;
use weft_proxy::drain::Drain;
use weft_proxy::explain::live::Live;
use weft_proxy::log::{self, AccessLog, LogHandle};
use weft_proxy::metrics::Metrics;
use weft_proxy::publish::Publisher;
use weft_proxy::source::kube::{self as api_server, KubeSource, UsedServices};
use weft_proxy::source::manifest::ManifestSource;
use weft_proxy::source::{Lookup, Snapshot};
use weft_proxy::worker::{self, Shared};
use weft_proxy::{rlimit, socket};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often series that nobody uses any more are looked for.
const METRICS_SWEEP: Duration = Duration::from_secs(60);

/// Where routes, Services and endpoints come from.
enum Source {
    Manifests(ManifestSource),
    /// On demand, for the addresses that workers ask for.
    ApiServer {
        client: kube::Client,
        lookups: mpsc::UnboundedReceiver<Lookup>,
    },
}

fn main() -> ExitCode {
    // The allocator does not ask for pages of 2 MiB; where the kernel gives them to all who do not
    // refuse, an idle sidecar would be 12 MiB larger. Kernels without such pages lack nothing.
    let _ = nix::sys::prctl::set_thp_disable(true);
    match Command::from_environment() {
        Command::Run(config) => main_of_sidecar(&config),
        Command::Explain(options) => options.run(),
        Command::Check(options) => options.run(),
    }
}

fn main_of_sidecar(config: &Config) -> ExitCode {
    let log = match log::init(config) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("weft-proxy: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match run(config, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config, log: LogHandle) -> anyhow::Result<()> {
    let metrics = Metrics::new(&config.metrics_settings());
    let access_log = AccessLog::start(config.access_log, metrics.clone())?;
    let descriptors = rlimit::raise_open_files();
    let (lookup, lookups) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let source = match &config.manifests {
        Some(folder) => Source::Manifests(
            ManifestSource::new(folder, metrics.clone())
                .map_err(|error| anyhow!("{error} with --manifests or WEFT_MANIFESTS"))?,
        ),
        None => {
            let client = runtime
                .block_on(async { anyhow::Ok(api_server::client(kube::Config::infer().await?)?) })
                .context(
                    "no API server to ask: run in a pod, set KUBECONFIG, or give --manifests",
                )?;
            Source::ApiServer { client, lookups }
        }
    };
    let limits = config.limits(descriptors);
    let on_demand = source.client().is_some().then_some(lookup);
    let shared = Shared::new(metrics, access_log.clone(), Drain::default(), limits, on_demand);

    let workers = config.worker_count().get();
    let (stop, stopped) = watch::channel(false);
    let mut threads = Vec::new();
    for index in 0..workers {
        let listeners = listen(config.outbound_port)?;
        let (shared, stopped) = (shared.clone(), stopped.clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || worker::run(shared, listeners, stopped))
            .context("cannot start a worker thread")?;
        threads.push(thread);
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = config.namespace,
        workers,
        outbound_port = config.outbound_port,
        open_files = descriptors,
        "weft-proxy is up",
    );

    let result = runtime.block_on(control(config, &shared, log, source));
    stop.send_replace(true);
    for thread in threads {
        match thread.join() {
            Ok(ended) => ended?,
            Err(_panic) => tracing::error!("a worker thread panicked"),
        }
    }
    access_log.flush(Duration::from_secs(1));
    result
}

/// The control thread: source, admin, metrics, signals; returns when the drain has ended.
async fn control(
    config: &Config,
    shared: &Arc<Shared>,
    log: LogHandle,
    source: Source,
) -> anyhow::Result<()> {
    let readiness = Arc::new(Readiness::default());
    readiness.listeners_are_up();
    let settings = Settings::default();
    let mut publisher = Publisher::new(shared.clone(), config.pod(), settings);
    let live = Arc::new(Live {
        shared: shared.clone(),
        in_force: publisher.in_force(),
        namespace: config.namespace.clone(),
        settings,
        cluster: source.client(),
    });
    let state = AdminState {
        readiness: readiness.clone(),
        metrics: shared.metrics.clone(),
        log,
        config: {
            let in_force = publisher.in_force();
            Arc::new(move || in_force.dump())
        },
        explain: Arc::new(move |question| {
            let live = live.clone();
            async move { live.explain(&question).await }.boxed()
        }),
        drain: {
            let drain = shared.drain.clone();
            Arc::new(move || drain.start())
        },
    };
    let admin_listener = admin::listen(config.admin_address(), "admin", "--admin-port")?;
    let metrics_listener = admin::listen_on_all(config.metrics_port, "metrics", "--metrics-port")?;
    let mut admin = tokio::spawn(admin::serve_admin(admin_listener, state.clone()));
    let mut serve_metrics = tokio::spawn(admin::serve_metrics(metrics_listener, state));

    let publish = move |snapshot: Snapshot| {
        publisher.publish(snapshot);
        readiness.source_has_answered();
    };
    let mut sweep = tokio::time::interval(METRICS_SWEEP);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut source = std::pin::pin!(source.run(config, shared, publish));
    loop {
        tokio::select! {
            ended = &mut source => {
                ended?;
                anyhow::bail!("the source has ended")
            }
            ended = &mut admin => anyhow::bail!("the admin server has ended: {ended:?}"),
            ended = &mut serve_metrics => anyhow::bail!("the metrics server has ended: {ended:?}"),
            _ = sweep.tick() => {
                shared.metrics.sweep(Instant::now());
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Asked for through the admin port.
            () = shared.drain.started() => break,
        }
    }
    // Routes still change while the last requests run.
    let drained = drain(shared, config.drain);
    tokio::select! {
        ended = &mut source => ended?,
        () = drained => {}
        _ = terminate.recv() => tracing::warn!("second signal: exiting at once"),
        _ = interrupt.recv() => tracing::warn!("second signal: exiting at once"),
    }
    Ok(())
}

impl Source {
    /// Of the API server, where that is the source.
    fn client(&self) -> Option<kube::Client> {
        match self {
            Self::Manifests(_) => None,
            Self::ApiServer { client, .. } => Some(client.clone()),
        }
    }

    async fn run(
        self,
        config: &Config,
        shared: &Arc<Shared>,
        publish: impl FnMut(Snapshot),
    ) -> anyhow::Result<()> {
        match self {
            Self::Manifests(source) => source.run(publish).await,
            Self::ApiServer { client, lookups } => {
                let used = {
                    let shared = shared.clone();
                    UsedServices(Box::new(move || shared.table().take_used()))
                };
                let namespace = config.namespace.clone();
                let source = KubeSource::new(client, namespace, lookups, used, config.forget);
                source.run(shared.metrics.clone(), publish).await;
            }
        }
        Ok(())
    }
}

async fn drain(shared: &Shared, deadline: Duration) {
    tracing::info!(
        connections = shared.drain.open(),
        seconds = deadline.as_secs(),
        "draining: connections finish what they are doing",
    );
    shared.drain.start();
    match shared.drain.finished(deadline).await {
        0 => tracing::info!("drained"),
        left => tracing::warn!(connections = left, "drain deadline reached: connections are cut"),
    }
}

/// A worker's listeners: loopback of both families, IPv6 where the kernel has it.
fn listen(port: u16) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut listeners = vec![socket::listen(v4).with_context(|| {
        format!("cannot listen on {v4}: free the port or set --outbound-port to another one")
    })?];
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match socket::listen(v6) {
        Ok(listener) => listeners.push(listener),
        Err(error) => tracing::info!(%error, "no IPv6 loopback: only IPv4 is served"),
    }
    Ok(listeners)
}
