//! TROUBLESHOOTING.md quotes what the programs say: somebody who searches for a message must find it
//! there, and every reason that the mesh answers with must be explained.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it when it runs tests");
    Path::new(&here).parent().expect("a crate of the workspace").to_owned()
}

/// All source files below a folder, tests left out.
fn sources(folder: &Path, text: &mut String) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            sources(&path, text);
        } else if path.extension().is_some_and(|it| it == "rs") && !is_test {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The programs' texts as they print them: Rust goes on in the next line after a `\`.
fn printed() -> String {
    let mut text = String::new();
    for room in ["gamma", "proxy", "init", "injector", "controller"] {
        sources(&root().join(room).join("src"), &mut text);
    }
    let mut joined = String::new();
    for part in text.split("\\\n") {
        joined.push_str(if joined.is_empty() { part } else { part.trim_start() });
    }
    joined.replace("\\\"", "\"")
}

#[test]
fn messages_are_quoted_word_for_word() {
    let (printed, document) = (printed(), document());
    let quotes: Vec<&str> =
        document.lines().filter_map(|line| line.trim_start().strip_prefix("> ")).collect();
    assert!(quotes.len() > 30, "{quotes:?}");
    for quote in quotes {
        for fragment in quote.split('…').map(|it| it.trim_matches([' ', ':', ';', '(', ')'])) {
            let known = printed.contains(fragment);
            assert!(known, "no program prints {fragment:?}, of: {quote}");
        }
    }
}

#[test]
fn every_reason_is_explained() {
    let mut text = String::new();
    sources(&root().join("proxy/src"), &mut text);
    let (_, reasons) = text.split_once("pub fn reason(&self)").unwrap();
    let (reasons, _) = reasons.split_once("\n    }\n").unwrap();
    let reasons: Vec<&str> = reasons.split('"').skip(1).step_by(2).collect();
    assert!(reasons.contains(&"no_rule_matched") && reasons.len() >= 11, "{reasons:?}");
    let document = document();
    for reason in reasons {
        assert!(document.contains(&format!("| `{reason}` |")), "{reason} is not explained");
    }
}

#[test]
fn the_readme_s_example_is_what_the_program_prints() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, example) = readme.split_once("```console\n$ weft-proxy explain").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let transcript = root().join("proxy/tests/transcripts/2-merged-routes.txt");
    let transcript = fs::read_to_string(transcript).unwrap();
    assert!(transcript.contains(&format!("$ weft-proxy explain{example}")), "{example}");
}

fn document() -> String {
    fs::read_to_string(root().join("TROUBLESHOOTING.md")).unwrap()
}
