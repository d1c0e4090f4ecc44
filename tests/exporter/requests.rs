//! What is sent: the bytes, their order, how they are cut, and what goes with them.

use super::*;

#[tokio::test]
async fn a_backlog_is_sent_as_the_stored_bytes_one_behind_the_other() {
    let collector = Collector::start();
    let backlog = vec![logs(0..3), spans(2), logs(3..4), logs(4..9), spans(1)];
    let rig = Rig::with_backlog(config(collector.addr()), backlog.clone());
    rig.delivered(Signal::Logs).await;
    rig.delivered(Signal::Traces).await;

    for signal in [Signal::Logs, Signal::Traces] {
        let stored: Vec<u8> = backlog
            .iter()
            .filter(|request| request.signal == signal)
            .flat_map(|request| request.body.to_vec())
            .collect();
        let calls = collector.accepted(signal);
        assert_eq!(calls.len(), 1, "{signal}");
        assert_eq!(calls[0].body, stored, "{signal}");
    }
    assert_eq!(accepted(&collector), (0..9).collect::<Vec<_>>());
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.produced, counts.acknowledged), (9, 9));
}

#[tokio::test]
async fn what_is_appended_while_idle_is_sent_at_once_and_in_order() {
    let collector = Collector::start();
    let rig = Rig::start(config(collector.addr()));
    for number in 0..50 {
        rig.append(vec![logs(number..number + 1)]);
        let expected = number as usize + 1;
        collector.wait("the next record", |received| calls(received, Signal::Logs) == expected).await;
    }
    assert_eq!(accepted(&collector), (0..50).collect::<Vec<_>>());
    assert_eq!(rig.stop(GRACE).await.acknowledged, 50);
}

#[tokio::test]
async fn calls_are_cut_by_bytes_and_by_items() {
    let collector = Collector::start();
    let large = (0..9).map(|number| logs_of(number..number + 1, 1024 * 1024)).collect();
    let rig = Rig::with_backlog(config(collector.addr()), large);
    rig.delivered(Signal::Logs).await;
    let sizes: Vec<usize> = collector.accepted(Signal::Logs).iter().map(|call| numbers(call).len()).collect();
    assert_eq!(sizes, [3, 3, 3]);

    rig.append((0..5).map(|part| logs_of(part * 3_000..(part + 1) * 3_000, 0)).collect());
    rig.delivered(Signal::Logs).await;
    let sizes: Vec<usize> = collector.accepted(Signal::Logs)[3..].iter().map(|call| numbers(call).len()).collect();
    assert_eq!(sorted_sizes(sizes), [3_000, 6_000, 6_000]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 15_009);
}

fn sorted_sizes(mut sizes: Vec<usize>) -> Vec<usize> {
    sizes.sort_unstable();
    sizes
}

#[tokio::test]
async fn at_most_four_calls_are_under_way_and_the_cursor_waits_for_the_first() {
    let collector = Collector::start();
    let (release, held) = oneshot::channel();
    let mut held = Some(held);
    // Bodies of this size end in any order, so the first call is known by what it holds.
    collector.rule(Signal::Logs, move |call| match numbers(call).contains(&0) {
        true => Answer::Once(held.take().expect("asked once"), Box::new(Answer::Ok)),
        false => Answer::Ok,
    });
    let large = (0..12).map(|number| logs_of(number..number + 1, 2 * 1024 * 1024)).collect();
    let rig = Rig::with_backlog(Config { timeout: GRACE * 4, ..config(collector.addr()) }, large);

    collector.wait("four calls", |received| received.len() == 4).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(collector.received().len(), 4, "a fifth call started before the first ended");
    assert_eq!(rig.store.pending(Signal::Logs).items, 12, "the cursor passed the first call");
    assert_eq!(rig.logs().acknowledged, 0);

    release.send(()).expect("the call waits for it");
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (0..12).collect::<Vec<_>>());
    assert_eq!(rig.stop(GRACE).await.acknowledged, 12);
}

#[tokio::test]
async fn requests_are_compressed_as_configured() {
    for (compression, name) in
        [(Compression::None, None), (Compression::Gzip, Some("gzip")), (Compression::Zstd, Some("zstd"))]
    {
        let collector = Collector::start();
        let stored = logs_of(0..100, 500);
        let config = Config { compression, ..config(collector.addr()) };
        let rig = Rig::with_backlog(config, vec![stored.clone()]);
        rig.delivered(Signal::Logs).await;
        let call = collector.received().remove(0);
        assert_eq!(call.compression.as_deref(), name);
        assert_eq!(call.body, stored.body);
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn headers_and_our_name_go_with_every_call_and_no_compressed_answer_is_offered() {
    let collector = Collector::start();
    let headers = [("x-honeycomb-team", "a secret"), ("x-token-bin", "AAEC/w==")]
        .map(|(name, value)| (name.to_owned(), value.into()));
    let rig = Rig::with_backlog(Config { headers: headers.into(), ..config(collector.addr()) }, vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;

    let call = collector.received().remove(0);
    assert_eq!(call.headers["x-honeycomb-team"], "a secret");
    let metadata = tonic::metadata::MetadataMap::from_headers(call.headers.clone());
    let binary = metadata.get_bin("x-token-bin").expect("sent").to_bytes().expect("base64");
    assert_eq!(&binary[..], [0, 1, 2, 255]);
    let agent = call.headers["user-agent"].to_str().expect("ASCII");
    assert!(agent.starts_with(concat!("sense-otel/", env!("CARGO_PKG_VERSION"))), "{agent}");
    assert_eq!(call.headers["content-type"], "application/grpc");
    assert_eq!(call.headers["te"], "trailers");
    assert!(!call.headers.contains_key("grpc-accept-encoding"));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn only_the_configured_signals_are_sent() {
    let collector = Collector::start();
    let config = Config { signals: vec![Signal::Traces], ..config(collector.addr()) };
    let rig = Rig::with_backlog(config, vec![logs(0..2), spans(3)]);
    rig.delivered(Signal::Traces).await;
    assert_eq!(calls(&collector.received(), Signal::Logs), 0);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 0);
}
