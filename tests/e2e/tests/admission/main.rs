//! Which pods get the sidecar, and what the authors of the others are told.

mod labels;
mod pods;
mod reports;
mod security;
