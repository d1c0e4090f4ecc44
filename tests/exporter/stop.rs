//! The end: what is left is delivered, and it comes in time.

use super::*;

#[tokio::test]
async fn stopping_delivers_what_is_left() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::After(Duration::from_millis(20), Box::new(Answer::Ok)));
    let large = (0..20).map(|number| logs_of(number..number + 1, 2 * 1024 * 1024)).collect();
    let rig = Rig::with_backlog(config(collector.addr()), large);
    rig.append(vec![spans(7)]);
    let counts = rig.stop(Duration::from_secs(15)).await;
    assert_eq!(counts.acknowledged, 20);
    assert_eq!(sorted(accepted(&collector)), (0..20).collect::<Vec<_>>());
    assert_eq!(calls(&collector.received(), Signal::Traces), 1);
}

#[tokio::test]
async fn stopping_goes_on_asking_until_its_deadline() {
    let collector = Collector::start();
    let refusals = || Answer::status(Code::Unavailable, "starting");
    collector.answer(Signal::Logs, std::iter::repeat_with(refusals).take(3));
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..2)]);
    collector.wait("the first try", |received| !received.is_empty()).await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 2);
}

#[tokio::test]
async fn stopping_with_a_dead_backend_ends_in_time_and_says_what_is_left() {
    let collector = Collector::start();
    let addr = collector.addr();
    collector.stop();
    let rig = Rig::with_backlog(config(addr), vec![logs(0..9), spans(4)]);
    let store = rig.store.clone();
    assert_eq!(rig.stop(Duration::from_millis(300)).await.acknowledged, 0);
    assert_eq!((store.pending(Signal::Logs).items, store.pending(Signal::Traces).items), (9, 4));
}

#[tokio::test]
async fn stopping_with_a_hanging_backend_ends_in_time() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::Hang);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..9), spans(4)]);
    collector.wait("the call that hangs", |received| calls(received, Signal::Logs) == 1).await;
    let store = rig.store.clone();
    assert_eq!(rig.stop(Duration::from_millis(300)).await.acknowledged, 0);
    assert_eq!(store.pending(Signal::Logs).items, 9);
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_try_that_may_not_be_made() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, [Answer::retry_after(Code::Unavailable, Duration::from_secs(60))]);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
    collector.wait("the refusal", |received| !received.is_empty()).await;
    rig.refused_once().await;
    let asked = Instant::now();
    assert_eq!(rig.stop(GRACE).await.acknowledged, 0);
    assert!(asked.elapsed() < Duration::from_secs(1), "waited {:?} for nothing", asked.elapsed());
}

/// Waits that no grace is long enough for.
fn patient(addr: SocketAddr) -> Config {
    let retry = RetryConfig { initial_interval: Duration::from_secs(60), max_interval: Duration::from_secs(60) };
    Config { retry, ..config(addr) }
}

#[tokio::test]
async fn stopping_asks_once_more_whatever_the_back_off_says() {
    let collector = Collector::start();
    let addr = collector.addr();
    collector.stop();
    let rig = Rig::with_backlog(patient(addr), (0..50).map(|number| logs(number..number + 1)).collect());
    rig.refused_once().await;
    let collector = Collector::with(Options { listen: Some(addr), ..Options::default() });
    assert_eq!(rig.stop(GRACE).await.acknowledged, 50);
    assert_eq!(accepted(&collector), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn stopping_goes_on_asking_a_backend_that_comes_back_within_the_grace() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, std::iter::repeat_with(|| Answer::status(Code::Unavailable, "starting")).take(3));
    let rig = Rig::with_backlog(patient(collector.addr()), vec![logs(0..2)]);
    rig.refused_once().await;
    assert_eq!(rig.stop(Duration::from_secs(2)).await.acknowledged, 2);
}

#[tokio::test]
async fn stopping_asks_a_backend_that_had_parked_us_exactly_once() {
    let collector = Collector::start();
    let denied = || Answer::status(Code::Unauthenticated, "who are you");
    collector.answer(Signal::Logs, [denied()]);
    collector.rule(Signal::Traces, move |_| denied());
    let rig = Rig::with_backlog(patient(collector.addr()), vec![logs(0..2), spans(3)]);
    for signal in [Signal::Logs, Signal::Traces] {
        while told(&rig.telemetry, signal).parked == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let asked = Instant::now();
    assert_eq!(rig.stop(GRACE).await.acknowledged, 2, "it knows us by now");
    assert!(asked.elapsed() < Duration::from_secs(1), "waited {:?} for nothing", asked.elapsed());
    assert_eq!(calls(&collector.received(), Signal::Traces), 2);
}

#[tokio::test]
async fn stopping_waits_for_as_long_as_the_server_has_asked_for() {
    let collector = Collector::start();
    let delay = Duration::from_millis(700);
    collector.answer(Signal::Logs, [Answer::retry_after(Code::Unavailable, delay)]);
    let rig = Rig::with_backlog(patient(collector.addr()), vec![logs(0..2)]);
    rig.refused_once().await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 2);
    let calls = collector.received();
    assert!(calls[1].at - calls[0].at >= delay, "came back after {:?}", calls[1].at - calls[0].at);
}

#[tokio::test]
async fn an_exporter_whose_owner_is_gone_ends() {
    let collector = Collector::start();
    let Rig { stop, running, .. } = Rig::start(config(collector.addr()));
    drop(stop);
    let left = timeout(GRACE, running).await.expect("ends").expect("no panic");
    assert_eq!(left, [(Signal::Logs, 0), (Signal::Traces, 0)]);
}
