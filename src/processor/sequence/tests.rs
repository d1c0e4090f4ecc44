//! Scripts for each rule of the order, and what holds for any stream.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Arrival, HELD_MAX, RELEASE_MAX, Sequencer, Step};
use crate::event::{Datagram, Format};
use crate::time::{RunningTime, Timestamp};

const SECOND: Duration = Duration::from_secs(1);

/// Where the wall clock of every script begins.
const EIGHT: Timestamp = Timestamp::from_nanos(1_795_420_800_000_000_000);

/// A node, its order and what came of it, in words: `12`, `late 12`, `gap 3-5`, `restart`, `duplicate`.
struct Node {
    sequencer: Sequencer,
    held_bytes: usize,
    now: RunningTime,
    told: Vec<String>,
}

impl Node {
    fn new() -> Self {
        Self { sequencer: Sequencer::default(), held_bytes: 0, now: RunningTime::from_nanos(1), told: Vec::new() }
    }

    /// Offers a number whose event happened at second `at` of the script.
    fn offer(&mut self, number: u32, at: u64) {
        let bytes = number.to_string();
        let datagram =
            Datagram { received: EIGHT, source: SocketAddr::from(([10, 0, 0, 1], 1)), bytes: bytes.as_bytes() };
        let time = Some(EIGHT + SECOND * u32::try_from(at).expect("a short script"));
        let arrival = Arrival { format: Format::Extended, sequence: Some(number), time, datagram };
        let told = &mut self.told;
        self.sequencer.offer(self.now, &arrival, &mut self.held_bytes, |step| told.push(words(step, &bytes)));
    }

    fn offer_all(&mut self, numbers: impl IntoIterator<Item = u32>, at: u64) {
        numbers.into_iter().for_each(|number| self.offer(number, at));
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.sequencer.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.advance();
        }
        self.now = end;
        self.advance();
    }

    fn advance(&mut self) {
        let told = &mut self.told;
        self.sequencer.advance(self.now, &mut self.held_bytes, |step| told.push(words(step, "")));
    }

    /// What was told since the last look.
    fn told(&mut self) -> String {
        std::mem::take(&mut self.told).join(", ")
    }
}

fn words(step: Step, offered: &str) -> String {
    match step {
        Step::Gap { first, last, .. } => format!("gap {first}-{last}"),
        Step::Restarted => "restart".to_owned(),
        Step::Take { late: false } => offered.to_owned(),
        Step::Take { late: true } => format!("late {offered}"),
        Step::TakeOld => format!("old {offered}"),
        Step::Release(held) => String::from_utf8_lossy(&held.bytes).into_owned(),
        Step::Duplicate => "duplicate".to_owned(),
        Step::Superseded => "superseded".to_owned(),
    }
}

#[test]
fn first_contact_is_taken_at_once_and_makes_no_gap() {
    let mut node = Node::new();
    node.offer_all([500, 501], 0);
    assert_eq!(node.told(), "500, 501");
}

#[test]
fn what_is_ahead_is_held_until_what_is_missing_comes() {
    let mut node = Node::new();
    node.offer_all([1, 4, 3], 0);
    assert_eq!(node.told(), "1");
    assert_eq!(node.sequencer.held(), 2);
    node.offer(2, 0);
    assert_eq!(node.told(), "2, 3, 4");
    assert_eq!(node.held_bytes, 0);
    assert_eq!(node.sequencer.deadline(), None);
}

#[test]
fn after_a_second_what_is_missing_is_one_gap() {
    let mut node = Node::new();
    node.offer_all([1, 5], 0);
    node.pass(SECOND / 2);
    node.offer_all([6, 9], 0);
    assert_eq!(node.told(), "1");
    node.pass(SECOND / 2);
    assert_eq!(node.told(), "gap 2-4, 5, 6");
    node.pass(SECOND / 2);
    assert_eq!(node.told(), "gap 7-8, 9");
}

#[test]
fn inside_a_gap_each_number_is_late_once() {
    let mut node = Node::new();
    node.offer_all([1, 10], 0);
    node.pass(SECOND);
    node.told();
    node.offer_all([5, 5, 2, 9, 2, 6], 0);
    assert_eq!(node.told(), "late 5, duplicate, late 2, late 9, duplicate, late 6");
}

#[test]
fn duplicates_are_told_from_what_was_taken_and_what_is_held() {
    let mut node = Node::new();
    node.offer_all([1, 2, 1, 2, 7, 7], 0);
    assert_eq!(node.told(), "1, 2, duplicate, duplicate, duplicate");
}

