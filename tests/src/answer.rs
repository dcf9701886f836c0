//! What a `weft-echo` backend tells about a request that it has seen, as JSON.
//!
//! The backend writes it, the tests and the demo read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who answers: printed by every protocol that `weft-echo` speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The workload's name, `reviews` say.
    pub service: String,
    /// The workload's version, `v2` say.
    pub version: String,
    /// The pod's own name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
}

/// One request as the backend received it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answers.
    #[serde(flatten)]
    pub identity: Identity,
    /// The request's method.
    pub method: String,
    /// Path and query, as they arrived.
    pub path: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub http: String,
    /// The `Host` header, or HTTP/2's `:authority`.
    pub host: String,
    /// Every header line in the order of arrival, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// SHA-256 of the request's body, hexadecimal.
    pub body_sha256: String,
    /// The trailers after the request's body.
    pub trailers: Vec<(String, String)>,
    /// The caller's address and port, as the backend's socket sees them.
    pub peer: String,
}

/// What `weft-echo --count-header` has counted, by method.
pub type Counted = BTreeMap<String, Counts>;

/// How often which value of the header came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests with the header.
    pub requests: u64,
    /// Different values.
    pub values: u64,
    /// The first of those that came more than once.
    pub repeated: Vec<String>,
}

impl Answer {
    /// All values of a header, in the order of arrival.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}
