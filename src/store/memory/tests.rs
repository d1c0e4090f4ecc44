use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::store::{Commit, Store};
use crate::time::Now;

const UNLIMITED: Budget = Budget { bytes: u64::MAX, age: Duration::MAX };
const ALL: Limit = Limit { bytes: usize::MAX, items: u64::MAX };

/// What had to go, in items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Expired {
    logs: u64,
    traces: u64,
}

#[derive(Debug, Default)]
struct Heard(Mutex<Expired>);

impl Observer for Heard {
    fn observe(&self, happening: Happening) {
        let Happening::Expired { signal, what, .. } = happening else { panic!("{happening:?} in memory") };
        let mut expired = self.0.lock().expect("no panic before");
        if signal == Signal::Logs { expired.logs += what.items } else { expired.traces += what.items }
    }
}

/// A store, and what it tells.
#[derive(Clone, Debug)]
struct Rig {
    store: Store,
    heard: Arc<Heard>,
}

impl Rig {
    fn in_memory(budget: Budget) -> Self {
        let heard = Arc::new(Heard::default());
        Self { store: Store::in_memory(budget, Arc::clone(&heard) as Arc<dyn Observer>), heard }
    }

    /// Returns what expired.
    fn append(&self, requests: Vec<ExportRequest>, running: RunningTime) -> Expired {
        let now = Now { running, ..Now::default() };
        self.store.append(Commit { requests, now, ..Commit::default() }).expect("room in memory");
        std::mem::take(&mut *self.heard.0.lock().expect("no panic before"))
    }
}

impl std::ops::Deref for Rig {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

fn request(signal: Signal, items: u32, size: usize) -> ExportRequest {
    ExportRequest { signal, items, body: Bytes::from(vec![b'x'; size]) }
}

fn at(seconds: u64) -> RunningTime {
    RunningTime::START + Duration::from_secs(seconds)
}

fn costs(requests: u64, size: u64) -> u64 {
    requests * (size + OVERHEAD)
}

#[test]
fn a_batch_is_cut_by_bytes_and_by_items_and_holds_one_request_at_least() {
    let store = Rig::in_memory(UNLIMITED);
    let sizes = [40, 40, 40, 500, 10];
    let _ = store.append(sizes.map(|size| request(Signal::Logs, 3, size)).to_vec(), at(0));

    let limit = Limit { bytes: 100, items: 1_000 };
    let mut after = Position::START;
    let mut cuts = Vec::new();
    while let Some(batch) = store.next(Signal::Logs, after, limit) {
        cuts.push(batch.requests.iter().map(|stored| stored.body.len()).collect::<Vec<_>>());
        after = batch.last;
    }
    assert_eq!(cuts, [vec![40, 40], vec![40], vec![500], vec![10]]);

    let by_items = store.next(Signal::Logs, Position::START, Limit { bytes: usize::MAX, items: 7 }).expect("stored");
    assert_eq!(by_items.requests.len(), 2);
    assert_eq!(store.next(Signal::Traces, Position::START, ALL), None);
}

#[test]
fn acknowledging_frees_everything_up_to_the_position_and_nothing_twice() {
    let store = Rig::in_memory(UNLIMITED);
    let _ = store.append(vec![request(Signal::Traces, 2, 10); 3], at(0));
    let first = store.next(Signal::Traces, Position::START, Limit { bytes: 20, items: 100 }).expect("stored");

    store.acknowledge(Signal::Traces, first.last);
    store.acknowledge(Signal::Traces, first.last);
    store.acknowledge(Signal::Logs, first.last);
    assert_eq!(store.pending(Signal::Traces), Pending { requests: 1, items: 2, bytes: 10 });

    let rest = store.next(Signal::Traces, first.last, ALL).expect("the third");
    store.acknowledge(Signal::Traces, rest.last);
    assert_eq!(store.pending(Signal::Traces), Pending::default());
    assert_eq!(store.next(Signal::Traces, rest.last, ALL), None);
}

#[test]
fn over_the_byte_budget_the_oldest_goes_whatever_its_signal() {
    let store = Rig::in_memory(Budget { bytes: costs(3, 100), age: Duration::MAX });
    let _ = store.append(vec![request(Signal::Traces, 1, 100), request(Signal::Logs, 2, 100)], at(0));
    assert_eq!(store.append(vec![request(Signal::Logs, 4, 100)], at(1)), Expired::default());
    assert_eq!(store.append(vec![request(Signal::Logs, 8, 100)], at(2)), Expired { logs: 0, traces: 1 });
    assert_eq!(store.append(vec![request(Signal::Traces, 16, 100)], at(3)), Expired { logs: 2, traces: 0 });
    assert_eq!(store.pending(Signal::Logs).items, 12);
    assert_eq!(store.pending(Signal::Traces).items, 16);
}

#[test]
fn what_is_older_than_the_budget_allows_goes_with_the_next_append() {
    let store = Rig::in_memory(Budget { bytes: u64::MAX, age: Duration::from_secs(60) });
    let _ = store.append(vec![request(Signal::Logs, 5, 10)], at(0));
    assert_eq!(store.append(vec![request(Signal::Traces, 1, 10)], at(60)), Expired::default());
    assert_eq!(store.append(Vec::new(), at(61)), Expired { logs: 5, traces: 0 });
}

#[test]
fn what_was_handed_out_does_not_expire() {
    let store = Rig::in_memory(Budget { bytes: costs(2, 100), age: Duration::from_secs(1) });
    let _ = store.append(vec![request(Signal::Logs, 1, 100), request(Signal::Logs, 2, 100)], at(0));
    let in_hand = store.next(Signal::Logs, Position::START, Limit { bytes: 100, items: 9 }).expect("stored");

    assert_eq!(store.append(vec![request(Signal::Logs, 4, 100)], at(9)), Expired { logs: 2, traces: 0 });
    let again = store.next(Signal::Logs, Position::START, Limit { bytes: 100, items: 9 }).expect("still there");
    assert_eq!(again, in_hand);

    store.acknowledge(Signal::Logs, in_hand.last);
    let rest = store.next(Signal::Logs, in_hand.last, ALL).expect("the last one");
    assert_eq!(rest.requests.iter().map(|stored| stored.items).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_request_that_alone_exceeds_the_budget_expires_at_once() {
    let store = Rig::in_memory(Budget { bytes: 10, age: Duration::MAX });
    assert_eq!(store.append(vec![request(Signal::Logs, 7, 100)], at(0)), Expired { logs: 7, traces: 0 });
    assert_eq!(store.pending(Signal::Logs), Pending::default());
}

#[tokio::test]
async fn an_append_wakes_who_waits_for_its_signal() {
    let store = Rig::in_memory(UNLIMITED);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.appended(Signal::Traces, Position::START).await }
    });
    tokio::task::yield_now().await;
    let _ = store.append(vec![request(Signal::Logs, 1, 1)], at(0));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "a log record is no span");

    let _ = store.append(vec![request(Signal::Traces, 1, 1)], at(0));
    waiting.await.expect("woken");
    store.appended(Signal::Traces, Position::START).await;
}

