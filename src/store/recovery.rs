//! What an earlier process left in the folder, read once at the start.
//!
//! First everything is looked at and nothing touched, so that a store of a newer version stays as it is. Then what is
//! no segment is moved aside. Then the segments are read: of those before the last complete checkpoint only the summary
//! at their end, of the others each frame without its bodies. The rules for what is damaged are in the module head of
//! `store`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crc32c::crc32c;

use self::fold::Fold;
use super::commit::{Head, PerSignal, Position};
use super::files::Segment;
use super::frame::{Header, Kind};
use super::log::Left;
use super::outbox::{Entry, Index, Listed, Outbox, Pending};
use super::segment::{self, Beginning, FOLDER, Found, Range, SEGMENT_HEADER_LENGTH, Scanner, SegmentHeader, Summary};
use super::storage::{File, Storage};
use super::{Damage, OpenError, Recovered};
use crate::signal::Signal;

mod fold;

/// Where goes what we cannot read.
const DAMAGED_FOLDER: &str = "damaged";

/// What was found, in the forms in which the parts of the store need it.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) index: Index,
    pub(super) left: Left,
    pub(super) recovered: Recovered,
}

/// A file that is, or may be, a segment.
#[derive(Debug)]
struct Candidate {
    number: u64,
    path: String,
    length: u64,
    /// `None` if it is damaged.
    header: Option<SegmentHeader>,
}

impl Candidate {
    /// The name that the file has, which need not be its own.
    fn name(&self) -> String {
        self.path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// What is in the folder.
#[derive(Debug, Default)]
struct Survey {
    candidates: Vec<Candidate>,
    /// Segments that were being made.
    unfinished: Vec<String>,
    /// Segments under the name of another: name, and number that they say they have.
    misnamed: Vec<(String, u64)>,
    /// What is no segment of ours, or cannot be read.
    strange: Vec<String>,
    /// The highest number in any name.
    highest: u64,
}

/// Reads what is in `storage`, and moves aside what cannot be read.
pub(super) fn recover(storage: &dyn Storage) -> Result<Restored, OpenError> {
    let mut survey = survey(storage)?;
    let mut damage = Damage::default();
    let highest = survey.highest;
    for name in &survey.unfinished {
        // All that is in it is the beginning of a header, and if it cannot be removed it does no harm.
        let _ = storage.remove(&format!("{FOLDER}/{name}"));
    }
    give_names_back(storage, &mut survey)?;
    survey.candidates.sort_by_key(|candidate| candidate.number);
    survey.candidates.retain(|candidate| {
        let readable = candidate.header.is_some() || holds_a_frame(storage, candidate);
        if !readable {
            survey.strange.push(candidate.name());
        }
        readable
    });
    let (mut fold, mut listed) = read_all(storage, &survey.candidates, &mut survey.strange);
    let empty = take_empty(&mut fold, &mut listed);
    for name in survey.strange {
        match move_aside(storage, &name) {
            Ok(()) => damage.moved.push(name),
            Err(_) => damage.stuck.push(name),
        }
    }
    damage.lost_frames = fold.lost_frames;
    damage.torn_bytes = fold.torn_bytes;
    damage.damaged_bytes = fold.damaged_bytes;
    damage.records_are_old = fold.records_are_old;
    damage.headers = survey.candidates.iter().filter(|candidate| candidate.header.is_none()).count() as u64;
    let highest = survey.candidates.last().map_or(highest, |last| last.number.max(highest));
    let records = fold.take_records();
    let left = Left {
        number: highest.saturating_add(1),
        sequence: fold.highest.saturating_add(1),
        durable: fold.durable,
        last: fold.assigned,
        checkpoint: fold.complete,
        since: listed
            .iter()
            .filter(|(listed, _)| listed.segment.number >= fold.complete)
            .map(|(listed, _)| listed.length)
            .sum(),
        size: fold.size,
        incomplete: fold.incomplete,
        empty,
        now: fold.now,
    };
    let index = index(storage, &fold, listed);
    let restored = PerSignal { logs: index.outboxes.logs.pending(), traces: index.outboxes.traces.pending() };
    let recovered = Recovered { records, running: fold.now.running, wall: fold.now.wall, restored, damage };
    Ok(Restored { index, left, recovered })
}

/// Looks at every file and touches none.
fn survey(storage: &dyn Storage) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    for name in storage.list(FOLDER).map_err(OpenError::Unusable)? {
        let Some(number) = segment::number(&name) else {
            survey.strange.push(name);
            continue;
        };
        survey.highest = survey.highest.max(number);
        let path = format!("{FOLDER}/{name}");
        let file = match storage.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                survey.strange.push(name);
                continue;
            }
            Err(error) => return Err(OpenError::Unusable(error)),
        };
        let beginning = file.length().and_then(|length| Ok((SegmentHeader::read(file.as_ref(), length)?, length)));
        match beginning {
            Ok((Beginning::Newer(found), _)) => return Err(OpenError::Newer { found, known: segment::VERSION }),
            Ok((Beginning::Unfinished, _)) => survey.unfinished.push(name),
            Ok((Beginning::Segment(header), _)) if header.number != number => {
                survey.misnamed.push((name, header.number));
            }
            Ok((Beginning::Segment(header), length)) => {
                survey.candidates.push(Candidate { number, path, length, header: Some(header) });
            }
            Ok((Beginning::Unknown, length)) => {
                survey.candidates.push(Candidate { number, path, length, header: None });
            }
            Err(_) => survey.strange.push(name),
        }
    }
    Ok(survey)
}

