//! Everything of Weft that needs more than one program: the lab, the scenarios, the demo.
//!
//! * [`lab`]: network namespaces as a small cluster without Kubernetes: backends, Services,
//!   client pods with `weft-init` and `weft-proxy` as they stand in a real pod.
//! * [`scenario`]: the six walk-throughs, as manifests and checks. `make demo` prints them and
//!   `tests/scenarios.rs` asserts them: the same code, so the demo cannot drift from the tests.
//! * [`grpc`]: the messages that `weft-echo` and `weft-client` exchange.
//! * [`answer`]: what `weft-echo` tells about a request that it has seen.

pub mod answer;
pub mod grpc;
pub mod lab;
pub mod scenario;
