//! A whole run: everything started, memory, saturation, fixed rate; measured in interleaved rounds.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weft_bench::process::Process;

use crate::check::{self, Counts};
use crate::load::{self, Load};
use crate::measure::{Measure, Work};
use crate::proxy::{self, Proxy};
use crate::world::{self, Cores};
use crate::{Options, asked};

/// How many rounds, and how long one run of one proxy is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
}

impl Length {
    pub(crate) const FULL: Length = Length { rounds: 11, seconds: 1 };
    pub(crate) const QUICK: Length = Length { rounds: 2, seconds: 1 };
}

/// What was seen.
pub(crate) struct Results {
    pub(crate) measures: Vec<Measure>,
    pub(crate) length: Length,
    /// Requests a second of the runs at a fixed rate.
    pub(crate) rate: Option<f64>,
}

/// How many connections are held open where memory is measured.
const HELD: usize = 1000;

struct Bench {
    processes: BTreeMap<Proxy, Process>,
    length: Length,
    only: String,
    start: Instant,
    measures: Vec<Measure>,
}

/// Runs everything.
pub(crate) fn run(options: &Options, cores: Cores, length: Length) -> Result<Results> {
    raise_open_files()?;
    proxy::prepare_weft(options)?;
    world::redirect(&Proxy::PROCESSES)?;
    let _backend = proxy::start_backend(options)?;
    let mut bench = Bench {
        processes: BTreeMap::new(),
        length,
        only: options.only.clone(),
        start: Instant::now(),
        measures: Vec::new(),
    };
    for proxy in Proxy::PROCESSES {
        bench.processes.insert(proxy, proxy.start(options, cores)?);
    }
    bench.memory()?;
    for proxy in Proxy::PROCESSES {
        for work in Work::ALL {
            check::probe(proxy, work)
                .with_context(|| format!("{}, {}", proxy.name(), work.title()))?;
        }
    }
    bench.say("all proxies answer as they should");
    for work in Work::ALL {
        bench.saturate(work)?;
    }
    let rate = bench.paced()?;
    Ok(Results { measures: bench.measures, length, rate })
}

impl Bench {
    fn wants(&self, title: &str) -> bool {
        title.to_lowercase().contains(&self.only.to_lowercase())
    }

    /// Memory as it is after the start, and with connections that have had one request each.
    fn memory(&mut self) -> Result<()> {
        if !self.wants(asked::MEMORY_HELD) && !self.wants(asked::MEMORY_IDLE) {
            return Ok(());
        }
        let mut idle = Measure::new(asked::MEMORY_IDLE, "MiB");
        let mut held = Measure::new(asked::MEMORY_HELD, "MiB");
        for (&proxy, process) in &self.processes {
            let target = proxy.target(Work::Http1).context("everybody can HTTP/1.1")?;
            idle.add(proxy, process.resident_mib()?);
            let clients = load::hold::hold(&target, HELD)
                .with_context(|| format!("{HELD} connections to {}", proxy.name()))?;
            held.add(proxy, process.resident_mib()?);
            drop(clients);
            self.say(&format!("{:<8} memory", proxy.name()));
        }
        self.measures.extend([idle, held]);
        Ok(())
    }

    fn saturate(&mut self, work: Work) -> Result<()> {
        if !self.wants(work.title()) {
            return Ok(());
        }
        let (count, unit) = work.unit();
        let mut cpu = Measure::new(asked::cpu(work), "µs");
        let mut rate = Measure::new(
            asked::rate(work),
            match unit {
                "MiB" => "MiB/s",
                _ => "1/s",
            },
        );
        for round in 0..self.length.rounds {
            for proxy in in_turn(round) {
                let Some(target) = proxy.target(work) else { continue };
                let seconds = self.length.seconds;
                let (load, used) = self
                    .measured(proxy, work, || load::saturate(work, &target, seconds))
                    .with_context(|| format!("{}, {}", proxy.name(), work.title()))?;
                let done = load.answers as f64 * count;
                let (own_cpu, own_rate) = (used * 1e6 / done, done / load.seconds);
                cpu.add(proxy, own_cpu);
                rate.add(proxy, own_rate);
                self.say(&format!(
                    "{:<8} {:<26} {own_cpu:>8.1} µs of CPU per {unit} {own_rate:>9.0} {}",
                    proxy.name(),
                    work.title(),
                    asked::per_second(work),
                ));
            }
        }
        self.measures.extend([cpu, rate]);
        Ok(())
    }

    /// What a proxy adds to the backend's own times at half of what Envoy can take; returns the rate.
    fn paced(&mut self) -> Result<Option<f64>> {
        if !self.wants(asked::LATENCY[0].1) {
            return Ok(None);
        }
        let title = asked::rate(Work::Http1);
        let known = self.measures.iter().find(|measure| measure.name == title);
        let rate = match known.and_then(|measure| measure.median(Proxy::Envoy)) {
            Some(capacity) => capacity / 2.0,
            None => {
                let target = Proxy::Envoy.target(Work::Http1).context("Envoy's address")?;
                let load = load::saturate(Work::Http1, &target, self.length.seconds)?;
                load.answers as f64 / load.seconds / 2.0
            }
        };
        let length = Duration::from_secs(u64::from(self.length.seconds));
        let mut measures = asked::LATENCY.map(|(_, name)| Measure::new(name, "µs"));
        for round in 0..self.length.rounds {
            let direct = Proxy::Direct.target(Work::Http1).context("the backend's address")?;
            let direct = load::paced::paced(&direct, rate, length)?;
            for proxy in in_turn(round) {
                let target = proxy.target(Work::Http1).context("everybody can HTTP/1.1")?;
                let before = Counts::now()?;
                let times = load::paced::paced(&target, rate, length)
                    .with_context(|| format!("{} at {rate:.0}/s", proxy.name()))?;
                before.check_shares(times.count(), Work::Http1)?;
                let mut line = format!("{:<8} {:<26}", proxy.name(), "at a fixed rate");
                for (measure, (share, _)) in measures.iter_mut().zip(asked::LATENCY) {
                    let added = times.percentile(share) - direct.percentile(share);
                    measure.add(proxy, added);
                    line += &format!(" p{} +{added:.0} µs", share * 100.0);
                }
                self.say(&line);
            }
        }
        self.measures.extend(measures);
        Ok(Some(rate))
    }

    /// A load, with what the proxy used of CPUs meanwhile in seconds, checked.
    fn measured(
        &self,
        proxy: Proxy,
        work: Work,
        load: impl FnOnce() -> Result<Load>,
    ) -> Result<(Load, f64)> {
        let process = self.processes.get(&proxy).context("it runs")?;
        let counts = Counts::now()?;
        let before = process.cpu_seconds()?;
        let load = load()?;
        // What is still on its way belongs to the load.
        sleep(Duration::from_millis(20));
        let used = process.cpu_seconds()? - before;
        counts.check_shares(load.answers, work)?;
        Ok((load, used))
    }

    fn say(&self, line: &str) {
        eprintln!("{:>4} s  {line}", self.start.elapsed().as_secs());
    }
}

/// All proxies; each round begins with another one.
fn in_turn(round: u32) -> impl Iterator<Item = Proxy> {
    let all = Proxy::PROCESSES;
    (0..all.len()).map(move |index| all[(index + round as usize) % all.len()])
}

/// The load's connections, those of the proxies and the backend's.
fn raise_open_files() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit of open files")
}
