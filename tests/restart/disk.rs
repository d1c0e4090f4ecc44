//! A disk that is full for a while.

use std::process::Command;

use super::*;
use stand::sense_otel;

/// Bytes that a file may have while the disk is said to be full: enough for the log of the receiver, too few for what the
/// events of a moment take.
const FILE_MAX: u64 = 8192;

/// While nothing can be written, everything is received and delivered all the same, and the operator is told. When there
/// is room again the store is whole by itself, and what is open outlives the process.
#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing() -> Result<(), Failure> {
    let folder = folder("full-disk")?;
    let collector = Collector::start();
    let port = collector.addr().port();
    let mut receiver = Receiver::start_by(spared(), &folder, 0, port, QUICK)?;
    let address = receiver.address;
    let traffic = Traffic::new();
    let truth = thread::scope(|scope| -> Result<_, Failure> {
        let site = scope.spawn(|| traffic.send(&[address], 500.0, 100, 9));
        let trouble = (|| -> Result<(), Failure> {
            thread::sleep(Duration::from_millis(500));
            limit_files(receiver.process.id(), &FILE_MAX.to_string())?;
            receiver.process.says("that the disk is full", has("THE STORE IS DEGRADED"))?;
            assert!(receiver.process.output()?.contains("disk_full"), "{}", receiver.process.output()?);
            let before = collector.accepted(Signal::Logs).len();
            thread::sleep(Duration::from_secs(1));
            assert!(collector.accepted(Signal::Logs).len() > before + 5, "nothing is delivered meanwhile");
            limit_files(receiver.process.id(), "unlimited")?;
            receiver.process.says("that it is well again", has("the store is whole again"))?;
            Ok(())
        })();
        thread::sleep(Duration::from_millis(500));
        traffic.stop.store(true, Ordering::Relaxed);
        let truth = site.join().expect("the site sends");
        trouble.map(|()| truth)
    })?;
    until_delivered(&collector, &truth)?;
    receiver.process.kill()?;
    let mut receiver = Receiver::start(&folder, 0, port, QUICK)?;
    let open = truth.sessions.iter().filter(|session| session.end.is_none()).count();
    let restored = receiver.process.says("how many sessions it goes on with", |log| {
        let (_, number) = log.lines().find(|line| line.contains("going on where"))?.split_once("sessions=")?;
        number.split_whitespace().next()?.parse::<usize>().ok()
    })?;
    receiver.stop()?;
    let delivered = Delivered::read(&collector);
    assert_faultless(&delivered, &truth);
    assert_eq!(delivered.missing(), 0, "the events themselves were never in danger");
    assert!(restored > 0 && restored <= open + 1, "{restored} sessions go on, {open} are open");
    eprintln!("{} events sent, none missing, {restored} sessions go on", truth.events.len());
    Ok(())
}

/// The receiver, started so that a file that may not grow is an error of its write, as on a full disk, and not its end.
fn spared() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(sense_otel().get_program());
    command
}

/// Limits the size of the files that a process writes, by the limit that it could change itself.
fn limit_files(process: u32, bytes: &str) -> Result<(), Failure> {
    let limit = format!("--fsize={bytes}:");
    let done = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status()?;
    if done.success() { Ok(()) } else { Err(format!("prlimit: {done}").into()) }
}

fn has(text: &str) -> impl Fn(&str) -> Option<()> {
    move |log| log.contains(text).then_some(())
}
