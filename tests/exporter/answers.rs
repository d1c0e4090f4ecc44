//! What each answer leads to.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Delivered,
    Parked,
    Quarantined,
}

/// What becomes of a request to which the server always answers so, or first so and then OK.
const TABLE: [(Code, End); 16] = [
    (Code::Cancelled, End::Delivered),
    (Code::Unknown, End::Quarantined),
    (Code::InvalidArgument, End::Quarantined),
    (Code::DeadlineExceeded, End::Delivered),
    (Code::NotFound, End::Quarantined),
    (Code::AlreadyExists, End::Quarantined),
    (Code::PermissionDenied, End::Parked),
    (Code::ResourceExhausted, End::Delivered),
    (Code::FailedPrecondition, End::Quarantined),
    (Code::Aborted, End::Delivered),
    (Code::OutOfRange, End::Delivered),
    (Code::Unimplemented, End::Parked),
    (Code::Internal, End::Quarantined),
    (Code::Unavailable, End::Delivered),
    (Code::DataLoss, End::Delivered),
    (Code::Unauthenticated, End::Parked),
];

#[tokio::test]
async fn every_code_has_the_end_that_the_table_says() {
    for (code, end) in TABLE {
        for retry_info in [false, true] {
            let answer = move || match retry_info {
                false => Answer::status(code, "no"),
                true => Answer::retry_after(code, Duration::from_millis(30)),
            };
            let collector = Collector::start();
            // Six refusals are more than any request survives that is not kept for good.
            collector.answer(Signal::Logs, std::iter::repeat_with(answer).take(6));
            let retry =
                RetryConfig { initial_interval: Duration::from_millis(2), max_interval: Duration::from_millis(4) };
            let rig = Rig::with_backlog(Config { retry, ..config(collector.addr()) }, vec![logs(0..3)]);
            rig.delivered(Signal::Logs).await;
            let told = rig.told();
            let counts = rig.stop(GRACE).await;
            let found = match (counts.acknowledged, counts.quarantined, told.parked) {
                (3, 0, 0) => End::Delivered,
                (3, 0, 1) => End::Parked,
                (0, 3, 0) => End::Quarantined,
                _ => panic!("{code:?}: {counts:?}, {told:?}"),
            };
            assert_eq!(found, end, "{code:?} with RetryInfo: {retry_info}");
            if end != End::Quarantined {
                assert_eq!(told.delivering, 1, "{code:?}: said that it works again");
                assert_eq!(told.retrying, if end == End::Parked { 0 } else { 6 }, "{code:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_text_in_another_encoding_does_not_turn_a_code_into_another() {
    for (code, end) in TABLE {
        let number = (code as i32).to_string();
        let answer = || Answer::http(200, &[("grpc-status", &number), ("grpc-message", "nicht verf%FCgbar")]);
        let collector = Collector::start();
        collector.answer(Signal::Logs, std::iter::repeat_with(answer).take(6));
        let retry = RetryConfig { initial_interval: Duration::from_millis(2), max_interval: Duration::from_millis(4) };
        let rig = Rig::with_backlog(Config { retry, ..config(collector.addr()) }, vec![logs(0..3)]);
        rig.delivered(Signal::Logs).await;
        let parked = rig.told().parked;
        let counts = rig.stop(GRACE).await;
        let expected = match end {
            End::Delivered => (3, 0, 0),
            End::Parked => (3, 0, 1),
            End::Quarantined => (0, 3, 0),
        };
        assert_eq!((counts.acknowledged, counts.quarantined, parked), expected, "{code:?}");
    }
}

#[tokio::test]
async fn a_backend_that_was_gone_gets_everything_in_order_when_it_is_back() {
    let collector = Collector::start();
    let addr = collector.addr();
    let rig = Rig::start(config(addr));
    rig.append(vec![logs(0..5)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2, 3, 4]);
    collector.stop();

    for number in 5..60 {
        rig.append(vec![logs(number..number + 1)]);
        if number % 10 == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(rig.logs().acknowledged, 5);
    assert_eq!(rig.store.pending(Signal::Logs).items, 55);

    let collector = Collector::with(Options { listen: Some(addr), ..Options::default() });
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (5..60).collect::<Vec<_>>());
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (60, 0));
}

#[tokio::test]
async fn a_backend_that_fails_at_random_misses_nothing() {
    let collector = Collector::start();
    let mut random = fastrand::Rng::with_seed(11);
    collector.rule(Signal::Logs, move |_| match random.u32(..4) {
        0 => Answer::status(Code::Unavailable, "no"),
        1 => Answer::without_status(stream::iter([Err(Status::internal("reset"))])),
        _ => Answer::Ok,
    });
    let retry = RetryConfig { initial_interval: Duration::from_millis(1), max_interval: Duration::from_millis(4) };
    let rig = Rig::start(Config { retry, ..config(collector.addr()) });
    for number in 0..300 {
        rig.append(vec![logs(number..number + 1)]);
        if number % 7 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (0..300).collect::<Vec<_>>());
    let tries = collector.received().len();
    assert!(tries > collector.accepted(Signal::Logs).len(), "no call failed, so nothing was shown");
    assert_eq!(rig.stop(GRACE).await.acknowledged, 300);
}

#[tokio::test]
async fn a_balancer_that_ends_connections_all_the_time_costs_nothing() {
    let age = Some(Duration::from_millis(20));
    let collector = Collector::with(Options { connection_age_max: age, ..Options::default() });
    let rig = Rig::start(config(collector.addr()));
    for number in 0..400 {
        rig.append(vec![logs(number..number + 1)]);
        sleep(Duration::from_millis(2)).await;
    }
    rig.delivered(Signal::Logs).await;
    let mut numbers = sorted(accepted(&collector));
    numbers.dedup();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
    assert!(collector.connections() > 10, "{} connections: none was ended", collector.connections());
    assert_eq!(rig.stop(GRACE).await.acknowledged, 400);
}

#[tokio::test]
async fn a_retry_info_is_waited_for() {
    let collector = Collector::start();
    let delay = Duration::from_millis(300);
    collector.answer(Signal::Logs, [Answer::retry_after(Code::Unavailable, delay)]);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    let calls = collector.received();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at - calls[0].at >= delay, "came back after {:?}", calls[1].at - calls[0].at);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn retries_never_become_a_storm() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::status(Code::Unavailable, "no"));
    let retry = RetryConfig { initial_interval: Duration::from_millis(100), max_interval: Duration::from_millis(100) };
    let large = (0..20).map(|number| logs_of(number..number + 1, 2 * 1024 * 1024)).collect();
    let rig = Rig::with_backlog(Config { retry, ..config(collector.addr()) }, large);
    let began = Instant::now();
    sleep(Duration::from_millis(600)).await;
    let calls = collector.received().len();
    let waits = usize::try_from(began.elapsed().as_millis() / 50).expect("a few");
    assert!(calls <= 4 + waits, "{calls} calls in {:?}", began.elapsed());
    assert!(calls > 4, "no retry was made");
    assert_eq!(rig.stop(Duration::from_millis(20)).await.acknowledged, 0);
}

/// Refuses what is larger than `limit` as `grpc-go` does, and takes the rest.
fn refuse_larger(limit: usize) -> impl FnMut(&Received) -> Answer {
    move |call| match call.body.len() {
        size if size > limit => Answer::status(
            Code::ResourceExhausted,
            &format!("grpc: received message larger than max ({size} vs. {limit})"),
        ),
        _ => Answer::Ok,
    }
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_parts_until_it_fits() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, refuse_larger(100_000));
    // Stored requests from small to several times the limit; all records fit alone.
    let backlog =
        vec![logs_of(0..3, 1_000), logs_of(3..103, 5_000), logs_of(103..104, 90_000), logs_of(104..140, 9_000)];
    let rig = Rig::with_backlog(config(collector.addr()), backlog);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), (0..140).collect::<Vec<_>>(), "in parts, and still in order");
    assert!(collector.accepted(Signal::Logs).iter().all(|call| call.body.len() <= 100_000));
    let refused = collector.received().len() - collector.accepted(Signal::Logs).len();
    assert!(refused <= 20, "{refused} calls in vain");

    // The lesson is remembered: the next backlog is cut small at once.
    let before = collector.received().len();
    rig.append((140..200).map(|number| logs_of(number..number + 1, 10_000)).collect());
    rig.delivered(Signal::Logs).await;
    let later = &collector.received()[before..];
    assert!(later.iter().all(|call| call.accepted), "learned nothing");
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (200, 0));
}

