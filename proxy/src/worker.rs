//! A worker: one thread with its own runtime, listeners, connections and load figures.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::local::LocalBackend;
use crate::backend::{Backend, ConnectSettings, PoolSettings};
use crate::drain::Drain;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::outbound::{self, Clients};
use crate::source::Lookup;
use crate::table::{Destination, Table};

/// How often connections that have been idle for too long are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// What workers and the control thread share.
#[derive(Debug)]
pub struct Shared {
    table: ArcSwap<Table>,
    /// Counts publications: what requests compare, without a lock.
    count: AtomicU64,
    /// The same count, for tasks that wait for the next one.
    published: watch::Sender<u64>,
    pub metrics: Arc<Metrics>,
    pub access_log: AccessLog,
    pub drain: Drain,
    pub limits: Limits,
    /// Where to ask for addresses that the table does not have; None where it has all.
    lookups: Option<mpsc::UnboundedSender<Lookup>>,
}

/// What a client may ask of the proxy, and how long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a client may stay silent on a port of unknown protocol before the proxy takes it
    /// for one that waits for the server.
    pub detect_timeout: Duration,
    /// How long a client may take for the head of a request.
    pub header_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    /// How long a client's HTTP connection may be without a request.
    pub client_idle_timeout: Duration,
    /// How many connections of clients may be open, on all workers together.
    pub max_connections: usize,
    /// What one HTTP/2 connection may have under way.
    pub http2_max_streams: u32,
    /// How many requests an HTTP/2 client may abandon in excess of those that are answered.
    pub http2_max_resets: u32,
    /// How many frames that carry nothing an HTTP/2 client may send in excess of what accounts for them.
    pub http2_max_empty_frames: u32,
    pub connect_timeout: Duration,
    pub pool_idle_timeout: Duration,
    pub pool_max_idle: usize,
    /// How many requests of a worker, and connections that pass unread, an endpoint may have under way.
    pub max_requests: u32,
    /// How long the first connection to an address may wait for the source to know it.
    pub lookup_timeout: Duration,
}

/// The state of one worker. All that happens on it runs on its thread, hence the cells.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connect: ConnectSettings,
    pub(crate) pool: PoolSettings,
    pub(crate) clients: Clients,
    table: RefCell<Rc<Snapshot>>,
    seen: Cell<u64>,
    /// By [`Backend::id`].
    backends: RefCell<Vec<Option<Rc<LocalBackend>>>>,
}

/// The table that a request began with. Cloning the `Rc` touches nothing that other workers use.
pub(crate) struct Snapshot(Arc<Table>);

impl Shared {
    pub fn new(
        metrics: Arc<Metrics>,
        access_log: AccessLog,
        drain: Drain,
        limits: Limits,
        lookups: Option<mpsc::UnboundedSender<Lookup>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::default(),
            count: AtomicU64::new(0),
            published: watch::Sender::new(0),
            metrics,
            access_log,
            drain,
            limits,
            lookups,
        })
    }

    /// Publishes a table: requests that begin from now on use it.
    pub fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
        let count = self.count.fetch_add(1, Ordering::Release) + 1;
        self.published.send_replace(count);
    }

    /// Asks a source that is on demand what stands at `ip`, and waits until the table has it or it is
    /// plain that there is nothing to be had, but not for ever.
    pub(crate) async fn look_up(&self, ip: IpAddr) {
        let Some(lookups) = &self.lookups else { return };
        let (answer, answered) = oneshot::channel();
        if lookups.send(Lookup { ip, answer }).is_ok() {
            // Answered or not in time: the table says which.
            let _ = tokio::time::timeout(self.limits.lookup_timeout, answered).await;
        }
    }

    /// The table that was published last.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }
}

