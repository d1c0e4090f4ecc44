//! Any datagrams and any waits: every datagram is counted once, every span ends once, everything ends at last, and a core
//! that is restored from its records now and then gives out the same as one that is not.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sense_otel::processor::ids::Key;
use sense_otel::processor::{Config, Processor};

use shelf::Shelf;
use site::{KEY, Site, app, c0de};

#[allow(dead_code, unreachable_pub, reason = "the other tests use all of it")]
#[path = "../../support/shelf.rs"]
mod shelf;

#[allow(dead_code, unreachable_pub, reason = "the other tests use all of it")]
#[path = "../../support/site.rs"]
mod site;

const COMMANDS: [&str; 4] = ["Start session", "Open connection", "Close connection", "Stop session"];

#[derive(Arbitrary, Debug)]
enum Step {
    /// An event of the extended format: command, user, session (0: none), app; moved in its sequence and in time.
    Extended(u8, u8, u8, u8, i8, i16),
    Stock(u8, u8, u8),
    Bytes(Vec<u8>),
    Wait(u32),
    /// The proxy's counter begins again.
    Restart,
    /// Our process does.
    Kill,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut site = Site::new(Config::default());
    let mut restored = Site::new(Config::default());
    let mut shelf = Shelf::default();
    for step in steps.into_iter().take(200) {
        play(&mut site, &step);
        play(&mut restored, &step);
        if matches!(step, Step::Kill) {
            kill(&mut restored, &mut shelf);
        }
        site.assert_balanced();
    }
    for site in [&mut site, &mut restored] {
        site.pass(Duration::from_secs(3600 * 25));
        site.assert_balanced();
        assert_eq!((site.processor.open_sessions(), site.processor.held()), (0, 0));
    }
    assert_eq!(format!("{:?}", site.kept), format!("{:?}", restored.kept));
});

/// Stores what has changed, forgets the core, and brings it back.
fn kill(site: &mut Site, shelf: &mut Shelf) {
    site.processor.changes(shelf);
    let (processor, told) = Processor::restore(Config::default(), &Key::new(KEY), &shelf.records);
    assert_eq!((told.damaged, told.newer, told.no_room, told.excluded), (0, 0, 0, 0));
    site.processor = processor;
}

fn play(site: &mut Site, step: &Step) {
    match *step {
        Step::Extended(command, user, session, to, sequence, seconds) => {
            let id = if session == 0 { String::new() } else { c0de(session.into()) };
            let user = format!("user{}", user % 4);
            let mut event = site.extended(COMMANDS[usize::from(command % 4)], &user, &id, &app((to % 4).into()));
            event.sequence = event.sequence.and_then(|number| number.checked_add_signed(sequence.into()));
            event.time = event.time.map(|time| match u64::try_from(seconds) {
                Ok(seconds) => time + Duration::from_secs(seconds),
                Err(_) => time.before(Duration::from_secs(seconds.unsigned_abs().into())),
            });
            site.send(&event);
        }
        Step::Stock(command, user, to) => {
            site.stock(COMMANDS[usize::from(command % 4)], &format!("user{}", user % 4), &app((to % 4).into()));
        }
        Step::Bytes(ref bytes) => site.bytes(bytes, 4000),
        Step::Wait(milliseconds) => site.pass(Duration::from_millis(milliseconds.into())),
        Step::Restart => site.restart_counter(),
        // Duplicates of stock datagrams are not looked for across a restart.
        Step::Kill => site.pass(Duration::from_millis(101)),
    }
}