#[tokio::test]
async fn a_call_refused_for_its_size_is_no_reason_to_send_small_ones_for_ever() {
    let collector = Collector::start();
    let pair = |first: u32, size| vec![logs_of(first..first + 1, size), logs_of(first + 1..first + 2, size)];
    collector.answer(Signal::Logs, [Answer::status(Code::ResourceExhausted, "message too large")]);
    let rig = Rig::with_backlog(config(collector.addr()), pair(0, 450_000));
    rig.delivered(Signal::Logs).await;
    for number in 2..140 {
        rig.append(vec![logs(number..number + 1)]);
        rig.delivered(Signal::Logs).await;
    }
    let before = collector.received().len();
    rig.append(pair(140, 400_000));
    rig.delivered(Signal::Logs).await;
    assert_eq!(collector.received().len() - before, 1, "both in one call, as before the refusal");
    assert_eq!(rig.stop(GRACE).await.acknowledged, 142);
}

#[tokio::test]
async fn a_record_that_alone_is_too_large_is_put_aside_alone() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, refuse_larger(20_000));
    let mut giant = ExportLogsServiceRequest::decode(logs_of(0..9, 100).body).expect("a request");
    giant.resource_logs[0].scope_logs[0].log_records[5].severity_text = "x".repeat(50_000);
    let giant = ExportRequest { body: giant.encode_to_vec().into(), ..logs(0..9) };
    let rig = Rig::with_backlog(config(collector.addr()), vec![giant, logs(9..12)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (11, 1));
}

