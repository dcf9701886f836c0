//! The crates that a program is built of.
//!
//! `cargo metadata` resolves the whole workspace at once: a feature that only a test wants would count
//! for every program. `cargo tree --package` resolves for one; what it names is looked up in the other.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A crate's name and version. No crate is there twice in one version: all are of one registry.
pub type Id = (String, String);

/// A program and all that goes into it.
#[derive(Debug, Default)]
pub struct Graph {
    pub root: Id,
    pub crates: BTreeMap<Id, Crate>,
}

/// A crate in the graph.
#[derive(Debug, Default)]
pub struct Crate {
    pub needs: BTreeSet<Id>,
    /// Whether it is part of the program; else it is used while the program is built.
    pub is_linked: bool,
    /// As Cargo.toml has it, in SPDX's words.
    pub license: Option<String>,
    pub description: Option<String>,
    pub repository: Option<String>,
    /// SHA-256 of what the registry has; None of a crate of the workspace.
    pub checksum: Option<String>,
}

impl Graph {
    /// Asks cargo in the folder of the checkout. `target` is a triple.
    ///
    /// # Errors
    /// Where cargo fails, or says what cannot be read.
    pub fn of(program: &str, target: &str) -> Result<Graph> {
        let tree = |edges: &str| {
            let format = ["--prefix", "depth", "--format", " {p}"];
            let of = ["tree", "--locked", "--package", program, "--target", target];
            cargo(of.into_iter().chain(["--edges", edges]).chain(format))
        };
        let mut graph = read_tree(&tree("normal,build")?)?;
        for linked in read_tree(&tree("normal,no-proc-macro")?)?.crates.into_keys() {
            let found = graph.crates.get_mut(&linked);
            found.with_context(|| format!("{linked:?} is in one tree only"))?.is_linked = true;
        }
        let metadata = cargo(["metadata", "--locked", "--format-version", "1"])?;
        graph.describe(&serde_json::from_str(&metadata)?)?;
        let lock = std::fs::read_to_string(crate::checkout().join("Cargo.lock"))?;
        let checksums = checksums(&lock);
        for (id, found) in &mut graph.crates {
            found.checksum = checksums.get(id).cloned();
        }
        Ok(graph)
    }

    /// Fills in what `cargo metadata` says of each crate.
    fn describe(&mut self, metadata: &Value) -> Result<()> {
        let packages = metadata["packages"].as_array().context("packages of cargo metadata")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut described = 0;
        for package in packages {
            let id = (text(&package["name"]), text(&package["version"]));
            let (Some(name), Some(version)) = id else { bail!("a package without a name") };
            let Some(found) = self.crates.get_mut(&(name, version)) else { continue };
            // An older way to say the same.
            found.license = text(&package["license"]).map(|it| it.replace('/', " OR "));
            found.description = text(&package["description"]);
            found.repository = text(&package["repository"]);
            described += 1;
        }
        let all = self.crates.len();
        ensure!(described == all, "cargo metadata has {described} of {all} crates");
        Ok(())
    }
}

fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(program).args(arguments).current_dir(crate::checkout()).output()?;
    if !output.status.success() {
        bail!("cargo: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Reads lines such as `2 hyper v1.12.0 (*)`: a depth and a crate, below the nearest line of a lower
/// depth. What is needed by one that was there already stands there only.
fn read_tree(text: &str) -> Result<Graph> {
    let mut graph = Graph::default();
    let mut above: Vec<Id> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let mut word = || words.next().with_context(|| format!("a line of cargo tree: {line}"));
        let depth: usize = word()?.parse().with_context(|| line.to_owned())?;
        let name = word()?.to_owned();
        let version = word()?.strip_prefix('v').with_context(|| line.to_owned())?.to_owned();
        let id = (name, version);
        ensure!(depth <= above.len(), "a depth was left out before: {line}");
        above.truncate(depth);
        match above.last() {
            Some(needing) => {
                graph.crates.entry(needing.clone()).or_default().needs.insert(id.clone());
            }
            None => graph.root = id.clone(),
        }
        graph.crates.entry(id.clone()).or_default();
        above.push(id);
    }
    ensure!(!graph.crates.is_empty(), "cargo tree said nothing");
    Ok(graph)
}

/// The checksums of a Cargo.lock.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let lines = &mut package.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
            Some(value.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) =
            (field("name"), field("version"), field("checksum"))
        {
            checksums.insert((name, version), sum);
        }
    }
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        (name.to_owned(), "1.0.0".to_owned())
    }

    #[test]
    fn edges_follow_from_depths() -> Result<()> {
        let tree =
            "0 a v1.0.0 (/a)\n1 b v1.0.0\n2 c v1.0.0\n1 d v1.0.0 (proc-macro)\n2 b v1.0.0 (*)\n";
        let graph = read_tree(tree)?;
        let needs = |name: &str| graph.crates[&id(name)].needs.iter().cloned().collect::<Vec<_>>();
        assert_eq!(graph.root, id("a"));
        assert_eq!(needs("a"), [id("b"), id("d")]);
        assert_eq!(needs("b"), [id("c")]);
        assert_eq!(needs("d"), [id("b")]);
        assert!(read_tree("").is_err() && read_tree("0 a v1\n2 b v1\n").is_err());
        Ok(())
    }

    #[test]
    fn checksums_are_the_locks() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n\
                    \n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        let sums = checksums(lock);
        assert_eq!(sums.get(&id("a")).map(String::as_str), Some("ab"));
        assert_eq!(sums.len(), 1);
    }
}
