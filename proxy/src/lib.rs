//! Weft's sidecar. [`outbound`] accepts the redirected connections, [`request`] takes one request
//! from its head to its metrics; [`source`] and [`table`] say where it goes.
//!
//! `ARCHITECTURE.md` has the picture: threads, ports, the phases of a request.

pub mod admin;
pub mod backend;
#[doc(hidden)]
pub mod bench;
pub mod check;
pub mod client_hello;
pub mod command;
pub mod config;
pub mod drain;
pub mod explain;
pub mod fault;
mod filter;
#[doc(hidden)]
pub mod fuzz;
mod http1;
mod http2;
pub mod log;
mod memory;
pub mod metrics;
mod opaque;
mod outbound;
pub mod pod;
mod prefixed;
mod protocol;
pub mod publish;
mod rendezvous;
mod request;
pub mod rlimit;
mod session;
pub mod socket;
pub mod source;
pub mod table;
#[cfg(test)]
mod testing;
pub mod worker;
