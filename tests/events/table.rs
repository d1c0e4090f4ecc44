//! The numbered tables of `docs/events.md`.

use std::fs;
use std::path::Path;

use crate::notation::{self, Outcome};

/// One case of the page.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) case: String,
    pub(crate) datagram: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// All rows of the page, in its order.
pub(crate) fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md");
    let page = fs::read_to_string(path).expect("docs/events.md");
    let rows = read(&page).unwrap_or_else(|error| panic!("docs/events.md: {error}"));
    assert!(!rows.is_empty(), "docs/events.md has no cases");
    rows
}

/// Every line of a table between the heading `Cases` and the next one of its level is a row, a head, or a fault.
fn read(page: &str) -> Result<Vec<Row>, String> {
    let (_, cases) = page.split_once("\n## Cases\n").ok_or("no heading `Cases`")?;
    let cases = cases.split_once("\n## ").map_or(cases, |(cases, _)| cases);
    let lines = cases.lines().filter(|line| line.trim_start().starts_with('|') || line.contains(" | "));
    let is_head = |line: &&str| line.starts_with("| # |") || line.starts_with("|---|");
    lines.filter(|line| !is_head(line)).map(|line| row(line).map_err(|error| format!("{error}\n{line}"))).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let cells: Vec<_> = line.split('|').collect();
    let ["", number, case, datagram, outcome, ""] = cells[..] else {
        return Err("a row has four cells".to_owned());
    };
    let datagram = match datagram.trim() {
        "*(nothing)*" => Vec::new(),
        code => notation::bytes(notation::span(code)?)?,
    };
    let number = number.trim().parse().map_err(|_| format!("no number: {number}"))?;
    Ok(Row { number, case: case.trim().to_owned(), datagram, outcome: notation::outcome(outcome.trim())? })
}

#[test]
fn a_row_that_does_not_parse_is_a_fault() {
    let page = |row: &str| {
        format!("# Events\n| 0 | not a case |\n## Cases\n\n| # | a |\n|---|---|\n{row}\n\n## More\n| x |\n")
    };
    let good = "| 1 | a case | `\\x7C` | rejected: `empty` |";
    let rows = read(&page(good)).expect("a row");
    assert_eq!((rows.len(), rows[0].number, rows[0].datagram.as_slice()), (1, 1, &b"|"[..]));
    for wrong in [
        "| 1 | a case | `x` |",
        "| 1 | a case | `x` | rejected: `empty`",
        "1 | a case | `x` | rejected: `empty` |",
        "| one | a case | `x` | rejected: `empty` |",
        "| 1 | a case | x | rejected: `empty` |",
        "| 1 | a case | `\\q` | rejected: `empty` |",
        "| 1 | a case | `x` | `empty` |",
        "| 1 | a case | `x|y` | rejected: `empty` |",
    ] {
        assert!(read(&page(wrong)).is_err(), "{wrong}");
    }
    assert!(read("no cases").is_err());
}
