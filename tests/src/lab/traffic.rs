//! Requests by real curl processes, many in one, and what came back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::pod::Client;
use super::process::{Output, Process, poll, read_lossy};

/// A request that is sent many times.
#[derive(Clone, Debug)]
pub struct Request {
    /// `http://reviews:9080/`
    pub url: String,
    /// Headers as `name: value`.
    pub headers: Vec<String>,
    /// Connections at a time; with one, all requests share it.
    pub parallel: u16,
}

impl Request {
    /// A GET of this address.
    pub fn get(url: &str) -> Request {
        Request { url: url.to_owned(), headers: Vec::new(), parallel: 1 }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, header: &str) -> Request {
        self.headers.push(header.to_owned());
        self
    }

    /// Over several connections.
    #[must_use]
    pub fn parallel(mut self, connections: u16) -> Request {
        self.parallel = connections;
        self
    }

    /// As a person would type it.
    pub fn words(&self) -> String {
        let headers = self.headers.iter().map(|header| format!("-H '{header}' "));
        format!("curl {}{}", headers.collect::<String>(), self.url)
    }

    /// What curl is told, one process for all: its own globbing makes the URLs. It prints a line for
    /// each answer, to be read by [`Seen::lines`].
    pub fn arguments(&self, count: u32) -> Vec<String> {
        let format = "%{http_code} %header{x-version} %header{x-pod}\\n";
        let mut words: Vec<String> =
            ["-s", "-o", "/dev/null", "--max-time", "20", "-w", format].map(str::to_owned).into();
        for header in &self.headers {
            words.extend(["-H".to_owned(), header.clone()]);
        }
        if self.parallel > 1 {
            let connections = self.parallel.to_string();
            words.extend(["--parallel".into(), "--parallel-max".into(), connections]);
        }
        let separator = if self.url.contains('?') { '&' } else { '?' };
        words.push(format!("{}{separator}n=[1-{count}]", self.url));
        words
    }
}

/// One answer, as far as counting needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The status; 0 when there was no answer.
    pub status: u16,
    /// The version of the workload that answered; empty when the proxy itself did.
    pub version: String,
    /// The pod that answered.
    pub pod: String,
}

impl Seen {
    /// What curl has printed, a line for each answer.
    pub fn lines(text: &str) -> Vec<Seen> {
        text.lines().map(Seen::line).collect()
    }

    fn line(line: &str) -> Seen {
        let mut words = line.split(' ');
        let status = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut word = || words.next().unwrap_or("").to_owned();
        Seen { status, version: word(), pod: word() }
    }

    /// `v2`, or the status when no backend answered with success.
    pub fn label(&self) -> String {
        match self.status {
            200 if !self.version.is_empty() => self.version.clone(),
            0 => "no answer".to_owned(),
            other => other.to_string(),
        }
    }
}

/// How often each label was seen.
pub fn counts(seen: &[Seen]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for one in seen {
        *counts.entry(one.label()).or_default() += 1;
    }
    counts
}

impl Client {
    /// Sends a request `count` times with one curl process and tells every answer.
    pub fn send(&self, request: &Request, count: u32) -> Result<Vec<Seen>> {
        let mut command = self.command("curl");
        command.args(request.arguments(count));
        // curl's status tells of its last request only; every answer is in the output.
        Ok(Seen::lines(&Output::of(command)?.stdout))
    }

    /// Sends a request again and again until the traffic is stopped.
    pub fn start_traffic(&self, request: &Request) -> Result<Traffic> {
        // Line by line: curl would keep answers back that it has seen already.
        let mut command = self.command("stdbuf");
        command.args(["-oL", "curl"]).args(request.arguments(10_000_000));
        let log = self.fresh_log("traffic");
        let process = Process::start("curl", command, &log)?;
        let traffic = Traffic { process, output: log.with_added_extension("out") };
        traffic.wait_for(1).context("the first answer of continuous traffic")?;
        Ok(traffic)
    }
}

/// Requests that go on until they are stopped.
pub struct Traffic {
    process: Process,
    output: PathBuf,
}

impl Traffic {
    /// Waits until so many more answers have come than now.
    pub fn wait_for(&self, more: usize) -> Result<()> {
        let lines = || read_lossy(&self.output).lines().count();
        let wanted = lines() + more;
        let enough = || (lines() >= wanted).then_some(());
        poll(Duration::from_secs(20), enough).context("the continuous requests have stopped")
    }

    /// Stops and tells every answer.
    pub fn stop(mut self) -> Result<Vec<Seen>> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(Duration::from_secs(10))?;
        let text = read_lossy(&self.output);
        // The last line may be cut in the middle.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(Seen::lines(whole))
    }
}
