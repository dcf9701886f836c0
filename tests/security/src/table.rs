//! The tables of a document.

/// The rows of the first table below a heading, by cells without backticks. Empty where there is no
/// such heading, or no table before the next one.
pub fn below(document: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = document.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('#'));
    let table = lines.skip_while(|line| !line.starts_with('|'));
    // The head and the line below it.
    let rows = table.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(cells).collect()
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    row.split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect()
}

/// What a cell lists, between commas; nothing for `–`.
pub fn list(cell: &str) -> Vec<String> {
    if cell == "–" {
        return Vec::new();
    }
    cell.split(',').map(|word| word.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_heading_and_no_other() {
        let document = "# A\n| x |\n|---|\n| 1 |\n## B\ntext\n\n| x | y |\n|---|---|\n| `2` | a, `b` |\n\n| no |\n## C\n";
        assert_eq!(below(document, "## B"), [["2", "a, b"]]);
        assert_eq!(list("a, b"), ["a", "b"]);
        assert_eq!(list("–"), [""; 0]);
        assert!(below(document, "## C").is_empty());
        assert!(below(document, "## D").is_empty());
    }
}
