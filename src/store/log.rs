//! The log that is written: where frames go, and when a segment is full.
//!
//! The state of the disk is in one place: there is an [`Active`] segment, or there is none and
//! `retry_at` says when one is tried for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::commit::{self, Commit, Described, Mark, PerSignal, Position, Progress};
use super::durable::Shared;
use super::files::Segment;
use super::health::Happening;
use super::outbox::{Entry, Index, Listed, Source};
use super::pieces::Pieces;
use super::segment::{Range, SEGMENT_HEADER_LENGTH, SegmentHeader, Summary};
use super::storage::{File, Storage};
use super::{Config, segment};
use crate::signal::Signal;
use crate::time::{Now, RunningTime};

mod failing;
mod upkeep;

/// A checkpoint is due after so many bytes, where the budget allows it.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;

/// And after so many times its own size.
const CHECKPOINT_RATIO: u64 = 4;

/// And after so many segments: many restarts make many small ones.
const CHECKPOINT_SEGMENTS: u64 = 128;

/// Segments at most: a disk that fails now and then makes many that hold little.
const SEGMENTS_MAX: usize = 4096;

/// A commit that is larger is written as several frames, for their lengths have 32 bits.
const FRAME_MAX: u64 = 1024 * 1024 * 1024;

/// The shortest and the longest time between two tries of a disk that fails.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// How long the cursors wait for a frame that takes them along.
const CURSOR_AGE_MAX: Duration = Duration::from_secs(1);

/// How long the running time waits for a frame that takes it along, while something has a deadline.
const RUNNING_AGE_MAX: Duration = Duration::from_secs(60);

/// What may be kept, and in what portions.
#[derive(Clone, Copy, Debug)]
struct Limits {
    size: u64,
    age: Duration,
    segment_size: u64,
    segment_age: Duration,
    checkpoint: u64,
}

impl Limits {
    /// The budget goes in portions of a 64th by size, and a 16th by age; but a large one in no more than 512.
    fn of(config: &Config) -> Self {
        Self {
            size: config.max_size,
            age: config.max_age,
            segment_size: (config.max_size / 64).clamp(1024, 64 * 1024 * 1024).max(config.max_size / 512),
            segment_age: config.max_age / 16,
            checkpoint: (config.max_size / 4).min(CHECKPOINT_BYTES),
        }
    }
}

/// Where an earlier process left the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// The number of the next segment.
    pub(super) number: u64,
    /// The number of the next frame.
    pub(super) sequence: u64,
    /// The number of the last frame that is durable.
    pub(super) durable: u64,
    /// The positions of the last requests.
    pub(super) last: PerSignal<Position>,
    /// The segment that the last complete checkpoint begins with.
    pub(super) checkpoint: u64,
    /// Bytes from there on.
    pub(super) since: u64,
    /// Bytes of that checkpoint.
    pub(super) size: u64,
    /// Whether the records are incomplete, so that a checkpoint is due at once.
    pub(super) incomplete: bool,
    /// Paths of segments with nothing in them.
    pub(super) empty: Vec<String>,
    pub(super) now: Now,
}

/// The log as it is written.
#[derive(Debug)]
pub(super) struct Log {
    storage: Arc<dyn Storage>,
    shared: Arc<Shared>,
    limits: Limits,
    /// The segment that is written to; `None` while the disk fails.
    active: Option<Active>,
    /// When a disk that fails is tried again, and how long it then waits.
    retry_at: RunningTime,
    wait: Duration,
    /// The number of the next segment.
    number: u64,
    /// The number of the next frame.
    sequence: u64,
    /// The number of the last frame that is durable.
    durable: u64,
    /// The positions of the last requests.
    last: PerSignal<Position>,
    checkpoint: Checkpoint,
    now: Now,
    /// The cursors that were written last, and when.
    written: (PerSignal<Position>, RunningTime),
    /// Paths of segments with nothing in them, which are to be removed.
    empty: Vec<String>,
    /// Whether the oldest segment is to go and cannot, until the clock turns.
    stuck: bool,
    /// Whether that has been told, since a segment was last removed.
    stuck_told: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Bytes that are written.
    length: u64,
    /// Bytes that are durable.
    synced: u64,
    started: RunningTime,
    summary: Summary,
}

/// How far recovery would have to read.
#[derive(Clone, Copy, Debug, Default)]
struct Checkpoint {
    /// The segment that the last complete one begins with.
    complete: u64,
    /// Bytes of its frames.
    size: u64,
    /// Bytes written since its Begin.
    since: u64,
    /// The one that is being written.
    begun: Option<Begun>,
    /// Whether every portion since the last Begin was written, so that the next may call itself one. A portion that was
    /// lost is missed by nobody who reads the log: an End behind it would make the rest of it pass for whole.
    open: bool,
    /// Whether the log lacks records, so that one is due whatever the bytes.
    owed: bool,
}

