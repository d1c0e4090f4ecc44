//! One file of the log: its header, its summary once it is full, and how its frames are read.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crc32c::crc32c;

use super::commit::{Head, PerSignal, Position};
use super::frame::{self, HEADER_LENGTH, Header, Kind, Reader};
use super::outbox::{Entry, Pending};
use super::storage::{File, Storage};
use crate::signal::Signal;
use crate::time::RunningTime;

/// The folder of the segments.
pub(super) const FOLDER: &str = "log";

const MAGIC: [u8; 8] = *b"SENSEOTL";

/// Version of the format of a segment. A store that holds a newer one is refused.
pub(super) const VERSION: u32 = 1;

/// Bytes of the header of a segment; the same in every version.
pub(super) const SEGMENT_HEADER_LENGTH: usize = 64;

/// The flag in a header that says that records were lost.
const INCOMPLETE: u8 = 1;

/// Bytes of the frame that ends a segment that is full.
pub(super) const SEAL_LENGTH: usize = HEADER_LENGTH + SUMMARY_LENGTH;

const SUMMARY_LENGTH: usize = 24 + 2 * 40;

/// How much is read at a time.
const WINDOW: usize = 256 * 1024;

/// The path of a segment.
pub(super) fn path(number: u64) -> String {
    format!("{FOLDER}/{}", name(number))
}

pub(super) fn name(number: u64) -> String {
    format!("{number:020}.segment")
}

/// The number in the name of a segment.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// How a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The number of the segment.
    pub(super) number: u64,
    /// The number of its first frame.
    pub(super) first: u64,
    /// The number of the last frame that was durable when the segment was made. Those between the two were never
    /// stored.
    pub(super) previous: u64,
    /// The segment that the last complete checkpoint began with when this one was made: recovery begins there.
    pub(super) checkpoint: u64,
    /// Whether records were lost before it, so that those in the log are old until a checkpoint ends.
    pub(super) incomplete: bool,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Of a segment that we can read.
    Segment(SegmentHeader),
    /// Of a segment of this version, which is newer than ours.
    Newer(u32),
    /// Of a segment that was being made: there is nothing in it yet.
    Unfinished,
    /// Of something else, or damaged.
    Unknown,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_LENGTH] {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LENGTH);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for number in [self.number, self.first, self.previous, self.checkpoint] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(if self.incomplete { INCOMPLETE } else { 0 });
        bytes.resize(SEGMENT_HEADER_LENGTH - 4, 0);
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        bytes.try_into().unwrap_or([0; SEGMENT_HEADER_LENGTH])
    }

    /// Reads the beginning of a file of `length` bytes.
    pub(super) fn read(file: &dyn File, length: u64) -> io::Result<Beginning> {
        let mut bytes = [0; SEGMENT_HEADER_LENGTH];
        let there = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let bytes = bytes.get_mut(..there).unwrap_or_default();
        file.read_exact_at(bytes, 0)?;
        Ok(Self::decode(bytes).unwrap_or_else(|| {
            let begun = bytes.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
            let empty = bytes.iter().all(|byte| *byte == 0);
            let nothing_behind = length <= SEGMENT_HEADER_LENGTH as u64;
            if nothing_behind && (begun || empty) { Beginning::Unfinished } else { Beginning::Unknown }
        }))
    }

    fn decode(bytes: &[u8]) -> Option<Beginning> {
        let mut reader = Reader::new(bytes);
        let magic = reader.take(MAGIC.len())?;
        let version = reader.u32()?;
        reader.u32()?;
        let header = Self {
            number: reader.u64()?,
            first: reader.u64()?,
            previous: reader.u64()?,
            checkpoint: reader.u64()?,
            incomplete: reader.u8()? & INCOMPLETE != 0,
        };
        reader.take(SEGMENT_HEADER_LENGTH - 4 - 49)?;
        let whole = reader.u32()? == crc32c(bytes.get(..SEGMENT_HEADER_LENGTH - 4)?);
        match (whole && magic == MAGIC, version) {
            (true, VERSION) => Some(Beginning::Segment(header)),
            (true, newer) if newer > VERSION => Some(Beginning::Newer(newer)),
            _ => None,
        }
    }
}

