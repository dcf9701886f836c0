//! wrk and h2load, and what they say when they are done.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use weft_bench::namespace::FOLDER;

use super::Load;
use crate::measure::Work;
use crate::work::{GRPC_MESSAGE, GRPC_PATH, LARGE_PATH, MIB, MIB_PATH};

const USER: &str = "end-user: jason";

/// As much as `target` takes, for so many seconds.
pub(crate) fn saturate(work: Work, target: &str, seconds: u32) -> Result<Load> {
    let url = |path: &str| format!("http://{target}{path}");
    let duration = seconds.to_string();
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-d", &duration, "-H", USER]);
    let mut h2load = Command::new("h2load");
    h2load.args(["-t1", "-c4", "-m16", "-D", &duration, "-H", USER]);
    match work {
        Work::Http1 => of_wrk(wrk.arg("-c32").arg(url("/"))),
        Work::NewConnections => of_wrk(wrk.args(["-c32", "-H", "Connection: close"]).arg(url("/"))),
        Work::Mib => {
            let script = format!("{FOLDER}/mib.lua");
            let body = format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {MIB})\n");
            fs::write(&script, body)?;
            of_wrk(wrk.args(["-c8", "-s", &script]).arg(url(MIB_PATH)))
        }
        Work::Tcp => of_wrk(wrk.arg("-c4").arg(url(LARGE_PATH))),
        Work::Http2ToHttp1 | Work::Http2 => of_h2load(h2load.arg(url("/"))),
        Work::Grpc => {
            let message = format!("{FOLDER}/message");
            fs::write(&message, GRPC_MESSAGE)?;
            h2load.args(["-d", &message, "-H", "content-type: application/grpc"]);
            of_h2load(h2load.args(["-H", "te: trailers"]).arg(url(GRPC_PATH)))
        }
    }
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name} failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn of_wrk(command: &mut Command) -> Result<Load> {
    wrk(&output(command)?)
}

fn of_h2load(command: &mut Command) -> Result<Load> {
    h2load(&output(command)?)
}

/// `  120873 requests in 3.00s, 17.18MB read`, and lines of what went wrong.
fn wrk(text: &str) -> Result<Load> {
    for trouble in ["Socket errors:", "Non-2xx"] {
        if let Some(line) = text.lines().find(|line| line.contains(trouble)) {
            bail!("wrk: {}", line.trim());
        }
    }
    let line = text.lines().find(|line| line.contains(" requests in "));
    let words: Vec<&str> = line.map(|line| line.split_whitespace().collect()).unwrap_or_default();
    let [answers, "requests", "in", time, ..] = words.as_slice() else {
        bail!("wrk does not say how many requests there were:\n{text}");
    };
    let load = Load { answers: answers.parse()?, seconds: seconds(time.trim_end_matches(','))? };
    ensure!(load.answers > 0, "wrk got no answer:\n{text}");
    Ok(load)
}

/// `finished in 3.00s, 30123.33 req/s, …`, `requests: … succeeded, 0 failed, 0 errored, 0 timeout`,
/// `status codes: 90370 2xx, 0 3xx, …`.
fn h2load(text: &str) -> Result<Load> {
    let line = |start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start));
        line.with_context(|| format!("h2load does not say {start:?}:\n{text}"))
    };
    let count = |line: &str, what: &str| -> Result<u64> {
        let item = line.split(',').find_map(|item| item.trim().strip_suffix(what));
        Ok(item.with_context(|| format!("h2load: no {what:?} in {line}"))?.trim().parse()?)
    };
    let requests = line("requests:")?;
    for trouble in ["failed", "errored", "timeout"] {
        ensure!(count(requests, trouble)? == 0, "h2load: {requests}");
    }
    let codes = line("status codes:")?;
    let answers = count(codes, "2xx")?;
    for trouble in ["3xx", "4xx", "5xx"] {
        ensure!(count(codes, trouble)? == 0, "h2load: {codes}");
    }
    ensure!(answers > 0, "h2load got no answer:\n{text}");
    let finished = line("finished in ")?.split(',').next().unwrap_or_default();
    Ok(Load { answers, seconds: seconds(finished)? })
}

/// `3.00s`, `950.11ms`, `1.00m`.
fn seconds(text: &str) -> Result<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap_or(0));
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => bail!("{text:?} is no duration"),
    };
    Ok(number.parse::<f64>()? * factor)
}

#[cfg(test)]
mod tests;
