//! What may not be, and whether it was.

use std::process::ExitStatus;

use serde::Serialize;
use weft_tests::load::Failure;

use crate::churn::Done;
use crate::lanes::Outcome;
use crate::sample::{ALLOWED, MIB, Sample, Trend};

/// How long after a pod's death a request that it broke may be told of: on a machine where the client
/// waits for its turn.
const AFTERMATH: f64 = 3.0;

/// All that was seen.
pub(crate) struct Run {
    /// Before the first request.
    pub(crate) idle: Sample,
    pub(crate) samples: Vec<Sample>,
    /// After the last one, once the sidecar was calm, or had not become so in time.
    pub(crate) calm: Sample,
    pub(crate) lanes: Vec<Outcome>,
    pub(crate) churn: Done,
    /// The sidecar's.
    pub(crate) log: String,
    /// None while it runs.
    pub(crate) status: Option<ExitStatus>,
    /// Once it was told to end; None where it did not.
    pub(crate) ended: Option<ExitStatus>,
}

/// Something that is asked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Criterion {
    pub(crate) name: &'static str,
    pub(crate) asked: String,
    pub(crate) seen: String,
    pub(crate) met: bool,
}

impl Run {
    pub(crate) fn judge(&self) -> Vec<Criterion> {
        let criterion = |name, asked: &str, seen: String, met| Criterion {
            name,
            asked: asked.to_owned(),
            seen,
            met,
        };
        let unprovoked = self.unprovoked();
        let worst = self.broken_by_one_kill();
        let bound = self.lanes.iter().filter(|it| it.lane.breaks).map(|it| it.lane.in_flight());
        let bound: usize = bound.sum();
        let slowest = self.slowest_lane();
        let [panics, errors] = ["panicked", " ERROR "].map(|word| self.lines(word));
        let last = self.samples.last().unwrap_or(&self.idle);
        let restarted = self.status.is_some() || last.started != self.idle.started;
        let (idle, calm) = (&self.idle, &self.calm);
        let changes: u64 = self.churn.changes.values().sum();
        vec![
            criterion(
                "failed requests that nothing provoked",
                "0",
                unprovoked.len().to_string(),
                unprovoked.is_empty(),
            ),
            criterion(
                "requests that one pod's death broke",
                &format!("≤ {bound}, those under way"),
                format!("{worst} at most"),
                worst <= bound,
            ),
            criterion(
                "every lane keeps its pace",
                "≥ half of its rate",
                format!("{:.0} % ({})", slowest.0 * 100.0, slowest.1),
                slowest.0 >= 0.5,
            ),
            self.memory(),
            criterion(
                "descriptors when idle again",
                &format!("≤ {}, as before", idle.descriptors),
                calm.descriptors.to_string(),
                calm.descriptors <= idle.descriptors,
            ),
            criterion(
                "connections and streams when idle again",
                "0",
                (calm.connections + calm.streams).to_string(),
                calm.connections + calm.streams == 0.0,
            ),
            criterion(
                "threads when idle again",
                &format!("≤ {}, as before", idle.threads),
                calm.threads.to_string(),
                calm.threads <= idle.threads,
            ),
            criterion("panics in the log", "0", told(&panics), panics.is_empty()),
            criterion("errors in the log", "0", told(&errors), errors.is_empty()),
            criterion(
                "restarts",
                "none",
                if restarted { "it has left" } else { "none" }.to_owned(),
                !restarted,
            ),
            criterion(
                "its end, once told to",
                "exit status: 0",
                self.ended.map_or_else(|| "did not come".to_owned(), |status| status.to_string()),
                self.ended.is_some_and(|status| status.success()),
            ),
            criterion("changes around it", "> 0", changes.to_string(), changes > 0),
        ]
    }

    fn memory(&self) -> Criterion {
        let (asked, trend) = (format!("≤ {ALLOWED} MiB/h"), Trend::of(&self.samples));
        let (seen, met) = match trend {
            Some(it) => (
                format!(
                    "{:+.1} ± {:.1} MiB/h over {:.0} s ({:+.2} MiB; this run tells leaks from {:.1} \
                     MiB/h on)",
                    it.slope,
                    it.error,
                    it.seconds,
                    it.growth(),
                    it.resolution()
                ),
                !it.is_leak(),
            ),
            None => ("too few samples".to_owned(), false),
        };
        Criterion { name: "growth of resident memory", asked, seen, met }
    }

    /// The failures that no pod's death explains, in words.
    pub(crate) fn unprovoked(&self) -> Vec<String> {
        let mut unprovoked = self.churn.guest_failures.clone();
        for outcome in &self.lanes {
            let (name, report) = (outcome.lane.name, &outcome.report);
            let failures = report.failures.iter().filter(|it| !self.is_provoked(outcome, it));
            unprovoked.extend(failures.map(|it| format!("{name}, at {:.1}: {}", it.at, it.what)));
            let untold = report.failed - report.failures.len() as u64;
            if untold > 0 {
                unprovoked.push(format!("{name}: {untold} more than were told"));
            }
        }
        unprovoked
    }

    /// How many failures of a lane a pod's death explains.
    pub(crate) fn provoked(&self, outcome: &Outcome) -> usize {
        outcome.report.failures.iter().filter(|it| self.is_provoked(outcome, it)).count()
    }

    fn is_provoked(&self, outcome: &Outcome, failure: &Failure) -> bool {
        outcome.lane.breaks && is_break(&failure.what) && self.kill_before(failure.at).is_some()
    }

    /// The death shortly before a moment.
    fn kill_before(&self, at: f64) -> Option<usize> {
        self.churn.kills.iter().rposition(|kill| (*kill..kill + AFTERMATH).contains(&at))
    }

    fn broken_by_one_kill(&self) -> usize {
        let mut broken = vec![0; self.churn.kills.len()];
        for outcome in &self.lanes {
            let failures = outcome.report.failures.iter();
            for failure in failures.filter(|it| self.is_provoked(outcome, it)) {
                if let Some(kill) = self.kill_before(failure.at) {
                    broken[kill] += 1;
                }
            }
        }
        broken.into_iter().max().unwrap_or(0)
    }

    /// The lane that fell behind its rate most: what it did of what it should have.
    fn slowest_lane(&self) -> (f64, &'static str) {
        let seconds = self.samples.last().map_or(0.0, |sample| sample.at - self.idle.at);
        let share = |it: &Outcome| (it.report.done as f64 / (it.lane.rate * seconds), it.lane.name);
        let shares = self.lanes.iter().map(share);
        shares.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((0.0, "none"))
    }

    /// Memory at its most, in MiB.
    pub(crate) fn peak(&self) -> f64 {
        self.samples.iter().map(|sample| sample.resident_bytes).fold(0.0, f64::max) / MIB
    }

    fn lines(&self, word: &str) -> Vec<&str> {
        self.log.lines().filter(|line| line.contains(word)).collect()
    }
}

/// How many lines, and the first.
fn told(lines: &[&str]) -> String {
    match lines {
        [] => "0".to_owned(),
        [first, ..] => format!("{}: `{}`", lines.len(), first.replace('|', "/")),
    }
}

/// Whether it reads like a connection to a pod that broke, and not like anything else: no endpoint, no
/// answer in time, a route that is missing.
fn is_break(what: &str) -> bool {
    what.starts_with("503 backend_closed")
        || what.starts_with("14 ")
        || what.starts_with("in the body")
}

#[cfg(test)]
mod tests;
