//! SIGKILL at any moment.

use super::*;

/// Events a second that the site sends.
const RATE: f64 = 400.0;

/// Items that may arrive twice for a kill, on average: those of 200 ms, one and a half for an event. What was taken by the
/// backend is noted with the next frame that is synced, and a busy disk takes its time.
const TWICE_MAX: u64 = (0.2 * 1.5 * RATE) as u64;

/// Killed at random moments while events flow: what was not durable yet is lost and told as a gap; everything else
/// arrives, under the same ids, as it happened. A session that spans all of it is one span.
#[test]
fn a_receiver_that_is_killed_again_and_again_loses_nothing_silently() -> Result<(), Failure> {
    let folder = folder("kill-loop")?;
    let collector = Collector::start();
    let port = collector.addr().port();
    let rounds = rounds(20);
    let mut dice = fastrand::Rng::with_seed(rounds.into());
    let mut receiver = Receiver::start(&folder, 0, port, QUICK)?;
    let address = receiver.address;
    let traffic = Traffic::new();
    let truth = thread::scope(|scope| -> Result<_, Failure> {
        let site = scope.spawn(|| traffic.send(&[address], RATE, 100, 3));
        let kills: Result<(), Failure> = (0..rounds).try_for_each(|_| {
            thread::sleep(Duration::from_millis(dice.u64(100..900)));
            receiver.process.kill()?;
            receiver = Receiver::start(&folder, address.port(), port, QUICK)?;
            Ok(())
        });
        // Without a later event nobody can know of those before.
        thread::sleep(Duration::from_millis(500));
        traffic.stop.store(true, Ordering::Relaxed);
        let truth = site.join().expect("the site sends");
        kills.map(|()| truth)
    })?;
    until_delivered(&collector, &truth)?;
    receiver.stop()?;
    let delivered = Delivered::read(&collector);
    assert_faultless(&delivered, &truth);
    // The run was about something.
    let sent = truth.events.len() as u64;
    let missing = delivered.missing();
    assert!(missing > 0 && missing < sent / 2, "{missing} of {sent} missing");
    assert!(delivered.spans.len() > 100, "{} spans", delivered.spans.len());
    let (items, repeated) = (delivered.items(), delivered.repeated);
    // What was under way when it was killed, and what was taken and not noted yet.
    assert!(repeated <= u64::from(rounds) * TWICE_MAX, "{repeated} of {items} items arrived twice");
    eprintln!(
        "{rounds} kills: {sent} events sent, {missing} told as missing, {items} items delivered, {repeated} twice"
    );
    Ok(())
}
