//! What every crate of the workspace promises.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use weft_security::checkout;

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The value of `name = …` below `[section]` of a Cargo.toml.
fn value(manifest: &str, section: &str, name: &str) -> Option<String> {
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let mut lines = lines.take_while(|line| !line.starts_with('['));
    lines
        .find_map(|line| Some(line.strip_prefix(name)?.trim().strip_prefix('=')?.trim().to_owned()))
}

/// `forbid`, unlike `deny`, is what no `allow` below it can lift: where the whole workspace has the lint,
/// the compiler itself proves that none of its crates has unsafe code.
#[test]
fn unsafe_code_is_forbidden_in_every_crate() -> Result<()> {
    let top = read(&checkout().join("Cargo.toml"))?;
    let level = value(&top, "[workspace.lints.rust]", "unsafe_code");
    ensure!(level.as_deref() == Some("\"forbid\""), "unsafe_code = {level:?}");
    let members = value(&top, "[workspace]", "members").context("members")?;
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    ensure!(members.len() >= 11, "{members:?}");
    for member in members {
        let manifest = read(&checkout().join(member).join("Cargo.toml"))?;
        let inherited = value(&manifest, "[lints]", "workspace");
        ensure!(inherited.as_deref() == Some("true"), "{member} has lints of its own");
    }
    Ok(())
}

/// deny.toml says from which versions on the HTTP implementation is good enough. What the workspace asks
/// for must be no less: a consumer of these manifests has another Cargo.lock.
#[test]
fn what_deny_toml_refuses_is_not_asked_for() -> Result<()> {
    let top = read(&checkout().join("Cargo.toml"))?;
    let deny = read(&checkout().join("deny.toml"))?;
    let number = |text: &str| -> Option<Vec<u32>> {
        text.split('.').map(|part| part.parse().ok()).collect()
    };
    for name in ["hyper", "h2"] {
        let least =
            deny.split(&format!("crate = \"{name}:<")).nth(1).and_then(|it| it.split('"').next());
        let least = least.and_then(number).with_context(|| format!("deny.toml: {name}"))?;
        let asked = value(&top, "[workspace.dependencies]", &format!("{name} "))
            .with_context(|| format!("Cargo.toml: {name}"))?;
        let version =
            asked.split('"').find(|part| part.starts_with(|it: char| it.is_ascii_digit()));
        let version = version.and_then(number).with_context(|| format!("Cargo.toml: {asked}"))?;
        ensure!(version >= least, "{name}: {version:?} is asked for, {least:?} is the least");
    }
    Ok(())
}
