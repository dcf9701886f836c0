//! Cookies, read and written (RFC 6265).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The values of a request's cookies of that name, in their order.
pub(super) fn values<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        let value = value.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        // cookie-value may stand in quotes, which are no part of what it says.
        Some(value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// A `Set-Cookie` for this and all later requests, or for as many seconds.
///
/// GEP-1619 asks for `Secure`, `HttpOnly` and `SameSite=Strict`, and lets a mesh adjust them. Clients
/// in the mesh speak plain HTTP and would not send a cookie that is `Secure`, so that only the name
/// can ask for it (`__Secure-`, `__Host-`: RFC 6265bis); and with `Strict` a user who comes by a link
/// from elsewhere would come without the cookie, and move.
pub(super) fn set(
    name: &str,
    value: &str,
    path: &str,
    max_age: Option<u32>,
) -> Option<HeaderValue> {
    let mut text = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax");
    if name.starts_with("__Secure-") || name.starts_with("__Host-") {
        text.push_str("; Secure");
    }
    if let Some(seconds) = max_age {
        text.push_str(&format!("; Max-Age={seconds}"));
    }
    HeaderValue::try_from(text).ok()
}
