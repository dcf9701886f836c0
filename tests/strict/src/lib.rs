//! Requests read as RFC 9112 writes them and no other way: the reference for what the sidecar sends.
//! `make interop` has a server of it, the fuzz targets a backend.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

/// More than the sidecar takes.
const LONGEST_LINE: u64 = 256 * 1024;

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    /// The client waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    framing: Framing,
}

/// How a request's body is framed.
#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Reads the head of the next request; None where the connection ends before it.
///
/// # Errors
/// What is not as the RFC has it.
pub fn head(reader: &mut impl BufRead) -> Result<Option<Head>> {
    let Some(line) = line(reader)? else { return Ok(None) };
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        bail!("the request line {}", line.escape_ascii())
    };
    ensure!(is_token(method), "the method {}", method.escape_ascii());
    let has_form = match method {
        b"CONNECT" => is_host(&String::from_utf8_lossy(target)),
        b"OPTIONS" if target == b"*" => true,
        _ => target.starts_with(b"/"),
    };
    // Bytes above 127 have no place in a URI, but some clients send them, and servers read them alike.
    let is_written = |byte: &u8| *byte > b' ' && *byte != 0x7f && *byte != b'#';
    ensure!(has_form && target.iter().all(is_written), "the target {}", target.escape_ascii());
    ensure!(version == b"HTTP/1.1", "the version {}", version.escape_ascii());
    let (mut hosts, mut length, mut codings) = (0, None, 0);
    let mut expects_continue = false;
    loop {
        let (name, value) = match field(reader)? {
            Field::Line { name, value } => (name, value),
            Field::Empty => break,
            Field::End => bail!("the end within the headers"),
        };
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                hosts += 1;
                ensure!(is_host(&value), "the Host {value}");
            }
            "content-length" => {
                ensure!(length.is_none(), "two Content-Lengths");
                ensure!(
                    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()),
                    "the Content-Length {value}"
                );
                length = Some(value.parse::<u64>().context("the Content-Length")?);
            }
            "transfer-encoding" => {
                codings += 1;
                ensure!(value == "chunked", "the Transfer-Encoding {value}");
            }
            "connection" => ensure!(value == "upgrade", "the Connection {value}"),
            "keep-alive" | "proxy-connection" | "http2-settings" => bail!("the header {name}"),
            "te" => ensure!(value == "trailers", "the TE {value}"),
            "expect" => expects_continue |= value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    ensure!(hosts == 1, "{hosts} Hosts");
    let framing = match (codings, length) {
        (0, length) => Framing::Length(length.unwrap_or(0)),
        (1, None) => Framing::Chunked,
        (1, Some(_)) => bail!("Transfer-Encoding and Content-Length"),
        (count, _) => bail!("{count} Transfer-Encodings"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (method, target) = (text(method), text(target));
    Ok(Some(Head { method, target, expects_continue, framing }))
}

/// Reads the body behind a head to its end; false where the connection ends before it.
///
/// # Errors
/// What is not as the RFC has it.
pub fn body(reader: &mut impl BufRead, head: &Head) -> Result<bool> {
    match &head.framing {
        Framing::Length(length) => skip(reader, *length),
        Framing::Chunked => loop {
            let Some(size) = line(reader)? else { return Ok(false) };
            let digits = std::str::from_utf8(&size).unwrap_or("");
            ensure!(
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "the chunk size {}",
                size.escape_ascii()
            );
            let size = u64::from_str_radix(digits, 16).context("the chunk size")?;
            if size == 0 {
                // Trailers are held to the same rules as headers, and frame nothing.
                loop {
                    let name = match field(reader)? {
                        Field::Line { name, .. } => name.to_ascii_lowercase(),
                        Field::Empty => return Ok(true),
                        Field::End => return Ok(false),
                    };
                    let frames = ["content-length", "transfer-encoding", "host"];
                    ensure!(!frames.contains(&name.as_str()), "the trailer {name}");
                }
            }
            if !skip(reader, size)? {
                return Ok(false);
            }
            let Some(end) = line(reader)? else { return Ok(false) };
            ensure!(end.is_empty(), "behind a chunk: {}", end.escape_ascii());
        },
    }
}

enum Field {
    Line {
        name: String,
        value: String,
    },
    /// The empty line behind the headers or trailers.
    Empty,
    /// The connection ends before it.
    End,
}

/// Reads a header or trailer line.
fn field(reader: &mut impl BufRead) -> Result<Field> {
    let Some(line) = line(reader)? else { return Ok(Field::End) };
    if line.is_empty() {
        return Ok(Field::Empty);
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.with_context(|| line.escape_ascii().to_string())?);
    let value = value[1..].trim_ascii();
    ensure!(is_token(name), "the name {}", name.escape_ascii());
    let is_text = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
    ensure!(value.iter().all(is_text), "the value {}", value.escape_ascii());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Field::Line { name: text(name), value: text(value) })
}

/// A line without its CR LF; None where the connection ends before it.
fn line(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if reader.take(LONGEST_LINE).read_until(b'\n', &mut line).is_err() || line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with(b"\n") {
        return Ok(None);
    }
    ensure!(line.ends_with(b"\r\n"), "a bare LF in {}", line.escape_ascii());
    line.truncate(line.len() - 2);
    ensure!(!line.contains(&b'\r'), "a bare CR in {}", line.escape_ascii());
    Ok(Some(line))
}

/// Whether there were so many bytes.
fn skip(reader: &mut impl BufRead, count: u64) -> Result<bool> {
    let copied = std::io::copy(&mut reader.take(count), &mut std::io::sink());
    Ok(copied.is_ok_and(|copied| copied == count))
}

fn is_token(text: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token)
}

/// `uri-host [":" port]`, without the finer points of an address.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or(("", "x")),
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%:!$&'()*+;=".contains(&byte);
    let port = port.strip_prefix(':').unwrap_or(port);
    !host.is_empty() && host.bytes().all(is_host) && port.bytes().all(|byte| byte.is_ascii_digit())
}
