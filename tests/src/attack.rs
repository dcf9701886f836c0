//! What `weft-client attack` and `weft-client witness` tell at their end: one JSON object. The clients
//! write it, `make attacks` and the tests read it.

use serde::{Deserialize, Serialize};

/// What an attack has sent, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attack {
    /// Connections that were made.
    pub connections: u64,
    /// How many of them the other side has ended.
    pub closed: u64,
    /// How many it has told first (GOAWAY; an answer of 4xx in HTTP/1).
    pub told: u64,
    /// The code of the last GOAWAY, or the status of the last answer in HTTP/1; 0 where there was none.
    pub code: u32,
    /// Frames of HTTP/2 that were sent; of other attacks, pieces.
    pub frames: u64,
    /// The most that one connection has sent.
    pub most_frames: u64,
    /// Connections that could not be made.
    pub refused: u64,
    /// User and system time that it took, in seconds.
    pub cpu_seconds: f64,
    /// The most memory that it had (VmHWM), in bytes.
    pub peak_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What a well-behaved client has seen meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// Answers of 200.
    pub answers: u64,
    /// Requests without one.
    pub errors: u64,
    /// The first of them, in words.
    pub first_error: String,
    /// Half of the answers took no longer, in milliseconds.
    pub p50: f64,
    /// The same of 99 in 100.
    pub p99: f64,
}
