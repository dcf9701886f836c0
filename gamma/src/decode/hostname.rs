//! Reads the hostnames of a TLSRoute, which are its matches. [`crate::decode::route`] calls it.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::part::{Faults, items, type_of};
use super::value::is_hostname;
use crate::route::SniMatch;

/// The hostnames at `at` as criteria on the server name; never empty. One that cannot be read is a
/// fault and matches at the lowest rank.
pub(super) fn server_names(value: Option<&Value>, at: &str, faults: &mut Faults) -> Vec<SniMatch> {
    let Some(values) = items(value, at, faults) else {
        return vec![SniMatch::Unreadable];
    };
    if values.is_empty() {
        // v1 demands at least one. A route that was stored before may have none, and meant all.
        return vec![SniMatch::Any];
    }
    let values = values.iter().enumerate();
    values.map(|(index, value)| server_name(value, &format!("{at}[{index}]"), faults)).collect()
}

fn server_name(value: &Value, at: &str, faults: &mut Faults) -> SniMatch {
    let Value::String(text) = value else {
        faults.unsupported(at, format!("must be a string, not {}", type_of(value)));
        return SniMatch::Unreadable;
    };
    // "A hostname may be prefixed with a wildcard label (`*.`). The wildcard label must appear by
    // itself as the first label."
    let (wildcard, name) = match text.strip_prefix('*') {
        Some(rest) if rest.starts_with('.') => (true, &rest[1..]),
        _ => (false, text.as_str()),
    };
    // Of two addresses' forms only this one has a hostname's characters.
    // "IPs are not allowed in SNI hostnames per RFC 6066."
    if !is_hostname(name) || name.parse::<Ipv4Addr>().is_ok() {
        let message = format!(
            "{text:?} is not a hostname; use a name in lower case such as example.com, or with a \
             wildcard as its first label: *.example.com"
        );
        faults.unsupported(at, message);
        return SniMatch::Unreadable;
    }
    match wildcard {
        true => SniMatch::Wildcard(format!(".{name}")),
        false => SniMatch::Exact(name.to_owned()),
    }
}
