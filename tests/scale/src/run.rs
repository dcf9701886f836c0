//! A whole run: the cluster, a sidecar that uses 5 Services, one that uses 10, the controller.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::net::TcpStream;

use crate::Options;
use crate::cluster::Cluster;
use crate::controller;
use crate::edit::{self, PUBLISHES, Times};
use crate::objects;
use crate::report::Report;
use crate::sidecar::{Client, Sidecar};

/// What is asked of a sidecar that uses 5 Services.
const MEMORY_MIB: f64 = 16.0;
const EFFECT_MS: f64 = 50.0;

/// Between the last work and a look at memory: the allocator gives back what it has freed, and the
/// sidecar has nothing to do.
const REST: Duration = Duration::from_secs(2);

/// How much of everything.
struct Size {
    services: usize,
    edits: usize,
    /// Edits of what the pod does not use.
    unrelated: usize,
}

const FULL: Size = Size { services: 10_000, edits: 60, unrelated: 1_000 };
const QUICK: Size = Size { services: 1_000, edits: 20, unrelated: 100 };

struct Run {
    size: Size,
    cluster: Cluster,
    report: Report,
    clock: Clock,
}

/// Says what is done, and when.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    said: Instant,
}

/// Runs everything.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let size = if options.quick { QUICK } else { FULL };
    let mut clock = Clock { start: Instant::now(), said: Instant::now() };
    let cluster = Cluster::start(options).await?;
    clock.say("etcd and kube-apiserver are up, with the Gateway API's kinds");
    let endpoints = (0..size.services).map(objects::endpoints).sum();
    let begun = Instant::now();
    let written = cluster
        .create_all(objects::all(size.services), move |count| {
            clock.at_times(|| format!("{count} objects are written"));
        })
        .await?;
    clock.say(&format!(
        "{} Services, {} routes, {endpoints} endpoints: {written} objects in {:.0} s",
        size.services,
        size.services,
        begun.elapsed().as_secs_f64()
    ));
    let report = Report::new(size.services, size.services, endpoints);
    let mut run = Run { size, cluster, report, clock };
    run.sidecar(5, true).await?;
    let sidecar = run.sidecar(10, false).await?;
    run.controller(options, &sidecar).await?;
    Ok(run.report)
}

impl Run {
    /// A sidecar that uses so many Services.
    async fn sidecar(&mut self, services: usize, is_asked: bool) -> Result<Sidecar> {
        let used = format!("{services} Services used");
        let before = self.cluster.watches().await?;
        let sidecar = Sidecar::start(&self.cluster).await?;
        tokio::time::sleep(REST).await;
        self.memory(&sidecar, format!("{used}: memory before the first look-up"), false)?;

        let mut firsts = Vec::new();
        for index in 0..services {
            let number = objects::used(index);
            let begun = Instant::now();
            let headers = Client::to_service(number).await?.ask(number).await?;
            firsts.push(begun.elapsed().as_secs_f64());
            ensure!(headers.contains_key(objects::EDIT), "the route of Service {number}");
        }
        tokio::time::sleep(REST).await;
        self.memory(&sidecar, format!("{used}: memory after the first look-ups"), is_asked)?;
        let watches = self.cluster.watches().await?.saturating_sub(before);
        let connections = sidecar.connections()?;
        self.report.add(format!("{used}: watches"), "", watches as f64);
        self.report.add(format!("{used}: connections to the API server"), "", connections as f64);
        self.times(&format!("{used}: first request to a Service"), &firsts, None);
        self.clock.say(&format!("{used}: {watches} watches"));

        self.edits(&sidecar, &used, is_asked).await?;
        self.memory(&sidecar, format!("{used}: memory after these edits"), is_asked)?;
        self.unrelated(&sidecar, &used).await?;
        self.memory(&sidecar, format!("{used}: memory after unrelated edits"), is_asked)?;
        self.nobody_s_address(&sidecar, &used).await?;
        self.memory(&sidecar, format!("{used}: memory after an unknown address"), is_asked)?;
        let peak = sidecar.peak_mib()?;
        self.report.add(format!("{used}: the most memory at any time"), "MiB", peak);
        self.clock.say(&format!("{used}: at most {peak:.1} MiB"));
        Ok(sidecar)
    }

    async fn edits(&mut self, sidecar: &Sidecar, used: &str, is_asked: bool) -> Result<()> {
        let (cluster, edits) = (&self.cluster, self.size.edits);
        let routes = edit::routes(cluster, sidecar, objects::used(0), edits).await?;
        let endpoints = edit::endpoints(cluster, sidecar, objects::used(1), edits).await?;
        let many = edit::many_endpoints(cluster, sidecar, objects::used(0), edits).await?;
        tokio::time::sleep(REST).await;
        let bound = is_asked.then_some(EFFECT_MS);
        let all = [
            ("a route's edit to its effect", routes, bound),
            ("an endpoint's edit to its effect", endpoints, bound),
            ("an edit of one of 1,000 endpoints to a new table", many, bound),
        ];
        for (what, Times { effect, heard, applied }, bound) in all {
            self.times(&format!("{used}: {what}"), &effect, bound);
            if !heard.is_empty() {
                self.times(
                    &format!("{used}: {what}, of that until a plain watch hears"),
                    &heard,
                    None,
                );
            }
            self.times(
                &format!("{used}: {what}, of that to make and publish the table"),
                &applied,
                None,
            );
        }
        Ok(())
    }