impl Checkpoint {
    /// Something that was recorded is not in the log.
    const fn interrupt(&mut self) {
        self.begun = None;
        self.open = false;
        self.owed = true;
    }

    /// What of a checkpoint the next frame may say it is, where the core wants it to be `wanted`.
    const fn mark(&mut self, wanted: Option<Mark>) -> Option<Mark> {
        match wanted {
            Some(Mark::Begin) => self.open = true,
            _ if !self.open => return None,
            Some(Mark::End) => self.open = false,
            Some(Mark::Part) | None => {}
        }
        wanted
    }
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    segment: u64,
    size: u64,
    since: u64,
}

/// Frames that are written at once.
#[derive(Debug, Default)]
struct Group {
    pieces: Pieces,
    /// With offsets in the pieces.
    entries: Vec<(Signal, Entry)>,
    /// What each frame was of the checkpoint, and its bytes.
    marks: Vec<(Option<Mark>, u64)>,
}

impl Active {
    /// Writes `pieces`, durably if so asked, and returns where they begin.
    fn write(&mut self, pieces: &Pieces, sync: bool) -> io::Result<u64> {
        let start = self.length;
        self.file.write_pieces_at(&pieces.slices(), start)?;
        self.length = start.saturating_add(pieces.length());
        if sync {
            self.file.sync()?;
            self.synced = self.length;
        }
        Ok(start)
    }

    const fn is_empty(&self) -> bool {
        self.length <= SEGMENT_HEADER_LENGTH as u64
    }
}

impl Log {
    /// Goes on where an earlier process left off, in a new segment. If that cannot be made, the log begins degraded.
    pub(super) fn new(storage: Arc<dyn Storage>, shared: Arc<Shared>, config: &Config, left: Left) -> Self {
        let checkpoint = Checkpoint {
            complete: left.checkpoint,
            size: left.size,
            since: left.since,
            begun: None,
            open: false,
            owed: left.incomplete,
        };
        let written = (shared.index().acknowledged(), left.now.running);
        let mut log = Self {
            storage,
            shared,
            limits: Limits::of(config),
            active: None,
            retry_at: RunningTime::START,
            wait: RETRY.0,
            number: left.number,
            sequence: left.sequence,
            durable: left.durable,
            last: left.last,
            checkpoint,
            now: left.now,
            written,
            empty: left.empty,
            stuck: false,
            stuck_told: false,
        };
        if let Err(error) = log.open_segment(log.sequence) {
            log.degrade(&error);
        }
        log.look_for_checkpoint();
        log
    }

    /// Makes these durable, as one group but for a checkpoint among them, which begins a segment.
    pub(super) fn commit(&mut self, commits: Vec<Commit>) {
        let mut commits = commits.into_iter().flat_map(|commit| commit.split(FRAME_MAX)).peekable();
        while let Some(first) = commits.next() {
            self.now = first.now;
            self.retry_if_due();
            let begins = first.mark == Some(Mark::Begin);
            if self.active.as_ref().is_some_and(|active| self.is_full(active) || (begins && !active.is_empty())) {
                self.rotate();
            }
            let mut group = Group::default();
            let sequence = self.sequence;
            self.encode(first, &mut group);
            while let Some(commit) = commits.next_if(|commit| commit.mark != Some(Mark::Begin)) {
                self.encode(commit, &mut group);
            }
            self.store(sequence, group);
        }
        self.keep_house();
    }

    /// Appends the frame of `commit` to the group. Neither bodies nor records are copied: that of bodies took a tenth of
    /// the thread's time.
    fn encode(&mut self, mut commit: Commit, group: &mut Group) {
        self.now = commit.now;
        commit.requests.retain(|request| request.signal != Signal::Metrics);
        let described = commit.requests.iter().map(Described::of).collect::<Vec<_>>();
        let progress = Progress {
            now: commit.now,
            synced: self.durable,
            acknowledged: self.shared.index().acknowledged(),
            before: self.last,
            mark: self.checkpoint.mark(commit.mark),
        };
        let start = group.pieces.length();
        commit::begin(&mut group.pieces, self.sequence, &progress, &described, commit.records);
        self.sequence += 1;
        for (request, described) in commit.requests.into_iter().zip(described) {
            let Some(position) = self.last.of_mut(request.signal) else { continue };
            *position = position.following();
            let entry = Entry {
                position: *position,
                items: request.items,
                length: described.length,
                checksum: described.checksum,
                offset: group.pieces.length(),
                body: None,
            };
            group.pieces.push(request.body.clone());
            group.entries.push((request.signal, Entry { body: Some(request.body), ..entry }));
        }
        self.written = (progress.acknowledged, commit.now.running);
        group.marks.push((commit.mark, group.pieces.length() - start));
    }

