//! A walk through the open sessions in portions, for whoever wants to look at them while events go on coming.

use super::{Session, SessionTracker};

impl SessionTracker {
    /// The open sessions in the next `places` places from this one on, and where to go on, if that was not all. A session
    /// that begins or ends during the walk may be met or not.
    pub(in crate::processor) fn walk(&self, from: u32, places: u32) -> (impl Iterator<Item = &Session>, Option<u32>) {
        let end = self.table.slots();
        let until = from.saturating_add(places).min(end);
        let met = (from..until).filter_map(|slot| self.table.get(slot));
        (met, (until < end).then_some(until))
    }
}
