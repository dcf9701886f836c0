//! The chart as Helm renders it, against docs/privileges.md: what its containers and accounts may is
//! what stands there, no more and no less. `make chart` runs this; a cluster is not needed.

mod containers;
mod rbac;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_security::{checkout, table};

/// Values with which other parts of the templates are rendered.
const SETTINGS: [&[&str]; 4] = [
    &[],
    &["--set", "injector.replicas=1,controller.replicas=1,networkPolicy.enabled=true"],
    &["--set", "injector.serviceCidrs={10.96.0.0/16},controller.podReportSeconds=0"],
    &["--set", "podMonitor.enabled=true,proxy.rbac.namespaces={shop,stock}"],
];

/// The chart's objects.
fn render(settings: &[&str]) -> Result<Vec<Value>> {
    let mut helm = Command::new(checkout().join("tests/cluster/helm.sh"));
    let output = helm.arg("template").args(settings).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context(text)?;
    let objects: Vec<Value> = objects.into_iter().filter(|it| !it.is_null()).collect();
    ensure!(objects.len() > 15, "only {} objects", objects.len());
    Ok(objects)
}

/// The objects of a kind.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The rows of a table of docs/privileges.md, each of so many cells.
fn documented<const CELLS: usize>(heading: &str) -> Result<Vec<[String; CELLS]>> {
    let document = std::fs::read_to_string(checkout().join("docs/privileges.md"))?;
    let rows = table::below(&document, heading);
    ensure!(!rows.is_empty(), "docs/privileges.md has no table below {heading}");
    let row = |row: Vec<String>| {
        row.try_into().map_err(|row| anyhow::anyhow!("{heading}: not {CELLS} cells: {row:?}"))
    };
    rows.into_iter().map(row).collect()
}
