//! JSON patch (RFC 6902): what an admission answers with.
//!
//! `pod` builds a [`Patch`] out of additions; nothing that a pod has is ever removed or replaced.

use serde::Serialize;
use serde_json::Value;

/// Operations, carried out in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Patch {
    operations: Vec<Operation>,
}

/// One `add`: it sets a member of an object, or inserts into an array.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Operation {
    op: &'static str,
    path: String,
    value: Value,
}

impl Patch {
    /// Adds `value` at the end of `path`, whose steps are names of members and positions in arrays
    /// (`-` is behind the last).
    pub fn add(&mut self, path: &[&str], value: Value) {
        let path = path.iter().fold(String::new(), |mut pointer, step| {
            pointer.push('/');
            pointer.push_str(&escaped(step));
            pointer
        });
        self.operations.push(Operation { op: "add", path, value });
    }

    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// As RFC 6901 wants a step of a JSON pointer: `~` is escaped first, since the escape of `/` has one.
fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
