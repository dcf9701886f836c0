//! Real ClientHellos, made ones, broken ones, and whatever bytes a client may send.

use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
};

use super::*;

/// What a real client says first.
fn rustls_hello(name: &str, version: &'static SupportedProtocolVersion) -> Vec<u8> {
    let config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn vector(content: &[u8]) -> Vec<u8> {
    let mut vector = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    vector.extend_from_slice(content);
    vector
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector(content)].concat()
}

fn entry(kind: u8, name: &[u8]) -> Vec<u8> {
    [vec![kind], vector(name)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(SERVER_NAME, &vector(&entry(HOST_NAME, name.as_bytes())))
}

/// The body of a ClientHello with these extensions; None leaves out even their length.
fn hello_body(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([2, 8, 9]); // session
    body.extend(vector(&[0x13, 1])); // cipher suites
    body.extend([1, 0]); // compression methods
    body.extend(extensions.map(vector).unwrap_or_default());
    body
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO, length[1], length[2], length[3]], body].concat()
}

/// Records whose contents have the given lengths, the last one what is left.
fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = message;
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (content, after) = rest.split_at(length.min(rest.len()));
        if !content.is_empty() {
            bytes.extend([HANDSHAKE_RECORD, 3, 1]);
            bytes.extend(vector(content));
        }
        rest = after;
    }
    bytes
}

fn hello(extensions: &[u8]) -> Vec<u8> {
    records(&message(&hello_body(Some(extensions))), &[])
}

fn named(name: &str) -> Parsed {
    Parsed::Complete { server_name: Some(name.to_owned()) }
}

const NAMELESS: Parsed = Parsed::Complete { server_name: None };

#[test]
fn real_clients() {
    for version in [&TLS12, &TLS13] {
        assert_eq!(parse(&rustls_hello("a.example.com", version)), named("a.example.com"));
        // No name is sent to an address.
        assert_eq!(parse(&rustls_hello("10.0.0.1", version)), NAMELESS);
    }
}

#[test]
fn names_are_compared_in_lower_case() {
    assert_eq!(parse(&hello(&server_name("A.Example.COM"))), named("a.example.com"));
    assert_eq!(parse(&hello(&server_name("_x-1.example"))), named("_x-1.example"));
}

#[test]
fn a_hello_without_a_name() {
    assert_eq!(parse(&hello(&[])), NAMELESS);
    assert_eq!(parse(&hello(&extension(43, &[2, 3, 4]))), NAMELESS);
    let before_extensions = records(&message(&hello_body(None)), &[]);
    assert_eq!(parse(&before_extensions), NAMELESS);
}

#[test]
fn the_name_may_stand_anywhere_among_the_extensions() {
    let grease = extension(0x0a0a, &[]);
    let extensions = [grease, extension(16, &vector(b"\x02h2")), server_name("a.example")].concat();
    assert_eq!(parse(&hello(&extensions)), named("a.example"));
    // Names of types that nobody has defined yet are passed over.
    let list = [entry(1, b"x"), entry(HOST_NAME, b"a.example")].concat();
    assert_eq!(parse(&hello(&extension(SERVER_NAME, &vector(&list)))), named("a.example"));
}

#[test]
fn a_hello_may_come_in_any_pieces() {
    let whole = message(&hello_body(Some(&server_name("a.example"))));
    for lengths in [vec![1; whole.len()], vec![3], vec![4], vec![5, 1, 30], vec![whole.len() - 1]] {
        let bytes = records(&whole, &lengths);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parsed::Incomplete, "{lengths:?} {end}");
        }
        assert_eq!(parse(&bytes), named("a.example"), "{lengths:?}");
        // What follows is not looked at.
        assert_eq!(parse(&[&bytes[..], b"\x17\x03\x03more"].concat()), named("a.example"));
    }
}

#[test]
fn what_is_not_tls() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"\0", b"\x16\x02", b"\x80\x2e\x01\x03\x01", b"\x15\x03"]
    {
        assert_eq!(parse(bytes), Parsed::NotTls, "{}", bytes.escape_ascii());
    }
    assert_eq!(parse(b""), Parsed::Incomplete);
    assert_eq!(parse(b"\x16"), Parsed::Incomplete);
}

