//! A client at a fixed rate, which the backend is ([`super::backend`]).

use std::time::Duration;

use anyhow::{Result, ensure};

use super::backend::Task;

/// Response times in microseconds, ascending.
#[derive(Debug)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// The time that this share of the requests did not exceed.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[(share * last as f64).round() as usize]
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

/// So many requests a second, for so long.
pub(crate) fn paced(target: &str, rate: f64, length: Duration) -> Result<Times> {
    let task = Task::begin(&format!("pace {target} {rate} {}", length.as_secs_f64()))?;
    let mut times: Vec<f64> = task.end()?;
    ensure!(!times.is_empty(), "the rate of {rate:.0}/s is too low to measure");
    times.sort_by(f64::total_cmp);
    Ok(Times(times))
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn percentiles_are_of_the_ascending_times() {
        let times = Times((0..=1000).map(f64::from).collect());
        assert_eq!(times.percentile(0.5), 500.0);
        assert_eq!(times.percentile(0.99), 990.0);
        assert_eq!(times.percentile(0.999), 999.0);
        assert_eq!(Times(vec![7.0]).percentile(0.999), 7.0);
    }
}
