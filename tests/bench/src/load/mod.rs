//! The clients: wrk and h2load at saturation, one of the bench's own at a fixed rate, and one that
//! only holds connections open.

pub(crate) mod hold;
pub(crate) mod paced;
mod tools;

pub(crate) use tools::saturate;

/// What a client has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Answers, all of them 2xx.
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
}