    /// Writes a group, whose frames begin with `sequence`, and publishes what is in it: from the disk if it is
    /// durable, from memory if the disk fails.
    fn store(&mut self, sequence: u64, group: Group) {
        let start = self.write_group(sequence, &group.pieces);
        match start {
            Some(start) => self.publish(start, group.entries),
            None => {
                self.checkpoint.interrupt();
                self.keep_in_memory(group.entries);
            }
        }
        for (mark, bytes) in group.marks {
            self.follow_checkpoint(mark, bytes, start.is_some());
        }
        self.shared.appended.notify_waiters();
    }

    /// Writes frames to the active segment, or else to a new one. Returns where, or `None` if the disk fails.
    fn write_group(&mut self, sequence: u64, pieces: &Pieces) -> Option<u64> {
        let error = match self.active.as_mut()?.write(pieces, true) {
            Ok(start) => {
                self.durable = self.sequence - 1;
                return Some(start);
            }
            Err(error) => error,
        };
        // Whatever of this file was not durable before is in these pieces, but for frames that hold nothing but cursors.
        let reason = self.abandon(&error);
        let opened = self.open_segment(sequence);
        let rewritten = opened.and_then(|()| self.active.as_mut().ok_or(error)?.write(pieces, true));
        match rewritten {
            Ok(start) => {
                self.durable = self.sequence - 1;
                self.shared.observer.observe(Happening::Abandoned { reason });
                Some(start)
            }
            Err(error) => {
                self.degrade(&error);
                None
            }
        }
    }

    /// Makes what was written at `start` of the active segment known to the readers.
    fn publish(&mut self, start: u64, entries: Vec<(Signal, Entry)>) {
        let Some(active) = &mut self.active else { return };
        active.summary.newest = self.now.running;
        let source = Source::Segment(Arc::clone(&active.segment));
        let mut index = self.shared.index();
        for (signal, mut entry) in entries {
            entry.offset += start;
            if let Some(range) = active.summary.requests.of_mut(signal) {
                range.add(&entry);
            }
            if let Some(outbox) = index.outboxes.of_mut(signal) {
                outbox.publish(&source, entry);
            }
        }
        active.list(&mut index);
    }

    fn is_full(&self, active: &Active) -> bool {
        let old = self.now.running.since(active.started) > self.limits.segment_age;
        active.length >= self.limits.segment_size || (old && !active.is_empty())
    }

    /// Ends the active segment and begins the next.
    fn rotate(&mut self) {
        let Some(active) = &mut self.active else { return };
        active.summary.acknowledged = self.shared.index().acknowledged();
        match active.write(&active.summary.seal(self.sequence).into(), true) {
            Ok(_) => {
                self.durable = self.sequence;
                self.sequence += 1;
                let mut index = self.shared.index();
                active.list(&mut index);
                for (_, outbox) in index.outboxes.iter_mut() {
                    outbox.forget(active.segment.number);
                }
                drop(index);
                self.active = None;
            }
            Err(error) => {
                // Only frames with nothing but cursors can be lost with it.
                self.sequence += 1;
                return self.replace(&error);
            }
        }
        if let Err(error) = self.open_segment(self.sequence) {
            self.degrade(&error);
        }
    }

    /// Begins a segment whose first frame will be `first`.
    fn open_segment(&mut self, first: u64) -> io::Result<()> {
        let number = self.number;
        self.number += 1;
        if self.checkpoint.complete == 0 {
            // There was nothing before.
            self.checkpoint.complete = number;
        }
        let Checkpoint { complete: checkpoint, owed: incomplete, .. } = self.checkpoint;
        let header = SegmentHeader { number, first, previous: self.durable, checkpoint, incomplete };
        let file = segment::create(self.storage.as_ref(), &header)?;
        let segment = Arc::new(Segment::new(number, &segment::path(number)));
        let length = SEGMENT_HEADER_LENGTH as u64;
        let started = self.now.running;
        let summary = Summary { newest: started, ..Summary::default() };
        let active = Active { segment, file, length, synced: length, started, summary };
        active.list(&mut self.shared.index());
        self.active = Some(active);
        // Only now: what their headers say is in the new one too.
        self.remove_empty();
        Ok(())
    }
}

impl Active {
    /// Enters it into the index, or renews what that says of it.
    fn list(&self, index: &mut Index) {
        let last_of = |range: &Range| if range.totals.requests > 0 { range.last } else { Position::START };
        let requests = &self.summary.requests;
        let listed = Listed {
            segment: Arc::clone(&self.segment),
            length: self.length,
            newest: self.summary.newest,
            last: PerSignal { logs: last_of(&requests.logs), traces: last_of(&requests.traces) },
        };
        match index.segments.back_mut().filter(|last| last.segment.number == self.segment.number) {
            Some(last) => *last = listed,
            None => index.segments.push_back(listed),
        }
    }
}
