//! How long a message's body is, and what becomes of its connection (RFC 9112, sections 6.3 and 9.3).

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};
use http_body::Frame;

use super::Error;
use super::chunked::Chunked;

/// What comes behind the head of an answer.
#[derive(Debug)]
pub(super) struct Framing {
    pub(super) length: Length,
    /// Another request may follow on the connection.
    pub(super) keep_alive: bool,
}

#[derive(Debug)]
pub(super) enum Length {
    /// So many bytes are left.
    Bytes(u64),
    Chunked(Chunked),
    UntilClose,
    /// No body: from here on the connection is something else.
    Tunnel,
}

impl Framing {
    /// Of the final answer to a request of that method.
    pub(super) fn of(method: &Method, head: &Response<()>) -> Result<Self, Error> {
        let (status, headers) = (head.status(), head.headers());
        let is_persistent = match head.version() {
            Version::HTTP_10 => has_token(headers, &CONNECTION, "keep-alive"),
            _ => !has_token(headers, &CONNECTION, "close"),
        };
        let codings = headers.contains_key(TRANSFER_ENCODING);
        let length = if status == StatusCode::SWITCHING_PROTOCOLS
            || (*method == Method::CONNECT && status.is_success())
        {
            Length::Tunnel
        } else if *method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Ok(Self { length: Length::Bytes(0), keep_alive: is_persistent });
        } else if codings && head.version() == Version::HTTP_10 {
            return Err(Error::NotHttp("a transfer coding in an answer of HTTP/1.0".into()));
        } else if codings {
            let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
            let last = last.and_then(|last| last.to_str().ok()?.rsplit(',').next());
            match last.map(str::trim) {
                Some(last) if last.eq_ignore_ascii_case("chunked") => {
                    Length::Chunked(Chunked::default())
                }
                // "If the Transfer-Encoding is not chunked […] the message body length is determined by
                // reading the connection until it is closed".
                Some(_) => Length::UntilClose,
                None => return Err(Error::NotHttp("a transfer coding that is none".into())),
            }
        } else {
            content_length(headers)?.map_or(Length::UntilClose, Length::Bytes)
        };
        // "Regardless, the server MUST close the connection after responding to such a request": what has
        // both lengths may be an attempt to have one answer taken for two.
        let is_clear = match length {
            Length::Bytes(_) => true,
            Length::Chunked(_) => !headers.contains_key(CONTENT_LENGTH),
            Length::UntilClose | Length::Tunnel => false,
        };
        Ok(Self { length, keep_alive: is_persistent && is_clear })
    }
}

impl Length {
    /// Whether nothing more belongs to the body; of what only the connection's end ends, nobody knows.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_end(),
            Self::UntilClose => false,
            Self::Tunnel => true,
        }
    }

    /// The next frame of what is in `buffer`; None where more has to be read, or nothing is left.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Error> {
        let length = match self {
            Self::Bytes(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len()),
            Self::Chunked(chunked) => return chunked.next(buffer),
            Self::UntilClose => buffer.len(),
            Self::Tunnel => 0,
        };
        if length == 0 {
            return Ok(None);
        }
        if let Self::Bytes(left) = self {
            *left -= length as u64;
        }
        Ok(Some(Frame::data(buffer.split_to(length).freeze())))
    }
}

/// "If a message is received without Transfer-Encoding and with an invalid Content-Length header field, then
/// the message framing is invalid […] unless the field value can be successfully parsed as a comma-separated
/// list, all values in the list are valid, and all values in the list are the same".
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for value in value.as_bytes().split(|byte| *byte == b',') {
            let value = digits(value.trim_ascii())
                .filter(|value| length.is_none_or(|length| length == *value))
                .ok_or_else(|| Error::NotHttp("a Content-Length that is none".into()))?;
            length = Some(value);
        }
    }
    Ok(length)
}

/// No sign, which numbers may have elsewhere.
fn digits(text: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let tokens =
        headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.map(<[u8]>::trim_ascii).any(|it| it.eq_ignore_ascii_case(token.as_bytes()))
}
