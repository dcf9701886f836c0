use super::*;
use crate::outbound::activity::{Activity, Verdict};
use crate::outbound::pace::Pace;
use crate::testing::Mesh;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PING: u8 = 6;

/// Reads the bytes in pieces of that size; returns after how many the connection is to end.
fn read(bytes: &[u8], piece: usize, max: u32) -> (Option<usize>, Frames) {
    let mut limits = Mesh::limits();
    limits.http2_max_empty_frames = max;
    let activity = Activity::new(&limits, &Pace::new());
    let mut frames = Frames::new();
    for (number, piece_bytes) in bytes.chunks(piece).enumerate() {
        activity.turn_begins();
        let mut rest = piece_bytes;
        while !rest.is_empty() {
            activity.slow_turn_begins();
            rest = &rest[frames.read(rest, &activity)..];
        }
        if let Some(verdict) = activity.verdict() {
            assert_eq!(verdict, Verdict::TooManyFrames);
            return (Some((number + 1) * piece), frames);
        }
    }
    (None, frames)
}

#[test]
fn a_flood_ends_at_the_budget_however_it_is_cut() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let bytes = [PREFACE, &ping.repeat(50)].concat();
    for piece in [1, 2, 8, 9, 10, 17, 23, 4096] {
        // The eleventh frame's head is what is too much.
        let end = PREFACE.len() + 10 * ping.len() + HEAD;
        let (ended, _) = read(&bytes, piece, 10);
        let ended = ended.expect("a flood");
        assert!((end..end + piece).contains(&ended), "{piece}: {ended} instead of {end}");
        assert_eq!(read(&bytes, piece, 50).0, None, "{piece}");
    }
}

#[test]
fn what_carries_something_accounts_for_what_does_not() {
    let data = frame(DATA, 0, 1, &[b'x'; 8 * BYTES_PER_FRAME]);
    let bytes =
        [PREFACE, &[data, frame(PING, 0, 0, &[0; 8]).repeat(5)].concat().repeat(20)].concat();
    assert_eq!(read(&bytes, 1000, 10).0, None);
}

#[test]
fn payloads_are_no_frames() {
    // Were the payload read as frames, it would be a flood.
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(100);
    let bytes = [PREFACE, &frame(DATA, 0, 1, &pings)].concat();
    assert_eq!(read(&bytes, 7, 10).0, None);
}

#[test]
fn the_last_stream_is_the_highest_that_was_begun() {
    let bytes = [
        PREFACE,
        &frame(HEADERS, END_HEADERS | END_STREAM, 5, b"\x82"),
        // Trailers of an earlier one.
        &frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x82"),
    ]
    .concat();
    assert_eq!(read(&bytes, 11, 100).1.last_stream(), 5);
}
