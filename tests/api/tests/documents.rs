//! The documents say something of every field and of every MUST, and name tests that there are.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::Value;
use weft_api::document::{Document, Row, quoted};
use weft_api::list::{Api, Field};
use weft_api::sentence::musts;
use weft_api::{LIST, checkout};

const ROUTES: [&str; 4] = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"];

fn api() -> Result<Api> {
    Api::read(LIST.as_ref())
}

fn document(api: &Api, name: &str) -> Result<Document> {
    let kinds: Vec<&str> = api.kinds.iter().map(|kind| kind.kind.as_str()).collect();
    Document::read(&checkout().join("docs").join(name), &kinds)
}

fn none(wrong: &[String]) -> Result<()> {
    ensure!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    Ok(())
}

/// A list and its items are one field to a reader, and `spec` and `status` are none.
fn is_row(path: &str) -> bool {
    !path.ends_with("[]") && path != "spec" && path != "status"
}

#[test]
fn every_field_has_its_row() -> Result<()> {
    let api = api()?;
    let document = document(&api, "api-support.md")?;
    let mut wrong = Vec::new();
    let mut rows: BTreeMap<(String, String), &Row> = BTreeMap::new();
    for row in document.rows.iter().filter(|row| !row.of.is_empty()) {
        for field in row.fields() {
            if let Some(other) = rows.insert(field.clone(), row) {
                let ((kind, path), line) = (field, row.line);
                wrong.push(format!("line {line}: {kind} {path} stands in {} too", other.line));
            }
        }
        if row.references().is_empty() {
            wrong.push(format!("line {}: no test", row.line));
        }
    }
    for kind in &api.kinds {
        let fields = api.fields(&kind.kind)?;
        for (path, field) in &fields {
            let Some(row) = rows.remove(&(kind.kind.clone(), path.clone())) else {
                if is_row(path) {
                    wrong.push(format!("{} {path} is missing", kind.kind));
                }
                continue;
            };
            let items = fields.get(&format!("{path}[]"));
            wrong.extend(row_is_wrong(row, field, items.copied()));
        }
    }
    wrong.extend(rows.iter().map(|((kind, path), row)| {
        format!("line {}: the API has no field {kind} {path}", row.line)
    }));
    none(&wrong)
}

/// The channel in the second cell, and every value of an enum in the third.
fn row_is_wrong(row: &Row, field: &Field, items: Option<&Field>) -> Vec<String> {
    let mut wrong = Vec::new();
    let [_, channel, behaviour, _] = row.cells.as_slice() else {
        return vec![format!("line {}: {} cells, not 4", row.line, row.cells.len())];
    };
    if channel != field.channel.as_str() {
        let (path, channel) = (&field.path, field.channel.as_str());
        wrong.push(format!("line {}: {path} is {channel}", row.line));
    }
    let told = quoted(behaviour);
    for value in field.values.iter().chain(items.into_iter().flat_map(|it| &it.values)) {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !told.contains(&value.as_str()) {
            wrong.push(format!("line {}: {} may be {value}", row.line, field.path));
        }
    }
    wrong
}

#[test]
fn every_must_has_its_row() -> Result<()> {
    let api = api()?;
    let document = document(&api, "api-musts.md")?;
    let mut sentences: BTreeMap<String, String> = BTreeMap::new();
    for kind in ROUTES {
        for (path, field) in api.fields(kind)? {
            for sentence in musts(&field.doc) {
                sentences.entry(sentence).or_insert_with(|| format!("{kind} {path}"));
            }
        }
    }
    assert!(sentences.len() > 100, "{} sentences", sentences.len());
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &document.rows {
        let [sentence, answer] = row.cells.as_slice() else {
            wrong.push(format!("line {}: {} cells, not 2", row.line, row.cells.len()));
            continue;
        };
        if !seen.insert(sentence) {
            wrong.push(format!("line {}: the sentence stands above already", row.line));
        } else if sentences.remove(sentence).is_none() {
            wrong.push(format!("line {}: the API does not say so: {sentence}", row.line));
        }
        let reason = answer.strip_prefix("Does not apply: ");
        if row.references().is_empty() && reason.is_none_or(str::is_empty) {
            wrong.push(format!("line {}: neither a test nor `Does not apply: `", row.line));
        }
    }
    wrong.extend(sentences.iter().map(|(sentence, at)| format!("{at} is missing: {sentence}")));
    none(&wrong)
}

#[test]
fn every_test_that_is_named_exists() -> Result<()> {
    let api = api()?;
    let mut wrong = Vec::new();
    for name in ["api-support.md", "api-musts.md", "reliability.md"] {
        wrong.extend(document(&api, name)?.wrong_references(&api.suite));
    }
    none(&wrong)
}

#[test]
fn every_fault_has_its_answer_and_a_test() -> Result<()> {
    let document = document(&api()?, "reliability.md")?;
    let mut wrong = Vec::new();
    for row in &document.rows {
        let [fault, answer, _] = row.cells.as_slice() else {
            wrong.push(format!("line {}: {} cells, not 3", row.line, row.cells.len()));
            continue;
        };
        if fault.is_empty() || answer.is_empty() {
            wrong.push(format!("line {}: nothing is said", row.line));
        }
        if row.references().is_empty() {
            wrong.push(format!("line {}: no test shows it: {fault}", row.line));
        }
    }
    ensure!(document.rows.len() > 20, "{} rows", document.rows.len());
    none(&wrong)
}

#[test]
fn sentences_are_told_apart() {
    let doc = "One MUST (e.g. this. Or that) be.\nTwo may. \"Three\" must not:\n\n* Four MUST\n  go on.\n* five, i.e. not\n\nMustn't. A muster.";
    let doc: Vec<String> = doc.lines().map(str::to_owned).collect();
    // A quotation ends one, a letter in lower case does not.
    let expected = ["One MUST (e.g. this.", "\"Three\" must not:", "Four MUST go on."];
    assert_eq!(musts(&doc), expected);
}