/// Requests of one signal in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    /// The position of the first; meaningless if there are none.
    pub(super) first: Position,
    /// The position of the last; meaningless if there are none.
    pub(super) last: Position,
    pub(super) totals: Pending,
}

impl Range {
    pub(super) fn add(&mut self, entry: &Entry) {
        if self.totals.requests == 0 {
            self.first = entry.position;
        }
        self.last = entry.position;
        self.totals.add(entry);
    }
}

/// What a full segment holds, so that it need not be read again to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// When its last frame was made.
    pub(super) newest: RunningTime,
    /// Up to here everything was acknowledged when it was full.
    pub(super) acknowledged: PerSignal<Position>,
    pub(super) requests: PerSignal<Range>,
}

impl Summary {
    /// The frame that ends a segment.
    pub(super) fn seal(&self, sequence: u64) -> Vec<u8> {
        let mut head = Vec::with_capacity(SUMMARY_LENGTH);
        let mut put = |number: u64| head.extend_from_slice(&number.to_le_bytes());
        put(self.newest.as_nanos());
        put(self.acknowledged.logs.value());
        put(self.acknowledged.traces.value());
        for (_, range) in self.requests.iter() {
            put(range.first.value());
            put(range.last.value());
            put(range.totals.requests);
            put(range.totals.items);
            put(range.totals.bytes);
        }
        frame::begin(Kind::Seal, sequence, &head, &[], 0)
    }

    /// The summary at the end of a file of `length` bytes, if it ends with one.
    pub(super) fn read(file: &dyn File, length: u64) -> io::Result<Option<Self>> {
        let Some(offset) = length.checked_sub(SEAL_LENGTH as u64) else { return Ok(None) };
        let mut bytes = [0; SEAL_LENGTH];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(Header::decode(&bytes).and_then(|header| {
            let head = bytes.get(HEADER_LENGTH..)?;
            if header.kind == Kind::Seal && header.describes(head) { Self::decode(head) } else { None }
        }))
    }

    pub(super) fn decode(head: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(head);
        let newest = RunningTime::from_nanos(reader.u64()?);
        let acknowledged = PerSignal { logs: Position::new(reader.u64()?), traces: Position::new(reader.u64()?) };
        let mut range = || {
            Some(Range {
                first: Position::new(reader.u64()?),
                last: Position::new(reader.u64()?),
                totals: Pending { requests: reader.u64()?, items: reader.u64()?, bytes: reader.u64()? },
            })
        };
        Some(Self { newest, acknowledged, requests: PerSignal { logs: range()?, traces: range()? } })
    }
}

/// Makes a segment, durably: neither its name nor its header is in doubt once frames are written to it.
pub(super) fn create(storage: &dyn Storage, header: &SegmentHeader) -> io::Result<Arc<dyn File>> {
    let path = path(header.number);
    let file = storage.create(&path)?;
    let made = file.write_at(&header.encode(), 0).and_then(|()| file.sync()).and_then(|()| storage.sync_folder(FOLDER));
    if made.is_err() {
        // Nothing is in it. If it stays, the next start sees that it was never finished.
        let _ = storage.remove(&path);
    }
    made.map(|()| file)
}

/// Something found in a segment.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A frame whose header and head are as they were written.
    Frame {
        /// Where it begins.
        offset: u64,
        header: Header,
        head: &'a [u8],
    },
    /// Bytes that are no frame.
    Damaged {
        /// Where they begin.
        offset: u64,
        /// Where something else does, or the file ends.
        end: u64,
    },
}

