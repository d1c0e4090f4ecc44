//! The frames of all segments, in their order, folded into what they leave.

use std::collections::HashMap;

use super::Held;
use crate::store::StoredRecord;
use crate::store::commit::{Head, Mark, PerSignal, Position};
use crate::store::frame::Kind;
use crate::store::segment::{self, Range, SegmentHeader, Summary};
use crate::time::{Now, RunningTime};

type Records = HashMap<Box<[u8]>, Box<[u8]>>;

/// What the frames so far leave.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// The number of the last frame, or of one before the segment that was never stored.
    pub(super) sequence: u64,
    /// The number of the last frame that was found.
    pub(super) durable: u64,
    /// Whether that is known, and not only nothing read yet.
    known: bool,
    /// The highest number of any frame that was seen, of use or not.
    pub(super) highest: u64,
    pub(super) lost_frames: u64,
    pub(super) torn_bytes: u64,
    pub(super) damaged_bytes: u64,
    pub(super) acknowledged: PerSignal<Position>,
    /// The positions of the last requests that were ever made.
    pub(super) assigned: PerSignal<Position>,
    /// The positions of the last requests that were found.
    pub(super) found: PerSignal<Position>,
    pub(super) now: Now,
    /// When the last frame of the segment with anything in it was made.
    pub(super) newest: RunningTime,
    /// The segment that the last complete checkpoint begins with.
    pub(super) complete: u64,
    /// Bytes of that checkpoint.
    pub(super) size: u64,
    /// Whether the segment that the records began in is not there.
    gone: bool,
    /// Whether records may be missing.
    pub(super) incomplete: bool,
    /// Whether the process before said so itself: its disk failed.
    pub(super) records_are_old: bool,
    /// New requests in the segment.
    ranges: PerSignal<Range>,
    records: Records,
    begun: Option<Begun>,
}

/// A checkpoint whose end has not been seen yet.
#[derive(Debug)]
struct Begun {
    segment: u64,
    size: u64,
    /// What has been recorded since its begin: all there is, once it ends.
    records: Records,
}

impl Fold {
    /// Nothing yet, with the records beginning in the segment `complete`, unless the one that they began in is gone.
    pub(super) fn new(complete: u64, gone: bool) -> Self {
        Self { complete, gone, incomplete: gone, ..Self::default() }
    }

    /// The records begin here: either nothing was before, or a checkpoint begins.
    pub(super) fn begin_records(&mut self) {
        self.records.clear();
        self.begun = None;
        self.incomplete = self.gone;
        self.records_are_old = false;
    }

    /// A segment begins. Only if `counted` is it known that all frames before it should have been found.
    pub(super) fn begin_segment(&mut self, header: &SegmentHeader, counted: bool) {
        if counted && header.previous > self.sequence {
            self.lost_frames = self.lost_frames.saturating_add(header.previous - self.sequence);
            self.interrupt();
        }
        self.incomplete |= header.incomplete;
        self.records_are_old |= header.incomplete;
        self.sequence = self.sequence.max(header.first.saturating_sub(1));
        self.known = true;
        self.highest = self.highest.max(self.sequence);
    }

    /// New requests in the segment that ends here.
    pub(super) fn end_segment(&mut self) -> PerSignal<Range> {
        std::mem::take(&mut self.ranges)
    }

    /// Something that was recorded is missing.
    pub(super) fn interrupt(&mut self) {
        self.incomplete = true;
        self.begun = None;
    }

    /// A segment of which only the summary is of interest.
    pub(super) fn summary(&mut self, summary: &Summary) {
        self.newest = summary.newest;
        self.now.running = self.now.running.max(summary.newest);
        for (signal, range) in summary.requests.iter() {
            if range.totals.requests > 0 {
                raise(&mut self.found, signal, range.last);
            }
        }
        self.seal(summary);
    }

    /// What a summary says of positions, whether the requests that had them are found or not.
    fn seal(&mut self, summary: &Summary) {
        for (signal, range) in summary.requests.iter() {
            if range.totals.requests > 0 {
                raise(&mut self.assigned, signal, range.last);
            }
        }
        self.acknowledge(&summary.acknowledged);
    }

    /// What was acknowledged was assigned before.
    fn acknowledge(&mut self, positions: &PerSignal<Position>) {
        for (signal, position) in positions.iter() {
            raise(&mut self.acknowledged, signal, *position);
            raise(&mut self.assigned, signal, *position);
        }
    }

    /// The next frame.
    pub(super) fn frame(&mut self, frame: &Held) {
        let sequence = frame.header.sequence;
        let missing = sequence.saturating_sub(self.sequence.saturating_add(1));
        if missing > 0 && self.known {
            self.lost_frames = self.lost_frames.saturating_add(missing);
            self.interrupt();
        }
        self.sequence = sequence;
        self.durable = sequence;
        self.known = true;
        if frame.header.kind == Kind::Seal {
            self.seal(&Summary::decode(&frame.head).unwrap_or_default());
            return;
        }
        let Some(head) = Head::decode(&frame.head) else { return };
        let progress = head.progress;
        if head.holds_anything() {
            // A frame with nothing but cursors and the time makes nothing younger.
            self.newest = progress.now.running;
        }
        self.now = Now { running: progress.now.running.max(self.now.running), wall: progress.now.wall };
        self.acknowledge(&progress.acknowledged);
        for (signal, position) in progress.before.iter() {
            raise(&mut self.assigned, signal, *position);
        }
        for (signal, entry) in segment::entries(frame.offset, &frame.header, &head) {
            raise(&mut self.assigned, signal, entry.position);
            let is_new = self.found.of(signal).is_some_and(|found| entry.position > *found);
            if let Some(range) = self.ranges.of_mut(signal).filter(|_| is_new) {
                range.add(&entry);
                raise(&mut self.found, signal, entry.position);
            }
        }
        if progress.mark == Some(Mark::Begin) {
            self.begun = Some(Begun { segment: frame.segment, size: 0, records: Records::new() });
        }
        self.record(&head);
        if let (Some(_), Some(begun)) = (progress.mark, &mut self.begun) {
            begun.size += frame.header.length();
        }
        if progress.mark == Some(Mark::End)
            && let Some(begun) = self.begun.take()
        {
            self.records = begun.records;
            self.complete = begun.segment;
            self.size = begun.size;
            self.incomplete = false;
            self.records_are_old = false;
        }
    }

    fn record(&mut self, head: &Head<'_>) {
        for record in head.records() {
            let since = self.begun.as_mut().map(|begun| &mut begun.records);
            for records in [Some(&mut self.records), since].into_iter().flatten() {
                match record.value {
                    Some(value) => records.insert(record.key.into(), value.into()),
                    None => records.remove(record.key),
                };
            }
        }
    }

    /// What is recorded, by key.
    pub(super) fn take_records(&mut self) -> Vec<StoredRecord> {
        let mut records = std::mem::take(&mut self.records).into_iter().collect::<Vec<_>>();
        records.sort_unstable();
        records
    }
}

fn raise(positions: &mut PerSignal<Position>, signal: crate::signal::Signal, to: Position) {
    if let Some(position) = positions.of_mut(signal) {
        *position = (*position).max(to);
    }
}
