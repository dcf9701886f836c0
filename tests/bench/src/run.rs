//! A whole run: everything started, memory, saturation, fixed rate; measured in interleaved rounds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use weft_bench::process::Process;

use crate::check::{self, Counts};
use crate::load;
use crate::measure::{Measure, Work};
use crate::proxy::{self, Proxy};
use crate::world::{self, Awake, Cores};
use crate::{Options, asked};

/// The works take turns too, so often: whatever the machine does for a minute is a part of each.
const PASSES: u32 = 5;

/// How often the proxies have their turns, and how long one is. Many short ones tell more than few long
/// ones of the same time: a shared machine changes its speed within a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) count: u32,
    pub(crate) turn: Duration,
}

/// How many turns at a fixed rate there are in place of one at saturation, and what part of its length each has:
/// of the slowest requests only those turns tell in which the machine did nothing else.
const PACED_TURNS: u32 = 10;
const PACED_PART: u32 = 4;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) rounds: Rounds,
    /// Until then turns that were disturbed are done again.
    patience: Duration,
}

impl Rounds {
    /// Those at a fixed rate.
    pub(crate) fn paced(self) -> Rounds {
        Rounds { count: self.count * PACED_TURNS, turn: self.turn / PACED_PART }
    }

    /// Those of a pass.
    fn of_pass(self, pass: u32) -> Range<u32> {
        self.count * pass / PASSES..self.count * (pass + 1) / PASSES
    }
}

impl Length {
    pub(crate) const FULL: Length = Length::of(45, Duration::from_secs(12 * 60));
    pub(crate) const QUICK: Length = Length::of(7, Duration::from_secs(2 * 60));

    const fn of(count: u32, patience: Duration) -> Length {
        Length { rounds: Rounds { count, turn: Duration::from_millis(250) }, patience }
    }
}

/// What was seen.
pub(crate) struct Results {
    pub(crate) measures: Vec<Measure>,
    pub(crate) length: Length,
    /// Turns that were done again.
    pub(crate) repeated: u32,
    pub(crate) pace: Option<Pace>,
}

/// Of the runs at a fixed rate.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Cores do not halt meanwhile.
    pub(crate) awake: bool,
}

/// How many connections are held open where memory is measured.
const HELD: usize = 1000;

/// Before and after what is measured of a load: connections are made and ended then.
const LEAD: Duration = Duration::from_millis(50);
const TAIL: Duration = Duration::from_millis(50);

/// Seconds of a CPU that may be taken in each second of a turn, of all CPUs together. It is told in ticks,
/// of which a turn has some tens.
const MUCH: f64 = 0.04;

/// What came through a proxy in so many seconds, and what CPU time it took for it.
struct Used {
    requests: u64,
    cpu: f64,
    seconds: f64,
}

struct Bench {
    processes: BTreeMap<Proxy, Process>,
    length: Length,
    only: String,
    start: Instant,
    repeated: Cell<u32>,
    /// In the order in which they were begun.
    measures: Vec<Measure>,
    /// The same for the whole run.
    pace: Option<Pace>,
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
        repeated: Cell::new(0),
        measures: Vec::new(),
        pace: None,
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
    for pass in 0..PASSES {
        bench.say(&format!("pass {} of {PASSES}", pass + 1));
        for work in Work::ALL {
            bench.saturate(work, pass)?;
        }
        bench.paced(pass)?;
    }
    for measure in &mut bench.measures {
        measure.less(Proxy::Direct);
    }
    let Bench { measures, pace, repeated, .. } = bench;
    Ok(Results { measures, length, repeated: repeated.get(), pace })
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

    fn saturate(&mut self, work: Work, pass: u32) -> Result<()> {
        if !self.wants(work.title()) {
            return Ok(());
        }
        let (count, unit) = work.unit();
        let cpu = self.measure(Measure::new(asked::cpu(work), "µs"));
        let rate = self.measure(Measure::new(
            asked::rate(work),
            match unit {
                "MiB" => "MiB/s",
                _ => "1/s",
            },
        ));
        let rounds = self.length.rounds;
        for round in rounds.of_pass(pass) {
            for proxy in in_turn(round) {
                let Some(target) = proxy.target(work) else { continue };
                let used = self
                    .undisturbed(|| self.measured(proxy, work, &target, rounds.turn))
                    .with_context(|| format!("{}, {}", proxy.name(), work.title()))?;
                let done = used.requests as f64 * count;
                let (own_cpu, own_rate) = (used.cpu * 1e6 / done, done / used.seconds);
                self.measures[cpu].add(proxy, own_cpu);
                self.measures[rate].add(proxy, own_rate);
                self.say(&format!(
                    "{:<8} {:<26} {own_cpu:>8.1} µs of CPU per {unit} {own_rate:>9.0} {}",
                    proxy.name(),
                    work.title(),
                    asked::per_second(work),
                ));
            }
        }
        Ok(())
    }