#[derive(Clone, Debug)]
enum Step {
    Append(bool, u32, usize),
    Next(bool),
    Acknowledge(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1..50_u32, 0..400_usize).prop_map(|(logs, items, size)| Step::Append(logs, items, size)),
        2 => any::<bool>().prop_map(Step::Next),
        1 => any::<bool>().prop_map(Step::Acknowledge),
    ]
}

proptest! {
    /// Whatever is done: each item leaves once, order is kept, and what is in hand stays.
    #[test]
    fn every_item_is_booked_once(steps in prop::collection::vec(step(), 1..200)) {
        let store = Rig::in_memory(Budget { bytes: 4_000, age: Duration::from_secs(30) });
        let limit = Limit { bytes: 700, items: 60 };
        let mut appended = [0_u64; 2];
        let mut expired = [0_u64; 2];
        let mut acknowledged = [0_u64; 2];
        let mut in_hand: [Vec<Batch>; 2] = Default::default();
        let mut cursor = [Position::START; 2];

        for (second, step) in steps.into_iter().enumerate() {
            let signal_of = |logs: bool| if logs { (0, Signal::Logs) } else { (1, Signal::Traces) };
            match step {
                Step::Append(logs, items, size) => {
                    let (index, signal) = signal_of(logs);
                    appended[index] += u64::from(items);
                    let gone = store.append(vec![request(signal, items, size)], at(second as u64));
                    expired[0] += gone.logs;
                    expired[1] += gone.traces;
                }
                Step::Next(logs) => {
                    let (index, signal) = signal_of(logs);
                    if let Some(batch) = store.next(signal, cursor[index], limit) {
                        prop_assert!(batch.last > cursor[index]);
                        cursor[index] = batch.last;
                        in_hand[index].push(batch);
                    }
                }
                Step::Acknowledge(logs) => {
                    let (index, signal) = signal_of(logs);
                    if !in_hand[index].is_empty() {
                        let batch = in_hand[index].remove(0);
                        acknowledged[index] += batch.requests.iter().map(|stored| u64::from(stored.items)).sum::<u64>();
                        store.acknowledge(signal, batch.last);
                    }
                }
            }
            for (index, signal) in [Signal::Logs, Signal::Traces].into_iter().enumerate() {
                let pending = store.pending(signal).items;
                prop_assert_eq!(appended[index], acknowledged[index] + expired[index] + pending);
            }
        }
    }
}
