//! The Gateway API as a list of fields, and what the documents of `docs/` say about each.
//!
//! * [`list`]: `tests/api/v1.7.0.json`, one entry per field of the kinds that Weft reads.
//! * [`crd`]: makes that list from the API's own CRDs. `tests/api/list.sh` runs it, for the next
//!   release too; `make conformance` checks that the list in the tree is what the CRDs give.
//! * [`sentence`]: the sentences of a field's godoc that say MUST.
//! * [`document`]: the tables of `docs/api-support.md`, `docs/api-musts.md` and `docs/reliability.md`.
//!
//! The tests hold the documents, and what Weft decodes, against the list.

pub mod crd;
pub mod document;
pub mod list;
pub mod sentence;

use std::path::PathBuf;

/// The list of the release that Weft is made for.
pub const LIST: &str = "v1.7.0.json";

/// The top of the checkout. Cargo starts a test in its package's folder.
pub fn checkout() -> PathBuf {
    PathBuf::from("../..")
}