    /// What a proxy adds to the backend's own times at half of what Envoy can take.
    fn paced(&mut self, pass: u32) -> Result<()> {
        if !self.wants(asked::LATENCY[0].2) {
            return Ok(());
        }
        let known = self.pace.map(|pace| pace.rate);
        let rate = known.map_or_else(|| self.half_of_envoy(), Ok)?;
        let rounds = self.length.rounds.paced();
        let measures = asked::LATENCY
            .map(|(_, typical, name)| self.measure(Measure::new(name, "µs").told_by(typical)));
        let direct = Proxy::Direct.target(Work::Http1).context("the backend's address")?;
        let awake = Awake::request();
        if self.pace.is_none()
            && let Err(error) = &awake
        {
            self.say(&format!("cores halt between requests, which is in all times: {error:#}"));
        }
        self.pace = Some(Pace { rate, awake: awake.is_ok() });
        for round in rounds.of_pass(pass) {
            let times = self.undisturbed(|| load::paced::paced(&direct, rate, rounds.turn))?;
            self.note(measures, Proxy::Direct, &times);
            for proxy in in_turn(round) {
                let target = proxy.target(Work::Http1).context("everybody can HTTP/1.1")?;
                let turn = || {
                    let before = Counts::now()?;
                    let times = load::paced::paced(&target, rate, rounds.turn)
                        .with_context(|| format!("{} at {rate:.0}/s", proxy.name()))?;
                    before.check_shares(times.count(), Work::Http1)?;
                    Ok(times)
                };
                let times = self.undisturbed(turn)?;
                self.note(measures, proxy, &times);
            }
        }
        Ok(())
    }

    /// Half of what Envoy can take, in requests a second.
    fn half_of_envoy(&self) -> Result<f64> {
        let title = asked::rate(Work::Http1);
        let known = self.measures.iter().find(|measure| measure.name == title);
        let capacity = match known.and_then(|measure| measure.typical(Proxy::Envoy)) {
            Some(capacity) => capacity,
            None => {
                let target = Proxy::Envoy.target(Work::Http1).context("Envoy's address")?;
                let used =
                    self.measured(Proxy::Envoy, Work::Http1, &target, self.length.rounds.turn)?;
                used.requests as f64 / used.seconds
            }
        };
        Ok(capacity / 2.0)
    }

    /// Where the measure of that name is; `new`, if there is none yet.
    fn measure(&mut self, new: Measure) -> usize {
        let found = self.measures.iter().position(|measure| measure.name == new.name);
        found.unwrap_or_else(|| {
            self.measures.push(new);
            self.measures.len() - 1
        })
    }

    /// Adds a turn's times to the measures of [`asked::LATENCY`].
    fn note(&mut self, measures: [usize; 3], proxy: Proxy, times: &load::paced::Times) {
        let mut line = format!("{:<8} {:<26}", proxy.name(), "at a fixed rate");
        for (measure, (share, _, _)) in measures.into_iter().zip(asked::LATENCY) {
            let time = times.percentile(share);
            self.measures[measure].add(proxy, time);
            line += &format!(" p{} {time:.0} µs", share * 100.0);
        }
        self.say(&line);
    }

    /// What a proxy uses for a turn's length in the midst of a load, which is checked.
    fn measured(&self, proxy: Proxy, work: Work, target: &str, turn: Duration) -> Result<Used> {
        let process = self.processes.get(&proxy).context("it runs")?;
        let before = Counts::now()?;
        let (answers, used) = load::saturate(work, target, LEAD + turn + TAIL, || {
            sleep(LEAD);
            let (start, cpu, counts) = (Instant::now(), process.cpu_seconds()?, Counts::now()?);
            sleep(turn);
            let (seconds, cpu) = (start.elapsed().as_secs_f64(), process.cpu_seconds()? - cpu);
            Ok(Used { requests: counts.since()?, cpu, seconds })
        })?;
        before.check_shares(answers, work)?;
        ensure!(used.requests > 0, "no request reached the backend in {turn:?}");
        Ok(used)
    }

    /// What a turn yields, which is done again where the machine's host has taken much of it for others.
    fn undisturbed<T>(&self, turn: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            let (start, stolen) = (Instant::now(), stolen()?);
            let seen = turn()?;
            let share = (self::stolen()? - stolen) / start.elapsed().as_secs_f64();
            if share <= MUCH || self.start.elapsed() > self.length.patience {
                return Ok(seen);
            }
            self.repeated.set(self.repeated.get() + 1);
        }
    }

    fn say(&self, line: &str) {
        eprintln!("{:>4} s  {line}", self.start.elapsed().as_secs());
    }
}

/// What the machine's host has taken of its CPUs so far, in seconds of a CPU (proc(5), stat: `steal`).
fn stolen() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat.split_whitespace().nth(8).context("no steal in /proc/stat")?;
    let second = sysconf(SysconfVar::CLK_TCK)?.context("no length of a tick")?;
    Ok(ticks.parse::<f64>()? / second as f64)
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