#[tokio::test]
async fn http_413_is_too_large_and_another_http_error_is_a_failed_connection() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, [Answer::http(502, &[]), Answer::http(403, &[]), Answer::http(413, &[])]);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..4)]);
    rig.delivered(Signal::Logs).await;
    let sent: Vec<_> = collector.received().iter().map(|call| (numbers(call), call.accepted)).collect();
    let all = vec![0, 1, 2, 3];
    let expected = [(all.clone(), false), (all.clone(), false), (all, false), (vec![0, 1], true), (vec![2, 3], true)];
    assert_eq!(sent, expected);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 4);
}

#[tokio::test]
async fn a_poisoned_batch_blocks_nothing_but_itself() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |call| match numbers(call).contains(&13) {
        true => Answer::status(Code::InvalidArgument, "bad record"),
        false => Answer::Ok,
    });
    let rig = Rig::start(config(collector.addr()));
    for number in 0..40 {
        rig.append(vec![logs(number..number + 1)]);
        rig.delivered(Signal::Logs).await;
    }
    let expected: Vec<u32> = (0..40).filter(|&number| number != 13).collect();
    assert_eq!(accepted(&collector), expected);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (39, 1));
}

#[tokio::test]
async fn one_bad_record_costs_itself_and_not_the_call_it_is_sent_with() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |call| match numbers(call).contains(&1_234) {
        true => Answer::status(Code::InvalidArgument, "bad record"),
        false => Answer::Ok,
    });
    let backlog = (0..2_000).map(|number| logs(number..number + 1)).collect();
    let rig = Rig::with_backlog(config(collector.addr()), backlog);
    rig.delivered(Signal::Logs).await;
    let expected: Vec<u32> = (0..2_000).filter(|&number| number != 1_234).collect();
    assert_eq!(accepted(&collector), expected, "all others, and in their order");
    assert!(collector.received().len() <= 25, "{} calls", collector.received().len());
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (1_999, 1));
}

