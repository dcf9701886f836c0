//! What Weft is made of, and what it may.
//!
//! * [`graph`]: the crates that a program is built of, as cargo resolves them for it alone.
//! * [`sbom`]: the same as a CycloneDX document, and whether one is whole.
//! * [`table`]: the tables of docs/privileges.md, against which the tests hold the chart.

pub mod graph;
pub mod sbom;
pub mod table;

use std::path::PathBuf;

/// The top of the checkout.
pub fn checkout() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
