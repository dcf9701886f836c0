//! What the access log says of a connection that passes unread.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Field, Value, text};

/// What is said of a connection. Empty fields and those that are None are left out of the line.
#[derive(Clone, Debug)]
pub struct ConnectionRecord<'a> {
    /// When it had been accepted and it was plain that it is to pass unread.
    pub time: SystemTime,
    /// `TLS` or `TCP`.
    pub protocol: &'a str,
    /// What the client asked for in its ClientHello, where that was read.
    pub server_name: &'a str,
    pub client: SocketAddr,
    /// The original destination of the connection.
    pub destination: SocketAddr,
    pub parent_namespace: &'a str,
    pub parent_name: &'a str,
    pub parent_port: u16,
    pub route_kind: &'a str,
    pub route_namespace: &'a str,
    pub route_name: &'a str,
    pub rule: &'a str,
    pub rule_name: &'a str,
    pub backend_namespace: &'a str,
    pub backend_name: &'a str,
    pub backend_port: &'a str,
    /// The address that it was joined with.
    pub endpoint: Option<SocketAddr>,
    /// Empty where both sides were done.
    pub reason: &'a str,
    pub duration: Duration,
    /// To the backend.
    pub sent_bytes: u64,
    /// From the backend.
    pub received_bytes: u64,
}

/// The fields of its line in their order.
pub(super) fn fields<'a>(record: &ConnectionRecord<'a>) -> [Field<'a>; 21] {
    [
        ("time", Some(Value::Time(record.time))),
        ("protocol", text(record.protocol)),
        ("server_name", text(record.server_name)),
        ("client", Some(Value::Address(record.client))),
        ("destination", Some(Value::Address(record.destination))),
        ("parent_namespace", text(record.parent_namespace)),
        ("parent_name", text(record.parent_name)),
        ("parent_port", Some(Value::Integer(record.parent_port.into()))),
        ("route_kind", text(record.route_kind)),
        ("route_namespace", text(record.route_namespace)),
        ("route_name", text(record.route_name)),
        ("rule", text(record.rule)),
        ("rule_name", text(record.rule_name)),
        ("backend_namespace", text(record.backend_namespace)),
        ("backend_name", text(record.backend_name)),
        ("backend_port", text(record.backend_port)),
        ("endpoint", record.endpoint.map(Value::Address)),
        ("reason", text(record.reason)),
        ("duration_ms", Some(Value::Milliseconds(record.duration))),
        ("sent_bytes", Some(Value::Integer(record.sent_bytes))),
        ("received_bytes", Some(Value::Integer(record.received_bytes))),
    ]
}
