//! What was seen, as a page, as data and as plots.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use weft_bench::figure;

use crate::asked::{Verdict, asked};
use crate::measure::{Estimate, Measure, Spread, Work};
use crate::plot;
use crate::proxy::Proxy;
use crate::run::{Pace, Results, Rounds};

/// `report.json`.
#[derive(Debug, Serialize)]
struct Report<'r> {
    /// Turns that were done again because the machine's host had taken much of them for others.
    repeated: u32,
    measures: Vec<Entry<'r>>,
}

#[derive(Debug, Serialize)]
struct Entry<'r> {
    name: &'r str,
    unit: &'r str,
    /// How many values of each proxy there are.
    rounds: usize,
    /// Medians.
    weft: Option<f64>,
    peers: BTreeMap<&'static str, f64>,
    /// What is asked of Weft's figure; null where nothing is.
    asked: Option<String>,
    /// Whether all of it is met.
    met: Option<bool>,
    /// The same, one by one.
    bounds: Vec<Bound>,
    spread: BTreeMap<&'static str, Spread>,
}

#[derive(Debug, Serialize)]
struct Bound {
    asked: String,
    /// Weft's figure to the peer's, the median of the rounds' ratios; Weft's own where no peer is named.
    seen: Option<Estimate>,
    /// Whether all of what was seen, from least to most, is; null where the peer was not measured.
    met: Option<bool>,
    #[serde(skip)]
    verdict: Option<Verdict>,
}

/// Writes `report.md`, `report.json` and a plot for each measure.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let entries: Vec<Entry<'_>> = results.measures.iter().map(entry).collect();
    let page = page(results, &entries)?;
    fs::write(folder.join("report.md"), &page)?;
    for measure in &results.measures {
        fs::write(folder.join(plot::file_name(&measure.name)), plot::bars(measure))?;
    }
    let bounds: Vec<&Bound> = entries.iter().flat_map(|entry| &entry.bounds).collect();
    let count = |verdict| bounds.iter().filter(|bound| bound.verdict == Some(verdict)).count();
    let (met, near) = (count(Verdict::Met), count(Verdict::TooNear));
    let closing = format!(
        "{met} of {} asked figures are met, {near} are too near their bounds to tell",
        bounds.len()
    );
    let report = Report { repeated: results.repeated, measures: entries };
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{page}\n{closing}; written to {}", folder.display());
    Ok(())
}

fn entry(measure: &Measure) -> Entry<'_> {
    let bounds = asked(&measure.name).into_iter().map(|asked| {
        let seen = asked.seen(measure);
        let verdict = seen.map(|seen| asked.verdict(seen));
        let met = verdict.map(|verdict| verdict == Verdict::Met);
        Bound { asked: asked.text(measure.unit), seen, met, verdict }
    });
    let bounds: Vec<Bound> = bounds.collect();
    let all = Proxy::PROCESSES.into_iter();
    let spread: BTreeMap<&str, Spread> = all
        .filter_map(|proxy| measure.spread(proxy).map(|spread| (proxy.name(), spread)))
        .collect();
    let peers = spread.iter().filter(|(name, _)| **name != Proxy::Weft.name());
    Entry {
        name: &measure.name,
        unit: measure.unit,
        rounds: measure.values.get(&Proxy::Weft).map_or(0, Vec::len),
        weft: measure.typical(Proxy::Weft),
        peers: peers.map(|(name, spread)| (*name, spread.typical)).collect(),
        asked: (!bounds.is_empty()).then(|| {
            let texts: Vec<&str> = bounds.iter().map(|bound| bound.asked.as_str()).collect();
            texts.join("; ")
        }),
        met: (!bounds.is_empty()).then(|| bounds.iter().all(|bound| bound.met == Some(true))),
        bounds,
        spread,
    }
}

fn page(results: &Results, entries: &[Entry<'_>]) -> Result<String> {
    let mut page = String::from("# Weft and its peers on the same work\n\n");
    let Rounds { count, turn } = results.length.rounds;
    writeln!(
        page,
        "Each proxy has one thread and one core, load and backend another one; all are reached\n\
         through a redirect, as a sidecar is. Requests match a header and are split 90/10. Small\n\
         requests of HTTP/1.1 come from the backend's own thread, the others from h2load or wrk\n\
         beside it. The figures are medians of {count} interleaved rounds of {} ms, least and\n\
         greatest in brackets; *Weft to it* is the median of the rounds' ratios, and what is asked is\n\
         asked of these. Of added p99 and p99.9 the rounds' lower quartile is told in place of their\n\
         median: one stall of the machine is a round's slowest hundredth, and most rounds have one. A\n\
         bound is met where all of the range is that 95 of 100 such runs would be in (behind the\n\
         ratio). *Floor* is hyper's server joined to hyper's client, with nothing between them.\n",
        turn.as_millis(),
    )?;
    if results.repeated > 0 {
        writeln!(
            page,
            "{} turns were done again: the machine's host had taken more than 4 % of a CPU from\n\
             them.\n",
            results.repeated
        )?;
    }
    if let Some(Pace { rate, awake }) = results.pace {
        let Rounds { count, turn } = results.length.rounds.paced();
        writeln!(
            page,
            "Latencies are at {rate:.0} requests/s, each at some moment of a slot of its own, of\n\
             {count} rounds of {} ms, less those of the backend itself. {}\n",
            turn.as_millis(),
            if awake {
                "Cores do not halt meanwhile: to wake one of a virtual machine takes its host\n\
                 longer than a proxy takes for a request."
            } else {
                "Cores halted between requests, which adds the same to all: there is no\n\
                 `/dev/cpu_dma_latency` to be written to."
            }
        )?;
    }
    for work in Work::ALL {
        writeln!(page, "- {}: {}", work.title(), work.what())?;
    }
    for (measure, entry) in results.measures.iter().zip(entries) {
        table(&mut page, measure, entry)?;
    }
    Ok(page)
}

fn table(page: &mut String, measure: &Measure, entry: &Entry<'_>) -> Result<()> {
    writeln!(page, "\n## {}\n", measure.name)?;
    writeln!(page, "| proxy | {} | | Weft to it |\n|---|---:|---|---:|", measure.unit)?;
    for proxy in Proxy::PROCESSES {
        let Some(Spread { typical, least, greatest }) = measure.spread(proxy) else { continue };
        let ratio = measure.ratio(proxy).filter(|_| proxy != Proxy::Weft);
        let ratio = ratio
            .map(|Estimate { value, least, most }| format!("{value:.2} ({least:.2} – {most:.2})"));
        let ratio = ratio.unwrap_or_default();
        let (typical, least, greatest) = (figure(typical), figure(least), figure(greatest));
        writeln!(page, "| {} | {typical} | ({least} – {greatest}) | {ratio} |", proxy.name())?;
    }
    if !entry.bounds.is_empty() {
        let bounds = entry.bounds.iter().map(|Bound { asked, verdict, .. }| match verdict {
            Some(Verdict::Met) => format!("{asked}: met"),
            Some(Verdict::Missed) => format!("{asked}: **not met**"),
            Some(Verdict::TooNear) => format!("{asked}: **not for certain**"),
            None => format!("{asked}: not measured"),
        });
        writeln!(page, "\nAsked: {}.", bounds.collect::<Vec<_>>().join("; "))?;
    }
    Ok(())
}
