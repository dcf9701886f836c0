//! A file of manifests, with any bytes in it: from a folder that somebody writes to, and what a kind's
//! schema let through in a cluster.

use std::path::Path;

use weft_proxy::fuzz;

use crate::table;

/// What begins with a brace is a JSON file, all else YAML.
pub fn run(data: &[u8]) {
    let is_json = data.trim_ascii_start().starts_with(b"{");
    let name = if is_json { "file.json" } else { "file.yaml" };
    let snapshot = fuzz::manifest(Path::new(name), data);
    for problem in &snapshot.problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
        let line = problem.to_string();
        assert!(!line.chars().any(char::is_control), "not one line: {line:?}");
    }
    table::check(snapshot.objects);
}