/// Gives segments under the name of another their own back. Nothing is replaced on the way: where one of them has the
/// name, it is moved out of it first; where something else has, the segment is read where it is.
fn give_names_back(storage: &dyn Storage, survey: &mut Survey) -> Result<(), OpenError> {
    let mut misnamed = VecDeque::from(std::mem::take(&mut survey.misnamed));
    while let Some((name, number)) = misnamed.pop_front() {
        if survey.candidates.iter().any(|candidate| candidate.number == number) {
            survey.strange.push(name);
            continue;
        }
        let (path, own) = (format!("{FOLDER}/{name}"), segment::name(number));
        let mut is_free = !survey.strange.contains(&own);
        if let Some((other, _)) = misnamed.iter_mut().find(|(other, _)| *other == own) {
            let aside = format!("{own}.moved");
            is_free = storage.rename(&segment::path(number), &format!("{FOLDER}/{aside}")).is_ok();
            if is_free {
                *other = aside;
            }
        }
        let renamed = is_free && storage.rename(&path, &segment::path(number)).is_ok();
        let path = if renamed { segment::path(number) } else { path };
        survey.candidates.push(candidate(storage, number, path)?);
    }
    Ok(())
}

fn candidate(storage: &dyn Storage, number: u64, path: String) -> Result<Candidate, OpenError> {
    let read = || {
        let file = storage.open(&path)?;
        let length = file.length()?;
        Ok((SegmentHeader::read(file.as_ref(), length)?, length))
    };
    let (beginning, length) = read().map_err(OpenError::Unusable)?;
    let header = match beginning {
        Beginning::Segment(header) => Some(header),
        _ => None,
    };
    Ok(Candidate { number, path, length, header })
}