/// Reads the frames of a segment in their order, without their bodies.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    window: Window<'a>,
    offset: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a dyn File, length: u64) -> Self {
        let window = Window { file, length, start: 0, bytes: Vec::new() };
        Self { window, offset: SEGMENT_HEADER_LENGTH as u64 }
    }

    /// The next frame, or damage, or `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        let offset = self.offset;
        if offset >= self.window.length {
            return Ok(None);
        }
        let header = self.header_at(offset)?.filter(|header| self.fits(offset, header));
        let Some(header) = header else {
            self.offset = self.next_header(offset + 1)?;
            return Ok(Some(Found::Damaged { offset, end: self.offset }));
        };
        self.offset = offset + header.length();
        let head = self.window.bytes(offset + HEADER_LENGTH as u64, header.head as usize)?.unwrap_or_default();
        if header.describes(head) {
            Ok(Some(Found::Frame { offset, header, head }))
        } else {
            Ok(Some(Found::Damaged { offset, end: self.offset }))
        }
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Option<Header>> {
        Ok(self.window.bytes(offset, HEADER_LENGTH)?.and_then(Header::decode))
    }

    fn fits(&self, offset: u64, header: &Header) -> bool {
        offset.checked_add(header.length()).is_some_and(|end| end <= self.window.length)
    }

    /// Where the next header is, from `offset` on, or the end of the file.
    fn next_header(&mut self, mut offset: u64) -> io::Result<u64> {
        while offset < self.window.length {
            let left = usize::try_from(self.window.length - offset).unwrap_or(usize::MAX);
            self.window.bytes(offset, left.min(HEADER_LENGTH))?;
            let (at, marker) = frame::find(self.window.from(offset).unwrap_or_default());
            offset += at as u64;
            if marker {
                if self.header_at(offset)?.is_some_and(|header| self.fits(offset, &header)) {
                    return Ok(offset);
                }
                offset += 1;
            } else if at == 0 {
                break;
            }
        }
        Ok(self.window.length)
    }
}

/// A part of a file that has been read.
#[derive(Debug)]
struct Window<'a> {
    file: &'a dyn File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `count` bytes at `offset`, or `None` if the file ends before.
    fn bytes(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(count as u64).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        if self.from(offset).is_none_or(|bytes| bytes.len() < count) {
            let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
            self.bytes.clear();
            self.bytes.resize(count.max(WINDOW).min(left), 0);
            self.start = offset;
            self.file.read_exact_at(&mut self.bytes, offset)?;
        }
        Ok(self.from(offset).and_then(|bytes| bytes.get(..count)))
    }

    /// What has been read from `offset` on.
    fn from(&self, offset: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(offset.checked_sub(self.start)?).ok()?..)
    }
}

/// The requests in a frame at `offset`, in their order.
pub(super) fn entries<'a>(
    offset: u64,
    header: &Header,
    head: &Head<'a>,
) -> impl Iterator<Item = (Signal, Entry)> + use<'a> {
    let mut position = head.progress.before;
    let mut body = offset + HEADER_LENGTH as u64 + u64::from(header.head);
    head.requests().filter_map(move |request| {
        let position = position.of_mut(request.signal)?;
        *position = position.following();
        let entry = Entry {
            position: *position,
            items: request.items,
            length: request.length,
            checksum: request.checksum,
            offset: body,
            body: None,
        };
        body = body.saturating_add(u64::from(request.length));
        Some((request.signal, entry))
    })
}

/// The requests of a segment whose positions are in `ranges`.
pub(super) fn load(file: &dyn File, ranges: &PerSignal<Range>) -> io::Result<PerSignal<VecDeque<Entry>>> {
    let mut loaded = PerSignal::<VecDeque<Entry>>::default();
    let mut scanner = Scanner::new(file, file.length()?);
    while let Some(found) = scanner.next()? {
        let Found::Frame { offset, header, head } = found else { continue };
        let Some(head) = Head::decode(head).filter(|_| header.kind == Kind::Commit) else { continue };
        for (signal, entry) in entries(offset, &header, &head) {
            let Some((range, queue)) = ranges.of(signal).zip(loaded.of_mut(signal)) else { continue };
            let from = queue.back().map_or(range.first, |last: &Entry| last.position.following());
            if range.totals.requests > 0 && (from..=range.last).contains(&entry.position) {
                queue.push_back(entry);
            }
        }
    }
    Ok(loaded)
}
