use super::*;

const RETRY: RetryConfig =
    RetryConfig { initial_interval: Duration::from_secs(1), max_interval: Duration::from_secs(30) };

fn after(start: Instant, seconds: f64) -> Instant {
    start + Duration::from_secs_f64(seconds)
}

#[test]
fn a_failure_shuts_and_only_the_call_that_asks_opens() {
    let start = Instant::now();
    let mut gate = Gate::new(RETRY, 1);
    assert_eq!(gate.passage(start), Passage::Free);
    let tickets = [gate.pass(), gate.pass(), gate.pass()];

    let wait = gate.shut(tickets[1], start, Duration::ZERO).expect("news");
    assert_eq!(gate.passage(start), Passage::None);
    assert_eq!(gate.opens_at(), Some(start + wait));

    // However the older calls end, that is no reason to try earlier, or to wait for longer.
    gate.answered(tickets[0]);
    assert_eq!(gate.shut(tickets[2], start, Duration::ZERO), None);
    assert_eq!(gate.opens_at(), Some(start + wait));

    let due = start + wait;
    assert_eq!(gate.passage(due), Passage::One);
    let asking = gate.pass();
    assert_eq!(gate.passage(due), Passage::None);
    gate.answered(tickets[2]);
    assert_eq!(gate.passage(due), Passage::None, "an older answer is not the one that was asked for");
    gate.answered(asking);
    assert_eq!(gate.passage(due), Passage::Free);
}

#[test]
fn waits_grow_while_the_question_fails_and_begin_anew_after_it_succeeds() {
    let mut now = Instant::now();
    let mut gate = Gate::new(RETRY, 1);
    for full in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
        let ticket = gate.pass();
        let wait = gate.shut(ticket, now, Duration::ZERO).expect("news").as_secs_f64();
        assert!((full / 2.0..=full).contains(&wait), "{wait} for {full}");
        now = after(now, wait);
    }
    let ticket = gate.pass();
    gate.answered(ticket);
    let ticket = gate.pass();
    assert!(gate.shut(ticket, now, Duration::ZERO).expect("news") <= RETRY.initial_interval);
}

#[test]
fn what_a_server_asks_for_is_obeyed_even_from_an_older_call() {
    let start = Instant::now();
    let mut gate = Gate::new(RETRY, 1);
    let tickets = [gate.pass(), gate.pass()];
    assert_eq!(gate.shut(tickets[0], start, Duration::from_secs(10)), Some(Duration::from_secs(10)));
    assert_eq!(gate.shut(tickets[1], start, Duration::from_secs(20)), None);
    assert_eq!(gate.passage(after(start, 19.9)), Passage::None);
    assert_eq!(gate.passage(after(start, 20.0)), Passage::One);
}

#[test]
fn parked_it_asks_every_half_minute_and_less_and_less_often() {
    let start = Instant::now();
    let mut gate = Gate::new(RETRY, 1);
    for full in [30.0, 60.0, 120.0, 240.0, 300.0, 300.0] {
        let ticket = gate.pass();
        let wait = gate.park(ticket, start).expect("news").as_secs_f64();
        assert!((full / 2.0..=full).contains(&wait), "{wait} for {full}");
    }
}

/// A gate that is shut as [`Gate::shut`] says, at the moment that is returned.
fn shut(at_least: Duration) -> (Gate, Instant) {
    let now = Instant::now();
    let config = RetryConfig { initial_interval: Duration::from_secs(20), max_interval: Duration::from_secs(20) };
    let mut gate = Gate::new(config, 1);
    let ticket = gate.pass();
    gate.shut(ticket, now, at_least).expect("news");
    (gate, now)
}

#[test]
fn in_a_hurry_our_own_wait_is_waived_once_and_what_a_server_asked_for_is_not() {
    let (mut gate, now) = shut(Duration::ZERO);
    gate.hurry(after(now, 5.0));
    assert_eq!(gate.passage(now), Passage::One);
    let asking = gate.pass();
    assert_eq!(gate.passage(now), Passage::None);
    gate.shut(asking, now, Duration::ZERO).expect("news");
    gate.hurry(after(now, 5.0));
    assert_eq!(gate.passage(now), Passage::None, "it was waived already");

    let (mut gate, now) = shut(Duration::from_secs(2));
    gate.hurry(after(now, 5.0));
    assert_eq!(gate.passage(after(now, 1.9)), Passage::None);
    assert_eq!(gate.passage(after(now, 2.0)), Passage::One);
}

#[test]
fn in_a_hurry_waits_fit_into_what_is_left_and_are_few() {
    let (mut gate, mut now) = shut(Duration::ZERO);
    let end = after(now, 5.0);
    gate.hurry(end);
    let mut tries = 0;
    while now < end {
        assert_eq!(gate.passage(now), Passage::One);
        let ticket = gate.pass();
        now += gate.shut(ticket, now, Duration::ZERO).expect("news");
        tries += 1;
    }
    assert!((3..10).contains(&tries), "{tries} tries");

    let ticket = gate.pass();
    gate.hurry(end);
    assert!(gate.park(ticket, now).expect("news") > Duration::from_secs(60), "who parks us is not asked again");
}

/// Calls start as fast as they may and end when and how they like: after every failure that is news there is a wait in
/// which none starts, and then one that is alone until it has ended.
#[test]
fn there_is_no_storm_whatever_happens() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let mut gate = Gate::new(RETRY, seed);
        let mut under_way = Vec::new();
        let mut not_before = now;
        let mut asking = None;
        for _ in 0..500 {
            now = after(now, random.f64() / 3.0);
            while under_way.len() < 4 && gate.passage(now) != Passage::None {
                assert!(now >= not_before, "seed {seed}: a call in the wait");
                assert_eq!(asking, None, "seed {seed}: a second call beside the one that asks");
                let alone = gate.passage(now) == Passage::One;
                let ticket = gate.pass();
                asking = alone.then_some(ticket);
                under_way.push(ticket);
            }
            if under_way.is_empty() {
                continue;
            }
            let ticket = under_way.swap_remove(random.usize(..under_way.len()));
            let news = match random.u32(..3) {
                0 => gate.shut(ticket, now, Duration::from_secs(random.u64(..3))),
                1 => gate.park(ticket, now),
                _ => {
                    gate.answered(ticket);
                    None
                }
            };
            not_before = news.map_or(not_before, |wait| now + wait);
            asking = asking.filter(|&asked| asked != ticket);
        }
    }
}