/// Whether there is something to be had behind a header that is damaged.
fn holds_a_frame(storage: &dyn Storage, candidate: &Candidate) -> bool {
    let Ok(file) = storage.open(&candidate.path) else { return false };
    let mut scanner = Scanner::new(file.as_ref(), candidate.length);
    loop {
        match scanner.next() {
            Ok(Some(Found::Frame { .. })) => return true,
            Ok(Some(Found::Damaged { .. })) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

fn move_aside(storage: &dyn Storage, name: &str) -> io::Result<()> {
    storage.create_folder(DAMAGED_FOLDER)?;
    let taken = storage.list(DAMAGED_FOLDER)?;
    let mut target = name.to_owned();
    let mut copy = 1;
    while taken.contains(&target) {
        copy += 1;
        target = format!("{name}.{copy}");
    }
    storage.rename(&format!("{FOLDER}/{name}"), &format!("{DAMAGED_FOLDER}/{target}"))?;
    storage.sync_folder(DAMAGED_FOLDER)
}

/// A segment, and what of it is new: not in one before.
type Read = (Listed, PerSignal<Range>);

/// Reads all segments, the oldest first. One that cannot be read is strange.
fn read_all(storage: &dyn Storage, candidates: &[Candidate], strange: &mut Vec<String>) -> (Fold, Vec<Read>) {
    let wanted = candidates.iter().rev().find_map(|candidate| candidate.header).map_or(0, |header| header.checkpoint);
    let there = candidates.iter().any(|candidate| candidate.number == wanted);
    let start = if there { wanted } else { candidates.first().map_or(0, |candidate| candidate.number) };
    let mut fold = Fold::new(start, start != wanted);
    let mut read = Vec::new();
    for candidate in candidates {
        let is_last = candidates.last().is_some_and(|last| last.number == candidate.number);
        // One is open at a time.
        let ranges = storage.open(&candidate.path).and_then(|file| {
            let ranges = read_segment(&mut fold, candidate, file.as_ref(), start, is_last)?;
            Ok((ranges, file.length().unwrap_or(candidate.length)))
        });
        match ranges {
            Ok((ranges, length)) => read.push((listed(candidate, length, &fold, &ranges), ranges)),
            Err(_) => {
                let _ = fold.end_segment();
                fold.interrupt();
                strange.push(candidate.name());
            }
        }
    }
    (fold, read)
}

fn listed(candidate: &Candidate, length: u64, fold: &Fold, ranges: &PerSignal<Range>) -> Listed {
    let last = |range: &Range| if range.totals.requests > 0 { range.last } else { Position::START };
    Listed {
        segment: Arc::new(Segment::new(candidate.number, &candidate.path)),
        length,
        newest: fold.newest,
        last: PerSignal { logs: last(&ranges.logs), traces: last(&ranges.traces) },
    }
}

/// Takes out the segments with nothing in them, of which many would gather otherwise, and gives their paths.
fn take_empty(fold: &mut Fold, read: &mut Vec<Read>) -> Vec<String> {
    let is_empty = |(listed, _): &mut Read| listed.length <= SEGMENT_HEADER_LENGTH as u64;
    let empty = read.extract_if(.., is_empty).map(|(listed, _)| listed.segment).collect::<Vec<_>>();
    if empty.iter().any(|segment| segment.number == fold.complete) {
        let mut left = read.iter().map(|(listed, _)| listed.segment.number);
        fold.complete = left.find(|number| *number > fold.complete).unwrap_or_default();
    }
    empty.into_iter().map(|segment| segment.path().to_owned()).collect()
}

fn read_segment(
    fold: &mut Fold,
    candidate: &Candidate,
    file: &dyn File,
    start: u64,
    is_last: bool,
) -> io::Result<PerSignal<Range>> {
    if candidate.number < start
        && let Some(summary) = Summary::read(file, candidate.length)?
    {
        let found = fold.found;
        fold.summary(&summary);
        return Ok(PerSignal {
            logs: clip(&|unread| segment::load(file, unread), Signal::Logs, summary.requests.logs, found.logs)?,
            traces: clip(&|unread| segment::load(file, unread), Signal::Traces, summary.requests.traces, found.traces)?,
        });
    }
    if candidate.number == start {
        // What is before is of no use to the records, and need not be whole.
        fold.begin_records();
    }
    if let Some(header) = candidate.header {
        fold.begin_segment(&header, candidate.number > start);
    }
    let mut held = Vec::new();
    let cut = scan(fold, candidate, file, &mut held)?;
    let bad = release_tail(fold, file, held)?;
    if let Some(offset) = cut.into_iter().chain(bad).min() {
        fold.torn_bytes += candidate.length.saturating_sub(offset);
        if is_last {
            // What cannot be cut off is found torn again by the next start.
            let _ = file.truncate(offset);
        }
    }
    if is_last {
        // A killed process leaves its last frames to the system's cache; they are to be handed out.
        let _ = file.sync();
    }
    Ok(fold.end_segment())
}

/// A frame that is not known to have been durable.
#[derive(Debug)]
struct Held {
    segment: u64,
    offset: u64,
    header: Header,
    head: Vec<u8>,
}

/// Reads the frames of a segment. Returns where it is torn, and leaves in `held` those that may be.
fn scan(fold: &mut Fold, candidate: &Candidate, file: &dyn File, held: &mut Vec<Held>) -> io::Result<Option<u64>> {
    let mut scanner = Scanner::new(file, candidate.length);
    let mut gap = None;
    // Frames that are held have been seen, if not folded.
    let mut seen = fold.sequence;
    while let Some(found) = scanner.next()? {
        let (offset, header, head) = match found {
            Found::Frame { offset, header, head } => (offset, header, head),
            Found::Damaged { offset, end } => {
                gap = Some(gap.map_or((offset, end), |(first, _)| (first, end)));
                continue;
            }
        };
        let synced = match header.kind {
            Kind::Seal => header.sequence,
            Kind::Commit => match Head::decode(head) {
                Some(head) => head.progress.synced,
                None => {
                    let end = offset + header.length();
                    gap = Some(gap.map_or((offset, end), |(first, _)| (first, end)));
                    continue;
                }
            },
        };
        fold.highest = fold.highest.max(header.sequence);
        if header.sequence <= seen {
            // It was written again, because nobody knew whether the first writing had reached the disk.
            continue;
        }
        if let Some((from, to)) = gap.take() {
            let missing = header.sequence > seen.saturating_add(1);
            if missing && synced <= seen {
                return Ok(Some(from));
            }
            fold.damaged_bytes += to - from;
        }
        seen = header.sequence;
        for durable in held.extract_if(.., |held| held.header.sequence <= synced) {
            fold.frame(&durable);
        }
        held.push(Held { segment: candidate.number, offset, header, head: head.to_vec() });
    }
    Ok(gap.map(|(from, _)| from))
}

/// Looks at the bodies of frames that may never have been durable. Returns where the first one begins that is torn.
fn release_tail(fold: &mut Fold, file: &dyn File, held: Vec<Held>) -> io::Result<Option<u64>> {
    for frame in held {
        if !bodies_are_whole(file, &frame)? {
            return Ok(Some(frame.offset));
        }
        fold.frame(&frame);
    }
    Ok(None)
}

fn bodies_are_whole(file: &dyn File, frame: &Held) -> io::Result<bool> {
    let Some(head) = Head::decode(&frame.head).filter(|_| frame.header.kind == Kind::Commit) else { return Ok(true) };
    for (described, (_, entry)) in head.requests().zip(segment::entries(frame.offset, &frame.header, &head)) {
        let mut body = vec![0; described.length as usize];
        file.read_exact_at(&mut body, entry.offset)?;
        if crc32c(&body) != described.checksum {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the requests of a segment.
type Load<'a> = &'a dyn Fn(&PerSignal<Range>) -> io::Result<PerSignal<VecDeque<Entry>>>;

/// What of `range` comes after `position`.
fn clip(load: Load<'_>, signal: Signal, mut range: Range, position: Position) -> io::Result<Range> {
    if range.totals.requests == 0 || range.last <= position {
        return Ok(Range::default());
    }
    if range.first <= position {
        range.first = position.following();
        let mut wanted = PerSignal::<Range>::default();
        if let Some(wanted) = wanted.of_mut(signal) {
            *wanted = range;
        }
        range.totals = Pending::default();
        for entry in load(&wanted)?.of(signal).into_iter().flatten() {
            range.totals.add(entry);
        }
    }
    Ok(range)
}

/// What is still to be delivered of what was read.
fn index(storage: &dyn Storage, fold: &Fold, read: Vec<Read>) -> Index {
    let mut index = Index::default();
    for (signal, outbox) in index.outboxes.iter_mut() {
        *outbox = Outbox::new(fold.acknowledged.of(signal).copied().unwrap_or_default());
    }
    for (listed, ranges) in read {
        for (signal, range) in ranges.iter() {
            let Some(outbox) = index.outboxes.of_mut(signal) else { continue };
            // What cannot be counted now is as much as it was, until it is read to be sent.
            let load = |unread: &_| segment::load(storage.open(listed.segment.path())?.as_ref(), unread);
            let left = clip(&load, signal, *range, outbox.acknowledged()).unwrap_or(*range);
            outbox.restore(&listed.segment, left);
        }
        index.segments.push_back(listed);
    }
    index
}
