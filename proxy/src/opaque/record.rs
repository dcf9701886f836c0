//! What is counted and said of a connection that passes unread: once, when it has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::join::Passed;
use super::{Hello, Stream};
use crate::backend::BackendName;
use crate::log::ConnectionRecord;
use crate::metrics::TcpSeries;
use crate::table::{Destination, RuleName, StreamRule, WeightedBackend};
use crate::worker::{Shared, Worker};

/// A connection on its way; counted and logged when dropped, also by a panic.
pub(super) struct Record<'t> {
    shared: Arc<Shared>,
    destination: &'t Destination,
    client: SocketAddr,
    original: SocketAddr,
    is_tls: bool,
    server_name: Option<String>,
    start: Instant,
    time: SystemTime,
    rule: Option<&'t RuleName>,
    backend: Option<&'t BackendName>,
    endpoint: Option<SocketAddr>,
    series: &'t TcpSeries,
    /// Counts as open in `series`.
    is_open: bool,
    sent: u64,
    received: u64,
    /// Empty where both sides were done.
    pub(super) reason: &'static str,
}

impl<'t> Record<'t> {
    pub(super) fn begin(worker: &Worker, destination: &'t Destination, stream: &Stream) -> Self {
        let server_name = match &stream.hello {
            Hello::Tls(server_name) => server_name.clone(),
            Hello::Unread | Hello::Refused(_) => None,
        };
        Self {
            shared: worker.shared.clone(),
            destination,
            client: stream.client_addr,
            original: stream.original,
            is_tls: stream.is_tls,
            server_name,
            start: Instant::now(),
            time: SystemTime::now(),
            rule: None,
            backend: None,
            endpoint: None,
            series: &destination.unmatched_stream,
            is_open: false,
            sent: 0,
            received: 0,
            reason: "aborted",
        }
    }

    pub(super) fn selected(&mut self, rule: &'t StreamRule) {
        self.rule = rule.source.as_ref();
        self.series = &rule.series;
    }

    pub(super) fn chosen(&mut self, backend: &'t WeightedBackend<TcpSeries>) {
        self.series = &backend.series;
        if let Ok(target) = &backend.target {
            self.backend = Some(&target.backend.name);
            self.series.opened();
            self.is_open = true;
        }
    }

    pub(super) fn joined(&mut self, endpoint: SocketAddr) {
        self.endpoint = Some(endpoint);
    }

    pub(super) fn count(&mut self, passed: &Passed) {
        (self.sent, self.received) = (passed.sent.get(), passed.received.get());
    }

    fn log(&self) {
        let (parent, rule, backend) = (&self.destination.service, self.rule, self.backend);
        self.shared.access_log.write_connection(&ConnectionRecord {
            time: self.time,
            protocol: if self.is_tls { "TLS" } else { "TCP" },
            server_name: self.server_name.as_deref().unwrap_or_default(),
            client: self.client,
            destination: self.original,
            parent_namespace: &parent.namespace,
            parent_name: &parent.name,
            parent_port: self.destination.port.port,
            route_kind: rule.map_or("none", |rule| rule.route.kind.as_str()),
            route_namespace: rule.map_or("", |rule| &rule.route.namespace),
            route_name: rule.map_or("", |rule| &rule.route.name),
            rule: &rule.map_or_else(String::new, |rule| rule.index.to_string()),
            rule_name: rule.and_then(|rule| rule.name.as_deref()).unwrap_or_default(),
            backend_namespace: backend.map_or("", |backend| &backend.service.namespace),
            backend_name: backend.map_or("", |backend| &backend.service.name),
            backend_port: &backend.map_or_else(String::new, |backend| backend.port.to_string()),
            endpoint: self.endpoint,
            reason: self.reason,
            duration: self.start.elapsed(),
            sent_bytes: self.sent,
            received_bytes: self.received,
        });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let duration = self.start.elapsed();
        match self.is_open {
            true => self.series.closed(duration, self.sent, self.received, self.reason),
            false => self.series.refused(duration, self.reason),
        }
        if self.shared.access_log.is_on() {
            self.log();
        }
    }
}
