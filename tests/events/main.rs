//! What `docs/events.md` says becomes of each datagram, and what holds for any datagram.

#![expect(clippy::expect_used, clippy::panic, reason = "what a test's helper finds wrong fails the test")]

mod forged;
mod hostile;
mod notation;
mod table;

use std::collections::BTreeSet;

use sense_otel::event::{Action, Format, RejectReason, decode};

/// The wire samples that the formats were learnt from, by number, and the rows that show them. 57 is a repetition of 3
/// and a reversal of 3 and 4.
const SAMPLES: [(usize, &[usize]); 58] = [
    (1, &[1]),
    (2, &[2]),
    (3, &[3]),
    (4, &[4]),
    (5, &[5]),
    (6, &[102]),
    (7, &[103]),
    (8, &[104]),
    (9, &[105]),
    (10, &[106]),
    (11, &[19]),
    (12, &[107]),
    (13, &[16]),
    (14, &[130]),
    (15, &[57]),
    (16, &[34]),
    (17, &[35]),
    (18, &[37]),
    (19, &[26]),
    (20, &[24]),
    (21, &[25]),
    (22, &[40]),
    (23, &[52]),
    (24, &[49]),
    (25, &[59]),
    (26, &[60]),
    (27, &[61]),
    (28, &[62]),
    (29, &[63]),
    (30, &[73]),
    (31, &[66]),
    (32, &[67]),
    (33, &[119]),
    (34, &[121]),
    (35, &[123]),
    (36, &[124]),
    (37, &[89]),
    (38, &[125]),
    (39, &[126]),
    (40, &[129]),
    (41, &[137]),
    (42, &[10]),
    (43, &[11, 12]),
    (44, &[108]),
    (45, &[109]),
    (46, &[113]),
    (47, &[18]),
    (48, &[142]),
    (49, &[144]),
    (50, &[145, 146]),
    (51, &[147]),
    (52, &[148]),
    (53, &[20, 21, 22, 23]),
    (54, &[117, 118]),
    (55, &[38]),
    (56, &[153, 155]),
    (57, &[3, 4]),
    (58, &[39]),
];

#[test]
fn every_row_of_the_page_is_what_happens() {
    let mut wrong = Vec::new();
    for row in table::rows() {
        let found = decode(&row.datagram);
        if found != row.outcome {
            let (number, case, expected) = (row.number, row.case, row.outcome);
            wrong.push(format!("row {number}, {case}\n expected {expected:?}\n found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rows_are_numbered_without_a_gap_and_no_two_are_the_same() {
    let rows = table::rows();
    let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=rows.len()).collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    for row in &rows {
        assert!(!row.case.is_empty(), "row {} has no name", row.number);
        assert!(seen.insert(&row.datagram), "row {} is a row again", row.number);
    }
}

#[test]
fn every_reason_and_every_event_of_each_format_is_shown() {
    let rows = table::rows();
    for reason in RejectReason::ALL {
        // The processor decides on the nodes.
        let shown = rows.iter().any(|row| row.outcome == Err(reason));
        assert_eq!(shown, reason != RejectReason::TooManyNodes, "{reason}");
    }
    for (format, action) in [Format::Stock, Format::Extended].into_iter().flat_map(|f| Action::ALL.map(|a| (f, a))) {
        let shows =
            |row: &table::Row| row.outcome.as_ref().is_ok_and(|event| (event.format, event.action) == (format, action));
        assert!(rows.iter().any(shows), "{format:?} {action:?}");
    }
}

#[test]
fn every_sample_is_shown() {
    let count = table::rows().len();
    let samples: Vec<_> = SAMPLES.iter().map(|(sample, _)| *sample).collect();
    assert_eq!(samples, (1..=SAMPLES.len()).collect::<Vec<_>>());
    for (sample, rows) in SAMPLES {
        assert!(!rows.is_empty() && rows.iter().all(|row| (1..=count).contains(row)), "sample {sample}");
    }
}

/// Every name that we send is explained to whoever looks for it.
#[test]
fn every_name_of_the_mapping_is_on_the_page() {
    let page = include_str!("../../docs/events.md");
    let mapping = include_str!("../../src/processor/mapping.rs");
    let names: BTreeSet<&str> = mapping
        .split('"')
        .filter(|text| {
            text.contains('.') && text.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte))
        })
        .chain(Action::ALL.map(Action::event_name))
        .collect();
    assert!(names.len() > 35 && names.contains("session.id"), "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(**name)).collect();
    assert!(missing.is_empty(), "not in docs/events.md: {missing:?}");
}
