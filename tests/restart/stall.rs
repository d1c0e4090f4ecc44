//! A disk that answers nothing for a while: the thread that writes to it is stopped, and nothing else of the receiver.

use std::fs;
use std::io::{Write, stderr};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::*;
use load::{Counted, flood, is_asked_for};
use stand::{Process, simulate};
use support::collector::Options;

/// Resident memory that the receiver may ever have, in KiB, whatever becomes of its disk.
const MEMORY_MAX: u64 = 256 * 1024;

/// While the disk stands still nothing is sent that is not on it. Afterwards nothing is missing.
#[test]
fn a_disk_that_stands_still_for_a_while_costs_nothing() -> Result<(), Failure> {
    let folder = folder("stalled-disk")?;
    let collector = Collector::start();
    let mut receiver = Receiver::start(&folder, 0, collector.addr().port(), QUICK)?;
    let address = receiver.address;
    let traffic = Traffic::new();
    let (is_stalled, truth) = thread::scope(|scope| -> Result<_, Failure> {
        let site = scope.spawn(|| traffic.send(&[address], 500.0, 100, 12));
        thread::sleep(Duration::from_millis(500));
        let stall = stalled(&receiver.process, || {
            // What was durable before is on its way.
            let before = settled(&collector);
            thread::sleep(Duration::from_secs(2));
            (before, accepted(&collector))
        });
        thread::sleep(Duration::from_millis(500));
        traffic.stop.store(true, Ordering::Relaxed);
        let truth = site.join().expect("the site sends");
        let Some((before, after)) = stall? else { return Ok((false, truth)) };
        assert!(before[0] > 0, "nothing was delivered before");
        assert_eq!(before, after, "requests that are not on the disk were sent");
        Ok((true, truth))
    })?;
    if !is_stalled {
        return Ok(());
    }
    until_delivered(&collector, &truth)?;
    receiver.stop()?;
    let delivered = Delivered::read(&collector);
    assert_faultless(&delivered, &truth);
    assert_eq!(delivered.missing(), 0);
    Ok(())
}

/// Requests of logs and of traces that were taken.
fn accepted(collector: &Collector) -> [usize; 2] {
    [Signal::Logs, Signal::Traces].map(|signal| collector.accepted(signal).len())
}

/// The same when no more have come for a while.
fn settled(collector: &Collector) -> [usize; 2] {
    let began = Instant::now();
    let mut last = accepted(collector);
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = accepted(collector);
        if now == last || began.elapsed() > PATIENCE {
            return now;
        }
        last = now;
    }
}

/// Half a minute at 5,000 events a second is more than waits for a disk: the rest is dropped for that reason, told of as a
/// gap, and for no other. Receiving goes on all the time, and memory stays within its bound.
#[test]
fn a_disk_that_stands_still_for_half_a_minute_loses_what_does_not_fit_and_says_so() -> Result<(), Failure> {
    const EVENTS: u64 = 225_000;
    if !is_asked_for() {
        return Ok(());
    }
    let folder = folder("long-stall")?;
    let counted = Arc::new(Mutex::new(Counted::default()));
    let collector = Collector::with(Options { forgets: true, ..Options::default() });
    for signal in [Signal::Logs, Signal::Traces] {
        let counted = Arc::clone(&counted);
        collector.rule(signal, move |call| {
            counted.lock().expect("no panic before").add(call);
            Answer::Ok
        });
    }
    let mut receiver = Receiver::start(&folder, 0, collector.addr().port(), QUICK)?;
    let events = EVENTS.to_string();
    let site = ["--rate", "5000", "--users", "20000", "--nodes", "3", "--seed", "13", "--events", &events];
    let mut simulator = simulate(&folder, receiver.address, &site)?;
    thread::sleep(Duration::from_secs(5));
    let stall = stalled(&receiver.process, || thread::sleep(Duration::from_secs(30)))?;
    simulator.succeed(PATIENCE)?;
    if stall.is_none() {
        return Ok(());
    }
    until("all of it to be delivered", PATIENCE, || {
        let counted = counted.lock().expect("no panic before");
        Ok((counted.records + counted.missing >= EVENTS).then_some(()))
    })?;
    let most = flood::status_kib(&receiver.process, "VmHWM:")?;
    receiver.stop()?;
    let log = receiver.process.output()?;
    let counted = counted.lock().expect("no panic before");
    let (records, missing, repeated) = (counted.records, counted.missing, counted.repeated);
    let _ = writeln!(
        stderr(),
        "stall: {records} records, {missing} events told as missing, {repeated} items twice; at most {most} KiB"
    );
    assert_eq!((records + missing, repeated), (EVENTS, 0));
    assert!(log.contains("reason=\"store_full\"") && missing > 0, "all of it fitted: {log}");
    assert!(!log.contains("channel_full") && !log.contains("lost in the kernel"), "{log}");
    assert!(most <= MEMORY_MAX, "{most} KiB of memory");
    Ok(())
}

/// Stops the thread that writes to the disk, and lets it go on when `meanwhile` is over. `None` where that is forbidden.
fn stalled<T>(process: &Process, meanwhile: impl FnOnce() -> T) -> Result<Option<T>, Failure> {
    let thread = thread_of(process.id(), "store")?;
    match ptrace::seize(thread, ptrace::Options::empty()) {
        Err(Errno::EPERM) => {
            let _ = writeln!(stderr(), "SKIPPED: this system lets nobody stop a thread of another process");
            return Ok(None);
        }
        seized => seized?,
    }
    let stopped = Stopped(thread);
    ptrace::interrupt(thread)?;
    waitpid(thread, Some(WaitPidFlag::__WALL))?;
    let result = meanwhile();
    drop(stopped);
    Ok(Some(result))
}

/// A thread that stands still, and goes on when this is dropped.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        // Where its process has ended, nobody else could take the end of the thread, and the process would never be gone.
        if ptrace::detach(self.0, None).is_err() {
            let _ = waitpid(self.0, Some(WaitPidFlag::__WALL));
        }
    }
}

/// The thread of a process with this name.
fn thread_of(process: u32, name: &str) -> Result<Pid, Failure> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        // It may have ended meanwhile.
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|found| found.trim_end() == name) {
            return Ok(Pid::from_raw(entry.file_name().to_string_lossy().parse()?));
        }
    }
    Err(format!("no thread is called {name}").into())
}
