//! What traffic notices of what happens to the pods at both of its ends, and what is
//! measured of it.

mod canary;
mod rolling;
