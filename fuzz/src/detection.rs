//! The first bytes of a connection: which protocol it speaks, and of TLS, which server it asks for.

use std::io::Read;

use rustls::server::Acceptor;
use weft_proxy::client_hello::{self, Parsed};
use weft_proxy::fuzz::{Detected, detect};

/// More than that is cut, since every beginning of the bytes is looked at. A ClientHello with a
/// post-quantum key share fits.
const LONGEST: usize = 2048;

pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    detects_once(data);
    parses_once(data);
    agrees_with_rustls(data);
}

/// What a part of the bytes was found to be, more of them do not change: how a connection's bytes come
/// in pieces is nothing that a client says.
fn detects_once(data: &[u8]) {
    let mut found = Detected::Incomplete;
    for end in 0..=data.len() {
        let now = detect(&data[..end]);
        // A line that is longer than any other protocol's is not waited for.
        if found != Detected::Incomplete && end < LONGEST_LINE {
            assert_eq!(now, found, "with {end} bytes of {}", data.escape_ascii());
        }
        found = now;
    }
}

/// The shortest line that is taken for HTTP before its end has come.
const LONGEST_LINE: usize = 1024;

fn parses_once(data: &[u8]) {
    let mut found = Parsed::Incomplete;
    for end in 0..=data.len() {
        let now = client_hello::parse(&data[..end]);
        if found != Parsed::Incomplete {
            assert_eq!(now, found, "with {end} bytes of {}", data.escape_ascii());
        }
        if let Parsed::Complete { server_name } = &now {
            assert_eq!(detect(&data[..end]), Detected::Tls);
            let is_dns = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            let is_read = |name: &String| {
                name.bytes().all(is_dns) && !name.bytes().any(|it| it.is_ascii_uppercase())
            };
            assert!(server_name.as_ref().is_none_or(is_read), "{server_name:?}");
        }
        found = now;
    }
}

/// The server name by which a connection is routed is none other than the one that a server reads.
fn agrees_with_rustls(data: &[u8]) {
    let Some(accepted) = accept(data) else { return };
    let Some(name) = accepted.client_hello().server_name().map(str::to_ascii_lowercase) else {
        return;
    };
    match client_hello::parse(data) {
        Parsed::Complete { server_name } => {
            assert_eq!(server_name.as_deref(), Some(name.as_str()));
        }
        // Refused is not misread.
        Parsed::Invalid(_) => {}
        other => panic!("{other:?}, and rustls reads {name}"),
    }
}

fn accept(data: &[u8]) -> Option<rustls::server::Accepted> {
    let mut acceptor = Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() {
        let read = acceptor.read_tls(&mut rest.by_ref().take(512)).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted);
        }
        if read == 0 {
            break;
        }
    }
    None
}
