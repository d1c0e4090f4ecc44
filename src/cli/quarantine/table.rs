//! The list of requests: one line each, and what they come to.

use std::io::{self, Write};

use crate::cli::demo::fit;
use crate::store::Quarantined;
use crate::telemetry::text::one_line;

use super::{code_name, utc};

/// A reason is not cut to less, however narrow the terminal.
const REASON_WIDTH_MIN: usize = 20;

/// Writes the list, cut to `width` columns if there is a terminal that has some.
pub(super) fn write(requests: &[Quarantined], width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    if requests.is_empty() {
        return writeln!(out, "the quarantine is empty");
    }
    let heads = ["ID", "GIVEN UP", "SIGNAL", "ITEMS", "BYTES", "CODE", "REASON"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(heads).chain(requests.iter().map(row)).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let [id, time, signal, items, bytes, code, _] = widths;
    let reason_width = width.map(|width| {
        let before = [id, time, signal, items, bytes, code].iter().map(|width| width + 2).sum();
        width.saturating_sub(before).max(REASON_WIDTH_MIN)
    });
    for [cell_id, cell_time, cell_signal, cell_items, cell_bytes, cell_code, reason] in &rows {
        let reason = reason_width.map_or_else(|| reason.clone(), |width| fit(reason, width));
        let line = format!(
            "{cell_id:>id$}  {cell_time:<time$}  {cell_signal:<signal$}  {cell_items:>items$}  {cell_bytes:>bytes$}  \
             {cell_code:<code$}  {reason}"
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    let items: u64 =
        requests.iter().filter_map(|request| request.about.as_ref()).map(|about| u64::from(about.items)).sum();
    let bytes: u64 = requests.iter().map(|request| request.size).sum();
    writeln!(out, "requests: {}, items: {items}, bytes: {bytes}", requests.len())
}

fn row(request: &Quarantined) -> [String; 7] {
    let (id, bytes) = (request.id.to_string(), request.size.to_string());
    match &request.about {
        Some(about) => [
            id,
            utc(about.wall, 0),
            about.signal.to_string(),
            about.items.to_string(),
            bytes,
            code_name(about.code),
            one_line(&about.reason),
        ],
        None => {
            let unknown = || "-".to_owned();
            [id, unknown(), unknown(), unknown(), bytes, unknown(), "the file is damaged or cannot be read".to_owned()]
        }
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::signal::Signal;
    use crate::store::{About, QuarantineId};
    use crate::time::Timestamp;

    fn request(id: u64, code: u32, reason: &str) -> Quarantined {
        let wall = Timestamp::from_nanos(1_795_652_633_999_000_000);
        let about = About { signal: Signal::Logs, items: 3, code, reason: reason.to_owned(), wall };
        Quarantined { id: QuarantineId(id), size: 1234, about: Some(about) }
    }

    fn written(requests: &[Quarantined], width: Option<usize>) -> String {
        let mut out = Vec::new();
        write(requests, width, &mut out).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn there_is_a_line_for_each_and_one_with_the_sums() {
        let damaged = Quarantined { id: QuarantineId(10), size: 7, about: None };
        let expected = "\
ID  GIVEN UP              SIGNAL  ITEMS  BYTES  CODE             REASON
 9  2026-11-26T00:23:53Z  logs        3   1234  InvalidArgument  no such field
10  -                     -           -      7  -                the file is damaged or cannot be read
11  2026-11-26T00:23:53Z  logs        3   1234  4000000000
requests: 3, items: 6, bytes: 2475
";
        let requests = [request(9, 3, "no such field"), damaged, request(11, 4_000_000_000, "")];
        assert_eq!(written(&requests, None), expected);
        assert_eq!(written(&[], Some(80)), "the quarantine is empty\n");
    }

    #[test]
    fn a_hostile_reason_reaches_no_terminal_and_no_second_line() {
        let hostile = format!("\u{1b}[2J\u{202e}\r\nfake\u{7}{}", "名".repeat(200));
        for width in [None, Some(100), Some(1)] {
            let text = written(&[request(1, 3, &hostile)], width);
            assert_eq!(text.lines().count(), 3, "{text}");
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\r', '\u{7}']), "{text:?}");
        }
        let text = written(&[request(1, 3, &hostile)], Some(100));
        assert!(text.lines().all(|line| line.width() <= 100), "{text}");
    }
}
