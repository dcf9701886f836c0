//! The per-route metrics as a small table.

use std::collections::BTreeMap;
use std::fmt::Write;

use weft_tests::lab::metrics::{Sample, samples};

use crate::paint::Painter;

/// What is counted together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    parent: String,
    route: String,
    rule: String,
    backend: String,
}

#[derive(Default)]
struct Cells {
    by_status: BTreeMap<String, f64>,
    requests: f64,
    seconds: f64,
    timed: f64,
}

/// Requests by parent, route, rule and backend, summed over the clients.
pub(crate) fn of_routes(painter: &Painter, scrapes: &[String]) -> String {
    let mut rows: BTreeMap<Row, Cells> = BTreeMap::new();
    for sample in scrapes.iter().flat_map(|text| samples(text)) {
        let cells = match sample.name.as_str() {
            "weft_route_requests_total"
            | "weft_route_request_duration_seconds_sum"
            | "weft_route_request_duration_seconds_count" => rows.entry(row(&sample)).or_default(),
            _ => continue,
        };
        match sample.name.as_str() {
            "weft_route_requests_total" => {
                // Status 0: the client left before an answer, as curl does when traffic is stopped.
                let status = match sample.label("status") {
                    "0" => "left",
                    status => status,
                };
                *cells.by_status.entry(status.to_owned()).or_default() += sample.value;
                cells.requests += sample.value;
            }
            name if name.ends_with("_sum") => cells.seconds += sample.value,
            _ => cells.timed += sample.value,
        }
    }
    rows.retain(|_, cells| cells.requests > 0.0);
    let mut lines = vec![
        ["parent", "route", "rule", "backend", "requests", "mean", "status"].map(str::to_owned),
    ];
    for (row, cells) in rows {
        let status = cells.by_status.iter().map(|(status, count)| format!("{status}×{count}"));
        let mean = if cells.timed > 0.0 {
            format!("{:.2} ms", 1000.0 * cells.seconds / cells.timed)
        } else {
            String::new()
        };
        lines.push([
            row.parent,
            row.route,
            row.rule,
            row.backend,
            cells.requests.to_string(),
            mean,
            status.collect::<Vec<_>>().join(" "),
        ]);
    }
    align(painter, &lines)
}

fn row(sample: &Sample) -> Row {
    let full = |kind: &str| {
        let (namespace, name) = (format!("{kind}_namespace"), format!("{kind}_name"));
        match sample.label(&name) {
            "" => "-".to_owned(),
            found => format!("{}/{}", middle_cut(sample.label(&namespace)), middle_cut(found)),
        }
    };
    let rule = [sample.label("rule_name"), sample.label("rule")];
    Row {
        parent: full("parent"),
        route: full("route"),
        rule: middle_cut(rule.iter().find(|name| !name.is_empty()).unwrap_or(&"-")),
        backend: full("backend"),
    }
}

/// Long names have to fit a line.
fn middle_cut(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= 22 {
        return name.to_owned();
    }
    letters[..10].iter().chain(&['…']).chain(&letters[letters.len() - 4..]).collect()
}

fn align(painter: &Painter, lines: &[[String; 7]]) -> String {
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut cells = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = width(column);
            // Numbers stand right.
            let _never_fails = if column == 4 || column == 5 {
                write!(cells, "{cell:>width$}  ")
            } else {
                write!(cells, "{cell:<width$}  ")
            };
        }
        let cells = cells.trim_end();
        let cells = if number == 0 { painter.bold(cells) } else { cells.to_owned() };
        let _never_fails = writeln!(text, "   {cells}");
    }
    text
}
