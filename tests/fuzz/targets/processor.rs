//! Any datagrams and any waits: every datagram is counted once, every span ends once, and everything ends at last.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sense_otel::processor::Config;

use site::{Site, app, c0de};

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
    Restart,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut site = Site::new(Config::default());
    for step in steps.into_iter().take(200) {
        play(&mut site, step);
        site.assert_balanced();
    }
    site.pass(Duration::from_secs(3600 * 25));
    site.assert_balanced();
    assert_eq!((site.processor.open_sessions(), site.processor.held()), (0, 0));
});

fn play(site: &mut Site, step: Step) {
    match step {
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
        Step::Bytes(bytes) => site.bytes(&bytes, 4000),
        Step::Wait(milliseconds) => site.pass(Duration::from_millis(milliseconds.into())),
        Step::Restart => site.restart_counter(),
    }
}
