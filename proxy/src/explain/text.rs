//! An explanation for people: plain text, a section for each step of the decision.

use std::fmt;

use super::answer::{
    Backend, Destination, Endpoint, Explanation, Filter, Forwarded, Match, Retry, RetryBudget,
    Rule, Timeouts, Verdict,
};
use super::decide::percent;

/// As far as lines go where names are short.
const WIDTH: usize = 100;
/// Matches that are shown on either side of the winner; JSON has all.
const MATCHES: usize = 12;
/// Endpoints of a backend that are shown; JSON has all.
const ENDPOINTS: usize = 10;

/// A section's row: what stands in the margin, what it is about, and more of it.
struct Row {
    margin: String,
    subject: String,
    details: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        match &request.method {
            Some(method) => writeln!(f, "{method} {}", request.url)?,
            None => writeln!(f, "{}", request.url)?,
        }
        for header in &request.headers {
            writeln!(f, "  {}: {}", header.name, header.value)?;
        }
        writeln!(f, "from a pod in namespace {}", request.client_namespace)?;
        writeln!(f, "\n=> {}", self.summary)?;
        if let Some(message) = self.answer.as_ref().and_then(|it| it.message.as_ref()) {
            writeln!(f, "   {message}")?;
        }
        for header in self.answer.iter().flat_map(|it| &it.headers) {
            writeln!(f, "   {}: {}", header.name, header.value)?;
        }
        section(f, "Destination", &destination(&self.destination))?;
        section(f, "Routes", &self.route_rows())?;
        let mut title =
            "Matches, in the API's order of precedence: the first that holds wins".to_owned();
        if let Some(method) = &self.announces {
            title.push_str(&format!(" (of the {method} that this preflight announces)"));
        }
        section(f, &title, &self.match_rows())?;
        if let Some(rule) = &self.rule {
            section(f, "Filters, in their order", &filters(&rule.filters))?;
            section(f, "Stickiness", &stickiness(rule))?;
            section(f, "Timeouts and retries", &patience(rule))?;
            let changed = !rule.filters.is_empty();
            if let Some(forwarded) = rule.forwarded.as_ref().filter(|_| changed) {
                section(f, "The request that goes on", &request_rows(forwarded))?;
            }
        }
        section(f, "Backends", &self.backend_rows())?;
        let problems: Vec<Row> = self.problems.iter().map(|it| row("", it, Vec::new())).collect();
        section(f, "Problems of what was read", &problems)
    }
}

impl Explanation {
    fn route_rows(&self) -> Vec<Row> {
        if self.routes.is_empty() {
            let per = if self.destination.reads_requests { "request" } else { "connection" };
            let nothing = format!("none names the Service: its endpoints are balanced, per {per}");
            return vec![row("", &nothing, Vec::new())];
        }
        let rows = self.routes.iter().map(|it| {
            let margin = if it.applies { "applies" } else { "left out" };
            let mut details = vec![it.because.clone()];
            details.extend(it.complaints.iter().cloned());
            row(margin, &it.route, details)
        });
        rows.collect()
    }

    fn match_rows(&self) -> Vec<Row> {
        let matches = &self.matches;
        let winner = matches.iter().position(|it| it.verdict == Verdict::Wins);
        let (from, to) = match winner {
            Some(winner) => (winner.saturating_sub(MATCHES), winner + MATCHES + 1),
            None => (0, 2 * MATCHES),
        };
        let to = to.min(matches.len());
        let mut rows = Vec::new();
        let more = |count: usize, rank: &str| {
            row("", &format!("and {count} more of {rank} rank, which --json has"), Vec::new())
        };
        if from > 0 {
            rows.push(more(from, "higher"));
        }
        let any = if self.destination.reads_requests { "any request" } else { "any connection" };
        rows.extend(matches[from..to].iter().map(|it| match_row(it, any)));
        if to < matches.len() {
            rows.push(more(matches.len() - to, "lower"));
        }
        rows
    }

