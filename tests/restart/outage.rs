//! A backend that is away, and a receiver that is restarted meanwhile.

use super::*;
use support::collector::Options;

/// Nobody takes anything for a while, in which the receiver is stopped, killed and started again. When the backend comes
/// back, all of it arrives, each item once, and as it happened.
#[test]
fn what_waits_for_the_backend_survives_stops_and_kills() -> Result<(), Failure> {
    let folder = folder("outage")?;
    // A port where nobody listens yet.
    let collector = Collector::start();
    let backend = collector.addr();
    collector.stop();
    let mut receiver = Receiver::start(&folder, 0, backend.port(), QUICK)?;
    let address = receiver.address;
    let traffic = Traffic::new();
    let truth = thread::scope(|scope| -> Result<_, Failure> {
        let site = scope.spawn(|| traffic.send(&[address], 400.0, 100, 5));
        let restarts = [false, true, false, true].into_iter().try_for_each(|is_kill| -> Result<(), Failure> {
            thread::sleep(Duration::from_millis(800));
            if is_kill {
                receiver.process.kill()?
            } else {
                receiver.stop()?
            }
            receiver = Receiver::start(&folder, address.port(), backend.port(), QUICK)?;
            Ok(())
        });
        thread::sleep(Duration::from_millis(800));
        traffic.stop.store(true, Ordering::Relaxed);
        let truth = site.join().expect("the site sends");
        restarts.map(|()| truth)
    })?;
    let collector = Collector::with(Options { listen: Some(backend), ..Options::default() });
    until_delivered(&collector, &truth)?;
    receiver.stop()?;
    let delivered = Delivered::read(&collector);
    assert_faultless(&delivered, &truth);
    assert_eq!(delivered.repeated, 0, "what was never sent is sent once");
    let sent = truth.events.len() as u64;
    eprintln!("{sent} events sent, {} told as missing, {} items delivered", delivered.missing(), delivered.items());
    Ok(())
}

/// Whatever the backend does, a stop takes no longer than promised, ends well, and loses nothing: the next process goes
/// on with what is left.
#[test]
fn a_stop_keeps_its_promise_whatever_the_backend_does() -> Result<(), Failure> {
    let folder = folder("stop-loop")?;
    let collector = Collector::start();
    let port = collector.addr().port();
    let mut dice = fastrand::Rng::with_seed(4);
    let mut receiver = Receiver::start(&folder, 0, port, QUICK)?;
    let address = receiver.address;
    let traffic = Traffic::new();
    let truth = thread::scope(|scope| -> Result<_, Failure> {
        let site = scope.spawn(|| traffic.send(&[address], 300.0, 80, 6));
        let stops = (0..rounds(9)).try_for_each(|round| -> Result<(), Failure> {
            for signal in [Signal::Logs, Signal::Traces] {
                collector.rule(signal, move |_| match round % 3 {
                    0 => Answer::Ok,
                    1 => Answer::status(Code::Unavailable, "not now"),
                    _ => Answer::Hang,
                });
            }
            thread::sleep(Duration::from_millis(dice.u64(50..600)));
            receiver.stop()?;
            let log = receiver.process.output()?;
            assert!(log.contains("kept for the next start"), "{log}");
            receiver = Receiver::start(&folder, address.port(), port, QUICK)?;
            Ok(())
        });
        thread::sleep(Duration::from_millis(500));
        traffic.stop.store(true, Ordering::Relaxed);
        let truth = site.join().expect("the site sends");
        stops.map(|()| truth)
    })?;
    for signal in [Signal::Logs, Signal::Traces] {
        collector.rule(signal, |_| Answer::Ok);
    }
    until_delivered(&collector, &truth)?;
    receiver.stop()?;
    assert_faultless(&Delivered::read(&collector), &truth);
    Ok(())
}
