//! What `make bench` and `make scale` share: the place where a run stands, its processes, its figures.

pub mod namespace;
pub mod process;

/// Three digits that count, or all before the point.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
