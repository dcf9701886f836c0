//! What a client's HTTP/2 connection is doing, as far as its deadlines and its misuse go.
//!
//! [`super::stream::ClientStream`] notes what is read and written, [`crate::request`] which requests are
//! under way. Neither looks at a clock: [`super::clients`] does now and then, for all connections.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::pace::{Pace, SLOW_TURN, TURN};
use crate::worker::Limits;

/// Requests that a client may abandon in a second, whatever becomes of its others.
const RESETS_PER_SECOND: f32 = 20.0;

/// Frames that carry nothing and that a client may send in a second, whatever else it sends.
const FRAMES_PER_SECOND: f32 = 100.0;

/// A head that is passed on costs far more than most where it is larger than this; of HTTP/2 it may have
/// come in some bytes.
const LARGE_HEAD: usize = 16 * 1024;

/// So many large heads beyond what is forgiven make a connection slow.
const LARGE_HEADS: u32 = 8;

/// Large heads of a second that are forgiven.
const LARGE_HEADS_PER_SECOND: f32 = 10.0;

/// Frames that carry nothing and that are accounted for by a request: its head, which is counted as
/// such a frame until it has become a request, and what may come with it (RST_STREAM, WINDOW_UPDATE).
pub(super) const FRAMES_OF_REQUEST: u32 = 4;

/// A connection's state.
#[derive(Debug)]
pub(crate) struct Activity {
    max_resets: u32,
    max_frames: u32,
    /// Counts requests.
    begun: Cell<u32>,
    under_way: Cell<u32>,
    /// Counts reads: while something comes, tunnels and uploads among it, a connection is not idle.
    reads: Cell<u32>,
    /// A block of headers has begun and not ended.
    in_header_block: Cell<bool>,
    /// Requests that were abandoned and are neither made up for nor forgiven.
    resets: Cell<u32>,
    /// The same of frames that carry nothing.
    frames: Cell<u32>,
    /// Large heads that are not forgiven.
    large_heads: Cell<u32>,
    /// What is left of the turn of the connection's task ([`super::pace`]).
    turn: Cell<u32>,
    pub(super) pace: Rc<Pace>,
    verdict: Cell<Option<Verdict>>,
    /// Of the task that reads from the connection.
    reader: OnceCell<Waker>,
}

/// Why the proxy ends a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A head has begun, and did not end in time.
    HeaderTimeout,
    /// No request for a long time.
    IdleTimeout,
    /// More requests were abandoned than may be.
    TooManyResets,
    /// More frames came that carry nothing than may come.
    TooManyFrames,
}

/// What a connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nobody waits for the client: a request is under way.
    No,
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
}

/// Counts as a request under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct UnderWay(Rc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.request_ends(false);
    }
}

impl Verdict {
    /// The word for metrics and logs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TooManyResets => "too_many_resets",
            Self::TooManyFrames => "too_many_frames",
        }
    }

    /// Whether the client has done nothing wrong.
    pub(super) fn is_friendly(self) -> bool {
        self == Self::IdleTimeout
    }
}

impl Activity {
    pub(super) fn new(limits: &Limits, pace: &Rc<Pace>) -> Rc<Self> {
        Rc::new(Self {
            max_resets: limits.http2_max_resets,
            max_frames: limits.http2_max_empty_frames,
            begun: Cell::new(0),
            under_way: Cell::new(0),
            reads: Cell::new(0),
            in_header_block: Cell::new(false),
            resets: Cell::new(0),
            frames: Cell::new(0),
            large_heads: Cell::new(0),
            turn: Cell::new(TURN),
            pace: pace.clone(),
            verdict: Cell::new(None),
            reader: OnceCell::new(),
        })
    }

    /// Something was read, in the task of that waker, which is always the same one.
    pub(super) fn has_read(&self, waker: &Waker) {
        self.reads.set(self.reads.get().wrapping_add(1));
        if self.reader.get().is_none() {
            let _ = self.reader.set(waker.clone());
        }
    }