impl Snapshot {
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation
    }

    pub(crate) fn destination(&self, ip: IpAddr, port: u16) -> Option<&Arc<Destination>> {
        self.0.destination(ip, port)
    }

    /// Whether nothing is left to be asked of the source.
    pub(crate) fn is_enough_for(&self, ip: IpAddr, port: u16) -> bool {
        self.0.destination(ip, port).is_some() || self.0.knows(ip)
    }
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Rc<Self> {
        let limits = shared.limits;
        Rc::new(Self {
            connect: ConnectSettings { timeout: limits.connect_timeout },
            pool: PoolSettings {
                max_idle: limits.pool_max_idle,
                idle_timeout: limits.pool_idle_timeout,
            },
            clients: Clients::default(),
            table: RefCell::new(Rc::new(Snapshot(shared.table()))),
            seen: Cell::new(0),
            backends: RefCell::default(),
            shared,
        })
    }

    /// A worker of the calling thread's runtime, with the tasks that keep it current.
    pub(crate) fn start(shared: Arc<Shared>) -> Rc<Self> {
        let worker = Self::new(shared);
        tokio::task::spawn_local(worker.clone().follow_endpoints());
        tokio::task::spawn_local(worker.clone().sweep_pools());
        tokio::task::spawn_local(outbound::watch(worker.clone()));
        worker
    }

    /// The current table.
    pub(crate) fn table(&self) -> Rc<Snapshot> {
        let count = self.shared.count.load(Ordering::Acquire);
        if self.seen.replace(count) != count {
            *self.table.borrow_mut() = Rc::new(Snapshot(self.shared.table()));
        }
        self.table.borrow().clone()
    }

    /// The table, with the destination at `ip` if it is to be had: where the source is on demand, the
    /// first connection to a Service waits for what is known of it, but not for ever.
    pub(crate) async fn table_for(&self, ip: IpAddr, port: u16) -> Rc<Snapshot> {
        let table = self.table();
        if table.is_enough_for(ip, port) { table } else { self.look_up(ip).await }
    }

    /// The table, once the source was asked what stands at `ip`.
    pub(crate) async fn look_up(&self, ip: IpAddr) -> Rc<Snapshot> {
        self.shared.look_up(ip).await;
        self.table()
    }

    /// This worker's side of a backend.
    pub(crate) fn backend(&self, backend: &Arc<Backend>) -> Rc<LocalBackend> {
        let mut backends = self.backends.borrow_mut();
        if backends.len() <= backend.id {
            backends.resize(backend.id + 1, None);
        }
        match &backends[backend.id] {
            Some(local) if local.is(backend) => local.clone(),
            _ => {
                let most = self.shared.limits.max_requests;
                let local = LocalBackend::new(backend.clone(), most);
                backends[backend.id].insert(Rc::new(local)).clone()
            }
        }
    }

    /// Takes over published endpoints at once, so that connections to those that are gone close
    /// without waiting for the next request.
    async fn follow_endpoints(self: Rc<Self>) {
        let mut published = self.shared.published.subscribe();
        while published.changed().await.is_ok() {
            for slot in self.backends.borrow_mut().iter_mut() {
                match slot {
                    Some(backend) if backend.is_retired() => *slot = None,
                    Some(backend) => backend.refresh(),
                    None => {}
                }
            }
        }
    }

    async fn sweep_pools(self: Rc<Self>) {
        let mut interval = tokio::time::interval(SWEEP);
        loop {
            interval.tick().await;
            let now = Instant::now();
            for backend in self.backends.borrow().iter().flatten() {
                backend.sweep(now, &self.pool);
            }
        }
    }
}

/// Runs a worker on the calling thread until the drain has ended and `stop` says so.
pub fn run(
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let worker = Worker::start(shared);
        for listener in listeners {
            let port = listener.local_addr()?.port();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::task::spawn_local(outbound::accept(worker.clone(), listener, port));
        }
        // The sender going away means the same as its word.
        let _ = stop.wait_for(|stop| *stop).await;
        Ok(())
    })
}
