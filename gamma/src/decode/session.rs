//! Reads a rule's `sessionPersistence`, and a route's annotation for sticky splits.
//! [`crate::decode::rule`] and [`crate::decode::route`] call it.
//!
//! The field has two forms: that of v1.7 (`cookie`, `header`), and that of the versions before, whose
//! definitions many clusters have (`sessionName`, `cookieConfig`, `idleTimeout`). Both are read here
//! by hand: the generated type knows the older one only.

use std::time::Duration;

use http::{HeaderName, header};
use serde_json::{Map, Value};

use super::part::{Faults, fields, present, type_of};
use super::value::{duration, header_name, is_token};
use crate::session::{SessionCarrier, SessionCookie, SessionPersistence, StickySplit};

const FIELDS: [&str; 7] =
    ["type", "cookie", "header", "absoluteTimeout", "idleTimeout", "sessionName", "cookieConfig"];

/// Headers that say something else already, or that do not get past a proxy.
const TAKEN: [HeaderName; 13] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::LOCATION,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Reads the field at `at`; None where it is at fault.
pub(super) fn persistence(
    value: &Value,
    at: &str,
    faults: &mut Faults,
) -> Option<SessionPersistence> {
    let before = faults.0.len();
    let map = fields(value, at, &FIELDS, faults)?;
    let absolute_timeout = timeout(map, "absoluteTimeout", at, faults);
    let idle_timeout = timeout(map, "idleTimeout", at, faults);
    let carrier = match text(map, "type", at, faults) {
        None | Some("Cookie") => cookie(map, at, faults).map(SessionCarrier::Cookie),
        Some("Header") => header(map, at, faults).map(SessionCarrier::Header),
        Some(other) => {
            let message = format!("{other:?} is not known; use Cookie or Header");
            faults.unsupported(format!("{at}.type"), message);
            None
        }
    };
    if let Some(SessionCarrier::Cookie(cookie)) = &carrier
        && cookie.permanent
        && absolute_timeout.is_none()
    {
        let message = "must be specified when the cookie's lifetimeType is Permanent";
        faults.unsupported(format!("{at}.absoluteTimeout"), message);
    }
    let is_good = faults.0.len() == before;
    carrier.filter(|_| is_good).map(|carrier| SessionPersistence {
        carrier,
        absolute_timeout,
        idle_timeout,
    })
}

/// Reads the annotation's value; the error says what is wrong with it.
pub(super) fn sticky_split(value: &str) -> Result<StickySplit, String> {
    match value.split_once('=').map_or((value, None), |(by, what)| (by, Some(what))) {
        ("header", Some(name)) => {
            let name = header_name(name)?;
            match name == header::COOKIE {
                true => {
                    Err("the header of all cookies is not one of a user; use cookie=NAME".into())
                }
                false => Ok(StickySplit::Header(name)),
            }
        }
        ("cookie", Some(name)) if is_token(name) => Ok(StickySplit::Cookie(name.to_owned())),
        ("cookie", Some(name)) => Err(format!("{name:?} is not a cookie's name")),
        ("session", None) => Ok(StickySplit::Session(None)),
        ("session", Some(lifetime)) => Ok(StickySplit::Session(Some(whole_seconds(lifetime)?))),
        _ => Err(format!(
            "{value:?} is not known; use header=NAME, cookie=NAME, session, or session=24h"
        )),
    }
}

