//! What the store tells about itself. It counts and logs nothing: whoever opens it does.

use std::fmt::Debug;
use std::io;

use super::outbox::Pending;
use crate::signal::{ExpiryReason, Signal};

/// Hears of everything that the store gives up, fails at and recovers from, as it happens and once each.
///
/// Called on the thread of the store and on those of its users, without a lock held.
pub trait Observer: Debug + Send + Sync {
    /// Something happened.
    fn observe(&self, happening: Happening);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _: Happening) {}
}

/// What an [`Observer`] hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Requests are given up: they are no longer pending, and nobody will acknowledge them.
    Expired {
        /// Which.
        signal: Signal,
        /// How much.
        what: Pending,
        /// Why.
        reason: ExpiryReason,
    },
    /// Nothing is durable from here on, until [`Happening::Durable`]. What is appended is delivered from memory.
    Degraded {
        /// What the disk fails at.
        reason: DegradedReason,
    },
    /// All is durable again, the whole state of the core included.
    Durable,
    /// A file failed and is written to no more. What it holds stays, what was on its way to it is in another file.
    Abandoned {
        /// What the disk failed at.
        reason: DegradedReason,
    },
    /// The oldest segment is to go and cannot be removed, so the disk may hold more than it should. That is tried again
    /// with every turn of the clock, and not told again before it was possible.
    Stuck {
        /// What the disk failed at.
        reason: DegradedReason,
    },
}

/// Whether what is appended survives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does, once it is handed out.
    Durable,
    /// It does not: the disk fails. The store goes on from memory and tries again by itself.
    Degraded {
        /// What the disk fails at.
        reason: DegradedReason,
    },
    /// It does not, because it was so chosen.
    InMemory,
}

/// Why nothing can be written, by who can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DegradedReason {
    /// There is no space left, or the quota is used up.
    DiskFull,
    /// The file system is mounted for reading only.
    ReadOnly,
    /// The folder does not allow us to write.
    Forbidden,
    /// The disk fails in another way.
    InputOutput,
}

impl DegradedReason {
    /// The name in log lines and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Forbidden => "forbidden",
            Self::InputOutput => "input_output",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::InputOutput,
        }
    }
}
