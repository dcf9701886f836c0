//! The corpus: one payload a file, with a line that says what it is and one with what is expected.
//!
//! ```text
//! # What it is.
//! # expect: refused | forwarded [N] | closed | broken
//!
//! POST /{id} HTTP/1.1\r\n
//! Host: {host}\r\n
//! \r\n
//! ```
//!
//! Line ends of the file mean nothing; `\r`, `\n`, `\t`, `\\` and `\xHH` are bytes, `{repeat:N:TEXT}` is
//! TEXT N times. In a file named `.http2` there is a header on each line, and after an empty line DATA.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What the sidecar does with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It answers by itself with an error; the backend sees nothing. HTTP/1 connections are closed.
    Refused,
    /// The backend reads exactly so many requests, and the connection goes on: one, but where the
    /// payload is more than one to everybody.
    Forwarded(usize),
    /// The backend reads exactly one request, and nothing more is read of the connection.
    Closed,
    /// The body is faulty or does not end: the backend reads no whole request, whether it has been
    /// given the head already or not, and the connection is closed.
    Broken,
}

/// One file of the corpus.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// The file's name without its ending; the target of its request is `/` and this.
    pub(crate) id: String,
    /// What it is.
    pub(crate) title: String,
    pub(crate) expected: Expected,
    pub(crate) is_http2: bool,
    text: String,
}

/// A request of HTTP/2, as it is to be sent whatever HTTP/2 thinks of it.
pub(crate) struct Http2Request {
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// None ends the stream with its headers.
    pub(crate) data: Option<Vec<u8>>,
}

impl Payload {
    /// All files of a folder, by name.
    pub(crate) fn read_all(folder: &Path) -> Result<Vec<Payload>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            paths.push(entry?.path());
        }
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            Payload::read(path).with_context(|| path.display().to_string())
        };
        paths.iter().map(read).collect()
    }

    fn read(path: &Path) -> Result<Payload> {
        let content = fs::read_to_string(path)?;
        let (head, text) = content.split_once("\n\n").context("no empty line behind the head")?;
        let mut lines = head.lines().map(|line| line.trim_start_matches("# "));
        let title = lines.next().context("no title")?.to_owned();
        let expected = match lines.next().and_then(|line| line.strip_prefix("expect: ")) {
            Some("refused") => Expected::Refused,
            Some("forwarded") => Expected::Forwarded(1),
            Some("forwarded 2") => Expected::Forwarded(2),
            Some("closed") => Expected::Closed,
            Some("broken") => Expected::Broken,
            other => bail!("what is expected: {other:?}"),
        };
        let name =
            |part: Option<&std::ffi::OsStr>| part.and_then(|it| it.to_str()).map(str::to_owned);
        let id = name(path.file_stem()).context("no name")?;
        let is_http2 = match name(path.extension()).as_deref() {
            Some("http1") => false,
            Some("http2") => true,
            _ => bail!("neither .http1 nor .http2"),
        };
        let payload = Payload { id, title, expected, is_http2, text: text.to_owned() };
        if is_http2 {
            payload.http2("host").map(drop)?;
        } else {
            payload.http1("host").map(drop)?;
        }
        Ok(payload)
    }

    /// The bytes for a connection to `host`.
    pub(crate) fn http1(&self, host: &str) -> Result<Vec<u8>> {
        bytes(&self.filled(host))
    }

    /// The request for a connection to `host`.
    pub(crate) fn http2(&self, host: &str) -> Result<Http2Request> {
        let text = self.filled(host);
        let (headers, data) = match text.split_once("\n\n") {
            Some((headers, data)) => (headers, Some(bytes(data)?)),
            None => (text.as_str(), None),
        };
        let header = |line: &str| {
            let (name, value) = line
                .split_once(": ")
                .or_else(|| Some((line.strip_suffix(':')?, "")))
                .context("no colon")?;
            Ok((bytes(name)?, bytes(value)?))
        };
        let headers = headers.lines().map(header).collect::<Result<_>>()?;
        Ok(Http2Request { headers, data })
    }

    fn filled(&self, host: &str) -> String {
        self.text.replace("{id}", &self.id).replace("{host}", host)
    }
}

/// What a text of the corpus stands for.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{', '\n']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix('\n') {
            rest = behind;
        } else if let Some(repeat) = rest.strip_prefix("{repeat:") {
            let (count, behind) = repeat.split_once(':').context("{repeat:N:TEXT}")?;
            let (what, behind) = behind.split_once('}').context("{repeat:N:TEXT}")?;
            bytes.extend(self::bytes(what)?.repeat(count.parse()?));
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('{') {
            bytes.push(b'{');
            rest = behind;
        } else {
            let (byte, length) = escape(rest)?;
            bytes.push(byte);
            rest = &rest[length..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The byte that an escape stands for, and the escape's length.
fn escape(text: &str) -> Result<(u8, usize)> {
    Ok(match text.as_bytes().get(1) {
        Some(b'r') => (b'\r', 2),
        Some(b'n') => (b'\n', 2),
        Some(b't') => (b'\t', 2),
        Some(b'\\') => (b'\\', 2),
        Some(b'x') => {
            let digits = text.get(2..4).context("\\xHH")?;
            ensure!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "\\x{digits}");
            (u8::from_str_radix(digits, 16)?, 4)
        }
        other => bail!("an unknown escape: {other:?}"),
    })
}
