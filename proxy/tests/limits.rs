//! docs/limits.md has every option that is a limit, by its default, and each constant that it names by
//! the value that the source has.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use weft_proxy::config::Config;

/// What an option asks for that is no limit, as `--help` names it.
const NO_LIMITS: [&str; 9] =
    ["NAMESPACE", "NODE", "ZONE", "ADDRESS", "FOLDER", "PORT", "LEVEL", "FORMAT", "SECONDS,…"];

fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it when it runs tests");
    Path::new(&here).parent().expect("a crate of the workspace").to_owned()
}

/// The rows of all tables of docs/limits.md, by cells.
fn rows() -> Vec<Vec<String>> {
    let document = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_option_that_is_a_limit_is_there_with_its_default() {
    let rows = rows();
    let mut told: BTreeMap<&str, (&str, Option<&str>)> = BTreeMap::new();
    for row in &rows {
        if let Some(option) = row[0].strip_prefix("`--") {
            let default = quoted(&row[2]).first().copied();
            told.insert(option.trim_end_matches('`'), (quoted(&row[1])[0], default));
        }
    }
    let command = Config::command();
    for argument in command.get_arguments() {
        let Some(option) = argument.get_long() else { continue };
        let names = argument.get_value_names().unwrap_or_default();
        let is_limit = names.iter().all(|name| !NO_LIMITS.contains(&name.as_str()));
        if !is_limit || !argument.get_action().takes_values() {
            continue;
        }
        let (variable, default) = told
            .remove(option)
            .unwrap_or_else(|| panic!("--{option} is a limit, and not in docs/limits.md"));
        assert_eq!(argument.get_env().unwrap().to_str(), Some(variable), "--{option}");
        let values = argument.get_default_values();
        let expected = values.first().map(|value| value.to_str().unwrap());
        assert_eq!(default, expected, "the default of --{option}");
    }
    assert!(told.is_empty(), "weft-proxy has no such options: {told:?}");
}

#[test]
fn every_constant_has_the_value_that_is_told() {
    let mut count = 0;
    for row in rows() {
        let [limit, value, source, ..] = row.as_slice() else { panic!("{row:?}") };
        let [file, name] = quoted(source)[..] else { continue };
        let path = match file.strip_prefix("gamma/") {
            Some(file) => root().join("gamma/src").join(file),
            None => root().join("proxy/src").join(file),
        };
        let text = fs::read_to_string(path).unwrap_or_else(|it| panic!("{limit}: {file}: {it}"));
        let (_, declared) = text
            .split_once(&format!("const {name}: "))
            .unwrap_or_else(|| panic!("{limit}: {file} has no constant {name}"));
        let (_, expression) = declared.split_once(" = ").unwrap();
        let (expression, _) = expression.split_once(';').unwrap();
        let found = evaluated(expression).unwrap_or_else(|| panic!("{name}: {expression}"));
        assert_eq!(Some(found), measured(value), "{limit}: {name} in {file}");
        count += 1;
    }
    assert!(count > 50, "only {count} constants");
}

/// The value of a constant: a number, a product, a shift, or a Duration in milliseconds.
fn evaluated(expression: &str) -> Option<u64> {
    for (constructor, milliseconds) in
        [("Duration::from_secs(", 1000), ("Duration::from_millis(", 1)]
    {
        if let Some(inner) = expression.strip_prefix(constructor) {
            return Some(evaluated(inner.strip_suffix(')')?)? * milliseconds);
        }
    }
    if let Some((number, bits)) = expression.split_once(" << ") {
        return Some(evaluated(number)? << evaluated(bits)?);
    }
    expression.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>().ok()).product()
}

/// A value as the page has it: `256`, `64 KiB`, `30 s`, `200 ms`.
fn measured(value: &str) -> Option<u64> {
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let unit = match unit {
        "" | "ms" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "s" => 1000,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

#[test]
fn values_are_read_as_they_are_meant() {
    for (expression, value) in [
        ("256", "256"),
        ("10_000", "10000"),
        ("64 * 1024", "64 KiB"),
        ("64 << 20", "64 MiB"),
        ("Duration::from_secs(2 * 60)", "120 s"),
        ("Duration::from_millis(200)", "200 ms"),
    ] {
        assert!(evaluated(expression).is_some(), "{expression}");
        assert_eq!(evaluated(expression), measured(value), "{expression}");
    }
    assert_eq!(evaluated("u32::MAX"), None);
}
