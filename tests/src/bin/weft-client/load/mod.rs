//! Requests at a constant rate until a time is over or the process is told to end: nothing that
//! goes wrong is missed, and a slow answer does not lower the rate.
//!
//! Each request has a moment at which it is due, whether or not the one before has been answered. Every
//! lane sends one request at a time; the next free lane takes the next moment. Where all are busy the
//! requests wait, which counts in their latency.

mod lane;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use http::{Method, Uri};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use weft_tests::load::{Change, Failure, Latency, Line, Report};

use self::lane::{Answer, Lane};
use crate::header;

/// How long names are waited for before the first request: a cluster's DNS may know a new Service late, or have
/// lost its own sight of the API server, and neither is what is measured.
const NAME_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    /// `http://host:port/path`; several get the same share each.
    #[arg(required = true)]
    urls: Vec<Uri>,
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Requests per second, in all.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long; without it until SIGTERM.
    #[arg(long)]
    seconds: Option<f64>,
    /// Connections to each URL.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests at a time on a connection of HTTP/2 or gRPC.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// After so many requests a connection of HTTP/1 or HTTP/2 is given up for a new one.
    #[arg(long, default_value_t = u64::MAX)]
    reuse: u64,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Bytes of each request's body; of a gRPC message's text; of what a TCP connection sends.
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// An answer that takes longer, with its body, is an error.
    #[arg(long, default_value_t = 30_000)]
    timeout_ms: u64,
    /// Messages of each gRPC stream.
    #[arg(long, default_value_t = 3)]
    messages: usize,
    /// So many failures are told in full.
    #[arg(long, default_value_t = 100)]
    failures: usize,
    /// How often what was seen is told.
    #[arg(long, default_value_t = 1.0)]
    report_seconds: f64,
    /// Headers as `name: value`.
    #[arg(long = "header", short = 'H', value_parser = header)]
    headers: Vec<(String, String)>,
    /// Each request has this header, with the moment at which it is sent, in microseconds since 1970,
    /// and a number of its own: `1700000000000000-42`.
    #[arg(long)]
    mark: Option<String>,
    /// Tells when the value of this response header changes.
    #[arg(long)]
    watch_header: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Http1,
    /// With prior knowledge.
    Http2,
    /// Unary calls.
    Grpc,
    /// Streams both ways, each message echoed.
    GrpcStream,
    /// A connection for each request, whose bytes are echoed.
    Tcp,
}

/// What all lanes share.
struct Load {
    options: Options,
    began: Instant,
    marked: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    report: Report,
    /// In microseconds.
    latencies: Vec<u32>,
    watched: Option<String>,
}

/// A URL, and how many of its requests have found a lane.
struct Target {
    url: Uri,
    taken: AtomicU64,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    ensure!(options.rate > 0.0, "--rate must be more than 0");
    ensure!(options.report_seconds > 0.0, "--report-seconds must be more than 0");
    let streams = match options.protocol {
        Protocol::Http1 | Protocol::Tcp => 1,
        Protocol::Http2 | Protocol::Grpc | Protocol::GrpcStream => options.streams.max(1),
    };
    let targets: Vec<_> = options
        .urls
        .iter()
        .map(|url| Arc::new(Target { url: url.clone(), taken: AtomicU64::new(0) }))
        .collect();
    for target in &targets {
        // Where it does not come, the requests tell.
        let _ = timeout(NAME_LIMIT, lane::named(&target.url)).await;
    }
    let load = Arc::new(Load {
        options,
        began: Instant::now(),
        marked: AtomicU64::new(0),
        seen: Mutex::default(),
    });
    let (end, ended) = watch::channel(false);
    let mut lanes = JoinSet::new();
    for target in &targets {
        for _ in 0..load.options.connections.max(1) {
            for lane in Lane::of_connection(&load, target, streams)? {
                lanes.spawn(drive(load.clone(), target.clone(), lane, ended.clone()));
            }
        }
    }
    tokio::spawn(tell_end(end, load.options.seconds));
    let report_every = Duration::from_secs_f64(load.options.report_seconds);
    let mut report_due = tokio::time::interval(report_every);
    loop {
        tokio::select! {
            lane = lanes.join_next() => match lane {
                Some(ended) => ended?,
                None => break,
            },
            _ = report_due.tick() => load.print_report(false)?,
        }
    }
    load.print_report(true)
}

