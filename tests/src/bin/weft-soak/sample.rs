//! What the sidecar holds at a moment, and how its memory moves.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use weft_tests::lab::Client;
use weft_tests::lab::metrics::{samples, sum};

/// What the sidecar holds, mostly by its own metrics.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Seconds since the beginning.
    pub(crate) at: f64,
    pub(crate) resident_bytes: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    /// Connections of clients.
    pub(crate) connections: f64,
    /// Those of them that pass unread.
    pub(crate) streams: f64,
    /// Label sets of routes.
    pub(crate) series: f64,
    pub(crate) tables: f64,
    pub(crate) cpu_seconds: f64,
    /// When the process began, in seconds since 1970.
    pub(crate) started: f64,
}

impl Sample {
    pub(crate) fn take(client: &Client, begun: Instant) -> Result<Sample> {
        let at = begun.elapsed().as_secs_f64();
        let read = samples(&client.metrics()?);
        let value = |name| sum(&read, name, &[]);
        Ok(Sample {
            at,
            resident_bytes: client.with_proxy(|proxy| proxy.resident_bytes())? as f64,
            descriptors: value("weft_process_open_fds"),
            threads: client.with_proxy(|proxy| proxy.threads())? as f64,
            connections: value("weft_outbound_open_connections"),
            streams: value("weft_tcp_open_connections"),
            series: value("weft_metrics_series"),
            tables: value("weft_table_publishes_total"),
            cpu_seconds: value("weft_process_cpu_seconds_total"),
            started: value("weft_process_start_time_seconds"),
        })
    }

    /// Whether traffic has left nothing behind that was not there before. Memory is another matter:
    /// see [`trend`].
    pub(crate) fn is_as_calm_as(&self, idle: &Sample) -> bool {
        self.descriptors <= idle.descriptors
            && self.threads <= idle.threads
            && self.connections == 0.0
            && self.streams == 0.0
    }
}

/// How memory moves, after the sidecar has warmed up.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Trend {
    /// Seconds that were looked at.
    pub(crate) seconds: f64,
    /// Least squares, in MiB per hour.
    pub(crate) slope: f64,
    /// The slope's standard error, in MiB per hour.
    pub(crate) error: f64,
}

pub(crate) const MIB: f64 = 1024.0 * 1024.0;
/// Memory moves in steps that last for many samples, so that samples are no independent observations.
/// The medians of so many pieces nearly are.
const PIECES: usize = 12;
/// Pools, tables and the allocator have found their size after so long; of a short run, after half.
const WARM_UP: f64 = 300.0;
/// How many standard errors a slope must be away from what is allowed: once in 200 runs by chance
/// (Student's t, 10 degrees of freedom, one-sided).
const CERTAIN: f64 = 3.17;
/// The allowed slope in MiB per hour.
pub(crate) const ALLOWED: f64 = 1.0;
/// What an allocator's last step may come to in a window: less growth than this is no trend, in MiB.
const STEP: f64 = 1.0;

impl Trend {
    /// The slope of resident memory. None where there are too few samples.
    pub(crate) fn of(samples: &[Sample]) -> Option<Trend> {
        let end = samples.last()?.at;
        let from = WARM_UP.min(end / 2.0);
        let seconds = end - from;
        let mut pieces: Vec<Vec<f64>> = vec![Vec::new(); PIECES];
        for sample in samples.iter().filter(|sample| sample.at > from) {
            let piece = ((sample.at - from) / seconds * PIECES as f64) as usize;
            pieces[piece.min(PIECES - 1)].push(sample.resident_bytes / MIB);
        }
        let hours = seconds / 3600.0;
        let points: Vec<(f64, f64)> = (0..PIECES)
            .filter_map(|piece| {
                let middle = (piece as f64 + 0.5) / PIECES as f64 * hours;
                Some((middle, median(&mut pieces[piece])?))
            })
            .collect();
        let (slope, error) = least_squares(&points)?;
        Some(Trend { seconds, slope, error })
    }

    /// Whether memory certainly grows by more than is allowed.
    pub(crate) fn is_leak(&self) -> bool {
        self.slope - CERTAIN * self.error > ALLOWED && self.growth() > STEP
    }

    /// What it grew by in the window, in MiB.
    pub(crate) fn growth(&self) -> f64 {
        self.slope * self.seconds / 3600.0
    }

    /// The smallest leak that this run would have told from chance, in MiB per hour.
    pub(crate) fn resolution(&self) -> f64 {
        (ALLOWED + CERTAIN * self.error).max(STEP / self.seconds * 3600.0)
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The slope of a line through points, and its standard error.
fn least_squares(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sums, point| (sums.0 + point.0, sums.1 + point.1));
    let (x, y) = (x / count, y / count);
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let residual = |point: &(f64, f64)| (point.1 - y - slope * (point.0 - x)).powi(2);
    let variance = points.iter().map(residual).sum::<f64>() / (count - 2.0);
    Some((slope, (variance / spread).sqrt()))
}

#[cfg(test)]
mod tests;
