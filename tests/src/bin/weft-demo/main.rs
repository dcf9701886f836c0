//! `make demo`: the six scenarios on real connections, printed for a person.
//!
//! It lays a [`Lab`], plays every scenario on it and ends with the metrics of what has happened.
//! `--shell` leaves everything up and opens a shell in a client pod instead of ending.

mod paint;
mod shell;
mod table;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use weft_tests::lab::{Lab, tail};
use weft_tests::scenario::{self, Event, LabWorld, Scenario, Stage};

use crate::paint::Painter;

/// Plays the six scenarios through real sidecars in network namespaces.
#[derive(Parser)]
struct Options {
    /// Only these scenarios, by number.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
    /// Set everything up, then open a shell in a client pod.
    #[arg(long)]
    shell: bool,
    /// The namespace whose client pod the shell is opened in.
    #[arg(long, default_value = "default")]
    namespace: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let painter = Painter::for_stdout();
    match run(&options, &painter) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\n{} {error:#}", painter.bad("✗ the demo could not go on:"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every check has passed.
fn run(options: &Options, painter: &Painter) -> Result<bool> {
    let scenarios: Vec<Scenario> = scenario::all()
        .into_iter()
        .filter(|one| options.only.is_empty() || options.only.contains(&one.number))
        .collect();
    let start = Instant::now();
    painter.introduction();
    let lab = Lab::new()?;
    let mut checks = 0;
    let mut audience = |event: Event| {
        checks += usize::from(matches!(event, Event::Counted(_) | Event::Compared(_)));
        painter.event(&event, options.shell);
    };
    let world = LabWorld::new(&lab);
    let mut stage = Stage::new(&world, &mut audience);
    for scenario in &scenarios {
        (scenario.set)(&mut stage)?;
    }
    let (backends, clients) = stage.pods();
    painter.is_laid(backends, clients, start.elapsed());

    for scenario in &scenarios {
        painter.headline(scenario);
        let played = (scenario.play)(&mut stage);
        if played.is_err() || !stage.failures().is_empty() {
            report_failure(painter, &lab, &stage, played);
            return Ok(false);
        }
    }
    painter.section("Metrics of what just happened", "from each sidecar's :15020/metrics");
    let texts = lab.clients().iter().map(|client| client.metrics()).collect::<Result<Vec<_>>>()?;
    print!("{}", table::of_routes(painter, &texts));
    drop(stage);
    painter.success(scenarios.len(), checks, start.elapsed());
    if options.shell {
        shell::open(&lab, painter, &options.namespace)?;
    } else {
        painter.farewell();
    }
    Ok(true)
}

/// Which checks failed, what the error was, and the ends of those proxies' logs.
fn report_failure(painter: &Painter, lab: &Lab, stage: &Stage<'_>, played: Result<()>) {
    eprintln!();
    let mut failures = stage.failures().to_vec();
    failures.extend(played.err().map(|error| format!("{error:#}")));
    for failure in &failures {
        eprintln!("{} {failure}", painter.bad("✗"));
    }
    let clients = lab.clients();
    for client in clients.iter().filter(|one| stage.failed_in().contains(&one.namespace)) {
        eprintln!("\n{} {}", painter.dim("last lines of weft-proxy in"), client.namespace);
        eprintln!("{}", tail(&client.proxy_log(), 15));
    }
}
