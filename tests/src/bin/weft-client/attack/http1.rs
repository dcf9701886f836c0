//! Attacks in HTTP/1.

use std::io;

use super::Attacker;
use super::wire::Wire;

pub(super) const HEAD_BEGINS: &[u8] = b"GET / HTTP/1.1\r\nhost: echo\r\nx-slow: ";

pub(super) const BODY_BEGINS: &[u8] =
    b"POST /discard HTTP/1.1\r\nhost: echo\r\ncontent-length: 1000000\r\n\r\n";

/// One head of a megabyte.
pub(super) fn huge_headers(attacker: &mut Attacker<'_>, wire: &mut Wire) -> io::Result<()> {
    wire.send(b"GET / HTTP/1.1\r\nhost: echo\r\n")?;
    let line = [b"x-huge: ".as_slice(), &[b'y'; 4000], b"\r\n"].concat();
    for _ in 0..256 {
        wire.frames += 1;
        wire.send(&line)?;
        if attacker.is_over() {
            return Ok(());
        }
    }
    wire.wait(|_| false)
}
