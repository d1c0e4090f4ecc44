//! Requests that the backend will never take, kept for a person to look at, and to send again once the cause is found.
//!
//! Each is a file of its own, whole before it has its name. It can be listed and read beside a store at work, and
//! without one: `sense-otel quarantine` does.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use crc32c::crc32c;

use super::frame::{Reader, length};
use super::storage::Storage;
use crate::signal::Signal;
use crate::time::Timestamp;

/// The folder of the quarantine.
const FOLDER: &str = "quarantine";

/// Bytes of all files together.
const SIZE_MAX: u64 = 256 * 1024 * 1024;

/// Bytes that are freed beyond it once it is reached: the folder is looked through for the oldest files, and that
/// should not be done for each small request of a backend that refuses everything.
const SIZE_FREED: u64 = SIZE_MAX / 16;

/// A file takes up this many bytes of a disk, or a multiple: what bounds the bytes bounds the number of files too.
const BLOCK: u64 = 4096;

const MAGIC: [u8; 8] = *b"SENSEOTQ";

const VERSION: u32 = 1;

const HEADER_LENGTH: usize = 48;

/// Bytes of a reason at most; what is longer is cut.
const REASON_MAX: usize = 1024;

/// A request that the backend will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// What is known of it.
    pub about: About,
    /// Its bytes, as they were sent.
    pub body: Bytes,
}

/// What is known of a request that the backend will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it holds.
    pub signal: Signal,
    /// How many log records or spans.
    pub items: u32,
    /// The gRPC code of the answer.
    pub code: u32,
    /// One line that says why; what is longer than 1,024 bytes is cut.
    pub reason: String,
    /// When it was given up.
    pub wall: Timestamp,
}

/// The name of a request in the quarantine. Later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuarantineId(pub u64);

impl fmt::Display for QuarantineId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a file in the quarantine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name.
    pub id: QuarantineId,
    /// Bytes of the file.
    pub size: u64,
    /// What is in it; `None` if that cannot be read.
    pub about: Option<About>,
}

/// What putting a request into the quarantine came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "what had to go has to be told"]
pub struct Kept {
    /// Where it is; `None` if there is no disk to keep it on.
    pub id: Option<QuarantineId>,
    /// Older ones that had to make room. Their items have been counted as quarantined, and are gone now.
    pub pushed_out: Vec<QuarantineId>,
}

/// Why a request could not be put into the quarantine, looked at or removed.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// There is none of that name.
    #[error("there is no request {0} in the quarantine")]
    Unknown(QuarantineId),
    /// Its file does not hold what was written into it.
    #[error("request {0} in the quarantine is damaged")]
    Damaged(QuarantineId),
    /// It is larger than the whole quarantine.
    #[error("the request is larger than the quarantine")]
    TooLarge,
    /// It is full, and its oldest could not be removed.
    #[error("the quarantine is full, and its oldest requests cannot be removed")]
    Full,
    /// The disk.
    #[error("the quarantine cannot be read or written")]
    Disk(#[source] io::Error),
}

/// The folder of requests that the backend will never take.
#[derive(Clone, Debug)]
pub struct Quarantine {
    storage: Option<Arc<dyn Storage>>,
    /// Held while something is put in, so that two do not take the same name. `None` until somebody has looked, and
    /// after a failure.
    holdings: Arc<Mutex<Option<Holdings>>>,
}

/// What is in the folder, by the last look at it and what was put in since. Only [`Quarantine::put`] adds anything, so
/// it is never more; it is less where somebody has removed a request.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    /// The newest; 0 if there is none.
    last: QuarantineId,
    /// Bytes on disk.
    size: u64,
}

