//! What is sent: each lane is a `weft-client load` with a kind of request of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use weft_tests::lab::{Client, Process, tail};
use weft_tests::load::{Line, Report};

/// How long requests that are under way at the end may take.
const FINISH_LIMIT: Duration = Duration::from_secs(120);

/// A kind of request.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    url: &'static str,
    /// Requests per second.
    pub(crate) rate: f64,
    connections: usize,
    /// Requests at a time on a connection.
    streams: usize,
    /// Whether a pod's death may break a request: its pods are killed, and it is not idempotent or its
    /// answer has begun.
    pub(crate) breaks: bool,
    words: &'static [&'static str],
}

impl Lane {
    /// How many requests are under way at a time, at most.
    pub(crate) fn in_flight(&self) -> usize {
        self.connections * self.streams
    }
}

const ONE: Lane =
    Lane { name: "", url: "", rate: 0.0, connections: 1, streams: 1, breaks: false, words: &[] };

/// All of them. Rates are what two cores bear beside the churn; the paths are those of `weft-echo`.
pub(crate) static LANES: [Lane; 14] = [
    Lane {
        name: "HTTP/1.1, kept alive",
        url: "http://steady/",
        rate: 80.0,
        connections: 4,
        // By turns a route's business, and nobody's.
        words: &["--header", "x-extra: 1"],
        ..ONE
    },
    Lane {
        name: "HTTP/1.1, new connections",
        url: "http://steady/",
        rate: 30.0,
        connections: 2,
        words: &["--reuse", "1"],
        ..ONE
    },
    Lane {
        name: "HTTP/1.1, POST of 64 KiB",
        url: "http://steady/discard",
        rate: 15.0,
        connections: 2,
        words: &["--method", "POST", "--body-bytes", "65536", "--reuse", "50"],
        ..ONE
    },
    Lane {
        name: "HTTP/1.1, answer of 4 MiB",
        url: "http://steady/bytes?n=4194304",
        rate: 2.0,
        connections: 2,
        words: &["--reuse", "20"],
        ..ONE
    },
    Lane {
        name: "HTTP/1.1, 4 MiB both ways",
        url: "http://steady/echo",
        rate: 1.0,
        connections: 1,
        words: &["--method", "POST", "--body-bytes", "4194304"],
        ..ONE
    },
    Lane {
        name: "HTTP/2",
        url: "http://steady:8000/",
        rate: 60.0,
        connections: 2,
        streams: 8,
        words: &["--protocol", "http2", "--reuse", "300"],
        ..ONE
    },
    Lane {
        name: "HTTP/2 to HTTP/1.1, slow answers",
        url: "http://steady/delay?ms=200",
        rate: 10.0,
        connections: 1,
        streams: 8,
        words: &["--protocol", "http2", "--reuse", "100"],
        ..ONE
    },
    Lane {
        name: "gRPC, unary",
        url: "http://steady:7070",
        rate: 50.0,
        connections: 2,
        streams: 8,
        words: &["--protocol", "grpc"],
        ..ONE
    },
    Lane {
        name: "gRPC, streams of 20 messages",
        url: "http://steady:7070",
        rate: 10.0,
        connections: 2,
        streams: 4,
        words: &["--protocol", "grpc-stream", "--messages", "20", "--body-bytes", "2000"],
        ..ONE
    },
    Lane {
        name: "TCP, 8 KiB",
        url: "http://steady:7",
        rate: 20.0,
        connections: 4,
        words: &["--protocol", "tcp", "--body-bytes", "8192"],
        ..ONE
    },
    Lane {
        name: "TCP, 4 MiB",
        url: "http://steady:7",
        rate: 1.0,
        connections: 2,
        words: &["--protocol", "tcp", "--body-bytes", "4194304"],
        ..ONE
    },
    Lane {
        name: "killed pods: GET",
        url: "http://fragile/delay?ms=20",
        rate: 60.0,
        connections: 8,
        ..ONE
    },
    Lane {
        name: "killed pods: POST",
        url: "http://fragile/delay?ms=100",
        rate: 20.0,
        connections: 8,
        breaks: true,
        words: &["--method", "POST", "--body-bytes", "2000"],
        ..ONE
    },
    Lane {
        name: "killed pods: gRPC streams",
        url: "http://fragile:7070",
        rate: 10.0,
        connections: 1,
        streams: 8,
        breaks: true,
        words: &["--protocol", "grpc-stream", "--messages", "200", "--body-bytes", "2000"],
    },
];

/// The lanes at work.
pub(crate) struct Traffic(Vec<(&'static Lane, Process)>);

/// What became of a lane's requests.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) lane: &'static Lane,
    pub(crate) report: Report,
}

impl Traffic {
    pub(crate) fn start(client: &Client) -> Result<Traffic> {
        let start = |lane: &'static Lane| {
            let mut words = vec!["load".to_owned()];
            for (option, value) in [
                ("--rate", lane.rate.to_string()),
                ("--connections", lane.connections.to_string()),
                ("--streams", lane.streams.to_string()),
                // None is left out of the verdict.
                ("--failures", "10000".to_owned()),
                ("--report-seconds", "5".to_owned()),
                // What hangs is to be seen, and not what a busy machine leaves waiting.
                ("--timeout-ms", "90000".to_owned()),
            ] {
                words.extend([option.to_owned(), value]);
            }
            words.extend(lane.words.iter().map(|word| (*word).to_owned()));
            words.push(lane.url.to_owned());
            Ok((lane, client.start_program("weft-client", &words)?))
        };
        Ok(Traffic(LANES.iter().map(start).collect::<Result<_>>()?))
    }

    /// What the lanes have told so far.
    pub(crate) fn seen(&self) -> Vec<Outcome> {
        let seen = |(lane, process): &(&'static Lane, Process)| Outcome {
            lane,
            report: last_report(process).unwrap_or_default(),
        };
        self.0.iter().map(seen).collect()
    }

    /// Begins no more requests, and waits for those that are under way.
    pub(crate) fn stop(self) -> Result<Vec<Outcome>> {
        for (lane, process) in &self.0 {
            process.signal(Signal::SIGTERM).with_context(|| format!("the lane {}", lane.name))?;
        }
        let stop = |(lane, mut process): (&'static Lane, Process)| {
            let status = process.wait(FINISH_LIMIT)?;
            let report = last_report(&process).filter(|report| report.finished);
            ensure!(status.success(), "{}: {status}: {}", lane.name, tail(&process.stderr(), 5));
            let report = report.with_context(|| format!("{} has not told its end", lane.name))?;
            Ok(Outcome { lane, report })
        };
        self.0.into_iter().map(stop).collect()
    }
}

/// The last whole line: each report has everything since the beginning.
fn last_report(process: &Process) -> Option<Report> {
    let text = process.stdout();
    let whole = &text[..text.rfind('\n')?];
    match serde_json::from_str(whole.lines().next_back()?) {
        Ok(Line::Report(report)) => Some(report),
        _ => None,
    }
}
