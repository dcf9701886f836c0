//! The time of day, which the pods' reports have too. On one machine they are the same.

use std::time::SystemTime;

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
