//! The lexical forms that the API's schema demands of values. A route from a file has not been
//! through the API server, so they are checked here too.

use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// The API's limit on the length of header and parameter names.
const MAX_NAME: usize = 256;

/// The API's limit on the length of header values.
const MAX_HEADER_VALUE: usize = 4096;

/// A header's name: a token of at most 256 characters.
pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    if name.len() > MAX_NAME {
        return Err(format!("is longer than {MAX_NAME} characters"));
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header name"))
}

/// A header's value.
pub(super) fn header_value(value: &str) -> Result<HeaderValue, String> {
    if value.len() > MAX_HEADER_VALUE || !is_header_value(value) {
        return Err(format!(
            "is not a header value; use 1 to {MAX_HEADER_VALUE} visible ASCII characters, with \
             single spaces or tabs between them"
        ));
    }
    HeaderValue::from_str(value).map_err(|error| error.to_string())
}

/// `^[!-~]+([\t ]?[!-~]+)*$`
pub(super) fn is_header_value(value: &str) -> bool {
    !value.is_empty()
        && value
            .split([' ', '\t'])
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// `^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`, at most 256 characters.
pub(super) fn is_token(value: &str) -> bool {
    (1..=MAX_NAME).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// `^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$`
pub(super) fn is_path(value: &str) -> bool {
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
        };
        if !valid {
            return false;
        }
    }
    !value.is_empty()
}

/// `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`, at most 253 characters: a
/// hostname without a wildcard, and also the form of most names.
pub(super) fn is_hostname(value: &str) -> bool {
    value.len() <= 253
        && value.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// A duration in the API's format (GEP-2257): `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
pub(super) fn duration(value: &str) -> Result<Duration, String> {
    gateway_api::Duration::from_str(value)
        .map(|duration| Duration::new(duration.as_secs(), duration.subsec_nanos()))
        .map_err(|error| format!("{value:?} is not a duration such as 1m30s or 500ms: {error}"))
}
