//! How it goes, and how it went: a line now and then, a table and a file of figures at the end.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::churn::Done;
use crate::lanes::Outcome;
use crate::sample::{MIB, Sample, Trend};
use crate::verdict::{Criterion, Run};

/// A line for who watches.
pub(crate) fn progress(
    sample: &Sample,
    length: Duration,
    lanes: &[Outcome],
    churn: &Done,
) -> String {
    let done: u64 = lanes.iter().map(|it| it.report.done).sum();
    let failed: u64 = lanes.iter().map(|it| it.report.failed).sum();
    let changes: u64 = churn.changes.values().sum();
    format!(
        "{} of {}  {done} requests, {failed} failed  {changes} changes, {} kills  {:.1} MiB  {} \
         descriptors  {} connections",
        clock(sample.at),
        clock(length.as_secs_f64()),
        churn.kills.len(),
        sample.resident_bytes / MIB,
        sample.descriptors,
        sample.connections,
    )
}

/// Writes report.md and report.json into the folder; returns the former.
pub(crate) fn write(folder: &Path, run: &Run, criteria: &[Criterion]) -> Result<String> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let text = text(run, criteria);
    let lane = |it: &Outcome| {
        json!({
            "lane": it.lane.name,
            "rate": it.lane.rate,
            "provoked": run.provoked(it),
            "report": it.report,
        })
    };
    let figures = json!({
        "criteria": criteria,
        "memory": Trend::of(&run.samples),
        "idle": run.idle,
        "calm": run.calm,
        "samples": run.samples,
        "lanes": run.lanes.iter().map(lane).collect::<Vec<_>>(),
        "churn": run.churn,
    });
    let files = [("report.md", text.clone()), ("report.json", format!("{figures:#}\n"))];
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| path.display().to_string())?;
    }
    Ok(text)
}

fn text(run: &Run, criteria: &[Criterion]) -> String {
    let last = run.samples.last().unwrap_or(&run.idle);
    let done: u64 = run.lanes.iter().map(|it| it.report.done).sum();
    let mut text = format!(
        "# Soak of {}\n\n{done} requests, {:.1} s of the sidecar's CPU time; {:.1} MiB before, {:.1} MiB \
         at most, {:.1} MiB afterwards; {:.0} tables published.\n\n",
        clock(last.at),
        last.cpu_seconds,
        run.idle.resident_bytes / MIB,
        run.peak(),
        run.calm.resident_bytes / MIB,
        run.calm.tables,
    );
    text += "| criterion | asked | seen | |\n|---|---|---|---|\n";
    // Writing to a string does not fail.
    for Criterion { name, asked, seen, met } in criteria {
        let met = if *met { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {name} | {asked} | {seen} | {met} |");
    }
    text += "\n| traffic | requests | failed | provoked | p50 ms | p99 ms | longest ms |\n\
             |---|---|---|---|---|---|---|\n";
    for outcome in &run.lanes {
        let report = &outcome.report;
        let latency = &report.latency;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {:.1} | {:.0} |",
            outcome.lane.name,
            report.done,
            report.failed,
            run.provoked(outcome),
            latency.p50,
            latency.p99,
            latency.max
        );
    }
    let _ = writeln!(
        text,
        "| Services that came a moment ago | {} | {} | 0 | | | |",
        run.churn.guests,
        run.churn.guest_failures.len()
    );
    text += "\n| change | times |\n|---|---|\n";
    for (change, times) in &run.churn.changes {
        let _ = writeln!(text, "| {change} | {times} |");
    }
    let unprovoked = run.unprovoked();
    if !unprovoked.is_empty() {
        text += "\nFailures that nothing provoked, the first twenty:\n\n";
        for failure in unprovoked.iter().take(20) {
            let _ = writeln!(text, "- {failure}");
        }
    }
    text
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
