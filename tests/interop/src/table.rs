//! The table that ends a run.

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The suite, or whom the sidecar spoke to.
    pub(crate) what: String,
    pub(crate) expected: String,
    pub(crate) seen: String,
    pub(crate) passed: bool,
    /// Lines below it: what failed, and why.
    pub(crate) notes: Vec<String>,
}

impl Row {
    /// A part that could not be run to its end.
    pub(crate) fn failed(what: &str, error: &str) -> Row {
        Row {
            what: what.to_owned(),
            expected: "a result".to_owned(),
            seen: "none".to_owned(),
            passed: false,
            notes: error.lines().map(str::to_owned).collect(),
        }
    }
}

/// The rows as text, columns as wide as they need to be.
pub(crate) fn render(rows: &[Row]) -> String {
    let width = |column: fn(&Row) -> &str, title: &str| {
        rows.iter().map(|row| column(row).chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let what = width(|row| &row.what, "what");
    let expected = width(|row| &row.expected, "expected");
    let mut text = format!("\n       {:what$}  {:expected$}  seen\n", "what", "expected");
    for row in rows {
        let mark = if row.passed { "ok" } else { "FAILED" };
        text += &format!("{mark:6} {:what$}  {:expected$}  {}\n", row.what, row.expected, row.seen);
        for note in &row.notes {
            text += &format!("         {note}\n");
        }
    }
    let failed = rows.iter().filter(|row| !row.passed).count();
    text + &match failed {
        0 => format!("\ninterop: {} of {} as expected\n", rows.len(), rows.len()),
        _ => format!("\ninterop: {failed} of {} NOT as expected\n", rows.len()),
    }
}
