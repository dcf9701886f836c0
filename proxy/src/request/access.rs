//! A request's line in the access log: collected only where the log is switched on.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Version};

use super::Connection;
use crate::backend::BackendName;
use crate::log::{AccessLog, AccessRecord};
use crate::metrics::Outcome;
use crate::table::{Destination, RuleName};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is known of a request before its end.
pub(crate) struct AccessEntry {
    time: SystemTime,
    method: http::Method,
    path: String,
    host: String,
    protocol: &'static str,
    client: SocketAddr,
    original: SocketAddr,
    request_id: String,
    pub(super) request_bytes: Rc<Cell<u64>>,
    destination: Arc<Destination>,
    pub(super) rule: Option<RuleName>,
    pub(super) backend: Option<BackendName>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) retries: u32,
}

impl AccessEntry {
    /// None where there is no access log.
    pub(super) fn begin(
        connection: &Connection,
        destination: &Arc<Destination>,
        head: &Parts,
    ) -> Option<Box<Self>> {
        if !connection.worker.shared.access_log.is_on() {
            return None;
        }
        let target = head.uri.path_and_query();
        let host = match head.uri.authority() {
            Some(authority) => authority.to_string(),
            None => text(&head.headers, &HOST),
        };
        Some(Box::new(Self {
            time: SystemTime::now(),
            method: head.method.clone(),
            path: target.map_or_else(|| head.uri.to_string(), ToString::to_string),
            host,
            protocol: match head.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            client: connection.client,
            original: SocketAddr::new(connection.ip, connection.port),
            request_id: text(&head.headers, &REQUEST_ID),
            request_bytes: Rc::default(),
            destination: destination.clone(),
            rule: None,
            backend: None,
            endpoint: None,
            retries: 0,
        }))
    }

    pub(super) fn write(
        &self,
        log: &AccessLog,
        outcome: Outcome,
        duration: Duration,
        response_bytes: u64,
    ) {
        let rule = self.rule.as_ref();
        let backend = self.backend.as_ref();
        log.write(&AccessRecord {
            time: self.time,
            method: self.method.as_str(),
            path: &self.path,
            host: &self.host,
            protocol: self.protocol,
            client: Some(self.client),
            destination: Some(self.original),
            parent_namespace: &self.destination.service.namespace,
            parent_name: &self.destination.service.name,
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
            retries: self.retries,
            status: outcome.status,
            grpc_status: outcome.grpc_status,
            reason: outcome.reason,
            duration,
            request_bytes: self.request_bytes.get(),
            response_bytes,
            request_id: &self.request_id,
        });
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}
