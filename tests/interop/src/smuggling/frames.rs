//! As much of HTTP/2 as it takes to send what no library would: headers as literals, without a look at
//! what they hold.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;

use super::payload::Http2Request;
use super::replay::Answer;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// How one stream ended.
enum Ended {
    Answered(u16),
    Reset,
    /// With it the connection.
    Closed,
}

/// Sends the request, and when it has ended a marker; returns the answers and whether the connection
/// was closed.
pub(super) fn exchange(
    mut stream: TcpStream,
    request: &Http2Request,
    host: &str,
    id: &str,
) -> Result<(Vec<Answer>, bool)> {
    stream.set_read_timeout(Some(Duration::from_secs(4)))?;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(message(1, request));
    let marker = [
        (":method", "GET".to_owned()),
        (":scheme", "http".to_owned()),
        (":authority", host.to_owned()),
        (":path", format!("/{id}/marker")),
    ];
    let headers = marker.map(|(name, value)| (name.into(), value.into_bytes())).into();
    let mut answers = Vec::new();
    for (number, bytes) in [(1, bytes), (3, message(3, &Http2Request { headers, data: None }))] {
        let status = match stream.write_all(&bytes).map(|()| ended(&mut stream, number)) {
            Ok(Ended::Answered(status)) => status,
            Ok(Ended::Reset) => 0,
            Ok(Ended::Closed) | Err(_) => return Ok((answers, true)),
        };
        answers.push(Answer { status, seen: None });
    }
    Ok((answers, false))
}

/// Reads frames until a stream has ended.
fn ended(stream: &mut TcpStream, number: u32) -> Ended {
    let mut status = 0;
    loop {
        let Ok((kind, flags, of, payload)) = read_frame(stream) else { return Ended::Closed };
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let _noticed_later = stream.write_all(&frame(SETTINGS, ACK, 0, &[]));
            }
            GOAWAY => return Ended::Closed,
            RST_STREAM if of == number && status == 0 => return Ended::Reset,
            HEADERS if of == number && status == 0 => status = status_of(&payload),
            _ => {}
        }
        if of == number && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return Ended::Answered(status);
        }
    }
}

/// `:status`, which comes first: an entry of HPACK's static table, or 1 for what has none.
fn status_of(block: &[u8]) -> u16 {
    let first = block.iter().find(|byte| **byte & 0xe0 != 0x20);
    match first {
        Some(0x88) => 200,
        Some(0x89) => 204,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 1,
    }
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let length = usize::try_from(length).map_err(|_| ErrorKind::InvalidData)?;
    let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[3], head[4], number, payload))
}

/// HEADERS and, if there is any, DATA.
fn message(number: u32, request: &Http2Request) -> Vec<u8> {
    let block: Vec<u8> =
        request.headers.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let end = if request.data.is_none() { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, END_HEADERS | end, number, &block);
    if let Some(data) = &request.data {
        bytes.extend(frame(DATA, END_STREAM, number, data));
    }
    bytes
}

fn frame(kind: u8, flags: u8, number: u32, payload: &[u8]) -> Vec<u8> {
    // Payloads of the corpus are far below 2^24.
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(number.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// RFC 7541, section 6.2.2: a literal without indexing, with a new name.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(string_length(text.len()));
        bytes.extend_from_slice(text);
    }
    bytes
}

/// RFC 7541, section 5.1: an integer with a prefix of 7 bits.
fn string_length(mut length: usize) -> Vec<u8> {
    if length < 127 {
        return vec![length as u8];
    }
    let mut bytes = vec![127];
    length -= 127;
    while length >= 128 {
        bytes.push((length % 128) as u8 | 128);
        length /= 128;
    }
    bytes.push(length as u8);
    bytes
}
