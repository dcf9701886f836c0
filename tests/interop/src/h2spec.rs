//! h2spec, in strict mode, against the sidecar's HTTP/2.
//!
//! The backend must answer with a body: the cases about flow control wait for DATA.

use std::fs;

use anyhow::{Context, Result, ensure};
use weft_tests::lab::{Lab, Workload};

use crate::Setting;
use crate::table::Row;
use crate::world::service;

/// The cases of the version that programs/go.mod names. A suite that runs fewer proves less.
const CASES: usize = 146;

/// Cases that are known to fail, with the reason.
const KNOWN: [(&str, &str); 1] = [(
    "3.5/2:",
    "the port speaks HTTP/1.1 as well: what is no preface is answered 400 in HTTP/1.1 before the \
     connection is closed, and h2spec expects a close without a word",
)];

pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let program = lab.bring(&setting.programs.join("h2spec"))?;
    let mut rows = Vec::new();
    // The sidecar speaks HTTP/1.1 to the one and HTTP/2 to the other.
    let backends = [("http1-backend", 1, "http"), ("http2-backend", 2, "kubernetes.io/h2c")];
    let mut running = Vec::new();
    for (name, number, app_protocol) in backends {
        lab.apply(&service(name, number, app_protocol, 8080))?;
        running.push(lab.backend(&Workload::new(name, "v1", "default"))?);
    }
    let client = lab.client("default")?;
    for (name, _, _) in backends {
        let output = client.exec(&[&program, "--strict", "--host", name, "--port", "80"])?;
        fs::write(setting.out.join(format!("h2spec-{name}.txt")), &output.stdout)?;
        let result = Outcome::parse(&output.stdout).with_context(|| output.stderr.clone())?;
        rows.push(result.row(name));
        let answered = client.metrics()?.lines().any(|line| {
            line.starts_with("weft_route_requests_total{")
                && line.contains(&format!("parent_name=\"{name}\""))
                && line.contains("status=\"200\"")
        });
        ensure!(answered, "{name} has answered nothing");
    }
    Ok(rows)
}

/// What h2spec's report says.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    tests: usize,
    passed: usize,
    /// `SECTION/NUMBER: DESCRIPTION`
    failed: Vec<String>,
}

impl Outcome {
    /// Reads the report's end: behind `Failures:` the sections as `8.1.2. Title` with failed cases as
    /// `× 1: description`, and `146 tests, 145 passed, 0 skipped, 1 failed`.
    fn parse(report: &str) -> Option<Outcome> {
        let last = report.lines().rev().find(|line| line.contains(" tests, "))?;
        let mut numbers = last.split(", ").map(|part| part.split(' ').next()?.parse().ok());
        let (tests, passed) = (numbers.next()??, numbers.next()??);
        let mut section = "";
        let mut failed = Vec::new();
        for line in report.lines().skip_while(|line| !line.starts_with("Failures:")) {
            let line = line.trim();
            if let Some(case) = line.strip_prefix("× ") {
                failed.push(format!("{section}/{case}"));
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                section = line.split(". ").next().unwrap_or(line);
            }
        }
        Some(Outcome { tests, passed, failed })
    }

    fn row(&self, backend: &str) -> Row {
        let is_known = |case: &String| KNOWN.iter().any(|(known, _)| case.starts_with(known));
        let reason = |case: &String| {
            let known = KNOWN.iter().find(|(known, _)| case.starts_with(known));
            known.map_or("not expected to fail", |(_, reason)| reason)
        };
        Row {
            what: format!("h2spec --strict, {backend}"),
            expected: format!("{} of {CASES} at least", CASES - KNOWN.len()),
            seen: format!("{} of {}", self.passed, self.tests),
            passed: self.tests == CASES
                && self.passed + self.failed.len() == CASES
                && self.failed.iter().all(is_known),
            notes: self.failed.iter().map(|case| format!("{case}: {}", reason(case))).collect(),
        }
    }
}
