//! The tables of a document.
//!
//! A table about fields stands below a line that says whose they are:
//!
//! > Of HTTPRoute and GRPCRoute, `spec.rules[].filters[]` and `spec.rules[].backendRefs[].filters[]`:
//!
//! (a semicolon begins other kinds with paths of their own), and its first column has the fields'
//! names below these paths. Tests are named by links, `[function][file]`, in tables in the last column; the
//! files stand at the document's end. Those of the official suite are `[name][suite]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The label of the official suite's tests.
pub const SUITE: &str = "suite";

/// A document with its tables.
#[derive(Debug)]
pub struct Document {
    /// Its path.
    pub path: PathBuf,
    /// The rows of all tables, without their heads.
    pub rows: Vec<Row>,
    /// Every test that it names, with the line.
    pub references: Vec<(usize, Reference)>,
    /// The files that labels stand for, relative to the document.
    pub labels: BTreeMap<String, String>,
}

/// A row of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its line in the document, from 1.
    pub line: usize,
    /// Kinds and paths: what the line above the table says.
    pub of: Vec<(String, String)>,
    /// Its cells, trimmed.
    pub cells: Vec<String>,
}

/// A test as a document names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The function, or the test's name in the suite.
    pub name: String,
    /// The label of its file.
    pub label: String,
}

impl Document {
    /// Reads a document. `kinds` are the kinds that there are.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(path: &Path, kinds: &[&str]) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut document = Self {
            path: path.to_owned(),
            rows: Vec::new(),
            references: Vec::new(),
            labels: BTreeMap::new(),
        };
        let mut of = Vec::new();
        let mut head = true;
        for (index, line) in text.lines().enumerate() {
            let references = references(line).into_iter().map(|it| (index + 1, it));
            document.references.extend(references);
            if let Some(cells) = line.strip_prefix('|') {
                let cells = cells.trim_end().strip_suffix('|').unwrap_or(cells).split('|');
                let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
                if cells.iter().all(|cell| cell.bytes().all(|byte| byte == b'-')) {
                    head = false;
                } else if !head {
                    document.rows.push(Row { line: index + 1, of: of.clone(), cells });
                }
                continue;
            }
            // What stands above a table is said of it alone.
            if !std::mem::replace(&mut head, true) {
                of.clear();
            }
            if line.starts_with("Of ") {
                of = places(line, kinds);
            } else if let Some((label, target)) = line.split_once("]: ")
                && let Some(label) = label.strip_prefix('[')
            {
                document.labels.insert(label.to_owned(), target.trim().to_owned());
            }
        }
        Ok(document)
    }

    /// What is wrong with the tests that it names: those that do not exist, and labels that nobody
    /// uses or nobody explains. `suite` are the names of the official suite's tests.
    pub fn wrong_references(&self, suite: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut used = BTreeSet::new();
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for (line, Reference { name, label }) in &self.references {
            let at = format!("{}:{line}", self.path.display());
            used.insert(label);
            let Some((label, target)) = self.labels.get_key_value(label) else {
                wrong.push(format!("{at}: the label {label} has no target"));
                continue;
            };
            if label == SUITE {
                if !suite.contains(name) {
                    wrong.push(format!("{at}: the suite has no test {name}"));
                }
                continue;
            }
            let read = || fs::read_to_string(folder.join(target)).unwrap_or_default();
            if !has_test(files.entry(label).or_insert_with(read), name) {
                wrong.push(format!("{at}: {target} has no test {name}"));
            }
        }
        let unused = self.labels.keys().filter(|label| !used.contains(label));
        wrong.extend(unused.map(|it| format!("{}: nobody uses {it}", self.path.display())));
        wrong
    }
}

impl Row {
    /// The kinds and paths of the row's fields, whose names are in the first cell.
    pub fn fields(&self) -> Vec<(String, String)> {
        let names = self.cells.first().map(|cell| quoted(cell)).unwrap_or_default();
        let fields = |(kind, place): &(String, String)| -> Vec<(String, String)> {
            names.iter().map(|name| (kind.clone(), format!("{place}.{name}"))).collect()
        };
        self.of.iter().flat_map(fields).collect()
    }

    /// The tests in the last cell.
    pub fn references(&self) -> Vec<Reference> {
        self.cells.last().map(|cell| references(cell)).unwrap_or_default()
    }
}

/// What stands in backticks.
pub fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn references(text: &str) -> Vec<Reference> {
    let mut references = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("][") {
        let name = before.rsplit('[').next().unwrap_or_default().to_owned();
        let (label, after) = after.split_once(']').unwrap_or((after, ""));
        references.push(Reference { name, label: label.to_owned() });
        rest = after;
    }
    references
}

fn places(line: &str, kinds: &[&str]) -> Vec<(String, String)> {
    let mut places = Vec::new();
    for part in line.split(';') {
        let plain: String = part.split('`').step_by(2).collect();
        let words = plain.split(|it: char| !it.is_alphanumeric());
        for kind in words.filter(|word| kinds.contains(word)) {
            places.extend(quoted(part).iter().map(|it| (kind.to_owned(), (*it).to_owned())));
        }
    }
    places
}

/// Whether a file of Rust has that function, as a test.
fn has_test(text: &str, name: &str) -> bool {
    let signature = format!("fn {name}()");
    let Some(at) = text.find(&signature) else {
        return false;
    };
    // Above a function stand its attributes and its comment.
    let line = text[..at].rfind('\n').unwrap_or(0);
    let above = text[..line].lines().rev();
    let mut above = above.map(str::trim).take_while(|line| line.starts_with(['#', '/']));
    above.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
}
