//! Whether a payload was read alike by the sidecar and by the server behind it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::Observed;
use super::payload::{Expected, Payload};

/// A line of a server's log.
pub(super) type Reading = String;

/// What became of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The sidecar answered, the server read nothing.
    Refused,
    /// The server read exactly one request, the one that the reference has read.
    Forwarded,
    /// The server answered with an error, and read nothing else: stricter than it has to be.
    RefusedByServer,
    /// The body broke off, and with it the request.
    Broken,
    Wrong(String),
}

/// The lines of a log by payload, with the method and the target of each: by the payload that the target
/// names, for servers write a line when they have answered, be it late; without one by the last request
/// of a payload that follows.
pub(super) fn readings<'l>(
    lines: impl Iterator<Item = &'l str>,
    payloads: &[Payload],
) -> Result<BTreeMap<String, Vec<Reading>>> {
    let none = |payload: &Payload| (payload.id.clone(), Vec::new());
    let mut readings: BTreeMap<String, Vec<Reading>> = payloads.iter().map(none).collect();
    let mut unnamed: Vec<Reading> = Vec::new();
    for line in lines {
        let kept = match line.split(' ').next() {
            Some("MALFORMED") => usize::MAX,
            Some("INCOMPLETE") => 3,
            _ => 2,
        };
        let words: Vec<&str> = line.split(' ').take(kept).collect();
        let reading = words.join(" ");
        let path = words.last().and_then(|target| target.strip_prefix('/')).unwrap_or("");
        let (id, what) = path.split_once('/').unwrap_or((path, ""));
        match readings.get_mut(id) {
            Some(of_payload) => {
                of_payload.push(reading);
                if what == "after" {
                    of_payload.append(&mut unnamed);
                }
            }
            None => unnamed.push(reading),
        }
    }
    unnamed.retain(|reading| reading != "GET /end");
    ensure!(unnamed.is_empty(), "behind the last payload the server read {unnamed:?}");
    Ok(readings)
}

/// Compares what the client was answered with what the server read.
pub(super) fn verdict(
    payload: &Payload,
    seen: &Observed,
    reference: &BTreeMap<String, Vec<Reading>>,
    is_reference: bool,
) -> Verdict {
    let wrong = |why: String| Verdict::Wrong(why);
    let Some(exchange) = seen.exchanges.get(&payload.id) else { return wrong("not sent".into()) };
    let after = format!("GET /{}/after", payload.id);
    let all = seen.readings.get(&payload.id).map_or(&[][..], Vec::as_slice);
    let (last, all): (Vec<&Reading>, Vec<&Reading>) = all.iter().partition(|it| **it == after);
    if last.len() != 1 {
        return wrong(format!("the next connection's request was read {} times", last.len()));
    }
    let answered = exchange.after.as_ref().and_then(|answer| answer.seen.as_deref());
    if answered != Some(&after) {
        return wrong(format!("the next connection's answer: {:?}", exchange.after));
    }
    let marker = format!("GET /{}/marker", payload.id);
    let (markers, own): (Vec<&Reading>, Vec<&Reading>) =
        all.iter().copied().partition(|it| **it == marker);
    let told = || {
        let statuses: Vec<u16> = exchange.answers.iter().map(|answer| answer.status).collect();
        let closed = if exchange.closed { "closed" } else { "open" };
        format!("expected {:?}; read {all:?}; answered {statuses:?}, {closed}", payload.expected)
    };
    let count = exchange.answers.len();
    let first = exchange.answers.first().map_or(0, |answer| answer.status);
    let is_error = (400..=599).contains(&first);
    let is_refused = all.is_empty() && exchange.closed && count == 1 && is_error;
    let is_marker_answered = match exchange.answers.last() {
        Some(answer) if payload.is_http2 => count == 2 && answer.status == 200,
        Some(answer) => answer.seen.as_deref() == Some(&marker),
        None => false,
    };
    let verdict = match payload.expected {
        Expected::Refused if payload.is_http2 => {
            (own.is_empty() && first != 200).then_some(Verdict::Refused)
        }
        Expected::Refused => is_refused.then_some(Verdict::Refused),
        Expected::Broken if is_refused => Some(Verdict::Refused),
        Expected::Broken => {
            let read: Vec<&str> =
                own.iter().map(|it| it.as_str()).filter(|it| !it.starts_with("BAD")).collect();
            // Other servers write a line before they have read the body.
            let is_whole = |it: &&str| is_reference && !it.starts_with("INCOMPLETE");
            let broken = markers.is_empty()
                && read.len() <= 1
                && !read.iter().any(is_whole)
                && exchange.closed
                && count <= 1;
            broken.then_some(Verdict::Broken)
        }
        Expected::Forwarded(_) | Expected::Closed => {
            let (requests, follows) = match payload.expected {
                Expected::Forwarded(requests) => {
                    let is_answered = is_marker_answered && count == requests + 1;
                    (requests, is_answered && markers.len() == 1)
                }
                _ => (1, markers.is_empty() && exchange.closed && count == 1),
            };
            let of_reference = reference.get(&payload.id);
            let is_own = |it: &&Reading| **it != marker && **it != after;
            let as_reference =
                of_reference.is_some_and(|of| of.iter().filter(is_own).eq(own.iter().copied()));
            if follows && own.len() == requests && as_reference && !own.iter().any(|it| is_odd(it))
            {
                Some(Verdict::Forwarded)
            } else {
                let refused =
                    follows && !is_reference && own.iter().all(|it| is_odd(it)) && is_error;
                refused.then_some(Verdict::RefusedByServer)
            }
        }
    };
    verdict.unwrap_or_else(|| wrong(told()))
}

/// A line of a request that the server has refused.
pub(super) fn is_odd(reading: &Reading) -> bool {
    ["BAD", "MALFORMED", "INCOMPLETE", "<BADREQ>"].iter().any(|word| reading.starts_with(word))
}
