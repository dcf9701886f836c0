//! Prints the condensed list of the API's fields: see [`weft_api::crd`]. `tests/api/list.sh` runs it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: weft-api FOLDER > LIST")?;
    let api = weft_api::crd::condense(&PathBuf::from(folder))?;
    let mut text = serde_json::to_string_pretty(&api)?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