fn cookie(map: &Map<String, Value>, at: &str, faults: &mut Faults) -> Option<SessionCookie> {
    if present(map, "header").is_some() {
        let message = "must not be set if type is not Header";
        faults.unsupported(format!("{at}.header"), message);
    }
    let mut cookie = SessionCookie::default();
    // One and the same, before v1.7 under another name.
    let older =
        present(map, "cookieConfig").map(|value| (value, "cookieConfig", &["lifetimeType"][..]));
    let newer = present(map, "cookie")
        .map(|value| (value, "cookie", &["name", "path", "lifetimeType"][..]));
    if older.is_some() && newer.is_some() {
        let message = "is what cookie is called since v1.7; remove one of them";
        faults.unsupported(format!("{at}.cookieConfig"), message);
    }
    if let Some((value, name, known)) = newer.or(older) {
        let at = format!("{at}.{name}");
        let part = fields(value, &at, known, faults)?;
        cookie.name = text(part, "name", &at, faults).map(str::to_owned);
        if let Some(path) = text(part, "path", &at, faults) {
            cookie.path = path.to_owned();
        }
        match text(part, "lifetimeType", &at, faults) {
            None | Some("Session") => {}
            Some("Permanent") => cookie.permanent = true,
            Some(other) => {
                let message = format!("{other:?} is not known; use Session or Permanent");
                faults.unsupported(format!("{at}.lifetimeType"), message);
            }
        }
    }
    let name_field = session_name(map, &mut cookie.name, "cookie.name", at, faults);
    if let Some(name) = &cookie.name {
        if !is_token(name) {
            faults.unsupported(name_field.as_str(), format!("{name:?} is not a cookie's name"));
        }
        // RFC 6265bis, section 4.1.3.2: the browser refuses any other.
        if name.starts_with("__Host-") && cookie.path != "/" {
            let message = "a cookie of this name has the path /; change one of them";
            faults.unsupported(name_field, message);
        }
    }
    let of_path = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
    if !cookie.path.starts_with('/') || !cookie.path.bytes().all(of_path) {
        let message = "must start with '/' and have neither ';' nor control characters";
        faults.unsupported(format!("{at}.cookie.path"), message);
    }
    Some(cookie)
}

fn header(map: &Map<String, Value>, at: &str, faults: &mut Faults) -> Option<HeaderName> {
    for name in ["cookie", "cookieConfig"].into_iter().filter(|name| present(map, name).is_some()) {
        faults.unsupported(format!("{at}.{name}"), "must not be set if type is not Cookie");
    }
    let mut name = None;
    if let Some(value) = present(map, "header") {
        let at = format!("{at}.header");
        name = text(fields(value, &at, &["name"], faults)?, "name", &at, faults).map(str::to_owned);
    }
    let field = session_name(map, &mut name, "header.name", at, faults);
    let Some(name) = name else {
        faults.unsupported(field, "must be set: clients have to know where to find their session");
        return None;
    };
    match header_name(&name) {
        Ok(name) if TAKEN.contains(&name) => {
            faults.unsupported(field, format!("{name} has a meaning of its own; use another name"));
            None
        }
        Ok(name) => Some(name),
        Err(message) => {
            faults.unsupported(field, message);
            None
        }
    }
}

/// Takes the older `sessionName` for a name that is not there; returns the path of the field that has
/// the name.
fn session_name(
    map: &Map<String, Value>,
    name: &mut Option<String>,
    newer: &str,
    at: &str,
    faults: &mut Faults,
) -> String {
    if let Some(older) = text(map, "sessionName", at, faults) {
        let field = format!("{at}.sessionName");
        if name.is_some() {
            let message = format!("is what {newer} is called since v1.7; remove one of them");
            faults.unsupported(field.as_str(), message);
        } else {
            *name = Some(older.to_owned());
            return field;
        }
    }
    format!("{at}.{newer}")
}

fn timeout(
    map: &Map<String, Value>,
    name: &str,
    at: &str,
    faults: &mut Faults,
) -> Option<Duration> {
    whole_seconds(text(map, name, at, faults)?)
        .map_err(|message| faults.unsupported(format!("{at}.{name}"), message))
        .ok()
}

/// Cookies are dated in seconds.
fn whole_seconds(value: &str) -> Result<Duration, String> {
    let lifetime = duration(value)?;
    if lifetime.as_secs() == 0 || lifetime.subsec_nanos() != 0 {
        return Err(format!("{value} cannot be a session's; use whole seconds, at least 1s"));
    }
    Ok(lifetime)
}

fn text<'v>(
    map: &'v Map<String, Value>,
    name: &str,
    at: &str,
    faults: &mut Faults,
) -> Option<&'v str> {
    match present(map, name)? {
        Value::String(text) => Some(text),
        other => {
            let message = format!("must be a string, not {}", type_of(other));
            faults.unsupported(format!("{at}.{name}"), message);
            None
        }
    }
}