#[test]
fn shortly_after_first_contact_events_from_before_it_are_late() {
    let mut node = Node::new();
    node.offer_all([2000, 1999, 1000, 999, 1999], 0);
    assert_eq!(node.told(), "2000, late 1999, late 1000, duplicate, duplicate");
    node.pass(SECOND * 61);
    node.offer_all([2001, 1998], 0);
    assert_eq!(node.told(), "2001, duplicate");
}

#[test]
fn a_lower_number_with_a_later_time_is_a_restart() {
    let mut node = Node::new();
    node.offer_all(1..=100, 0);
    node.told();
    node.offer(1, 2);
    assert_eq!(node.told(), "duplicate", "two seconds are not more than two seconds");
    node.offer(1, 3);
    node.offer(2, 3);
    assert_eq!(node.told(), "restart, 1, 2");
}

#[test]
fn a_restart_whose_first_events_are_missing_tells_them_as_a_gap() {
    let mut node = Node::new();
    node.offer_all(1..=100, 0);
    node.told();
    node.offer(4, 60);
    node.offer(2, 59);
    assert_eq!(node.told(), "restart, gap 1-3, 4, late 2");
}

#[test]
fn a_restart_is_not_mistaken_for_a_late_event_of_an_open_gap() {
    let mut node = Node::new();
    node.offer_all([1, 10], 0);
    node.pass(SECOND * 60);
    node.told();
    node.offer(5, 60);
    assert_eq!(node.told(), "restart, gap 1-4, 5");
}

#[test]
fn a_clock_that_is_set_back_beside_a_fresh_gap_is_no_restart() {
    let mut node = Node::new();
    node.offer_all(1..=9, 100);
    node.offer_all(11..=20, 90);
    node.pass(SECOND);
    node.told();
    node.offer(10, 100);
    assert_eq!(node.told(), "late 10");
}

#[test]
fn a_restart_with_the_clock_set_back_is_found_after_a_minute() {
    let mut node = Node::new();
    node.offer_all(1..=50, 7200);
    node.told();
    node.pass(SECOND * 30);
    node.offer_all([1, 2], 3600);
    assert_eq!(node.told(), "duplicate, duplicate", "nothing speaks for a restart yet");
    node.pass(SECOND * 31);
    node.offer_all([3, 4], 3660);
    assert_eq!(node.told(), "restart, gap 1-2, 3, 4");
    node.pass(SECOND);
    node.offer(50, 7200);
    node.pass(SECOND);
    assert_eq!(node.told(), "gap 5-49, 50", "where the clock was set back nothing is known of the old count");
}

#[test]
fn a_late_event_without_a_time_fills_its_gap() {
    let mut node = Node::new();
    node.offer_all([1, 3], 0);
    node.pass(SECOND * 60);
    node.told();
    let datagram = Datagram {
        received: EIGHT + SECOND * 60,
        source: SocketAddr::from(([10, 0, 0, 1], 1)),
        bytes: b"without a time",
    };
    let arrival = Arrival { format: Format::Extended, sequence: Some(2), time: None, datagram };
    let told = &mut node.told;
    node.sequencer.offer(node.now, &arrival, &mut node.held_bytes, |step| told.push(words(step, "2")));
    assert_eq!(node.told(), "late 2");
}

#[test]
fn a_restart_lets_go_first_what_is_held_of_the_old_count() {
    let mut node = Node::new();
    node.offer_all([50, 53], 0);
    node.offer(1, 60);
    assert_eq!(node.told(), "50, gap 51-52, 53, restart, 1");
    assert_eq!(node.sequencer.held(), 0);
}

#[test]
fn what_comes_late_from_before_a_restart_finds_its_place_there() {
    let mut node = Node::new();
    node.offer_all(1..=100, 10);
    node.offer(104, 10);
    node.pass(SECOND);
    node.told();
    node.offer(1, 60);
    node.offer(102, 10);
    node.offer(100, 10);
    node.offer(105, 10);
    node.offer(2, 61);
    assert_eq!(node.told(), "restart, 1, old 102, duplicate, old 105, 2");
    assert_eq!(node.sequencer.held(), 0, "nothing of the old count is held for the new one");
}

#[test]
fn an_event_from_before_a_restart_does_not_pass_for_the_next_one() {
    let mut node = Node::new();
    node.offer_all([1, 2, 4], 10);
    node.pass(SECOND * 50);
    node.told();
    node.offer_all([1, 2], 60);
    node.offer(3, 10);
    node.offer_all([3, 4], 61);
    assert_eq!(node.told(), "restart, 1, 2, old 3, 3, 4");
}

