//! The clients: wrk and h2load at saturation, one of the bench's own at a fixed rate, and one that
//! only holds connections open.

pub(crate) mod hold;
pub(crate) mod paced;
mod tools;

pub(crate) use tools::saturate;
