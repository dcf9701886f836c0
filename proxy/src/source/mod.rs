//! Where routes, Services and endpoints come from.
//!
//! A source runs on the control thread and hands over a [`Snapshot`] whenever what it knows has
//! changed: whole, consistent and never partly read. All sources yield the same objects, so that
//! nothing behind this seam knows where they came from.

pub mod kube;
pub mod manifest;

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use tokio::sync::oneshot;
use weft_gamma::object::{NamespacedName, ObjectKey, Objects};
use weft_gamma::route::Refusal;

/// All that a source knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub objects: Objects,
    /// What of it could not be read, or is not in force for another reason.
    pub problems: Vec<SourceProblem>,
    /// The Services that the pod's connections can be meant for; None means all of `objects`. Others
    /// are known as backends only, without the routes that may be attached to them.
    pub destinations: Option<BTreeSet<NamespacedName>>,
}

/// A worker's question: which Service has this address? Answered, by being dropped or sent, once the
/// table has it, or once it is plain that it is none.
#[derive(Debug)]
pub struct Lookup {
    pub ip: IpAddr,
    pub answer: oneshot::Sender<()>,
}

/// Something that a source could not read or use, named so that its author finds it.
/// Displayed as `routes.yaml:12: HTTPRoute default/reviews: spec.rules[0].matches: …`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceProblem {
    /// The file or folder, where it comes from one.
    pub file: Option<PathBuf>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The object, where that much could be read.
    pub object: Option<ObjectKey>,
    /// The path of the field; empty for the whole object or file.
    pub field: String,
    /// What is wrong and, where it is not plain, what to do.
    pub message: String,
}

impl SourceProblem {
    /// Whether it is why a rule or a policy is refused: then the conditions of its route or policy say it
    /// as well.
    pub(crate) fn is_refusal(&self, objects: &Objects) -> bool {
        let Some(key) = &self.object else { return false };
        let says_so = |it: &Refusal| it.field == self.field && it.message == self.message;
        if let Some(route) = objects.routes.get(key) {
            return route.rules.iter().flat_map(|it| &it.refusals).any(says_so);
        }
        let policy = objects.policies.values().find(|it| it.key() == *key);
        // Without a target that can be read there is nothing that a condition could be about.
        policy.is_some_and(|it| !it.targets.is_empty() && it.refusals.iter().any(says_so))
    }
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = OneLine(f);
        if let Some(file) = &self.file {
            write!(line, "{}", file.display())?;
            if let Some(number) = self.line {
                write!(line, ":{number}")?;
            }
            line.write_str(": ")?;
        }
        if let Some(object) = &self.object {
            write!(line, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(line, "{}: ", self.field)?;
        }
        line.write_str(&self.message)
    }
}

/// Escapes control characters. Names and fields of a file may have any, and a line of the log must be
/// one.
struct OneLine<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.char_indices().next_back().filter(|(_, last)| last.is_control()) {
                Some((at, last)) => write!(self.0, "{}{}", &part[..at], last.escape_default())?,
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// As `{"file": …, "line": …, "object": "HTTPRoute default/reviews", "field": …, "message": …}`.
impl Serialize for SourceProblem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut problem = serializer.serialize_struct("SourceProblem", 5)?;
        let file = self.file.as_ref().map(|file| file.display().to_string());
        problem.serialize_field("file", &file)?;
        problem.serialize_field("line", &self.line)?;
        let object = self.object.as_ref().map(ToString::to_string);
        problem.serialize_field("object", &object)?;
        problem.serialize_field("field", &self.field)?;
        problem.serialize_field("message", &self.message)?;
        problem.end()
    }
}

/// Logs each problem once when it appears and once when it has gone.
#[derive(Debug, Default)]
pub(crate) struct ProblemLog {
    /// Without lines: an edit further up in a file does not make it another problem.
    known: BTreeSet<SourceProblem>,
}

impl ProblemLog {
    pub(crate) fn report<'p>(&mut self, problems: impl IntoIterator<Item = &'p SourceProblem>) {
        let mut current = BTreeSet::new();
        let mut unsaid = 0;
        let mut said = 0;
        for problem in problems {
            let without_line = SourceProblem { line: None, ..problem.clone() };
            let is_new = !self.known.contains(&without_line);
            if current.insert(without_line) && is_new {
                if said < MAX_LOGGED_AT_ONCE {
                    said += 1;
                    tracing::warn!("{problem}");
                } else {
                    unsaid += 1;
                }
            }
        }
        if unsaid > 0 {
            tracing::warn!("and {unsaid} more problems in what the source holds");
        }
        for gone in self.known.difference(&current).take(MAX_LOGGED_AT_ONCE) {
            tracing::info!("resolved: {gone}");
        }
        self.known = current;
    }
}

/// A generator that went wrong can break thousands of objects at once.
const MAX_LOGGED_AT_ONCE: usize = 50;

#[cfg(test)]
mod tests;
