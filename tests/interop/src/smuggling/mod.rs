//! Requests that two parties could read differently: a corpus of our own, sent through the sidecar to
//! servers that parse HTTP each in its own way.
//!
//! For each payload the sidecar either answers by itself, and the server reads nothing, or the server
//! reads exactly one request, the same one as the reference [`strict`] has read. Behind each payload a
//! marker is sent on the client's connection, and then a last request that reaches the server on the
//! connection which the payload has used: whoever has read too much or too little loses one of them.

mod frames;
mod judge;
mod payload;
pub(crate) mod replay;
mod servers;
pub(crate) mod strict;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{Backend, Client, ClientOptions, Lab, Output, poll};

use crate::Setting;
use crate::table::Row;
use crate::world::service;
use judge::{Reading, Verdict};
use payload::Payload;
use replay::Exchange;
use servers::{SERVERS, Server};

/// As many as there are to be at least.
const PAYLOADS: usize = 100;

/// A replay of the whole corpus takes a few seconds, but for payloads that wait for a deadline.
const REPLAY_SECONDS: &str = "240";

pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let folder = weft_tests::checkout()?.join("tests/interop/corpus");
    let payloads = Payload::read_all(&folder)?;
    ensure!(payloads.len() >= PAYLOADS, "{} payloads only", payloads.len());
    let lab = Lab::new()?;
    let corpus = lab.bring(&folder)?;
    let own = lab.bring(&std::env::current_exe()?)?;
    for (number, server) in (1..).zip(&SERVERS) {
        lab.apply(&service(server.name, number, "http", server.port))?;
    }
    // One worker has one pool of connections: the last request of a payload gets the one it has used.
    let client = lab.client_with("default", &ClientOptions::proxy(&["--workers", "1"]))?;
    let replay = Replay { client: &client, corpus: &corpus, own: &own };
    let mut reference = BTreeMap::new();
    let (mut rows, mut report) = (Vec::new(), String::new());
    for server in &SERVERS {
        let backend = server.start(&lab, setting)?;
        lab.settled(|_| Ok(()))?;
        let is_reference = server.name == SERVERS[0].name;
        // In pieces, heads and chunks are read across their ends; the reference sees both.
        let ways: &[(&str, &[&str])] = match is_reference {
            true => &[(", in pieces", &["--pieces", "7"]), ("", &[])],
            false => &[("", &[])],
        };
        for (way, arguments) in ways {
            let counted = answered(&client, server)?;
            let seen = replay.run(server, &backend, arguments, &payloads)?;
            if is_reference {
                reference.clone_from(&seen.readings);
            }
            let verdicts: Vec<Verdict> = payloads
                .iter()
                .map(|payload| judge::verdict(payload, &seen, &reference, is_reference))
                .collect();
            let title = format!("{}{way}", server.title);
            write_report(&mut report, &title, &payloads, &verdicts, &seen)?;
            let mut row = row(&title, &payloads, &verdicts);
            let (counted, read) = (answered(&client, server)? - counted, seen.whole_requests());
            if is_reference && counted != read {
                row.passed = false;
                row.notes.push(format!("the sidecar counted {counted} answers, {read} were read"));
            }
            rows.push(row);
        }
    }
    fs::write(setting.out.join("smuggling.txt"), report)?;
    Ok(rows)
}

/// What it takes to send the corpus.
struct Replay<'l> {
    client: &'l Client,
    /// The payloads and this program, by their paths in the lab.
    corpus: &'l str,
    own: &'l str,
}

/// What a replay has shown, by payload.
struct Observed {
    exchanges: BTreeMap<String, Exchange>,
    readings: BTreeMap<String, Vec<Reading>>,
}

impl Replay<'_> {
    fn run(
        &self,
        server: &Server,
        backend: &Backend,
        arguments: &[&str],
        payloads: &[Payload],
    ) -> Result<Observed> {
        let skipped = server.log(backend, self.client)?.lines().count();
        let mut command = self.client.command("timeout");
        command.args([REPLAY_SECONDS, self.own, "replay", "--corpus", self.corpus]);
        command.args(["--host", server.name]).args(arguments);
        let output = Output::of(command)?.success().context("replay")?;
        let log = whole_log(server, backend, self.client)?;
        let readings = judge::readings(log.lines().skip(skipped), payloads)?;
        let exchange = |line| {
            let exchange: Exchange = serde_json::from_str(line)?;
            Ok((exchange.id.clone(), exchange))
        };
        let exchanges = output.lines().map(exchange).collect::<Result<_>>()?;
        Ok(Observed { exchanges, readings })
    }
}

impl Observed {
    /// How many requests the reference has read to their ends, the last ones of payloads included.
    fn whole_requests(&self) -> usize {
        let whole = |reading: &&Reading| !judge::is_odd(reading);
        self.readings.values().map(|of| of.iter().filter(whole).count()).sum()
    }
}

/// How many requests to a server the sidecar says that the server has answered.
fn answered(client: &Client, server: &Server) -> Result<usize> {
    let labels = [("parent_name", server.name), ("reason", "")];
    Ok(sum(&samples(&client.metrics()?), "weft_route_requests_total", &labels) as usize)
}

/// A server's lines, when a last request of ours is among them.
fn whole_log(server: &Server, backend: &Backend, client: &Client) -> Result<String> {
    let url = format!("http://{}:{}/end", backend.addresses[0], server.port);
    let before = server.log(backend, client)?.matches("GET /end").count();
    client.curl(&["-o", "/dev/null", &url])?.success().context("a last request")?;
    poll(Duration::from_secs(10), || {
        server.log(backend, client).ok().filter(|log| log.matches("GET /end").count() > before)
    })
    .with_context(|| format!("{} does not write the last request down", server.name))
}

fn row(title: &str, payloads: &[Payload], verdicts: &[Verdict]) -> Row {
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|it| wanted(it)).count();
    let wrong = count(|it| matches!(it, Verdict::Wrong(_)));
    let mut notes = Vec::new();
    for (payload, verdict) in payloads.iter().zip(verdicts) {
        if let Verdict::Wrong(why) = verdict {
            notes.push(format!("{}: {why}", payload.id));
        }
    }
    Row {
        what: format!("smuggling: {title}"),
        expected: format!("{} payloads read alike", payloads.len()),
        seen: format!(
            "{} refused by the sidecar, {} one request, {} refused by the server, {} broken off, \
             {wrong} wrong",
            count(|it| *it == Verdict::Refused),
            count(|it| *it == Verdict::Forwarded),
            count(|it| *it == Verdict::RefusedByServer),
            count(|it| *it == Verdict::Broken),
        ),
        passed: wrong == 0,
        notes,
    }
}

/// What became of each payload, for who wants to know more than the table says.
fn write_report(
    report: &mut String,
    title: &str,
    payloads: &[Payload],
    verdicts: &[Verdict],
    seen: &Observed,
) -> Result<()> {
    writeln!(report, "=== {title}")?;
    for (payload, verdict) in payloads.iter().zip(verdicts) {
        writeln!(report, "{:32} {verdict:?}  {}", payload.id, payload.title)?;
        if let Some(exchange) = seen.exchanges.get(&payload.id) {
            let answers = exchange.answers.iter().map(|answer| answer.status.to_string());
            let answers = answers.collect::<Vec<_>>().join(", ");
            writeln!(report, "    answers: {answers}; closed: {}", exchange.closed)?;
        }
        writeln!(report, "    read: {:?}", seen.readings.get(&payload.id))?;
    }
    Ok(())
}
