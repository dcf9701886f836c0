//! The first message of a TLS connection, read for the name of the server that the client asks for.
//!
//! Pure: bytes in, an answer out, whatever the bytes are. [`crate::outbound`] calls it with what has come
//! so far, until it is plain. Nothing is decrypted, and nothing but the name is kept.

use std::borrow::Cow;

/// The most that a client may send before its ClientHello is complete, in bytes, the records' headers
/// among them. One with a post-quantum key share has less than 2 KiB.
pub const MAX_BYTES: usize = 16 * 1024;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a ClientHello: more is needed.
    Incomplete,
    /// Something that is not TLS.
    NotTls,
    /// TLS, but no ClientHello that can be read: why.
    Invalid(&'static str),
    /// A ClientHello. The name that it asks for is in lower case; a client may give none.
    Complete {
        /// RFC 6066, section 3: a DNS name, without a trailing dot.
        server_name: Option<String>,
    },
}

/// A record's header: type, version, length (RFC 8446, section 5.1).
const RECORD_HEADER: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;
/// "The length MUST NOT exceed 2^14 bytes."
const MAX_RECORD: usize = 1 << 14;
/// A handshake message's header: type, length (RFC 8446, section 4).
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The longest DNS name in text, without its trailing dot (RFC 1035).
const MAX_NAME: usize = 253;

/// Reads the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    match message(bytes) {
        Ok(message) => match server_name(&message) {
            Ok(server_name) => Parsed::Complete { server_name },
            Err(Malformed(why)) => Parsed::Invalid(why),
        },
        Err(NoMessage::Incomplete) if bytes.len() >= MAX_BYTES => {
            Parsed::Invalid("the ClientHello is too long")
        }
        Err(NoMessage::Incomplete) => Parsed::Incomplete,
        Err(NoMessage::NotTls) => Parsed::NotTls,
        Err(NoMessage::Invalid(why)) => Parsed::Invalid(why),
    }
}

enum NoMessage {
    Incomplete,
    NotTls,
    Invalid(&'static str),
}

/// The body of the ClientHello, put together from the records that it comes in.
///
/// "Handshake messages MAY be coalesced into a single TLSPlaintext record or fragmented across several
/// records" (RFC 8446, section 5.1).
fn message(bytes: &[u8]) -> Result<Cow<'_, [u8]>, NoMessage> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        let is_first = rest.len() == bytes.len();
        match rest {
            [HANDSHAKE_RECORD, 3, ..] | [HANDSHAKE_RECORD] | [] => {}
            _ if is_first => return Err(NoMessage::NotTls),
            _ => return Err(NoMessage::Invalid("another record comes within the ClientHello")),
        }
        let Some((header, content)) = rest.split_at_checked(RECORD_HEADER) else {
            return Err(NoMessage::Incomplete);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MAX_RECORD {
            // "Implementations MUST NOT send zero-length fragments of Handshake types".
            return Err(NoMessage::Invalid("a record has no valid length"));
        }
        let fragment = &content[..content.len().min(length)];
        match message.is_empty() {
            true => message = Cow::Borrowed(fragment),
            false => message.to_mut().extend_from_slice(fragment),
        }
        if let Some(body) = body(&message)? {
            return Ok(match message {
                Cow::Borrowed(message) => Cow::Borrowed(&message[body]),
                Cow::Owned(message) => Cow::Owned(message[body].to_vec()),
            });
        }
        if fragment.len() < length {
            return Err(NoMessage::Incomplete);
        }
        rest = &content[length..];
    }
}

/// Where the body is in what there is of the message; None until it is whole.
fn body(message: &[u8]) -> Result<Option<std::ops::Range<usize>>, NoMessage> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NoMessage::Invalid("the first message is no ClientHello"));
    }
    let Some(header) = message.first_chunk::<MESSAGE_HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if length > MAX_BYTES {
        return Err(NoMessage::Invalid("the ClientHello is too long"));
    }
    let end = MESSAGE_HEADER + length;
    Ok((message.len() >= end).then_some(MESSAGE_HEADER..end))
}

struct Malformed(&'static str);

const TRUNCATED: Malformed = Malformed("a field of the ClientHello is longer than the message");

/// The name in the body of a ClientHello (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2).
fn server_name(body: &[u8]) -> Result<Option<String>, Malformed> {
    let mut fields = Fields(body);
    fields.bytes(2 + 32)?; // version, random
    fields.short_vector()?; // session
    fields.vector()?; // cipher suites
    fields.short_vector()?; // compression methods
    if fields.0.is_empty() {
        // Before TLS 1.3, extensions could be left out.
        return Ok(None);
    }
    let mut extensions = Fields(fields.vector()?);
    if !fields.0.is_empty() {
        return Err(Malformed("the ClientHello goes on after its extensions"));
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.number()?, extensions.vector()?);
        if kind != SERVER_NAME {
            continue;
        }
        // "There MUST NOT be more than one extension of the same type in a given extension block."
        // Of two names, the endpoint might take the other one.
        if name.is_some() {
            return Err(Malformed("the ClientHello names its server twice"));
        }
        name = Some(host_name(content)?);
    }
    Ok(name)
}

/// The name in a server_name extension.
fn host_name(extension: &[u8]) -> Result<String, Malformed> {
    let mut fields = Fields(extension);
    let mut list = Fields(fields.vector()?);
    if !fields.0.is_empty() {
        return Err(Malformed("the server name's extension goes on after its list"));
    }
    let mut name = None;
    while !list.0.is_empty() {
        let (kind, content) = (list.byte()?, list.vector()?);
        // "The ServerNameList MUST NOT contain more than one name of the same name_type."
        if kind == HOST_NAME && name.replace(content).is_some() {
            return Err(Malformed("the ClientHello names its server twice"));
        }
    }
    let name = name.ok_or(Malformed("the server name's extension has no host name"))?;
    let is_dns = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(is_dns) {
        return Err(Malformed("the server name is no DNS name"));
    }
    Ok(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*number))
    }

    /// A vector whose length has one byte.
    fn short_vector(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.byte()?;
        self.bytes(length.into())
    }

    /// A vector whose length has two bytes.
    fn vector(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()?;
        self.bytes(length.into())
    }
}

#[cfg(test)]
mod tests;
