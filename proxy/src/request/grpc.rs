//! What of gRPC over HTTP/2 concerns a proxy: the status, the deadline, the trailers.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::fault::Fault;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The grpc-status in headers or trailers.
pub(super) fn status(headers: &HeaderMap) -> Option<u8> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// The status of an answer in the words of HTTP: its own, and of a gRPC answer of trailers only the
/// code that google.rpc.Code maps its grpc-status to. An answer with messages has none before its end.
pub(super) fn code<B>(response: &Response<B>) -> StatusCode {
    if response.status() != StatusCode::OK {
        return response.status();
    }
    match status(response.headers()) {
        None | Some(0) => StatusCode::OK,
        Some(3 | 9 | 11) => StatusCode::BAD_REQUEST,
        Some(4) => StatusCode::GATEWAY_TIMEOUT,
        Some(5) => StatusCode::NOT_FOUND,
        Some(6 | 10) => StatusCode::CONFLICT,
        Some(7) => StatusCode::FORBIDDEN,
        Some(8) => StatusCode::TOO_MANY_REQUESTS,
        Some(12) => StatusCode::NOT_IMPLEMENTED,
        Some(14) => StatusCode::SERVICE_UNAVAILABLE,
        Some(16) => StatusCode::UNAUTHORIZED,
        // CANCELLED: nginx's "client closed request", which has no name.
        Some(1) => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        // UNKNOWN, INTERNAL, DATA_LOSS, and what nobody has defined, which counts as UNKNOWN.
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The status and its message, as they stand in trailers.
pub(super) fn trailers(fault: &Fault) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(u16::from(fault.grpc_status())));
    if let Ok(message) = HeaderValue::try_from(message(&fault.message)) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

/// Makes an empty response of HTTP 200 one of trailers only.
pub(super) fn refuse(fault: &Fault, headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.extend(trailers(fault));
}

/// Percent-encoded, as Status-Message is to be.
fn message(message: &str) -> String {
    message.chars().fold(String::with_capacity(message.len()), |mut encoded, c| {
        if matches!(c, ' '..='~') && c != '%' {
            encoded.push(c);
        } else {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded
    })
}

/// The deadline that a client has named, if it has and it can be read: it is the backend's to complain
/// about one that cannot.
///
/// gRPC over HTTP/2: "TimeoutValue → {positive integer as ASCII string of at most 8 digits}".
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Names another deadline: the longest that the eight digits of some unit can say, and not longer.
pub(super) fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
        (u128::from(timeout.as_secs() / 3600), 'H'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number < 100_000_000);
    let (number, unit) = fits.unwrap_or((99_999_999, 'H'));
    if let Ok(value) = HeaderValue::try_from(format!("{number}{unit}")) {
        headers.insert(TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    fn with_timeout(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(TIMEOUT, HeaderValue::try_from(value).unwrap())])
    }

    #[test]
    fn a_timeout_is_read_in_all_units() {
        for (value, nanoseconds) in [
            ("1n", 1),
            ("99999999u", 99_999_999_000),
            ("250m", 250_000_000),
            ("1S", 1_000_000_000),
            ("00000002M", 120_000_000_000),
            ("1H", 3_600_000_000_000),
        ] {
            let timeout = timeout(&with_timeout(value)).unwrap();
            assert_eq!(timeout.as_nanos(), nanoseconds, "{value}");
        }
        for value in ["", "S", "5", "1s", "1.5S", "-1S", "+1S", " 1S", "1S ", "100000000m", "1Sx"] {
            assert_eq!(timeout(&with_timeout(value)), None, "{value:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn a_timeout_is_written_as_exactly_as_eight_digits_allow() {
        for (timeout_written, expected) in [
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(499), "499000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(99_999_999 * 60 + 59), "99999999M"),
            (Duration::MAX, "99999999H"),
        ] {
            let mut headers = with_timeout("1S");
            set_timeout(&mut headers, timeout_written);
            assert_eq!(headers.len(), 1);
            assert_eq!(headers[TIMEOUT], expected);
            assert!(timeout(&headers).unwrap() <= timeout_written);
        }
    }

    #[test]
    fn a_status_stands_for_the_code_that_google_rpc_maps_it_to() {
        let codes =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (status, expected) in codes.into_iter().enumerate() {
            let response = Response::builder().header(STATUS, status).body(()).unwrap();
            assert_eq!(code(&response).as_u16(), expected, "{status}");
        }
        assert_eq!(code(&Response::builder().header(STATUS, 99).body(()).unwrap()), 500);
        assert_eq!(code(&Response::new(())), 200);
        // HTTP's own comes first: such an answer is not gRPC's.
        let response = Response::builder().status(502).header(STATUS, 5).body(()).unwrap();
        assert_eq!(code(&response), 502);
    }

    #[test]
    fn a_message_is_percent_encoded() {
        let headers = trailers(&Fault::new(Kind::BackendInvalid, "50 % of naïve\nroutes"));
        assert_eq!(headers[MESSAGE], "50 %25 of na%C3%AFve%0Aroutes");
        assert_eq!(headers[STATUS], "14");
    }
}
