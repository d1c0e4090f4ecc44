//! Two receivers that get the same events, each before a collector of its own.

use super::*;

/// One is killed at random, then the other: together they have every event, each tells what it missed itself, and what
/// both made of a session has the same ids.
#[test]
fn two_receivers_have_it_all_between_them_under_the_same_ids() -> Result<(), Failure> {
    let collectors = [Collector::start(), Collector::start()];
    let ports = collectors.each_ref().map(|collector| collector.addr().port());
    let folders = [folder("one-of-two")?, folder("other-of-two")?];
    let start = |which: usize, udp_port| Receiver::start(&folders[which], udp_port, ports[which], QUICK);
    let mut receivers = [start(0, 0)?, start(1, 0)?];
    let addresses = receivers.each_ref().map(|receiver| receiver.address);
    let mut dice = fastrand::Rng::with_seed(12);
    let traffic = Traffic::new();
    let truth = thread::scope(|scope| -> Result<_, Failure> {
        let site = scope.spawn(|| traffic.send(&addresses, 300.0, 80, 10));
        let kills = (0..6).try_for_each(|round| -> Result<(), Failure> {
            let which = round % 2;
            // Long enough for the other to be back and to have heard something.
            thread::sleep(Duration::from_millis(dice.u64(400..1000)));
            receivers[which].process.kill()?;
            thread::sleep(Duration::from_millis(dice.u64(0..300)));
            receivers[which] = start(which, addresses[which].port())?;
            Ok(())
        });
        thread::sleep(Duration::from_millis(500));
        traffic.stop.store(true, Ordering::Relaxed);
        let truth = site.join().expect("the site sends");
        kills.map(|()| truth)
    })?;
    for (collector, receiver) in collectors.iter().zip(&mut receivers) {
        until_delivered(collector, &truth)?;
        receiver.stop()?;
    }
    let [one, other] = collectors.each_ref().map(Delivered::read);
    for delivered in [&one, &other] {
        assert_faultless(delivered, &truth);
        assert!(delivered.missing() > 0, "nothing was lost by its kills, so nothing is shown");
    }
    let mut union = one.events.clone();
    union.extend(other.events.iter().map(|(key, count)| (key.clone(), *count)));
    assert_eq!(union.values().sum::<u64>(), truth.events.len() as u64, "an event that neither has");

    let (mut same, mut different) = (0, Vec::new());
    for span in one.spans.values() {
        // What both saw from its start to its end.
        let twin = other.spans.values().find(|twin| {
            (&twin.trace_id, &twin.name, twin.start_time_unix_nano, twin.end_time_unix_nano)
                == (&span.trace_id, &span.name, span.start_time_unix_nano, span.end_time_unix_nano)
        });
        match twin {
            Some(twin) if twin.span_id == span.span_id && twin.parent_span_id == span.parent_span_id => same += 1,
            Some(twin) => different.push((span, twin)),
            None => {}
        }
    }
    assert!(different.is_empty(), "{} of {same}: {:#?}", different.len(), different.first());
    assert!(same > 50, "{same} spans are at both");
    eprintln!("{} events sent, {same} spans at both under the same ids", truth.events.len());
    Ok(())
}
