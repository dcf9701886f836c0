//! How much a client's HTTP/2 connection may have done in one turn of its task, and when those that
//! misuse it have their next one.
//!
//! Whatever a connection brings at once is read in turns, and what others have brought is served in
//! between. A connection that has spent a part of its budget is slow from then on, until it has earned it
//! back or is ended; so is one with many large heads, until they are forgiven. Its turns are short, and all
//! slow connections of a worker take them one after the other, with a pause in between. So it is bounded
//! what all misuse costs together, however many connections it comes on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a turn may cost, [`FRAME_COST`] and its like being the unit: 24 requests, or 96 other frames. That is
/// 16 calls of gRPC with all that belongs to them: a client may send their heads first and their messages
/// after, and a request whose message is in the next turn is looked at once more for it.
pub(super) const TURN: u32 = 96;

/// The same of a slow connection: its first frames and a request with all that belongs to it.
pub(super) const SLOW_TURN: u32 = 8;

/// Between two turns of slow connections.
pub(super) const SLOW_PAUSE: Duration = Duration::from_millis(2);

/// How long a slow connection waits for its turn at most, however many others do.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long less is borne of all connections once one has misused HTTP/2.
pub(super) const STRICT: Duration = Duration::from_secs(5);

/// A connection is slow that has spent more than this part of its budget.
const PART: u32 = 4;
/// The same while less is borne.
const STRICT_PART: u32 = 8;

pub(super) const FRAME_COST: u32 = 1;
/// A frame that begins a request, beside [`FRAME_COST`].
pub(super) const REQUEST_COST: u32 = 3;
/// Bytes of a block of headers that cost as much as a frame: each may be a header.
pub(super) const HEADER_BYTES: u32 = 256;

/// What the HTTP/2 connections of a worker share.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    /// The last turn that was given to a slow connection, in microseconds since `began`.
    last: Cell<u64>,
    /// For how long less is borne, in milliseconds.
    strict: Cell<u32>,
}

impl Pace {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { began: Instant::now(), last: Cell::new(0), strict: Cell::new(0) })
    }

    /// When the next turn of a slow connection is, which the caller thereby has.
    pub(super) fn turn(&self, now: Instant) -> Instant {
        let micros = |time: Duration| time.as_micros() as u64;
        let now = micros(now.saturating_duration_since(self.began));
        let next = self.last.get().max(now) + micros(SLOW_PAUSE);
        let next = next.min(now + micros(LONGEST_WAIT));
        self.last.set(next);
        self.began + Duration::from_micros(next)
    }

    /// A connection was ended for misuse, or has gone while it was slow: whoever does it may come again at
    /// once, with a budget of a new connection.
    pub(super) fn is_misused(&self) {
        self.strict.set(STRICT.as_millis() as u32);
    }

    /// Whether there was misuse lately.
    pub(super) fn is_strict(&self) -> bool {
        self.strict.get() > 0
    }

    pub(super) fn passed(&self, time: Duration) {
        let strict = self.strict.get();
        self.strict.set(strict.saturating_sub(time.as_millis() as u32));
    }

    /// Whether so much of a budget spent makes a connection slow.
    pub(super) fn is_too_much(&self, spent: u32, budget: u32) -> bool {
        spent > budget / if self.is_strict() { STRICT_PART } else { PART }
    }
}

#[cfg(test)]
mod tests;
