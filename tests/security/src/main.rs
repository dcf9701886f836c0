//! Writes the bill of materials of a program: `weft-sbom PROGRAM TIME FILE`. Run by sbom.sh.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use weft_security::graph::Graph;
use weft_security::sbom;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, time, file] = arguments.as_slice() else {
        bail!("usage: weft-sbom PROGRAM TIME FILE");
    };
    let rustc = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let about = String::from_utf8(rustc.stdout)?;
    let compiler = about.lines().next().context("rustc -vV says nothing")?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let target = host.context("rustc -vV names no host")?;
    let graph = Graph::of(program, target)?;
    let document = sbom::document(&graph, target, time, compiler);
    let lacks = sbom::lacks(&document);
    ensure!(lacks.is_empty(), "{program}: the bill of materials is not whole:\n{lacks:#?}");
    std::fs::write(file, serde_json::to_string_pretty(&document)? + "\n").context(file.clone())?;
    let linked = graph.crates.values().filter(|it| it.is_linked).count();
    println!("{file}: {linked} crates in the program, {} to build it", graph.crates.len() - linked);
    Ok(())
}
