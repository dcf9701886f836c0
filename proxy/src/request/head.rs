//! The head of a request: refused where two parties could read it differently, brought into one form
//! for matching, and cleaned of what belongs to one connection only.

use http::header::{
    CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, Scheme, Uri};
use http::{Method, Version};

use crate::fault::{Fault, Kind};
use crate::http1;

/// Which of the headers that mean something to the proxy itself are there. Most messages have few of
/// them: one pass over the names costs less than a look for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Present {
    cookie: bool,
    content_length: bool,
    transfer_encoding: bool,
    pub(crate) upgrade: bool,
    /// The connection ends with this message's answer.
    pub(crate) close: bool,
    /// Something that [`strip_hop_by_hop`] removes.
    hop_by_hop: bool,
    /// Whether the content type is one of gRPC; None where there is no content type.
    grpc: Option<bool>,
}

impl Present {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "content-type" => {
                    present.grpc.get_or_insert_with(|| is_grpc(value.as_bytes()));
                }
                "content-length" => present.content_length = true,
                "cookie" => present.cookie = true,
                "te" => present.hop_by_hop |= value != "trailers",
                name if is_hop_by_hop(name) => {
                    present.hop_by_hop = true;
                    present.transfer_encoding |= name == "transfer-encoding";
                    present.upgrade |= name == "upgrade";
                    present.close |= name == "connection" && is_close(value);
                }
                _ => {}
            }
        }
        present
    }

    /// The length of the message's content, where its head has one that is plain.
    pub(crate) fn length(self, headers: &HeaderMap) -> Option<u64> {
        self.content_length.then(|| http1::content_length(headers).ok().flatten()).flatten()
    }

    /// Whether the request is gRPC, by its content type.
    pub(crate) fn is_grpc(self) -> bool {
        self.grpc == Some(true)
    }
}

/// Brings a request into the form that the rest works with: the target in origin form (or `*`, or
/// an authority for CONNECT), one Host header. Returns the authority that the target had, which may be
/// all that there is of a Host: [`write_host`] makes the header of it where somebody reads that.
///
/// `fallback` is the Host of an HTTP/1.0 request without one.
pub(crate) fn normalise(
    parts: &mut Parts,
    present: Present,
    max_headers: usize,
    fallback: impl FnOnce() -> String,
) -> Result<Option<Authority>, Fault> {
    // Of HTTP/2, h2 bounds the size only.
    if parts.headers.len() > max_headers {
        let message = format!("more than {max_headers} headers");
        return Err(Fault::new(Kind::TooManyHeaders, message));
    }
    // hyper lets all codings through of which `chunked` is the last, undoes that one only, and the
    // name of the others would be lost with Transfer-Encoding.
    if present.transfer_encoding {
        let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
        let coding = codings.next().map_or(&b""[..], HeaderValue::as_bytes);
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(bad("a transfer coding other than chunked"));
        }
        // RFC 9112, section 6.1: "A sender MUST NOT apply the chunked transfer coding more than once".
        if codings.next().is_some() {
            return Err(bad("more than one transfer coding"));
        }
    }
    check_target(parts)?;
    // RFC 9112, section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any
    // HTTP/1.1 request message that lacks a Host header field and to any request message that
    // contains more than one Host header field line or a Host header field with an invalid field
    // value."
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    if let Some(host) = host
        && !is_host(host.as_bytes())
    {
        return Err(bad("the Host header is not a host"));
    }
    match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) => {
            // Also RFC 9113, section 8.3.1, of :authority and Host.
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) {
                return Err(bad("the Host header differs from the request's target"));
            }
        }
        // An absolute target does not stand in for the Host that HTTP/1.1 demands.
        (Some(_), None) if parts.version == Version::HTTP_11 => return Err(bad("no Host header")),
        (Some(authority), None) => {
            if !is_host(authority.as_str().as_bytes()) {
                return Err(bad("the target's authority is not a host"));
            }
        }
        (None, Some(_)) => {}
        (None, None) if parts.version <= Version::HTTP_10 => {
            let host = HeaderValue::try_from(fallback()).map_err(|_| bad("no Host header"))?;
            parts.headers.insert(HOST, host);
        }
        (None, None) => return Err(bad("no Host header")),
    }
    if present.cookie && parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    if parts.method == Method::CONNECT {
        // RFC 9110, section 9.3.6: "A CONNECT request message does not have content." Over HTTP/2 it would
        // be the length of what the client sends into the tunnel.
        if present.content_length && parts.version == Version::HTTP_2 {
            return Err(bad("CONNECT has no content"));
        }
        return Ok(parts.uri.authority().cloned());
    }
    if parts.uri.scheme().is_none() && parts.uri.authority().is_none() {
        return Ok(None);
    }
    let target = std::mem::take(&mut parts.uri).into_parts();
    parts.uri = target.path_and_query.map_or_else(|| Uri::from_static("/"), Uri::from);
    Ok(target.authority)
}

/// The Host header of a request that had none but an authority in its target.
pub(crate) fn write_host(headers: &mut HeaderMap, authority: Option<&Authority>) {
    if let Some(authority) = authority
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, host);
    }
}

