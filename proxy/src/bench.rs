//! What benches and fuzz targets need of this crate's inside: a worker on the calling thread, and one
//! backend's balancing. No part of the proxy uses it.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use clap::Parser;
use tokio::net::TcpStream;
use weft_gamma::endpoints::Endpoint;
use weft_gamma::object::{NamespacedName, Objects};
use weft_gamma::resolve::Settings;

use crate::backend::local::LocalBackend;
use crate::backend::{BackendName, Registry, Terms};
use crate::config::Config;
use crate::drain::Drain;
use crate::log::{self, AccessLog};
use crate::metrics::Metrics;
use crate::outbound::{self, Accepted};
use crate::table::Compiler;
use crate::worker::{Shared, Worker};

/// A sidecar of the namespace `default` with every option at its default, whose connections come by
/// hand and not by a redirect.
pub struct Proxy(Rc<Worker>);

impl Proxy {
    /// Serves by these objects. To be called on a local runtime.
    pub fn new(objects: &Objects) -> Self {
        let config = Config::parse_from(["weft-proxy", "--namespace", "default"]);
        // As the sidecar does it, once in a process: where nobody takes events, spans of h2 are made for
        // the crate log.
        let _ = log::init(&config);
        Self::with(&config, objects)
    }

    /// The same, of a sidecar with these options and without a log.
    pub fn with(config: &Config, objects: &Objects) -> Self {
        let metrics = Metrics::new(&config.metrics_settings());
        let mut compiler = Compiler::new(config.pod(), Settings::default(), metrics.clone());
        let limits = config.limits(u64::MAX);
        let shared = Shared::new(metrics, AccessLog::off(), Drain::default(), limits, None);
        shared.publish(compiler.compile(objects, None).table);
        Self(Worker::start(shared))
    }

    /// What it has counted, as it is shown to Prometheus.
    pub fn metrics(&self) -> String {
        self.0.shared.metrics.encode()
    }

    /// Serves a connection to its end, as one that `client` made to `original`. Its socket's options are those
    /// of [`crate::socket::listen`], where it was accepted there.
    ///
    /// # Errors
    /// What ends a connection other than its peers.
    pub async fn serve(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        original: SocketAddr,
    ) -> io::Result<()> {
        outbound::serve_redirected(self.0.clone(), Accepted { stream, client, original }).await
    }
}

/// One worker's choice among the endpoints of a backend.
pub struct Balancer(LocalBackend);

impl Balancer {
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let service =
            NamespacedName { namespace: "default".to_owned(), name: "reviews".to_owned() };
        let name = BackendName { service, port: 9080 };
        let backend = Registry::new(None).intern(&name, endpoints, Terms::default());
        Self(LocalBackend::new(backend, u32::MAX))
    }

    /// Chooses an endpoint for a request, which is over at once.
    pub fn pick(&self, now: Instant) -> bool {
        self.0.pick(&[], now).is_some()
    }
}