#[tokio::test]
async fn what_a_server_cannot_explain_is_looked_for_until_it_is_found() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |call| match numbers(call).contains(&21) {
        true => Answer::status(Code::Unknown, "oops"),
        false => Answer::Ok,
    });
    let retry = RetryConfig { initial_interval: Duration::from_millis(2), max_interval: Duration::from_millis(4) };
    let backlog = (0..64).map(|number| logs(number..number + 1)).collect();
    let rig = Rig::with_backlog(Config { retry, ..config(collector.addr()) }, backlog);
    rig.delivered(Signal::Logs).await;
    let expected: Vec<u32> = (0..64).filter(|&number| number != 21).collect();
    assert_eq!(accepted(&collector), expected);
    let tries: Vec<usize> =
        collector.received().iter().map(numbers).filter(|call| call.contains(&21)).map(|call| call.len()).collect();
    assert_eq!(tries, [64, 64, 64, 64, 64, 32, 16, 8, 4, 2, 1, 1, 1, 1, 1], "five tries of the whole and of the one");
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (63, 1));
}

#[tokio::test]
async fn what_a_server_cannot_explain_is_tried_five_times() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |call| match numbers(call).contains(&0) {
        true => Answer::status(Code::Internal, "oops"),
        false => Answer::Ok,
    });
    let rig = Rig::start(config(collector.addr()));
    rig.append(vec![logs(0..1)]);
    collector.wait("the first try", |received| !received.is_empty()).await;
    rig.append(vec![logs(1..2)]);
    rig.delivered(Signal::Logs).await;
    let tries = collector.received().iter().filter(|call| numbers(call).contains(&0)).count();
    assert_eq!(tries, 5);
    assert_eq!(accepted(&collector), [1]);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (1, 1));
}

#[tokio::test]
async fn a_request_given_up_in_doubt_does_not_make_the_backend_a_healthy_one() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::status(Code::Internal, "ill"));
    let retry = RetryConfig { initial_interval: Duration::from_millis(50), max_interval: Duration::from_secs(60) };
    let rig = Rig::start(Config { retry, ..config(collector.addr()) });
    rig.append(vec![logs(0..1)]);
    rig.refused_once().await;
    rig.append(vec![logs(1..2)]);
    collector.wait("a try of the next request", |received| received.len() == 6).await;
    let calls = collector.received();
    assert_eq!(calls.iter().map(numbers).collect::<Vec<_>>(), [[0], [0], [0], [0], [0], [1]]);
    // The fifth wait is one of 800 ms, shortened by up to a half.
    let waited = calls[5].at - calls[4].at;
    assert!(waited >= Duration::from_millis(400), "the next request was sent after {waited:?}");
    assert_eq!(rig.logs().quarantined, 1);
    rig.stop(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_request_given_up_in_doubt_holds_up_what_comes_later_for_its_wait_only() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, std::iter::repeat_with(|| Answer::status(Code::Internal, "ill")).take(5));
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    rig.append(vec![logs(1..2)]);
    rig.delivered(Signal::Logs).await;
    sleep(Duration::from_millis(100)).await;
    rig.append(vec![logs(2..3)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [1, 2]);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (2, 1));
}

#[tokio::test]
async fn a_partial_success_is_counted_and_never_sent_again() {
    let collector = Collector::start();
    let partial = |rejected, message: &str| Answer::Partial { rejected, message: message.to_owned() };
    collector.answer(
        Signal::Logs,
        [partial(2, "two are bad"), partial(0, "only a warning"), partial(99, "more than there were"), partial(-1, "")],
    );
    collector.answer(Signal::Traces, [partial(3, "spans are bad")]);
    let rig = Rig::start(config(collector.addr()));
    rig.append(vec![spans(5)]);
    for first in [0, 10, 20, 30] {
        rig.append(vec![logs(first..first + 10)]);
        rig.delivered(Signal::Logs).await;
    }
    rig.delivered(Signal::Traces).await;
    assert_eq!(collector.received().len(), 5);
    let traces = counts(&rig.telemetry, Signal::Traces);
    assert_eq!((traces.acknowledged, traces.refused), (2, 3));
    assert_eq!(rig.told().refused, 3, "the warning is told, the empty one is not");
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.refused), (8 + 10 + 10, 2 + 10));
}

