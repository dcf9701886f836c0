//! `weft-init` against the kernel: every test runs in a network namespace of its own, which has
//! no way out, and goes with it.
//!
//! As root a test unshares its network namespace; as another user, its user namespace as well,
//! which takes `newuidmap` and a range of subordinate ids that reaches the sidecar's uid.

// Clippy takes only functions with #[test] for tests, and here everything is one.
#![allow(clippy::unwrap_used)]

mod apply;
mod failure;
mod support;
mod traffic;
