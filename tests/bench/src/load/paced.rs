//! A client at a fixed rate: the backend's own thread is one ([`crate::work::PACE`]), and what it has seen is
//! read here.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::work::PACE;

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
    let mut backend = TcpStream::connect((Ipv4Addr::LOCALHOST, PACE)).context("the backend")?;
    write!(backend, "{target} {rate} {}", length.as_secs_f64())?;
    backend.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    backend.read_to_string(&mut said)?;
    let times: Result<Vec<f64>, _> = said.split_whitespace().map(str::parse).collect();
    let mut times = times.map_err(|_| anyhow::anyhow!("{target} at {rate:.0}/s: {said}"))?;
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
