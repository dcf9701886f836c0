//! What loads a proxy as much as it takes: wrk, h2load or the backend, and what they say when they are done.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_bench::namespace::FOLDER;

use super::backend::Task;
use crate::measure::Work;
use crate::work::{GRPC_MESSAGE, GRPC_PATH, LARGE_PATH, MIB, MIB_PATH};

const USER: &str = "end-user: jason";

/// As much as `target` takes, while the caller measures, which takes no longer than `length`: the number of
/// answers, all of them 2xx, and what was measured.
pub(crate) fn saturate<T>(
    work: Work,
    target: &str,
    length: Duration,
    measure: impl FnOnce() -> Result<T>,
) -> Result<(u64, T)> {
    let url = |path: &str| format!("http://{target}{path}");
    // wrk takes whole seconds only, and ends earlier when it is interrupted.
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-d1m", "-H", USER]);
    let duration = format!("{}ms", length.as_millis());
    let mut h2load = Command::new("h2load");
    h2load.args(["-t1", "-c4", "-m16", "-D", &duration, "-H", USER]);
    let command = match work {
        Work::Http1 => return ask("requests", target, length, measure),
        Work::NewConnections => return ask("connections", target, length, measure),
        Work::Mib => {
            let script = format!("{FOLDER}/mib.lua");
            let body = format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {MIB})\n");
            fs::write(&script, body)?;
            wrk.args(["-c8", "-s", &script]).arg(url(MIB_PATH))
        }
        Work::Tcp => wrk.arg("-c4").arg(url(LARGE_PATH)),
        Work::Http2ToHttp1 | Work::Http2 => h2load.arg(url("/")),
        Work::Grpc => {
            let message = format!("{FOLDER}/message");
            fs::write(&message, GRPC_MESSAGE)?;
            h2load.args(["-d", &message, "-H", "content-type: application/grpc"]);
            h2load.args(["-H", "te: trailers"]).arg(url(GRPC_PATH))
        }
    };
    let (text, measured) = say(command, work, measure)?;
    let answers = if work.is_http2() { h2load_says(&text)? } else { wrk_says(&text)? };
    Ok((answers, measured))
}

/// Has the backend load `target` with that task: how many answers there were, and what was measured.
fn ask<T>(
    task: &str,
    target: &str,
    length: Duration,
    measure: impl FnOnce() -> Result<T>,
) -> Result<(u64, T)> {
    let task = Task::begin(&format!("{task} {target} {}", length.as_secs_f64()))?;
    let measured = measure();
    let answers: Vec<u64> = task.end()?;
    Ok((answers.iter().sum(), measured?))
}

/// What a client of that work says that is measured meanwhile.
fn say<T>(
    command: &mut Command,
    work: Work,
    measure: impl FnOnce() -> Result<T>,
) -> Result<(String, T)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot start {name}"))?;
    let measured = measure();
    if !work.is_http2() {
        kill(Pid::from_raw(child.id().try_into()?), Signal::SIGINT)?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name} failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((text, measured?))
}

/// `  120873 requests in 3.00s, 17.18MB read`, and lines of what went wrong.
fn wrk_says(text: &str) -> Result<u64> {
    for trouble in ["Socket errors:", "Non-2xx"] {
        if let Some(line) = text.lines().find(|line| line.contains(trouble)) {
            bail!("wrk: {}", line.trim());
        }
    }
    let line = text.lines().find(|line| line.contains(" requests in "));
    let words: Vec<&str> = line.map(|line| line.split_whitespace().collect()).unwrap_or_default();
    let [answers, "requests", "in", ..] = words.as_slice() else {
        bail!("wrk does not say how many requests there were:\n{text}");
    };
    let answers = answers.parse()?;
    ensure!(answers > 0, "wrk got no answer:\n{text}");
    Ok(answers)
}

/// `requests: … succeeded, 0 failed, 0 errored, 0 timeout`,
/// `status codes: 90370 2xx, 0 3xx, …`.
fn h2load_says(text: &str) -> Result<u64> {
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
    Ok(answers)
}

#[cfg(test)]
mod tests;
