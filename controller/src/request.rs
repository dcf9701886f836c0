//! Requests to the API server that have an end: every one but the watches.

use std::fmt;
use std::time::Duration;

/// How long an answer may take. Together with the time within which a lease has to be renewed it
/// stays below the time that other replicas wait: see [`crate::lease`].
pub const DEADLINE: Duration = Duration::from_secs(4);

/// Why a request came to nothing.
#[derive(Debug)]
pub enum RequestError {
    /// No answer within [`DEADLINE`].
    Late,
    /// The API server said no, or could not be reached.
    Failed(kube::Error),
}

impl RequestError {
    /// The status code of the answer; None where there was none.
    pub fn code(&self) -> Option<u16> {
        match self {
            RequestError::Late => None,
            RequestError::Failed(error) => code(error),
        }
    }
}

/// Waits for the answer, but not for ever.
pub async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RequestError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(RequestError::Failed),
        Err(_elapsed) => Err(RequestError::Late),
    }
}

/// The status code of the API server's answer; None where there was no answer.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// What went wrong, in one line.
pub fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            format!("{} {}: {}", status.code, status.reason, status.message)
        }
        other => {
            let mut line = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_line = cause.to_string();
                if !line.contains(&cause_line) {
                    line = format!("{line}: {cause_line}");
                }
                source = cause.source();
            }
            line
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Late => write!(f, "no answer within {} s", DEADLINE.as_secs()),
            RequestError::Failed(error) => f.write_str(&told(error)),
        }
    }
}

impl std::error::Error for RequestError {}