#[tokio::test]
async fn while_parked_everything_is_kept_and_the_other_signal_goes_on() {
    let collector = Collector::start();
    let (open, closed) = watch::channel(false);
    collector.rule(Signal::Logs, move |_| match *closed.borrow() {
        true => Answer::Ok,
        false => Answer::status(Code::Unauthenticated, "who are you"),
    });
    let retry = RetryConfig { initial_interval: Duration::from_millis(5), max_interval: Duration::from_millis(20) };
    let rig = Rig::start(Config { retry, ..config(collector.addr()) });
    for number in 0..20 {
        rig.append(vec![logs(number..number + 1), spans(1)]);
        rig.delivered(Signal::Traces).await;
    }
    let began = collector.received().first().expect("a call").at;
    collector.wait("two more questions", |received| calls(received, Signal::Logs) >= 3).await;
    let asked = calls(&collector.received(), Signal::Logs);
    let waits = usize::try_from(began.elapsed().as_millis() / 75).expect("a few");
    assert!(asked <= 4 + waits, "asked {asked} times in {:?}", began.elapsed());
    assert_eq!(rig.told().parked, 1, "said once");
    assert_eq!(rig.store.pending(Signal::Logs).items, 20);

    open.send(true).expect("the rule listens");
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (0..20).collect::<Vec<_>>());
    assert_eq!(rig.told().delivering, 1);
    assert_eq!(counts(&rig.telemetry, Signal::Traces).acknowledged, 20);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 20);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline_and_is_made_again() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, [Answer::Hang, Answer::without_status(stream::pending())]);
    let timeout = Duration::from_millis(500);
    let rig = Rig::with_backlog(Config { timeout, ..config(collector.addr()) }, vec![logs(0..2)]);
    rig.delivered(Signal::Logs).await;
    let calls = collector.received();
    assert_eq!(calls.len(), 3);
    assert!(calls.windows(2).all(|pair| pair[1].at - pair[0].at >= timeout));
    assert_eq!(accepted(&collector), [0, 1]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 2);
}

#[tokio::test]
async fn answers_against_the_protocol_are_survived() {
    let garbage = "this is no base64 !";
    let ok = |message: &[u8]| Answer::Message(Bytes::copy_from_slice(message));
    let megabyte = Bytes::from(vec![0; 1024 * 1024]);
    let hostile: [(&str, Answer, usize); 9] = [
        (
            "details that are no base64",
            Answer::http(200, &[("grpc-status", "14"), ("grpc-status-details-bin", garbage)]),
            2,
        ),
        ("a status that is no number", Answer::http(200, &[("grpc-status", "what")]), 2),
        ("an end without a status", Answer::without_status(stream::iter([Ok(Bytes::new())])), 2),
        ("a reset", Answer::without_status(stream::iter([Err(Status::internal("reset"))])), 2),
        ("a body without end", Answer::without_status(stream::repeat_with(move || Ok(megabyte.clone()))), 2),
        ("a body of 5 MiB", ok(&vec![b'x'; 5 * 1024 * 1024]), 1),
        ("a message that is none", ok(b"\xff\xff\xff"), 1),
        ("OK without a message", Answer::http(200, &[("grpc-status", "0")]), 1),
        ("a compressed message that is none", Answer::compressed(vec![0; 64 * 1024].into()), 1),
    ];
    for (what, answer, tries) in hostile {
        let collector = Collector::start();
        collector.answer(Signal::Logs, [answer]);
        let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
        rig.delivered(Signal::Logs).await;
        assert_eq!(collector.received().len(), tries, "{what}");
        assert_eq!(rig.stop(GRACE).await.acknowledged, 1, "{what}");
    }
}
