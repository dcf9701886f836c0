//! One file: its documents, and the objects in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_saphyr::{Budget, MessageFormatter, Options, UserMessageFormatter};
use weft_gamma::object::{self, ObjectKey, Objects};

use super::lines;
use crate::source::SourceProblem;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) objects: Objects,
    /// The line of each object's document.
    pub(super) lines: BTreeMap<ObjectKey, usize>,
    pub(super) problems: Vec<SourceProblem>,
}

impl Content {
    /// Takes over what `before` has and this has not: a part of the file cannot be read, and it may
    /// be there.
    pub(super) fn keep(&mut self, before: &Content) {
        let mut kept = 0;
        for (key, line) in &before.lines {
            if !self.lines.contains_key(key) {
                self.lines.insert(key.clone(), *line);
                kept += 1;
            }
        }
        add_missing(&mut self.objects, &before.objects);
        let first = self.problems.iter_mut().find(|problem| problem.object.is_none());
        if let Some(problem) = first
            && kept > 0
        {
            let note = format!("; of what the file last said, {kept} objects stay in force");
            problem.message.push_str(&note);
        }
    }
}

/// A file as it was read.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) content: Content,
    /// A document is none: it is half written, say.
    pub(super) unreadable: bool,
}

impl Parsed {
    pub(super) fn unreadable(problem: SourceProblem) -> Parsed {
        let content = Content { problems: vec![problem], ..Content::default() };
        Parsed { content, unreadable: true }
    }
}

/// Adds the objects whose names `to` does not have yet.
pub(super) fn add_missing(to: &mut Objects, from: &Objects) {
    for (name, service) in &from.services {
        to.services.entry(name.clone()).or_insert_with(|| Arc::clone(service));
    }
    for (name, slice) in &from.slices {
        to.slices.entry(name.clone()).or_insert_with(|| Arc::clone(slice));
    }
    for (key, route) in &from.routes {
        to.routes.entry(key.clone()).or_insert_with(|| Arc::clone(route));
    }
    for (name, grant) in &from.grants {
        to.grants.entry(name.clone()).or_insert_with(|| Arc::clone(grant));
    }
    for (name, policy) in &from.policies {
        to.policies.entry(name.clone()).or_insert_with(|| Arc::clone(policy));
    }
}

/// What is said of an object that is there already, in another place.
pub(super) fn duplicate(
    file: &Path,
    line: usize,
    key: &ObjectKey,
    (first_file, first_line): (&Path, usize),
) -> SourceProblem {
    let first = first_file.display();
    SourceProblem {
        file: Some(file.to_owned()),
        line: Some(line),
        object: Some(key.clone()),
        field: String::new(),
        message: format!(
            "is in {first}:{first_line} already, which is in force; delete one of them"
        ),
    }
}

/// Reads all documents of a file.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Parsed {
    let mut reading = Reading { file, parsed: Parsed::default() };
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            if file.extension().is_some_and(|extension| extension == "json") {
                reading.json(text);
            } else {
                reading.yaml(text);
            }
        }
        Err(error) => {
            let line = 1 + count_lines(&bytes[..error.valid_up_to()]);
            reading.unreadable(Some(line), "is not UTF-8".to_owned());
        }
    }
    reading.parsed
}

struct Reading<'a> {
    file: &'a Path,
    parsed: Parsed,
}

impl Reading<'_> {
    fn yaml(&mut self, text: &str) {
        for (line, document) in split(text) {
            if is_blank(document) {
                continue;
            }
            match serde_saphyr::from_str_with_options::<Value>(document, options()) {
                Ok(value) => self.decode(value, line, document),
                Err(error) => {
                    let within = error.location().map_or(0, |location| location.line());
                    let within = usize::try_from(within).unwrap_or(0).saturating_sub(1);
                    self.unreadable(Some(line + within), format!("is not YAML: {}", words(&error)));
                }
            }
        }
    }

    /// JSON documents one after the other. After a broken one there is no telling where the next
    /// would begin.
    fn json(&mut self, text: &str) {
        let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        loop {
            let start = documents.byte_offset();
            let blank = text[start..].len() - text[start..].trim_start().len();
            let start = start + blank;
            let line = 1 + count_lines(&text.as_bytes()[..start]);
            match documents.next() {
                None => return,
                Some(Ok(value)) => {
                    let end = documents.byte_offset();
                    self.decode(value, line, &text[start..end]);
                }
                Some(Err(error)) => {
                    self.unreadable(Some(error.line()), format!("is not JSON: {error}"));
                    return;
                }
            }
        }
    }

    fn decode(&mut self, value: Value, line: usize, text: &str) {
        if value.is_null() {
            return;
        }
        let decoded = object::decode(value);
        let content = &mut self.parsed.content;
        for object in decoded.objects {
            let key = object.key();
            if let Some(first) = content.lines.get(&key) {
                content.problems.push(duplicate(self.file, line, &key, (self.file, *first)));
            } else {
                content.lines.insert(key, line);
                content.objects.insert(object);
            }
        }
        if decoded.problems.is_empty() {
            return;
        }
        let positions = lines::Document::read(text);
        for problem in decoded.problems {
            let within = positions.line_of(problem.object.as_ref(), &problem.field);
            content.problems.push(SourceProblem {
                file: Some(self.file.to_owned()),
                line: Some(line + within.unwrap_or(0)),
                object: problem.object,
                field: problem.field,
                message: problem.message,
            });
        }
    }

    fn unreadable(&mut self, line: Option<usize>, message: String) {
        self.parsed.unreadable = true;
        self.parsed.content.problems.push(SourceProblem {
            file: Some(self.file.to_owned()),
            line,
            object: None,
            field: String::new(),
            message,
        });
    }
}

/// Documents with the number of their first line. They are split here, not by the parser, so that
/// one that it cannot read does not hide those behind it. A line that is `---` or begins with
/// `--- ` can be nothing else: YAML allows it within no value.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let begins = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if begins && offset > start {
            documents.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, index + 1);
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents
}

/// Comments, markers and directives only.
fn is_blank(document: &str) -> bool {
    document.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line == "..."
    })
}

/// A list of all objects of a cluster has millions of nodes; the size of the file bounds them.
/// What aliases repeat is bounded apart: a few lines could otherwise fill the memory.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_events = 64_000_000;
    budget.max_nodes = 32_000_000;
    let mut options = Options::default();
    options.alias_limits.max_total_replayed_events = 100_000;
    options.budget = Some(budget);
    options.with_snippet = false;
    // As in YAML 1.2: a header's `value: y` or `no` is a word, not a boolean.
    options.strict_booleans = true;
    options
}

/// What the parser says, without the line, which it counts from the document's beginning.
fn words(error: &serde_saphyr::Error) -> String {
    let message = UserMessageFormatter.format_message(error.without_snippet());
    message.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