#[test]
fn what_is_broken_is_refused_and_never_guessed_at() {
    let name = server_name("a.example");
    let twice = [name.clone(), server_name("b.example")].concat();
    let two_names = [entry(HOST_NAME, b"a.example"), entry(HOST_NAME, b"b.example")].concat();
    let list = |list: &[u8]| hello(&extension(SERVER_NAME, &vector(list)));
    let mut after_extensions = hello_body(Some(&name));
    after_extensions.push(0);
    let whole = message(&hello_body(Some(&name)));
    let mut server_hello = records(&whole, &[]);
    server_hello[RECORD_HEADER] = 2;
    let mut interrupted = records(&whole, &[10]);
    interrupted[RECORD_HEADER + 10] = 21;
    let long = format!("{}.example", "n".repeat(MAX_NAME));
    let table = [
        ("two extensions", hello(&twice), "names its server twice"),
        ("two names", list(&two_names), "names its server twice"),
        ("an empty list", list(&[]), "no host name"),
        ("no list", hello(&extension(SERVER_NAME, &[])), "longer than the message"),
        ("an empty name", list(&entry(HOST_NAME, b"")), "no DNS name"),
        ("a zero byte", list(&entry(HOST_NAME, b"a.example\0.b")), "no DNS name"),
        ("a space", list(&entry(HOST_NAME, b"a b")), "no DNS name"),
        ("a wildcard", list(&entry(HOST_NAME, b"*.example")), "no DNS name"),
        ("an address", list(&entry(HOST_NAME, b"[fd00::1]")), "no DNS name"),
        ("UTF-8", list(&entry(HOST_NAME, "ä.example".as_bytes())), "no DNS name"),
        ("a long name", list(&entry(HOST_NAME, long.as_bytes())), "no DNS name"),
        (
            "more behind the list",
            hello(&extension(SERVER_NAME, &[vector(&entry(HOST_NAME, b"a")), vec![0]].concat())),
            "goes on after its list",
        ),
        ("more behind the extensions", records(&message(&after_extensions), &[]), "goes on after"),
        ("half an extension", hello(&[0, 0, 0]), "longer than the message"),
        ("an extension beyond the end", hello(&[0, 0, 0, 9, 1]), "longer than the message"),
        ("an empty message", records(&message(&[]), &[]), "longer than the message"),
        ("another message", server_hello, "no ClientHello"),
        ("an alert in between", interrupted, "another record"),
        ("an empty record", b"\x16\x03\x01\0\0".to_vec(), "no valid length"),
        ("a record beyond the limit", b"\x16\x03\x01\x40\x01".to_vec(), "no valid length"),
        ("a length beyond the limit", b"\x16\x03\x01\x01\0\x01\x01\0\0".to_vec(), "too long"),
    ];
    for (what, bytes, expected) in table {
        match parse(&bytes) {
            Parsed::Invalid(why) => assert!(why.contains(expected), "{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn what_never_ends_is_given_up() {
    let body = hello_body(Some(&extension(21, &vec![0; MAX_BYTES - 100])));
    let mut bytes = records(&message(&body), &[]);
    assert_eq!(parse(&bytes), NAMELESS, "the longest is no problem");
    bytes.truncate(MAX_BYTES - 60);
    assert_eq!(parse(&bytes), Parsed::Incomplete);
    // By the byte: six for each.
    let slow = records(&message(&body), &vec![1; MAX_BYTES]);
    assert_eq!(parse(&slow[..MAX_BYTES - 1]), Parsed::Incomplete);
    assert_eq!(parse(&slow[..MAX_BYTES]), Parsed::Invalid("the ClientHello is too long"));
}

proptest! {
    /// Any bytes, and those of a hello with some of them changed, get an answer; and the answer does not
    /// depend on how the bytes come.
    #[test]
    fn whatever_comes_gets_one_answer(
        noise in prop::collection::vec(any::<u8>(), 0..64),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        lengths in prop::collection::vec(1_usize..40, 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        parse(&noise);
        let mut bytes = records(&message(&hello_body(Some(&server_name("a.example")))), &lengths);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.write_all(&noise).unwrap();
        let whole = parse(&bytes);
        // Once something other than more is asked for, more changes nothing.
        let begun = parse(&bytes[..cut.index(bytes.len())]);
        prop_assert!(begun == Parsed::Incomplete || begun == whole, "{:?} {:?}", begun, whole);
    }

    /// In whatever pieces and with whatever else beside it, the name is found.
    #[test]
    fn the_name_is_found(
        name in "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z0-9]{1,10}){0,5}",
        before in prop::collection::vec((1_u16.., prop::collection::vec(any::<u8>(), 0..50)), 0..5),
        after in prop::collection::vec((1_u16.., prop::collection::vec(any::<u8>(), 0..50)), 0..5),
        lengths in prop::collection::vec(1_usize..100, 0..8),
    ) {
        let some = |list: &[(u16, Vec<u8>)]| -> Vec<u8> {
            list.iter().flat_map(|(kind, content)| extension(*kind, content)).collect()
        };
        let extensions = [some(&before), server_name(&name), some(&after)].concat();
        let bytes = records(&message(&hello_body(Some(&extensions))), &lengths);
        prop_assert_eq!(parse(&bytes), named(&name));
    }
}
