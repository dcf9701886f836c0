//! What a connection speaks: declared by the port, else found in its first bytes.

use weft_gamma::object::ServicePort;

/// What a Service port says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// HTTP of any version; HTTP/1.1 towards endpoints.
    Http,
    /// HTTP; HTTP/2 with prior knowledge towards endpoints.
    Http2,
    /// Not HTTP as far as the proxy can read it: TLS, databases, …
    Opaque,
    /// Nothing.
    Unknown,
}

impl Declared {
    /// HTTP of any version.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Declared::Http | Declared::Http2)
    }
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    Http1,
    Http2,
    Tls,
    /// None of these.
    Other,
    /// What has come so far is too little to say.
    Incomplete,
}

/// RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// No method of the IANA registry is longer than 18 letters (`UPDATEREDIRECTREF` has 17).
const LONGEST_METHOD: usize = 24;

/// Which of a port's fields declares its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredBy {
    AppProtocol,
    /// The name, or its part before the first `-`.
    Name,
    Nothing,
}

/// `appProtocol` first: the API says that implementations "SHOULD" honour it. Then the port's name,
/// or its part before the first `-`, as is the custom of meshes.
pub(crate) fn declared(port: &ServicePort) -> Declared {
    declaration(port).0
}

/// What a port declares, and which of its fields does.
pub(crate) fn declaration(port: &ServicePort) -> (Declared, DeclaredBy) {
    if let Some(protocol) = &port.app_protocol
        && let Some(declared) = by_app_protocol(protocol)
    {
        return (declared, DeclaredBy::AppProtocol);
    }
    let name = port.name.split_once('-').map_or(port.name.as_str(), |(prefix, _)| prefix);
    match by_name(name) {
        Declared::Unknown => (Declared::Unknown, DeclaredBy::Nothing),
        declared => (declared, DeclaredBy::Name),
    }
}

fn by_app_protocol(protocol: &str) -> Option<Declared> {
    // Names without a prefix are IANA's service names; kubernetes.io/… are KEP-3726's.
    match protocol.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => Some(Declared::Http),
        "http2" | "h2c" | "grpc" | "grpc-web" | "kubernetes.io/h2c" => Some(Declared::Http2),
        "https" | "tls" | "tcp" | "kubernetes.io/wss" => Some(Declared::Opaque),
        other => match by_name(other) {
            Declared::Unknown => None,
            known => Some(known),
        },
    }
}

fn by_name(name: &str) -> Declared {
    match name {
        "http" => Declared::Http,
        "http2" | "h2c" | "grpc" => Declared::Http2,
        "https" | "tls" | "tcp" | "mysql" | "mariadb" | "postgres" | "postgresql" | "redis"
        | "mongo" | "mongodb" | "mssql" | "kafka" | "amqp" | "amqps" | "mqtt" | "nats" | "smtp"
        | "smtps" | "imap" | "imaps" | "pop3" | "ftp" | "ssh" | "ldap" | "ldaps" => {
            Declared::Opaque
        }
        _ => Declared::Unknown,
    }
}

/// Looks at the first bytes that a client sent.
pub fn detect(bytes: &[u8]) -> Detected {
    if bytes.is_empty() {
        return Detected::Incomplete;
    }
    let seen = bytes.len().min(HTTP2_PREFACE.len());
    if bytes[..seen] == HTTP2_PREFACE[..seen] {
        return if seen == HTTP2_PREFACE.len() { Detected::Http2 } else { Detected::Incomplete };
    }
    // A TLS record of type handshake, version 3.x (RFC 8446, section 5.1).
    if bytes[0] == 0x16 {
        return match bytes.get(1) {
            None => Detected::Incomplete,
            Some(3) => Detected::Tls,
            Some(_) => Detected::Other,
        };
    }
    detect_http1(bytes)
}

/// A request line begins with a method, a token of letters and dashes, and a space. An empty line
/// before it is allowed (RFC 9112, section 2.2).
fn detect_http1(bytes: &[u8]) -> Detected {
    if bytes == b"\r" {
        return Detected::Incomplete;
    }
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let method =
        line.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
    match line.get(method) {
        None if method <= LONGEST_METHOD => Detected::Incomplete,
        Some(b' ') if method > 0 && method <= LONGEST_METHOD => after_method(&line[method + 1..]),
        _ => Detected::Other,
    }
}

/// The target and the version: `… HTTP/1.` tells HTTP from a line protocol that begins alike.
fn after_method(rest: &[u8]) -> Detected {
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let version = line.len().checked_sub(b" HTTP/1.1".len()).map(|at| &line[at..]);
            match version {
                Some(version) if version.starts_with(b" HTTP/1.") => Detected::Http1,
                _ => Detected::Other,
            }
        }
        // Already longer than any line of another text protocol is likely to be.
        None if rest.len() >= 1024 => Detected::Http1,
        // However the line begins, its end tells: what comes in one piece would else be HTTP, to be
        // refused, and in two pieces pass unread.
        None => Detected::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_gamma::object::Transport;

    fn port(name: &str, app_protocol: Option<&str>) -> ServicePort {
        ServicePort {
            name: name.into(),
            port: 80,
            transport: Transport::Tcp,
            app_protocol: app_protocol.map(Into::into),
        }
    }

    #[test]
    fn the_app_protocol_comes_before_the_name() {
        for (name, app_protocol, expected) in [
            ("", None, Declared::Unknown),
            ("http", None, Declared::Http),
            ("http-web", None, Declared::Http),
            ("http2-web", None, Declared::Http2),
            ("grpc", None, Declared::Http2),
            ("web", None, Declared::Unknown),
            ("mysql-primary", None, Declared::Opaque),
            ("https", None, Declared::Opaque),
            ("tcp", Some("http"), Declared::Http),
            ("http", Some("kubernetes.io/h2c"), Declared::Http2),
            ("http", Some("kubernetes.io/wss"), Declared::Opaque),
            ("http", Some("example.com/own"), Declared::Http),
            ("", Some("redis"), Declared::Opaque),
        ] {
            assert_eq!(declared(&port(name, app_protocol)), expected, "{name} {app_protocol:?}");
        }
    }

    #[test]
    fn first_bytes() {
        for (bytes, expected) in [
            (&b""[..], Detected::Incomplete),
            (b"GET / HTTP/1.1\r\n", Detected::Http1),
            (b"\r\nGET / HTTP/1.0\r\n", Detected::Http1),
            (b"VERSION-CONTROL /x HTTP/1.1\n", Detected::Http1),
            (b"GE", Detected::Incomplete),
            (b"GET /incompl", Detected::Incomplete),
            (b"GET / HTTP/1.", Detected::Incomplete),
            // Where a piece ends says nothing.
            (b"\r", Detected::Incomplete),
            (b"\r\n", Detected::Incomplete),
            (b"GET  ", Detected::Incomplete),
            (b"GET  / HTTP/1.1\r\n", Detected::Http1),
            (b"PRI * HTTP/2.0\r\n", Detected::Incomplete),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Detected::Http2),
            (b"PRIX", Detected::Incomplete),
            (b"\x16\x03\x01\x02\0\x01", Detected::Tls),
            (b"\x16", Detected::Incomplete),
            (b"\x16\x02", Detected::Other),
            (b"EHLO example.org\r\n", Detected::Other),
            (b"USER me\r\n", Detected::Other),
            (b"*1\r\n$4\r\nPING\r\n", Detected::Other),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Detected::Other),
            (b"AVERYLONGWORDTHATISNOMETHODATALL x", Detected::Other),
        ] {
            assert_eq!(detect(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
