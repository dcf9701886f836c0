//! `make soak`: mixed traffic through one real sidecar while everything around it changes, for minutes
//! or hours.
//!
//! [`lanes`] is what is sent, [`churn`] what changes meanwhile. [`sample`] is looked at all the time,
//! [`verdict`] says at the end what of it may not be, and [`report`] writes it down. The exit status is
//! 0 only where every criterion is met. Nothing outlives the program: all of it runs in a [`Lab`].

mod churn;
mod lanes;
mod report;
mod sample;
mod verdict;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::sys::signal::Signal;
use weft_tests::lab::{Client, Lab, poll, tail};

use crate::churn::Churn;
use crate::lanes::Traffic;
use crate::sample::Sample;
use crate::verdict::Run;
use crate::world::Pods;

/// How often the sidecar is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// How often a line tells how it goes.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the sidecar may take to close what traffic has left: its pools, and with them the rest.
const CALM_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end: nothing is under way then.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Mixed traffic through a real sidecar amid churn: no request may fail that nothing provoked, and
/// nothing may grow.
#[derive(Parser)]
struct Options {
    /// How long the traffic goes on.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The folder for report.md and report.json.
    #[arg(long, default_value = "target/soak")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the soak could not go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every criterion is met.
fn run(options: &Options) -> Result<bool> {
    ensure!(options.minutes >= 0.5, "--minutes: half a minute at least");
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let lab = Lab::new()?;
    let (mut pods, client) = world::lay(&lab)?;
    println!("a sidecar with {} pods behind it, for {} minutes", pods.len(), options.minutes);
    let begun = Instant::now();
    let idle = Sample::take(&client, begun)?;
    let churn = Churn::default();
    let (samples, lanes) = std::thread::scope(|scope| {
        let soaked = soak(scope, &lab, &client, &mut pods, &churn, begun, length);
        // Also where something has failed: the scope waits for the threads.
        churn.stop();
        soaked
    })?;
    println!("the traffic has ended: waiting until the sidecar is as idle as before");
    let calm = poll(CALM_LIMIT, || {
        let calm = Sample::take(&client, begun).ok()?;
        calm.is_as_calm_as(&idle).then_some(calm)
    });
    let calm = calm.map_or_else(|| Sample::take(&client, begun), Ok)?;
    let status = client.with_proxy(|proxy| proxy.exit_status())?;
    let ended = client.with_proxy(|proxy| {
        if status.is_none() {
            proxy.signal(Signal::SIGTERM)?;
        }
        Ok(proxy.wait(END_LIMIT).ok())
    })?;
    let run = Run {
        idle,
        samples,
        calm,
        lanes,
        churn: churn.done(),
        log: client.proxy_log(),
        status,
        ended,
    };
    let criteria = run.judge();
    let text = report::write(&options.out, &run, &criteria)?;
    println!("\n{text}");
    Ok(criteria.iter().all(|criterion| criterion.met))
}

/// Sends and churns until the time is over; returns what was looked at, and what became of each lane.
fn soak<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lab: &'scope Lab,
    client: &'scope Client,
    pods: &'scope mut Pods,
    churn: &'scope Churn,
    begun: Instant,
    length: Duration,
) -> Result<(Vec<Sample>, Vec<lanes::Outcome>)> {
    let traffic = Traffic::start(client)?;
    let threads = [
        scope.spawn(move || churn::endpoints(lab, pods, churn)),
        scope.spawn(move || churn::routes(lab, client, churn)),
    ];
    let mut samples = Vec::new();
    let mut told = Duration::ZERO;
    while begun.elapsed() < length && !threads.iter().any(|thread| thread.is_finished()) {
        std::thread::sleep(SAMPLE_EVERY);
        let sample = Sample::take(client, begun).with_context(|| {
            format!("the sidecar's last words:\n{}", tail(&client.proxy_log(), 20))
        })?;
        if begun.elapsed() >= told + TELL_EVERY {
            told = begun.elapsed();
            println!("{}", report::progress(&sample, length, &traffic.seen(), &churn.done()));
        }
        samples.push(sample);
    }
    churn.stop();
    for thread in threads {
        let ended = thread.join();
        ended.map_err(|_panic| anyhow::anyhow!("the churn has panicked"))?.context("the churn")?;
    }
    Ok((samples, traffic.stop()?))
}
