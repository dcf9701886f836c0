//! The clients: wrk and h2load at saturation, the backend itself for new connections and at a fixed rate,
//! and one that only holds connections open.

mod backend;
pub(crate) mod hold;
pub(crate) mod paced;
mod tools;

pub(crate) use tools::saturate;
