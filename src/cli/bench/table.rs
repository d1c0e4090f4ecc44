//! The report as a person reads it.

use std::fmt::Write;

use super::ramp::Outcome;
use super::report::{Counts, Limit, Load, Machine, Row, Run};

/// Columns of a row's name.
const NAME_WIDTH: usize = 32;
const COLUMN_WIDTH: usize = 10;

/// What the columns are, in the order of [`super::report::Figures::columns`].
const COLUMNS: [&str; 8] = ["events/s", "cpu us", "p50 ms", "p99 ms", "p99.9 ms", "RSS MB", "wire B", "disk B"];

pub(super) fn head(machine: &Machine, seconds: f64) -> String {
    format!("{}, {}, {} processors; {seconds} s for each step\n", machine.os, machine.architecture, machine.processors)
}

pub(super) fn limit(limit: &Limit) -> String {
    let mut text = heading(&format!("limit: {}", limit.format));
    rows(&mut text, &limit.rows);
    text
}

pub(super) fn run(run: &Run) -> String {
    let setup = run.setup;
    let mut text = heading(&format!("{}, {}, {}", setup.mode, setup.format, setup.compression));
    rows(&mut text, &run.rows);
    text.push_str(&counts(&run.counts));
    text
}

fn heading(title: &str) -> String {
    let mut text = format!("\n{title:NAME_WIDTH$}");
    for column in COLUMNS {
        // Writing to a text never fails.
        let _ = write!(text, "{column:>COLUMN_WIDTH$}");
    }
    text.push('\n');
    text
}

fn rows(text: &mut String, rows: &[Row]) {
    for row in rows {
        let lost = if row.lost > 0 { format!(", {} lost", grouped(row.lost)) } else { String::new() };
        let outcome = match (row.outcome, row.load) {
            (Outcome::NotReached, Load::Ceiling) => ", at least",
            (Outcome::NotReached, _) => ", not reached",
            (Outcome::Failed, _) if row.lost == 0 => ", late",
            _ => "",
        };
        line(text, &format!("{}{outcome}{lost}", name(row.load)), &row.figures.columns(), "");
        if let Some(ratios) = row.to_limit {
            line(text, "  x limit", &ratios.columns(), "x");
        }
    }
}

fn line(text: &mut String, name: &str, columns: &[Option<f64>], unit: &str) {
    let _ = write!(text, "{name:NAME_WIDTH$}");
    for column in columns {
        let number = column.map_or_else(|| "-".to_owned(), |number| format!("{}{unit}", short(number)));
        let _ = write!(text, "{number:>COLUMN_WIDTH$}");
    }
    text.push('\n');
}

fn counts(counts: &Counts) -> String {
    let Counts { sent, receiver, exported, balanced } = counts;
    let mut text = format!("{sent} sent = {} accepted", receiver.accepted);
    for (count, name) in [
        (receiver.duplicate, "duplicate"),
        (receiver.excluded, "excluded"),
        (receiver.rejected, "rejected"),
        (receiver.dropped_channel_full, "dropped before the core"),
        (receiver.dropped_store_full, "dropped before the store"),
        (receiver.dropped_otherwise(), "dropped"),
        (receiver.held, "held"),
        (receiver.kernel_drops, "lost in the socket"),
    ] {
        if count > 0 {
            let _ = write!(text, " + {count} {name}");
        }
    }
    let _ = write!(text, "; {exported} exported");
    if receiver.given_up > 0 {
        let _ = write!(text, ", {} given up", receiver.given_up);
    }
    text.push_str(if *balanced { "\n" } else { ": THIS DOES NOT ADD UP\n" });
    text
}

fn name(load: Load) -> String {
    match load {
        Load::PerSecond(rate) => format!("{}/s", grouped(rate.into())),
        Load::FourFifths => "80 % of ceiling".to_owned(),
        Load::Ceiling => "ceiling".to_owned(),
    }
}

/// Three digits, or all before the point, in groups.
fn short(number: f64) -> String {
    match number {
        number if number < 0.995 => format!("{number:.3}"),
        number if number < 9.995 => format!("{number:.2}"),
        number if number < 99.95 => format!("{number:.1}"),
        number => grouped(number.round() as u64),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::arrivals::Counters;
    use super::super::report::{Figures, Setup};
    use super::super::{Compression, Mode};
    use super::*;
    use crate::cli::appender::WireFormat;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.004_2, "0.004"),
            (0.5, "0.500"),
            (1.234, "1.23"),
            (26.04, "26.0"),
            (99.96, "100"),
            (1_000.4, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(short(number), expected);
        }
    }

    #[test]
    fn a_run_has_a_line_for_each_load_with_its_ratios_below() {
        let figures = Figures { events_per_second: Some(120_000.0), cpu_us: Some(4.56), ..Figures::default() };
        let ratios = Figures { events_per_second: Some(0.25), cpu_us: Some(3.0), ..Figures::default() };
        let row = Row {
            load: Load::Ceiling,
            outcome: Outcome::NotReached,
            sent: 10,
            lost: 0,
            latency_samples: 0,
            figures,
            to_limit: Some(ratios),
        };
        let lossy = Row { load: Load::PerSecond(1_000), outcome: Outcome::Failed, lost: 7_654, to_limit: None, ..row };
        let late = Row { lost: 0, ..lossy };
        let receiver =
            Counters { accepted: 7, dropped: 6, dropped_channel_full: 5, kernel_drops: 7, ..Counters::default() };
        let setup = Setup { mode: Mode::Durable, format: WireFormat::Extended, compression: Compression::Gzip };
        let text = run(&Run { setup, rows: vec![lossy, late, row], counts: Counts::new(20, receiver, 7, 0) });
        let expected = "
durable, extended, gzip           events/s    cpu us    p50 ms    p99 ms  p99.9 ms    RSS MB    wire B    disk B
1,000/s, 7,654 lost                120,000      4.56         -         -         -         -         -         -
1,000/s, late                      120,000      4.56         -         -         -         -         -         -
ceiling, at least                  120,000      4.56         -         -         -         -         -         -
  x limit                           0.250x     3.00x         -         -         -         -         -         -
20 sent = 7 accepted + 5 dropped before the core + 1 dropped + 7 lost in the socket; 7 exported
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_does_not_add_up_is_shouted() {
        let text = counts(&Counts::new(3, Counters { accepted: 2, ..Counters::default() }, 2, 0));
        assert_eq!(text, "3 sent = 2 accepted; 2 exported: THIS DOES NOT ADD UP\n");
    }
}