impl Quarantine {
    /// The quarantine in `storage`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage: Some(storage), holdings: Arc::default() }
    }

    /// One that keeps nothing.
    pub(super) fn nowhere() -> Self {
        Self { storage: None, holdings: Arc::default() }
    }

    /// Keeps a request. It is durable when this returns. If all of them are too much then, the oldest go until a
    /// sixteenth of the room is free.
    ///
    /// # Errors
    ///
    /// [`QuarantineError::TooLarge`], [`QuarantineError::Full`] and [`QuarantineError::Disk`]; then nothing has changed.
    pub fn put(&self, poison: &Poison) -> Result<Kept, QuarantineError> {
        let Some(storage) = &self.storage else { return Ok(Kept::default()) };
        if (poison.body.len() + HEADER_LENGTH + REASON_MAX) as u64 > SIZE_MAX {
            return Err(QuarantineError::TooLarge);
        }
        let bytes = encode(poison);
        put(storage.as_ref(), &bytes, &mut self.lock())
    }

    /// Everything in it, the oldest first. All of it is read, to see whether it is whole, one after the other.
    ///
    /// # Errors
    ///
    /// [`QuarantineError::Disk`].
    pub fn list(&self) -> Result<Vec<Quarantined>, QuarantineError> {
        let Some(storage) = &self.storage else { return Ok(Vec::new()) };
        let files = files(storage.as_ref()).map_err(QuarantineError::Disk)?;
        let described = files.into_iter().filter_map(|(id, size)| match read(storage.as_ref(), id) {
            // Somebody else has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => {
                let poison = read.ok().and_then(|bytes| decode(&bytes));
                Some(Quarantined { id, size, about: poison.map(|poison| poison.about) })
            }
        });
        Ok(described.collect())
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// [`QuarantineError::Unknown`], [`QuarantineError::Damaged`] and [`QuarantineError::Disk`].
    pub fn read(&self, id: QuarantineId) -> Result<Poison, QuarantineError> {
        let storage = self.storage.as_ref().ok_or(QuarantineError::Unknown(id))?;
        let bytes = read(storage.as_ref(), id).map_err(|error| told(id, error))?;
        decode(&bytes).ok_or(QuarantineError::Damaged(id))
    }

    /// Removes one of them.
    ///
    /// # Errors
    ///
    /// [`QuarantineError::Unknown`] and [`QuarantineError::Disk`].
    pub fn remove(&self, id: QuarantineId) -> Result<(), QuarantineError> {
        let storage = self.storage.as_ref().ok_or(QuarantineError::Unknown(id))?;
        let removed = storage.remove(&path(id)).and_then(|()| storage.sync_folder(FOLDER));
        removed.map_err(|error| told(id, error))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Holdings>> {
        // What is in it is taken out while it is worked with, so that a panic leaves nothing half done.
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(id: QuarantineId, error: io::Error) -> QuarantineError {
    if error.kind() == io::ErrorKind::NotFound { QuarantineError::Unknown(id) } else { QuarantineError::Disk(error) }
}

fn put(storage: &dyn Storage, bytes: &[u8], known: &mut Option<Holdings>) -> Result<Kept, QuarantineError> {
    let holdings = match known.take() {
        Some(holdings) => holdings,
        None => Holdings::of(&files(storage).map_err(QuarantineError::Disk)?),
    };
    if holdings.size > SIZE_MAX + SIZE_FREED {
        return Err(QuarantineError::Full);
    }
    let id = QuarantineId(holdings.last.0.saturating_add(1));
    write(storage, id, bytes).map_err(QuarantineError::Disk)?;
    let mut kept = Kept { id: Some(id), pushed_out: Vec::new() };
    let size = holdings.size.saturating_add(room(bytes.len() as u64));
    if size <= SIZE_MAX {
        *known = Some(Holdings { last: id, size });
    } else {
        // The next one looks for itself what there is, whatever came of this. It is kept all the same.
        let _ = make_room(storage, &mut kept.pushed_out);
    }
    Ok(kept)
}

/// Removes the oldest, until there is room for some more to come. The newest stays, whatever its size.
fn make_room(storage: &dyn Storage, pushed_out: &mut Vec<QuarantineId>) -> io::Result<()> {
    let files = files(storage)?;
    let mut size = Holdings::of(&files).size;
    if size <= SIZE_MAX {
        return Ok(());
    }
    let older = files.split_last().map_or(&[][..], |(_, older)| older);
    for &(id, length) in older {
        if size <= SIZE_MAX - SIZE_FREED {
            break;
        }
        match storage.remove(&path(id)) {
            Ok(()) => pushed_out.push(id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        size = size.saturating_sub(room(length));
    }
    Ok(())
}

/// Makes a whole file, or none of that name.
fn write(storage: &dyn Storage, id: QuarantineId, bytes: &[u8]) -> io::Result<()> {
    storage.create_folder(FOLDER)?;
    let unfinished = format!("{FOLDER}/unfinished");
    // One that an earlier process did not finish is of no use to anybody: the request is still in the log.
    match storage.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = storage.create(&unfinished)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    storage.rename(&unfinished, &path(id))?;
    storage.sync_folder(FOLDER)
}

impl Holdings {
    fn of(files: &[(QuarantineId, u64)]) -> Self {
        let last = files.last().map_or(QuarantineId(0), |(last, _)| *last);
        Self { last, size: files.iter().map(|(_, length)| room(*length)).fold(0, u64::saturating_add) }
    }
}

/// What a file of this length takes up.
const fn room(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// All files with their sizes, the oldest first. One that cannot be opened has none.
fn files(storage: &dyn Storage) -> io::Result<Vec<(QuarantineId, u64)>> {
    let mut ids = storage.list(FOLDER)?.iter().filter_map(|name| id_of(name)).collect::<Vec<_>>();
    ids.sort_unstable();
    let mut files = Vec::with_capacity(ids.len());
    for id in ids {
        match storage.open(&path(id)).and_then(|file| file.length()) {
            Ok(size) => files.push((id, size)),
            // Somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It has that name all the same, and must not keep us from the others.
            Err(_) => files.push((id, 0)),
        }
    }
    Ok(files)
}

fn read(storage: &dyn Storage, id: QuarantineId) -> io::Result<Bytes> {
    let file = storage.open(&path(id))?;
    let length = file.length()?;
    if length > SIZE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

fn path(id: QuarantineId) -> String {
    format!("{FOLDER}/{:020}.request", id.0)
}

fn id_of(name: &str) -> Option<QuarantineId> {
    let digits = name.strip_suffix(".request")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().map(QuarantineId) } else { None }
}

fn encode(poison: &Poison) -> Vec<u8> {
    let Poison { about, body } = poison;
    let reason = about.reason.get(..about.reason.floor_char_boundary(REASON_MAX)).unwrap_or_default();
    let signal: u32 = match about.signal {
        Signal::Logs => 1,
        Signal::Traces => 2,
        Signal::Metrics => 3,
    };
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + reason.len() + body.len());
    bytes.extend_from_slice(&MAGIC);
    for number in [VERSION, signal, about.items, about.code] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&about.wall.as_nanos().to_le_bytes());
    bytes.extend_from_slice(&length(reason.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&length(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let mut checksum = crc32c(&bytes);
    for part in [reason.as_bytes(), body] {
        checksum = crc32c::crc32c_append(checksum, part);
    }
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(reason.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn decode(bytes: &Bytes) -> Option<Poison> {
    let mut reader = Reader::new(bytes);
    if reader.take(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
        return None;
    }
    let signal = match reader.u32()? {
        1 => Signal::Logs,
        2 => Signal::Traces,
        3 => Signal::Metrics,
        _ => return None,
    };
    let (items, code) = (reader.u32()?, reader.u32()?);
    let wall = Timestamp::from_nanos(reader.u64()?);
    let (reason, body) = (reader.u32()? as usize, reader.u32()? as usize);
    reader.take(4)?;
    let checksum = reader.u32()?;
    let covered = crc32c::crc32c_append(crc32c(bytes.get(..HEADER_LENGTH - 4)?), reader.rest());
    let reason = std::str::from_utf8(reader.take(reason)?).ok()?.to_owned();
    let whole = covered == checksum && reader.rest().len() == body;
    let body = bytes.slice(bytes.len().checked_sub(body)?..);
    whole.then_some(Poison { about: About { signal, items, code, reason, wall }, body })
}
