//! The store and the core as an earlier process left them.

use std::sync::Arc;

use crate::processor::Processor;
use crate::store::storage::FileSystem;
use crate::store::{Budget, Damage, Happening, Observer, Opened, Recovered, Store, Writer};
use crate::telemetry::{Recovery, Telemetry};
use crate::time::RunningTime;

use super::clock::{self, Clock};
use super::key;
use super::{Config, StartError};

/// Memory of an outbox in memory at most, whatever `store.max_size` says.
const OUTBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the stages are built on.
#[derive(Debug)]
pub(super) struct Foundation {
    pub(super) store: Store,
    /// To be run on a thread of its own; `None` for a store in memory.
    pub(super) writer: Option<Writer>,
    pub(super) processor: Processor,
    pub(super) clock: Clock,
}

/// Opens the store, and restores the core from it. Tells the telemetry what was found.
pub(super) fn recover(config: &Config, telemetry: &Telemetry) -> Result<Foundation, StartError> {
    let observer = Arc::new(StoreObserver(telemetry.clone()));
    if config.in_memory {
        let budget = Budget { bytes: config.store.max_size.min(OUTBOX_BYTES_MAX), age: config.store.max_age };
        let key = config.key.clone().map_or_else(key::random, Ok)?;
        return Ok(Foundation {
            store: Store::in_memory(budget, observer),
            writer: None,
            processor: Processor::new(config.processor.clone(), &key),
            clock: Clock::start(RunningTime::START),
        });
    }
    let directory = &config.store.directory;
    let storage = Arc::new(FileSystem::new(directory));
    let Opened { store, writer, recovered } = Store::open(&config.store, storage, observer)
        .map_err(|error| StartError::Store { directory: directory.clone(), error })?;
    // Only now: whoever has the store has the key beside it.
    let key = match &config.key {
        Some(key) => key.clone(),
        None => key::load_or_create(directory)?,
    };
    let Recovered { records, running, wall, restored: requests, damage } = recovered;
    let (processor, restored) = Processor::restore(config.processor.clone(), &key, records);
    for (signal, pending) in requests.iter() {
        telemetry.restored(signal, pending.items);
    }
    tell_damage(telemetry, &damage);
    telemetry.recovered(&Recovery {
        sessions: restored.sessions as u64,
        held: restored.held as u64,
        rejected: restored.held_of_too_many_nodes,
        excluded: restored.excluded,
        damaged: restored.damaged,
        newer: restored.newer,
        no_room: restored.no_room,
        // Clocks may have been set back meanwhile; then this is zero.
        down: (running > RunningTime::START).then(|| clock::wall().since(wall)),
    });
    let clock = Clock::start(running.max(restored.running));
    Ok(Foundation { store, writer: Some(writer), processor, clock })
}

fn tell_damage(telemetry: &Telemetry, damage: &Damage) {
    let Damage { lost_frames, damaged_bytes, torn_bytes: _, records_are_old, headers, moved, stuck } = damage;
    if *records_are_old {
        telemetry.store_records_are_old();
    }
    telemetry.store_damaged(*lost_frames, *damaged_bytes, *headers);
    telemetry.store_files_set_aside(moved, stuck);
}

/// Counts what the store gives up, and says how it is.
#[derive(Debug)]
struct StoreObserver(Telemetry);

impl Observer for StoreObserver {
    fn observe(&self, happening: Happening) {
        let Self(telemetry) = self;
        match happening {
            Happening::Expired { signal, what, reason } => telemetry.expired(signal, what.items, reason),
            Happening::Degraded { reason } => telemetry.store_degraded(reason.as_str()),
            Happening::Durable => telemetry.store_durable(),
            Happening::Abandoned { reason } => telemetry.store_file_abandoned(reason.as_str()),
            Happening::Stuck { reason } => telemetry.store_file_stuck(reason.as_str()),
        }
    }
}
