//! Random scripts: what may happen on one node, in either format.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::site::{Site, app, c0de};

/// One step of a random script.
#[derive(Clone, Debug)]
pub enum Step {
    Event { command: usize, user: u8, id: u8, app: u8, stock: bool, late_by: u32 },
    Failed { user: u8, id: u8 },
    Pass { seconds: u32 },
    Restart,
    Lose { count: u8 },
    Noise(Vec<u8>),
}

pub const COMMANDS: [&str; 4] = ["Start session", "Open connection", "Close connection", "Stop session"];

pub fn step() -> impl Strategy<Value = Step> {
    let event = (0..4_usize, 0..4_u8, 0..5_u8, 0..4_u8, any::<bool>(), 0..90_u32);
    prop_oneof![
        12 => event.prop_map(|(command, user, id, app, stock, late_by)| Step::Event {
            command, user, id, app, stock: stock && late_by % 4 == 0, late_by: if late_by % 7 == 0 { late_by } else { 0 },
        }),
        1 => (0..4_u8, 0..5_u8).prop_map(|(user, id)| Step::Failed { user, id }),
        4 => (0..50_000_u32).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
        1 => (1..5_u8).prop_map(|count| Step::Lose { count }),
        1 => vec(any::<u8>(), 0..60).prop_map(Step::Noise),
    ]
}

pub fn id_text(id: u8) -> String {
    match id {
        0 => String::new(),
        1 => "opaque".to_owned(),
        2 => "ea7821ab-dbad-4b1f-851d-cb06a73e10a7".to_owned(),
        other => c0de(other.into()),
    }
}

pub fn app_text(number: u8) -> String {
    if number == 0 { String::new() } else { app(number.into()) }
}

pub fn play(site: &mut Site, step: &Step) {
    match step {
        Step::Event { command, user, id, app, stock, late_by } => {
            let (command, user) = (COMMANDS[*command], format!("user{user}"));
            if *stock {
                site.stock(command, &user, &app_text(*app));
            } else {
                let mut event = site.extended(command, &user, &id_text(*id), &app_text(*app));
                event.time = event.time.map(|time| time.before(Duration::from_secs((*late_by).into())));
                site.send(&event);
            }
        }
        Step::Failed { user, id } => {
            let mut event = site.extended("Start session", &format!("user{user}"), &id_text(*id), "");
            event.result = "403".to_owned();
            site.send(&event);
        }
        Step::Pass { seconds } => site.pass(Duration::from_secs((*seconds).into())),
        Step::Restart => site.restart_counter(),
        Step::Lose { count } => (0..*count).for_each(|_| {
            site.extended("Start session", "lost", "", "");
        }),
        Step::Noise(bytes) => site.bytes(bytes, 50_009),
    }
}