/// Refuses targets whose form is not for their method (RFC 9112, section 3.2), and what was meant for
/// another scheme than the connection has. Of HTTP/2 a scheme is left to those who send it.
fn check_target(parts: &Parts) -> Result<(), Fault> {
    let uri = &parts.uri;
    if uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(bad("the target * is for OPTIONS only"));
    }
    if parts.version == Version::HTTP_2 || parts.method == Method::CONNECT {
        return Ok(());
    }
    match uri.scheme() {
        Some(scheme) if *scheme != Scheme::HTTP => Err(bad("the target's scheme is not http")),
        None if uri.authority().is_some() => Err(bad("the target is an authority, not a path")),
        _ => Ok(()),
    }
}

/// RFC 9113, section 8.2.3: "If there are multiple Cookie header fields after decompression, these
/// MUST be concatenated into a single octet string using the two-octet delimiter of 0x3B, 0x20 (the
/// ASCII string "; ") before being passed into a non-HTTP/2 context".
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// What a request asks its connection to become, if it does.
///
/// `h2c` is no upgrade that passes: the two sides of the proxy choose their HTTP version for
/// themselves (RFC 9113 has removed it). And RFC 9110, section 7.8: "A server MUST ignore an Upgrade
/// header field that is received in an HTTP/1.0 request."
pub(crate) fn upgrade(parts: &Parts) -> Option<HeaderValue> {
    let upgrade = parts.headers.get(UPGRADE).filter(|_| parts.version == Version::HTTP_11)?;
    let asked = parts
        .headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")));
    let is_http2 = tokens(upgrade).any(|protocol| protocol.eq_ignore_ascii_case("h2c"));
    (asked && !is_http2).then(|| upgrade.clone())
}

/// Removes what belongs to one connection only.
///
/// RFC 9110, section 7.6.1: "Intermediaries MUST parse a received Connection header field before a
/// message is forwarded and, for each connection-option in this field, remove any header or trailer
/// field(s) from the message with the same name as the connection-option, and then remove the
/// Connection header field itself". `TE: trailers` stays: gRPC servers ask for it, and it is all that
/// HTTP/2 allows of TE.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, present: Present) {
    // Most messages have none, and gRPC's only what stays.
    if !present.hop_by_hop {
        return;
    }
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("trailers")));
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter_map(|token| HeaderName::try_from(token).ok())
        // A client could otherwise remove what the proxy and the application rely on.
        .filter(|name| *name != HOST);
    let known = headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned();
    let removed: Vec<HeaderName> = named.chain(known).collect();
    for name in removed {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether that is all that a Connection header says.
fn is_close(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"close")
}

/// What belongs to one connection whether its Connection header says so or not.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Puts an upgrade back that [`strip_hop_by_hop`] has removed: it concerns both sides.
pub(crate) fn restore_upgrade(headers: &mut HeaderMap, upgrade: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, upgrade);
}

/// The form that HTTP/2 wants: scheme and authority in the target, no Host. Where there is no Host
/// either, the authority is the one that the target `had`.
pub(crate) fn to_http2(parts: &mut Parts, had: Option<Authority>) -> Result<(), Fault> {
    let authority = match (parts.headers.remove(HOST), had) {
        (Some(host), Some(had)) if had.as_str() == host => had,
        (Some(host), _) => Authority::try_from(host.as_bytes())
            .map_err(|_| bad("the Host header is not a host"))?,
        (None, Some(had)) => had,
        (None, None) => return Err(bad("no Host header")),
    };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.authority = Some(authority);
    if parts.method != Method::CONNECT {
        uri.scheme = Some(Scheme::HTTP);
    }
    parts.uri = Uri::from_parts(uri).map_err(|_| bad("the target is not a URI"))?;
    parts.version = Version::HTTP_2;
    Ok(())
}

fn is_grpc(content_type: &[u8]) -> bool {
    // Not gRPC-Web, which is plain HTTP.
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// `uri-host [":" port]` by its characters (RFC 3986, section 3.2): no user, no path, no space.
/// RFC 9110, section 4.2.4 has userinfo refused. A comma, which a name could have, is what two Hosts
/// are joined with.
fn is_host(host: &[u8]) -> bool {
    const NAME: Allowed = allowed(b".-_~%!$&'()*+;=");
    const ADDRESS: Allowed = allowed(b".:%-_~");
    let (name, rest) = match host.strip_prefix(b"[") {
        Some(address) => {
            let (address, rest) = split_behind(address, &ADDRESS);
            let Some(rest) = rest.strip_prefix(b"]") else { return false };
            (address, rest)
        }
        None => split_behind(host, &NAME),
    };
    let is_port = match rest.split_first() {
        None => true,
        Some((colon, digits)) => *colon == b':' && digits.iter().all(u8::is_ascii_digit),
    };
    is_port && !name.is_empty()
}

/// For each byte, whether it may stand there.
type Allowed = [bool; 256];

const fn allowed(punctuation: &[u8]) -> Allowed {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < allowed.len() {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < punctuation.len() {
        allowed[punctuation[at] as usize] = true;
        at += 1;
    }
    allowed
}

fn split_behind<'t>(text: &'t [u8], allowed: &Allowed) -> (&'t [u8], &'t [u8]) {
    let end = text.iter().position(|byte| !allowed[usize::from(*byte)]);
    text.split_at(end.unwrap_or(text.len()))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

fn bad(message: &'static str) -> Fault {
    Fault::new(Kind::BadRequest, message)
}