#[test]
fn events_of_the_new_count_may_be_a_little_older_than_its_first() {
    let mut node = Node::new();
    node.offer_all(1..=20, 10);
    node.told();
    node.offer(1, 60);
    node.offer_all([4, 3], 59);
    node.offer(2, 60);
    assert_eq!(node.told(), "restart, 1, 2, 3, 4");
}

#[test]
fn one_follows_the_largest_number() {
    let mut node = Node::new();
    node.offer_all([2_147_483_646, 2_147_483_647, 1, 2], 0);
    assert_eq!(node.told(), "2147483646, 2147483647, 1, 2");
    let mut node = Node::new();
    node.offer_all([2_147_483_646, 2], 0);
    node.pass(SECOND);
    node.offer_all([1, 2_147_483_647], 0);
    assert_eq!(node.told(), "2147483646, gap 2147483647-1, 2, late 1, late 2147483647");
}

#[test]
fn a_restart_after_a_wrap_and_after_a_billion_events_is_a_restart() {
    let mut node = Node::new();
    node.offer_all([2_147_483_647, 1, 2, 3], 0);
    node.told();
    node.offer(1, 60);
    assert_eq!(node.told(), "restart, 1");
    let mut node = Node::new();
    node.offer(2_000_000_000, 0);
    node.told();
    node.offer(1, 60);
    assert_eq!(node.told(), "restart, 1");
}

#[test]
fn two_restarts_in_a_row_are_two() {
    let mut node = Node::new();
    node.offer_all(1..=9, 0);
    node.told();
    node.offer_all([1, 2, 3], 10);
    node.offer_all([1, 2], 13);
    assert_eq!(node.told(), "restart, 1, 2, 3, restart, 1, 2");
}

#[test]
fn a_full_hold_gives_up_on_what_is_missing() {
    let mut node = Node::new();
    node.offer(1, 0);
    let ahead = u32::try_from(HELD_MAX).expect("a small number");
    node.offer_all(3..3 + ahead, 0);
    assert_eq!(node.told.len(), 1);
    node.offer(3 + ahead, 0);
    assert_eq!(node.told.get(1).map(String::as_str), Some("gap 2-2"));
    assert_eq!(node.told.len(), 3, "no more than there must be room for");
    // The rest is due at once, and goes in portions, whatever comes in between.
    let mut told = node.told.len();
    while node.sequencer.held() > 0 {
        assert_eq!(node.sequencer.deadline(), Some(RunningTime::START));
        node.offer(3, 0);
        node.offer(4 + ahead, 0);
        node.advance();
        assert!(node.told.len() - told <= RELEASE_MAX + 4, "{} at once", node.told.len() - told);
        told = node.told.len();
    }
    let released = node.told.iter().filter(|step| *step != "duplicate" && !step.starts_with("gap"));
    let expected = std::iter::once(1).chain(3..=4 + ahead).map(|number| number.to_string());
    assert!(released.eq(expected.collect::<Vec<_>>().iter()), "in their order");
}

#[test]
fn what_a_late_one_lets_go_goes_in_portions_too() {
    let mut node = Node::new();
    node.offer(1, 0);
    let last = 3 * u32::try_from(RELEASE_MAX).expect("a small number");
    node.offer_all(3..=last, 0);
    node.offer(2, 0);
    assert_eq!(node.told.len(), 2 + RELEASE_MAX);
    // Of those that are still held the first has its place next, and comes once more.
    node.offer(u32::try_from(RELEASE_MAX).expect("a small number") + 3, 0);
    assert_eq!(node.told.last().map(String::as_str), Some("duplicate"));
    (0..2).for_each(|_| node.advance());
    assert_eq!((node.sequencer.held(), node.told.len()), (0, last as usize + 1));
}

#[test]
fn stock_datagrams_are_duplicates_within_a_tenth_of_a_second() {
    let mut node = Node::new();
    let mut told = Vec::new();
    let mut offer = |node: &mut Node, bytes: &[u8], port: u16| {
        let received = EIGHT + node.now.since(RunningTime::from_nanos(1));
        let datagram = Datagram { received, source: SocketAddr::from(([10, 0, 0, 1], port)), bytes };
        let arrival = Arrival { format: Format::Stock, sequence: None, time: None, datagram };
        node.sequencer.offer(node.now, &arrival, &mut node.held_bytes, |step| told.push(words(step, "taken")));
    };
    offer(&mut node, b"same", 1);
    node.pass(Duration::from_millis(100));
    offer(&mut node, b"same", 1);
    offer(&mut node, b"same", 2);
    offer(&mut node, b"other", 1);
    node.pass(Duration::from_millis(101));
    offer(&mut node, b"same", 1);
    assert_eq!(told, ["taken", "duplicate", "taken", "taken", "taken"]);
}

