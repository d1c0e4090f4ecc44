//! What the log does when the disk fails: it goes on with another segment, or else from memory, and comes back.

use std::io;

use super::{Log, RETRY};
use crate::signal::{ExpiryReason, Signal};
use crate::store::commit::{self, Described, PerSignal, Position, Progress, Records};
use crate::store::health::{DegradedReason, Happening, Status};
use crate::store::outbox::{Entry, Pending, Source};
use crate::store::pieces::Pieces;
use crate::time::RunningTime;

/// Bytes of bodies that are in memory only because the disk fails.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of bodies in one frame when what was kept in memory is written.
const HELD_FRAME_MAX: u64 = 4 * 1024 * 1024;

impl Log {
    /// Goes on with another segment, for the active one failed and nothing has to be written again.
    pub(super) fn replace(&mut self, error: &io::Error) {
        let reason = self.abandon(error);
        match self.open_segment(self.sequence) {
            Ok(()) => self.shared.observer.observe(Happening::Abandoned { reason }),
            Err(error) => self.degrade(&error),
        }
    }

    /// Writes to the active segment no more, for it failed. What was durable in it stays. Returns what it failed at, to be
    /// told once another takes its place: otherwise that the store is degraded says it all.
    pub(super) fn abandon(&mut self, error: &io::Error) -> DegradedReason {
        let reason = DegradedReason::of(error);
        let Some(mut active) = self.active.take() else { return reason };
        active.length = active.synced;
        if active.is_empty() {
            self.shared.index().segments.retain(|listed| listed.segment.number != active.segment.number);
            self.empty.push(active.segment.path().to_owned());
        } else {
            // What is behind may or may not be there; recovery would find out, but should not have to.
            let _ = active.file.truncate(active.length);
            let mut index = self.shared.index();
            active.list(&mut index);
            for (_, outbox) in index.outboxes.iter_mut() {
                outbox.forget(active.segment.number);
            }
        }
        reason
    }

    /// Goes on from memory, and tries again later.
    pub(super) fn degrade(&mut self, error: &io::Error) {
        let reason = self.abandon(error);
        self.checkpoint.interrupt();
        self.retry_at = self.now.running + self.wait;
        self.wait = (self.wait * 2).min(RETRY.1);
        let mut status = self.shared.status();
        if *status == Status::Durable {
            *status = Status::Degraded { reason };
            drop(status);
            self.shared.observer.observe(Happening::Degraded { reason });
        }
    }

    /// Keeps requests that cannot be made durable, as far as there is room.
    pub(super) fn keep_in_memory(&self, entries: Vec<(Signal, Entry)>) {
        let mut lost = PerSignal::<Pending>::default();
        let mut index = self.shared.index();
        for (signal, entry) in entries {
            if let Some(outbox) = index.outboxes.of_mut(signal) {
                outbox.publish(&Source::Memory, entry);
            }
        }
        while index.memory() > MEMORY_MAX {
            // No order is kept between the signals: the one that takes more room gives way.
            let fuller = index.outboxes.iter_mut().filter(|(_, outbox)| outbox.oldest_in_memory().is_some());
            let Some((signal, outbox)) = fuller.max_by_key(|(_, outbox)| outbox.memory()) else { break };
            let gone = outbox.expire_from_memory();
            if let Some(lost) = lost.of_mut(signal) {
                lost.plus(gone);
            }
        }
        drop(index);
        for (signal, what) in lost.iter() {
            self.shared.expired(signal, *what, ExpiryReason::Memory);
        }
    }

    /// Tries a disk that fails, whenever that is due.
    pub(in crate::store) fn retry(&mut self) {
        self.retry_at = RunningTime::START;
        self.retry_if_due();
        self.look_for_checkpoint();
    }

    pub(super) fn retry_if_due(&mut self) {
        if self.active.is_none() && self.retry_at <= self.now.running {
            // What is kept in memory is written first: it has to be anyway, and shows whether the disk takes anything.
            if let Err(error) = self.open_segment(self.sequence).and_then(|()| self.write_held()) {
                self.degrade(&error);
            }
        }
    }

    /// Makes durable what could not be so far.
    fn write_held(&mut self) -> io::Result<()> {
        let first = self.sequence;
        let held = {
            let outboxes = &self.shared.index().outboxes;
            PerSignal { logs: outboxes.logs.in_memory(), traces: outboxes.traces.in_memory() }
        };
        let mut placed = PerSignal::<Vec<(Position, u64)>>::default();
        for (signal, entries) in held.iter() {
            let mut entries = entries.as_slice();
            while !entries.is_empty() {
                let (run, rest) = entries.split_at(run_length(entries));
                entries = rest;
                let offsets = self.write_run(signal, run)?;
                if let Some(placed) = placed.of_mut(signal) {
                    placed.extend(run.iter().map(|entry| entry.position).zip(offsets));
                }
            }
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        active.write(&Pieces::default(), true)?;
        if self.sequence > first {
            self.durable = self.sequence - 1;
        }
        let mut index = self.shared.index();
        for (signal, entries) in held.iter() {
            for entry in entries {
                if let Some(range) = active.summary.requests.of_mut(signal) {
                    range.add(entry);
                }
            }
        }
        active.summary.newest = self.now.running;
        active.list(&mut index);
        index.outboxes.logs.settle(&active.segment, &placed.logs);
        index.outboxes.traces.settle(&active.segment, &placed.traces);
        Ok(())
    }

    /// Writes requests with consecutive positions as one frame. Returns where their bodies are.
    fn write_run(&mut self, signal: Signal, run: &[Entry]) -> io::Result<Vec<u64>> {
        let mut before = self.last;
        if let (Some(before), Some(first)) = (before.of_mut(signal), run.first()) {
            *before = first.position.preceding();
        }
        let describe =
            |entry: &Entry| Described { signal, items: entry.items, length: entry.length, checksum: entry.checksum };
        let described = run.iter().map(describe).collect::<Vec<_>>();
        let acknowledged = self.shared.index().acknowledged();
        let progress = Progress { now: self.now, synced: self.durable, acknowledged, before, mark: None };
        let mut pieces = Pieces::default();
        commit::begin(&mut pieces, self.sequence, &progress, &described, Records::new());
        self.sequence += 1;
        let mut offsets = Vec::with_capacity(run.len());
        for entry in run {
            offsets.push(pieces.length());
            pieces.push(entry.body.clone().unwrap_or_default());
        }
        let Some(active) = &mut self.active else { return Ok(offsets) };
        let start = active.write(&pieces, false)?;
        self.count_bytes(pieces.length());
        offsets.iter_mut().for_each(|offset| *offset += start);
        Ok(offsets)
    }
}

/// How many of `entries` go into one frame: their positions have to be consecutive.
fn run_length(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let mut expected = None;
    let run = entries.iter().take_while(|entry| {
        let follows = expected.is_none_or(|expected| entry.position == expected);
        let fits = bytes == 0 || bytes + u64::from(entry.length) <= HELD_FRAME_MAX;
        expected = Some(entry.position.following());
        bytes += u64::from(entry.length).max(1);
        follows && fits
    });
    run.count().max(1)
}
