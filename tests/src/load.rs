//! What a load of `weft-client load` has seen: one JSON object a line. The client writes it, the
//! tests read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Every second, and at the end.
    Report(Report),
    /// Where `--watch-header` asks for it, at once.
    Change(Change),
}

/// Everything since the load began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds since 1970.
    pub at: f64,
    /// Requests whose outcome is known.
    pub done: u64,
    /// Answers by status: HTTP's or gRPC's.
    pub statuses: BTreeMap<String, u64>,
    /// Requests without an answer, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Answers by the pod that gave them.
    pub pods: BTreeMap<String, u64>,
    /// Answers by the version of the workload that gave them.
    pub versions: BTreeMap<String, u64>,
    /// From the moment at which a request was due, so that those which had to wait for others count
    /// in full.
    pub latency: Latency,
    /// The first of what went wrong: no answer, a status of 400 or more, a gRPC status but 0.
    pub failures: Vec<Failure>,
    /// How many went wrong.
    pub failed: u64,
    /// When the last of them did, in seconds since 1970.
    pub last_failed: f64,
    /// No more lines will come.
    pub finished: bool,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// A request that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When that was known, in seconds since 1970.
    pub at: f64,
    /// The request's URL.
    pub url: String,
    /// How many requests the connection had carried before.
    pub earlier: u64,
    /// The status with what the answer says of itself, or why there is none.
    pub what: String,
}

/// The watched header has another value than in the answer before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When the answer came, in seconds since 1970.
    pub at: f64,
    /// Empty where the header is missing.
    pub value: String,
}
