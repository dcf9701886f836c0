//! Waiting: for a condition, with a deadline, and never by the clock alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long a pod may take to start, or a change to show, on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Asks again, with growing pauses, until there is an answer. The last error is told when the time
/// is over.
pub async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if start.elapsed() > limit {
            return Err(error).with_context(|| format!("waited {limit:?} for {what}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