#[test]
fn stock_datagrams_are_superseded_for_a_day_after_an_extended_one() {
    let mut node = Node::new();
    node.offer(1, 0);
    let mut told = Vec::new();
    for hours in [0, 23, 1] {
        node.pass(SECOND * 3600 * hours);
        let bytes = format!("stock {hours}");
        let datagram =
            Datagram { received: EIGHT, source: SocketAddr::from(([10, 0, 0, 1], 1)), bytes: bytes.as_bytes() };
        let arrival = Arrival { format: Format::Stock, sequence: None, time: None, datagram };
        node.sequencer.offer(node.now, &arrival, &mut node.held_bytes, |step| told.push(words(step, "taken")));
    }
    assert_eq!(told, ["superseded", "superseded", "taken"]);
}

proptest! {
    /// Lost, repeated and permuted within a second: every event is taken once or lies in exactly one gap that was told.
    #[test]
    fn nothing_is_lost_untold_and_nothing_taken_twice(
        first in prop_oneof![1..50_u32, 2_147_483_600..2_147_483_647_u32],
        fates in vec((any::<bool>(), any::<prop::sample::Index>(), 0..3_usize, any::<bool>()), 1..80),
    ) {
        let number = |index: usize| {
            let place = u64::from(first) + index as u64;
            u32::try_from((place - 1) % 2_147_483_647 + 1).expect("a number")
        };
        let mut order: Vec<usize> = (1..=fates.len()).collect();
        for (index, (_, other, ..)) in fates.iter().enumerate() {
            order.swap(index, other.index(fates.len()));
        }
        let mut node = Node::new();
        node.offer(number(0), 0);
        let mut lost = BTreeSet::new();
        let mut repeated = 0;
        for index in order {
            let (is_lost, _, repeats, pause) = fates[index - 1];
            if is_lost {
                lost.insert(index);
                continue;
            }
            for _ in 0..=repeats {
                node.offer(number(index), 0);
            }
            repeated += repeats;
            if pause {
                // Less than a second altogether, so that nothing is given up on before everything is sent.
                node.pass(Duration::from_millis(10));
            }
        }
        node.pass(SECOND * 2);
        let last_sent = (1..=fates.len()).filter(|index| !lost.contains(index)).max().unwrap_or(0);
        let told = std::mem::take(&mut node.told);
        let taken: Vec<&str> = told.iter().map(String::as_str).filter(|word| !word.starts_with(['g', 'd', 'r'])).collect();
        let expected: Vec<String> =
            (0..=last_sent).filter(|index| !lost.contains(index)).map(|index| number(index).to_string()).collect();
        prop_assert_eq!(taken, expected, "{:?}", told);
        let gaps: BTreeSet<String> = told.iter().filter(|word| word.starts_with("gap")).cloned().collect();
        let missing = told.iter().filter(|word| word.starts_with("gap")).count();
        prop_assert_eq!(gaps.len(), missing, "a gap was told twice");
        let runs = (1..=last_sent).filter(|index| lost.contains(index) && !lost.contains(&(index - 1))).count();
        prop_assert_eq!(missing, runs, "one gap for each run of lost events");
        prop_assert_eq!(told.iter().filter(|word| *word == "duplicate").count(), repeated);
        prop_assert_eq!(node.held_bytes, 0);
    }

    /// Whatever comes, everything offered is in one place, and what is held stays counted.
    #[test]
    fn any_stream_is_accounted_for(
        offers in vec((prop_oneof![1..40_u32, any::<u32>().prop_map(|n| n % 2_147_483_647 + 1)], 0..200_u64, 0..900_u64), 1..200),
    ) {
        let mut node = Node::new();
        for (number, at, millis) in &offers {
            node.offer(*number, *at);
            node.pass(Duration::from_millis(*millis));
        }
        let mut held_bytes = node.held_bytes;
        let told = &mut node.told;
        node.sequencer.flush(node.now, &mut held_bytes, |step| told.push(words(step, "")));
        prop_assert_eq!(held_bytes, 0);
        let counted = node.told.iter().filter(|word| !word.starts_with(['g', 'r'])).count();
        prop_assert_eq!(counted, offers.len());
    }
}
