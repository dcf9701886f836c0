//! The frames that an HTTP/2 client sends, by their heads alone.
//!
//! h2 bounds what it keeps and what is wrong. It has no bound for what is right and useless: PING, SETTINGS,
//! PRIORITY, and what else is answered or read for nothing. Here such frames are counted against what
//! the client asks for and gets (RFC 9113, section 10.5: "An endpoint MAY treat activity that is suspicious as a
//! connection error […] of type ENHANCE_YOUR_CALM").

use super::activity::Activity;
use super::pace::{FRAME_COST, HEADER_BYTES, REQUEST_COST};

/// RFC 9113, section 4.1.
const HEAD: usize = 9;

/// The connection preface, which stands before the first frame.
const PREFACE: u32 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Content that accounts for one frame that carries none.
pub(super) const BYTES_PER_FRAME: usize = 1024;

/// Follows the frames of a connection, from the preface on.
#[derive(Debug)]
pub(super) struct Frames {
    /// As much as there is of a frame's head.
    head: [u8; HEAD],
    have: usize,
    /// What is left of a frame's payload.
    payload: u32,
    /// The last stream that the client has begun.
    last_stream: u32,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { head: [0; HEAD], have: 0, payload: PREFACE, last_stream: 0 }
    }

    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Notes what was read, up to the frame with which the turn is over; returns how many bytes that are.
    pub(super) fn read(&mut self, bytes: &[u8], activity: &Activity) -> usize {
        let mut rest = bytes;
        loop {
            let skipped = rest.len().min(self.payload as usize);
            self.payload -= skipped as u32;
            rest = &rest[skipped..];
            if rest.is_empty() || (activity.is_turn_over() && self.may_stop_before(rest)) {
                return bytes.len() - rest.len();
            }
            let taken = rest.len().min(HEAD - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken;
            rest = &rest[taken..];
            if self.have < HEAD {
                return bytes.len();
            }
            self.have = 0;
            self.frame(activity);
        }
    }

    /// Whether what comes next may wait for the next turn: a frame, but not a reset. It would come when the
    /// request before it has been answered, of which it is to be known that nobody waits for the answer.
    fn may_stop_before(&self, next: &[u8]) -> bool {
        self.have == 0 && next.get(3) != Some(&RST_STREAM)
    }

    fn frame(&mut self, activity: &Activity) {
        let [l0, l1, l2, kind, flags, stream @ ..] = self.head;
        self.payload = u32::from_be_bytes([0, l0, l1, l2]);
        let mut cost = FRAME_COST;
        match kind {
            DATA if self.payload > 0 => {
                activity.earn_frames(self.payload / BYTES_PER_FRAME as u32);
            }
            DATA if flags & END_STREAM != 0 => {}
            HEADERS => {
                let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
                self.last_stream = self.last_stream.max(stream);
                activity.set_in_header_block(flags & END_HEADERS == 0);
                // Made up for by the request, if it becomes one.
                activity.spend_frames(2);
                cost += REQUEST_COST + self.payload / HEADER_BYTES;
            }
            CONTINUATION => {
                activity.set_in_header_block(flags & END_HEADERS == 0);
                activity.spend_frames(1);
                cost += self.payload / HEADER_BYTES;
            }
            _ => activity.spend_frames(1),
        }
        activity.take_turn(cost);
    }
}

#[cfg(test)]
mod tests;
