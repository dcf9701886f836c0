//! What traffic notices of what happens to the pods at both of its ends and between them, and what is
//! measured of it.

mod canary;
mod idle_close;
mod reuse;
mod rolling;