    pub(super) fn set_in_header_block(&self, within: bool) {
        self.in_header_block.set(within);
    }

    /// Frames came that carry nothing.
    pub(super) fn spend_frames(&self, count: u32) {
        let frames = self.frames.get() + count;
        self.frames.set(frames);
        if frames > self.max_frames {
            self.end(Verdict::TooManyFrames);
        }
    }

    /// Something came or went that accounts for so many of them.
    pub(super) fn earn_frames(&self, count: u32) {
        self.frames.set(self.frames.get().saturating_sub(count));
    }

    /// A head was read, of which the fields' values are so long.
    pub(super) fn has_head(&self, bytes: usize) {
        if bytes > LARGE_HEAD {
            self.large_heads.set(self.large_heads.get() + 1);
        }
    }

    /// Whether so much is spent and neither earned nor forgiven that the connection has to wait for its
    /// turns.
    pub(super) fn is_slow(&self) -> bool {
        self.pace.is_too_much(self.resets.get(), self.max_resets)
            || self.pace.is_too_much(self.frames.get(), self.max_frames)
            || self.large_heads.get() > LARGE_HEADS
    }

    /// The connection's task is polled: a turn, unless it is slow and has to wait for the next one.
    pub(super) fn turn_begins(&self) {
        let turn = if self.is_slow() { self.turn.get().min(SLOW_TURN) } else { TURN };
        self.turn.set(turn);
    }

    /// It has waited for it.
    pub(super) fn slow_turn_begins(&self) {
        self.turn.set(SLOW_TURN);
    }

    /// What was read costs so much of the turn.
    pub(super) fn take_turn(&self, cost: u32) {
        self.turn.set(self.turn.get().saturating_sub(cost));
    }

    pub(super) fn is_turn_over(&self) -> bool {
        self.turn.get() == 0
    }

    /// A request has begun.
    pub(crate) fn request_begins(&self) {
        self.begun.set(self.begun.get().wrapping_add(1));
        self.under_way.set(self.under_way.get() + 1);
        self.earn_frames(FRAMES_OF_REQUEST);
    }

    /// A request that has begun has ended; `abandoned` if the client has let go of it before it was
    /// answered, or has made the proxy do so.
    pub(crate) fn request_ends(&self, abandoned: bool) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        let resets = self.resets.get();
        if abandoned {
            self.resets.set(resets + 1);
            if resets >= self.max_resets {
                self.end(Verdict::TooManyResets);
            }
        } else if resets > 0 {
            self.resets.set(resets - 1);
        }
    }

    /// A tunnel that its request leaves behind.
    pub(crate) fn tunnel(self: &Rc<Self>) -> UnderWay {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(self.clone())
    }

    pub(super) fn end(&self, verdict: Verdict) {
        if self.verdict().is_none() {
            self.verdict.set(Some(verdict));
            if let Some(reader) = self.reader.get() {
                reader.wake_by_ref();
            }
        }
    }

    /// Why the connection is to end, if it is.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// Some time has passed, and with it some of what the client had too much of.
    pub(super) fn forgive(&self, passed: Duration) {
        for (count, per_second) in [
            (&self.resets, RESETS_PER_SECOND),
            (&self.frames, FRAMES_PER_SECOND),
            (&self.large_heads, LARGE_HEADS_PER_SECOND),
        ] {
            let forgiven = (passed.as_secs_f32() * per_second) as u32;
            count.set(count.get().saturating_sub(forgiven));
        }
    }

    /// Changes when what is waited for begins anew: with each request, and while nothing is under way
    /// with each read.
    pub(super) fn number(&self) -> u32 {
        if self.waiting() == Waiting::Idle { self.reads.get() } else { self.begun.get() }
    }

    pub(super) fn waiting(&self) -> Waiting {
        if self.in_header_block.get() {
            Waiting::Head
        } else if self.under_way.get() > 0 {
            Waiting::No
        } else {
            Waiting::Idle
        }
    }
}
