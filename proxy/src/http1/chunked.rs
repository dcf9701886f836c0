//! A body in chunks, as it comes (RFC 9112, section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use httparse::Status;

use super::{Error, MAX_HEADERS};

/// The longest line of a chunk's size with its extensions, and the longest trailers, in bytes.
const MAX_LINES: usize = 16 * 1024;

/// What comes next.
#[derive(Debug, Default)]
pub(super) enum Chunked {
    #[default]
    Size,
    /// So many bytes are left of the chunk.
    Data(u64),
    /// The line end behind a chunk.
    DataEnd,
    Trailers,
    End,
}

impl Chunked {
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }

    /// The next frame that is in `buffer`; None where more has to be read, or nothing is left.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Error> {
        loop {
            match self {
                Self::Size => {
                    let Some(end) = buffer.iter().position(|byte| *byte == b'\n') else {
                        return bounded(buffer, "a line before a chunk");
                    };
                    let line = buffer.split_to(end + 1);
                    let size =
                        size(&line).ok_or_else(|| Error::NotHttp("no chunk's size".into()))?;
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                }
                Self::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(None);
                    }
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    *left -= length as u64;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(Some(Frame::data(buffer.split_to(length).freeze())));
                }
                Self::DataEnd => {
                    let Some(end) = buffer.first_chunk::<2>() else { return Ok(None) };
                    if end != b"\r\n" {
                        return Err(Error::NotHttp("a chunk that is longer than its size".into()));
                    }
                    buffer.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(buffer)? else {
                        return bounded(buffer, "trailers");
                    };
                    *self = Self::End;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                Self::End => return Ok(None),
            }
        }
    }
}

/// The size that a line begins with.
fn size(line: &[u8]) -> Option<u64> {
    // httparse takes no digit for a zero, and a line for longer than it is that has no CR at its end.
    match httparse::parse_chunk_size(line) {
        Ok(Status::Complete((length, size))) => {
            (length == line.len() && line.first()?.is_ascii_hexdigit()).then_some(size)
        }
        Ok(Status::Partial) | Err(_) => None,
    }
}

/// More has to be read, unless there is too much already.
fn bounded<T>(buffer: &BytesMut, what: &str) -> Result<Option<T>, Error> {
    if buffer.len() < MAX_LINES {
        return Ok(None);
    }
    Err(Error::NotHttp(format!("{what} of more than {} KiB", MAX_LINES / 1024).into()))
}

/// Takes the trailers out of `buffer`; None where their end is not there yet.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Error> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let not_http =
        |error: &dyn std::fmt::Display| Error::NotHttp(format!("trailers: {error}").into());
    let parsed = httparse::parse_headers(buffer, &mut lines).map_err(|error| not_http(&error))?;
    let Status::Complete((length, lines)) = parsed else { return Ok(None) };
    // httparse lets lines end without a CR, which in chunks two parties may read differently.
    let mut ends = buffer[..length].split(|byte| *byte == b'\n').rev().skip(1);
    if !ends.all(|line| line.ends_with(b"\r")) {
        return Err(not_http(&"a line that does not end with CR LF"));
    }
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name =
            HeaderName::from_bytes(line.name.as_bytes()).map_err(|error| not_http(&error))?;
        let value = HeaderValue::from_bytes(line.value).map_err(|error| not_http(&error))?;
        trailers.append(name, value);
    }
    buffer.advance(length);
    Ok(Some(trailers))
}
