//! The clients: wrk, h2load and the backend itself at saturation, the backend at a fixed rate, and one that
//! only holds connections open.

mod backend;
pub(crate) mod hold;
pub(crate) mod paced;
mod tools;

pub(crate) use tools::saturate;