    /// Edits of what the pod does not use: half elsewhere, half in the namespaces of its Services.
    async fn unrelated(&mut self, sidecar: &Sidecar, used: &str) -> Result<()> {
        let count = self.size.unrelated;
        let half = self.size.services / objects::IN_NAMESPACE / 2;
        let round = if used.starts_with('5') { "a" } else { "b" };
        let edits = (0..count).map(move |edit| {
            let index = edit / 2;
            let number = match edit % 2 {
                // Neither of the used ones nor of their neighbours, in any namespace.
                0 => index % 5 * objects::IN_NAMESPACE + 60 + index / 5 % 40,
                _ => (half + index / 8 % half) * objects::IN_NAMESPACE + 92 + index % 8,
            };
            let label = json!({"metadata": {"labels": {"edited": format!("{round}-{edit}")}}});
            match edit / 2 % 3 {
                0 => objects::route_edit(number, &format!("unrelated-{round}-{edit}")),
                1 => (objects::path(&objects::service(number)), label),
                _ => (objects::path(&objects::slice(number, 0)), label),
            }
        });
        let (cpu, publishes) = (sidecar.cpu_seconds()?, sidecar.metric(PUBLISHES).await?);
        self.cluster.edit_all(edits).await?;
        tokio::time::sleep(REST).await;
        let cpu = sidecar.cpu_seconds()? - cpu;
        let publishes = sidecar.metric(PUBLISHES).await? - publishes;
        self.report.add(format!("{used}: CPU for {count} unrelated edits"), "ms", cpu * 1e3);
        self.report.add(format!("{used}: tables published for them"), "", publishes);
        self.clock.say(&format!("{used}: {count} unrelated edits"));
        Ok(())
    }

    /// A connection to an address of the Services' range that no Service has.
    async fn nobody_s_address(&mut self, sidecar: &Sidecar, used: &str) -> Result<()> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(("10.96.255.1", 80)).await?;
        // Nobody is there: it ends as soon as the sidecar passes it on.
        let (limit, mut byte) = (Duration::from_secs(20), [0]);
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut byte);
        let _: Result<usize, std::io::Error> =
            tokio::time::timeout(limit, read).await.context("an unknown address")?;
        let name = format!("{used}: an address that is no Service's is passed on");
        self.report.add(name, "ms", begun.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(REST).await;
        sidecar.metric(PUBLISHES).await.map(drop)
    }

    /// All routes get their status, while the sidecar watches some of them.
    async fn controller(&mut self, options: &Options, sidecar: &Sidecar) -> Result<()> {
        let (routes, mut clock) = (self.size.services, self.clock);
        let seen = controller::write_status(options, &self.cluster, routes, move |count| {
            clock.at_times(|| format!("controller: {count} routes have a status"));
        })
        .await?;
        let name = |what: &str| format!("controller: {what}");
        let written = seen.written;
        let what = format!("from its start to {written} routes' status");
        self.report.add(name(&what), "s", seen.seconds);
        self.report.add(name("CPU for that"), "s", seen.cpu_seconds);
        self.report.add(name("memory"), "MiB", seen.resident_mib);
        self.report.add(name("the most memory at any time"), "MiB", seen.peak_mib);
        self.clock.say(&format!("controller: {written} have a status after {:.1} s", seen.seconds));
        self.memory(sidecar, "10 Services used: memory after all routes' status".to_owned(), false)
    }

    fn memory(&mut self, sidecar: &Sidecar, name: String, is_asked: bool) -> Result<()> {
        let (resident, private) = (sidecar.resident_mib()?, sidecar.private_mib()?);
        self.clock.say(&format!("{name}: {resident:.1} MiB, {private:.1} without the program"));
        let without = format!("{name}, without the program's own pages");
        match is_asked {
            true => self.report.asked(name, "MiB", resident, MEMORY_MIB),
            false => self.report.add(name, "MiB", resident),
        }
        self.report.add(without, "MiB", private);
        Ok(())
    }

    /// Half of the times and nearly all of them, in ms.
    fn times(&mut self, name: &str, seconds: &[f64], bound: Option<f64>) {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(index.saturating_sub(1)).copied().unwrap_or_default() * 1e3
        };
        let (half, most) = (at(0.5), at(0.99));
        self.clock.say(&format!("{name}: p50 {half:.2} ms, p99 {most:.2} ms"));
        self.report.add(format!("{name}, p50"), "ms", half);
        let name = format!("{name}, p99");
        match bound {
            Some(bound) => self.report.asked(name, "ms", most, bound),
            None => self.report.add(name, "ms", most),
        }
    }
}

impl Clock {
    fn say(&mut self, line: &str) {
        self.said = Instant::now();
        eprintln!("{:>4} s  {line}", self.start.elapsed().as_secs());
    }

    /// Says something every few seconds.
    fn at_times(&mut self, line: impl FnOnce() -> String) {
        if self.said.elapsed() > Duration::from_secs(5) {
            self.say(&line());
        }
    }
}