    fn backend_rows(&self) -> Vec<Row> {
        let shares: Vec<String> =
            self.backends.iter().map(|it| format!("{} %", percent(it.percent))).collect();
        let width = shares.iter().map(String::len).max().unwrap_or_default();
        let rows = self.backends.iter().zip(shares).map(|(backend, share)| {
            let subject = format!("Service {} port {}", backend.service, backend.port);
            row(&format!("{share:>width$}"), &subject, backend_details(backend))
        });
        rows.collect()
    }
}

fn destination(destination: &Destination) -> Vec<Row> {
    let address =
        destination.address.as_deref().unwrap_or("no address yet: the API server gives it");
    let port = match destination.port_name.as_str() {
        "" => destination.port.to_string(),
        name => format!("{} ({name})", destination.port),
    };
    vec![
        row("Service", &destination.service, vec![address.to_owned()]),
        row("port", &port, vec![destination.protocol.clone()]),
    ]
}

fn match_row(it: &Match, any: &str) -> Row {
    let mut subject = it.rule.to_string();
    if it.of > 1 {
        subject = format!("match {} of {subject}", it.r#match);
    }
    let criteria = match it.criteria.as_slice() {
        [] => any.to_owned(),
        criteria => criteria.join(", "),
    };
    match &it.verdict {
        Verdict::Wins => row("wins", &subject, vec![criteria]),
        Verdict::Outranked { because, .. } => {
            row("outranked", &subject, vec![criteria, format!("by {because}")])
        }
        Verdict::Lacks { unmet } => {
            let first = unmet.first().cloned().unwrap_or_default();
            row("no", &subject, vec![criteria, format!("but {first}")])
        }
    }
}

fn filters(filters: &[Filter]) -> Vec<Row> {
    let numbered = filters.iter().enumerate();
    numbered
        .map(|(index, it)| row(&format!("{}", index + 1), it.r#type, it.effects.clone()))
        .collect()
}

fn stickiness(rule: &Rule) -> Vec<Row> {
    let stickiness = rule.stickiness.iter();
    stickiness.map(|it| row("", &it.by, vec![it.because.clone()])).collect()
}

fn patience(rule: &Rule) -> Vec<Row> {
    let Timeouts { request, backend_request, grpc } = &rule.timeouts;
    let timeouts = [
        ("request", request, "for all of it, with its retries"),
        ("backendRequest", backend_request, "for each attempt"),
        ("grpc-timeout", grpc, "the client's own: for all of it, where it is the shorter"),
    ];
    let timeouts = timeouts.into_iter().filter_map(|(name, time, of)| {
        Some(row("", name, vec![format!("{}, {of}", time.as_ref()?)]))
    });
    let retry = rule.retry.as_ref().map(|it| row("", "retry", retry(it)));
    timeouts.chain(retry).collect()
}

fn retry(retry: &Retry) -> Vec<String> {
    let Retry { attempts, codes, backoff, longest_pause, if_broken } = retry;
    let times = match attempts {
        0 => return vec!["never: its attempts are 0".to_owned()],
        1 => "once at most".to_owned(),
        times => format!("{times} times at most"),
    };
    let pauses = match backoff.as_str() {
        "0ns" => "at once".to_owned(),
        _ => format!("after pauses of up to {backoff} at first, doubling to {longest_pause}"),
    };
    let broken = match if_broken {
        true => "also where the connection broke: the request is idempotent",
        false => "not where the connection broke: it may have been processed",
    };
    let mut words = vec![format!("{times}, {pauses}")];
    words.push("where nothing of it was sent, or the endpoint refused it unprocessed".to_owned());
    words.push(broken.to_owned());
    if !codes.is_empty() {
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        words.push(format!("after status {}", codes.join(", ")));
    }
    words
}

fn retry_budget(budget: &RetryBudget) -> String {
    let RetryBudget { percent, interval, rate_count, rate_interval, policy } = budget;
    let by = policy.as_deref().unwrap_or("the default");
    format!(
        "retries: {percent} % of its requests in {interval} at most, but {rate_count} in \
         {rate_interval} in any case ({by})"
    )
}

fn request_rows(forwarded: &Forwarded) -> Vec<Row> {
    let mut rows = vec![
        row("", &format!("{} {}", forwarded.method, forwarded.target), Vec::new()),
        row("", &format!("host: {}", forwarded.host), Vec::new()),
    ];
    rows.extend(
        forwarded
            .headers
            .iter()
            .map(|it| row("", &format!("{}: {}", it.name, it.value), Vec::new())),
    );
    rows
}

fn backend_details(backend: &Backend) -> Vec<String> {
    let mut first = format!("weight {}", backend.weight);
    if let Some(protocol) = backend.protocol {
        first.push_str(&format!(", {protocol}"));
    }
    let mut details = vec![first];
    for filter in &backend.filters {
        let effects = filter.effects.iter().map(|it| format!("{}: {it}", filter.r#type));
        details.extend(effects);
    }
    if let Some(forwarded) = &backend.forwarded {
        details.push(format!(
            "gets {} {} of host {}",
            forwarded.method, forwarded.target, forwarded.host
        ));
    }
    details.extend(backend.retry_budget.as_ref().map(retry_budget));
    details.extend(backend.choice.iter().cloned());
    details.extend(backend.endpoints.iter().take(ENDPOINTS).map(endpoint));
    if backend.endpoints.len() > ENDPOINTS {
        details.push(format!("and {} more, which --json has", backend.endpoints.len() - ENDPOINTS));
    }
    if backend.weight > 0 && backend.protocol.is_some() && !backend.endpoints_known {
        details.push(match backend.endpoints.is_empty() {
            true => "endpoints unknown: the manifests have no EndpointSlice of it".to_owned(),
            false => "which of them are on the pod's node, --node-name tells".to_owned(),
        });
    }
    if let Some(answer) = &backend.answer {
        details.push(answer.to_string());
        details.extend(answer.message.clone());
        details.extend(answer.headers.iter().map(|it| format!("{}: {}", it.name, it.value)));
    }
    details
}

fn endpoint(endpoint: &Endpoint) -> String {
    let Endpoint { address, state, kept, .. } = endpoint;
    let stays = if *kept { ", the one that is kept" } else { "" };
    format!("{address} {state}{stays}")
}

fn row(margin: &str, subject: &str, details: Vec<String>) -> Row {
    Row { margin: margin.to_owned(), subject: subject.to_owned(), details }
}

/// A title and its rows, in columns; nothing where there are none. What does not fit beside the
/// subjects stands below them: Kubernetes' names go up to 63 characters each.
fn section(f: &mut fmt::Formatter<'_>, title: &str, rows: &[Row]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let margin = rows.iter().map(|it| width(&it.margin)).max().unwrap_or_default();
    let indent = if margin == 0 { 2 } else { 2 + margin + 2 };
    let subject = rows.iter().map(|it| width(&it.subject)).max().unwrap_or_default();
    let column = indent + subject + 2;
    let fits = |detail: &String| column + width(detail) <= WIDTH;
    let first_beside = rows.iter().all(|it| it.details.first().is_none_or(fits));
    let all_beside = rows.iter().all(|it| it.details.iter().all(fits));
    let rest = if all_beside { column } else { indent };
    writeln!(f, "\n{title}")?;
    for row in rows {
        let gap = if margin == 0 { "" } else { "  " };
        let mut line = format!("  {:<margin$}{gap}{}", row.margin, row.subject);
        let mut details = row.details.iter();
        if first_beside && let Some(first) = details.next() {
            let gap = column - indent - width(&row.subject);
            line.push_str(&format!("{:gap$}{first}", ""));
        }
        writeln!(f, "{}", line.trim_end())?;
        for detail in details {
            writeln!(f, "{:rest$}{detail}", "")?;
        }
    }
    Ok(())
}

/// How many columns a text takes.
fn width(text: &str) -> usize {
    text.chars().count()
}
