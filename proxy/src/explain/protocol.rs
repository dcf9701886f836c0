//! How a connection is read, and why: as [`crate::outbound`] decides it.

use std::net::IpAddr;

use weft_gamma::object::ServicePort;

use super::question::{Question, Scheme};
use crate::opaque::Hello;
use crate::outbound;
use crate::protocol::{self, DeclaredBy, Detected};
use crate::table::{Destination, StreamRouting};

/// How a connection is read.
pub(super) enum Treatment {
    Requests,
    /// It passes unread, but perhaps for what the client says first.
    Stream(Hello),
    /// As requests, and none come.
    NotHttp,
}

/// How the connection that a question is about is read by the destination, and why, in words.
pub(super) fn treat(question: &Question, destination: &Destination) -> (Treatment, String) {
    let (declared, by) = protocol::declaration(&destination.port);
    let says = says(&destination.port, by);
    let has_tls_routes = matches!(destination.streams, StreamRouting::Tls { .. });
    let by_name = || {
        let name = server_name(question);
        let asked = match &name {
            Some(name) => format!("passed on by the server name of its TLS, {name}"),
            None => "passed on by the server name of its TLS, and it has none".to_owned(),
        };
        (Treatment::Stream(Hello::Tls(name)), format!("{asked}: TLSRoutes are attached"))
    };
    let unread = |why: &str| (Treatment::Stream(Hello::Unread), format!("passed on unread: {why}"));
    match (outbound::foreseen(destination), question.scheme) {
        (Some(Detected::Tls), Scheme::Tls) => by_name(),
        (Some(Detected::Tls), _) => {
            let ended = outbound::not_tls();
            let words = format!("not passed on: {}", ended.message);
            (Treatment::Stream(Hello::Refused(ended)), words)
        }
        (Some(_), _) if matches!(destination.streams, StreamRouting::Tcp { .. }) => {
            unread("a TCPRoute is attached, and takes whatever comes")
        }
        (Some(_), _) => unread(&says),
        (None, Scheme::Tls) if has_tls_routes => by_name(),
        (None, Scheme::Tls) => unread("it begins with a TLS handshake"),
        (None, Scheme::Tcp) if declared.is_http() => (Treatment::NotHttp, format!("HTTP: {says}")),
        (None, Scheme::Tcp) => unread("its first bytes are not HTTP's"),
        (None, Scheme::Http | Scheme::Grpc) if declared.is_http() => {
            (Treatment::Requests, format!("HTTP: {says}"))
        }
        (None, Scheme::Http | Scheme::Grpc) => {
            (Treatment::Requests, format!("HTTP, by the connection's first bytes: {says}"))
        }
    }
}

/// The name that a TLS client asks for: its URL's host, or the Host that was given. "Literal IPv4 and
/// IPv6 addresses are not permitted" (RFC 6066, section 3).
fn server_name(question: &Question) -> Option<String> {
    let name = question.named_host();
    name.parse::<IpAddr>().is_err().then(|| name.to_ascii_lowercase())
}

/// What a port says of its protocol.
fn says(port: &ServicePort, by: DeclaredBy) -> String {
    let name = &port.name;
    let app_protocol = port.app_protocol.as_deref().unwrap_or_default();
    match by {
        DeclaredBy::AppProtocol => format!("the port's appProtocol is {app_protocol}"),
        DeclaredBy::Name => format!("the port's name is {name}"),
        DeclaredBy::Nothing if !app_protocol.is_empty() => {
            format!("the port's appProtocol {app_protocol} is not a known one")
        }
        DeclaredBy::Nothing if name.is_empty() => {
            "the port has neither an appProtocol nor a name".to_owned()
        }
        DeclaredBy::Nothing => {
            format!("the port has no appProtocol, and its name {name} is not a protocol's")
        }
    }
}
