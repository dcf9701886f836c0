//! The head of an answer.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::{Error, MAX_HEADERS};

/// Takes a head out of `buffer`; None where its end is not there yet.
pub(super) fn head(buffer: &mut BytesMut) -> Result<Option<Response<()>>, Error> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let length = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, buffer, &mut lines)
        .map_err(|error| not_http(&error))?;
    let (Status::Complete(length), Some(code), Some(version)) =
        (length, parsed.code, parsed.version)
    else {
        return Ok(None);
    };
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(code).map_err(|error| not_http(&error))?;
    *head.version_mut() = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let canonical = head.status().canonical_reason();
    if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != canonical)
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        head.extensions_mut().insert(reason);
    }
    // One copy, of which all values are parts: the buffer, which is larger, goes with the body.
    let bytes = Bytes::copy_from_slice(&buffer[..length]);
    head.headers_mut().reserve(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name =
            HeaderName::from_bytes(line.name.as_bytes()).map_err(|error| not_http(&error))?;
        let value = part(&bytes, buffer, line.value);
        let value = HeaderValue::from_maybe_shared(value).map_err(|error| not_http(&error))?;
        head.headers_mut().append(name, value);
    }
    buffer.advance(length);
    Ok(Some(head))
}

/// What `copy` has in the place that `part` has in `of`.
fn part(copy: &Bytes, of: &[u8], part: &[u8]) -> Bytes {
    // An empty part may be anywhere.
    if part.is_empty() {
        return Bytes::new();
    }
    let start = part.as_ptr().addr() - of.as_ptr().addr();
    copy.slice(start..start + part.len())
}

fn not_http(error: &dyn std::error::Error) -> Error {
    Error::NotHttp(error.to_string().into())
}
