//! Tests in network namespaces: real iptables rules, real processes, real curl.
//!
//! Every test has a [`weft_tests::lab::Lab`] of its own, so all can run beside each other and ports
//! are fixed. They need root, or user namespaces for an ordinary user; without them they fail and
//! say what to do.

mod admin;
mod attacks;
mod bad_input;
mod balance;
mod endpoints;
mod explain;
mod faults;
mod filters;
mod grpc;
mod http;
mod interception;
mod lifecycle;
mod mirror;
mod opaque;
mod scenarios;
mod sticky;
mod streaming;
mod streams;
mod support;
mod timeouts;