/// Says when no more requests are to begin.
async fn tell_end(end: watch::Sender<bool>, seconds: Option<f64>) {
    let over = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let told = async {
        // Without a handler the default holds: the process just ends.
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            terminate.recv().await;
        }
    };
    tokio::select! {
        () = over => {}
        () = told => {}
    }
    end.send_replace(true);
}

/// Sends the requests that fall to this lane, one after the other.
async fn drive(
    load: Arc<Load>,
    target: Arc<Target>,
    mut lane: Lane,
    mut ended: watch::Receiver<bool>,
) {
    let rate = load.options.rate / load.options.urls.len() as f64;
    loop {
        let number = target.taken.fetch_add(1, Ordering::Relaxed);
        let due = load.began + Duration::from_secs_f64(number as f64 / rate);
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return,
            () = tokio::time::sleep_until(due) => {}
        }
        let earlier = lane.earlier();
        let answer = lane.send().await;
        load.note(&target.url, earlier, due.elapsed(), answer);
    }
}

impl Load {
    /// The headers of the next request.
    fn headers(&self) -> impl Iterator<Item = (&str, String)> {
        let given = self.options.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let mark = self.options.mark.as_deref().map(|name| {
            let number = self.marked.fetch_add(1, Ordering::Relaxed);
            (name, format!("{:.0}-{number}", now() * 1e6))
        });
        given.chain(mark)
    }

    fn note(&self, url: &Uri, earlier: u64, took: Duration, answer: Result<Answer, String>) {
        let at = now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { report, latencies, watched } = &mut *seen;
        report.done += 1;
        latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        let what = match answer {
            Ok(answer) => {
                count(&mut report.statuses, answer.status);
                count(&mut report.pods, answer.pod);
                count(&mut report.versions, answer.version);
                if self.options.watch_header.is_some() && watched.as_ref() != Some(&answer.watched)
                {
                    print(&Line::Change(Change { at, value: answer.watched.clone() }));
                    *watched = Some(answer.watched);
                }
                match answer.failure {
                    Some(what) => what,
                    None => return,
                }
            }
            Err(what) => {
                count(&mut report.errors, what.clone());
                what
            }
        };
        report.failed += 1;
        report.last_failed = at;
        if report.failures.len() < self.options.failures {
            report.failures.push(Failure { at, url: url.to_string(), earlier, what });
        }
    }

    fn print_report(&self, finished: bool) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let report = Report {
            at: now(),
            latency: latency(&mut seen.latencies),
            finished,
            ..seen.report.clone()
        };
        drop(seen);
        print(&Line::Report(report));
        Ok(std::io::stdout().flush()?)
    }
}

fn latency(microseconds: &mut [u32]) -> Latency {
    microseconds.sort_unstable();
    let at = |quantile: f64| {
        let index = (microseconds.len() as f64 * quantile) as usize;
        let last = microseconds.len().checked_sub(1)?;
        Some(f64::from(microseconds[index.min(last)]) / 1e3)
    };
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| at(quantile).unwrap_or_default());
    Latency { p50, p99, max }
}

/// An empty name is not worth a line.
fn count(map: &mut BTreeMap<String, u64>, name: String) {
    if !name.is_empty() {
        *map.entry(name).or_default() += 1;
    }
}

fn print(line: &Line) {
    match serde_json::to_string(line) {
        // Standard output is flushed at the end of every line.
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{error}"),
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
