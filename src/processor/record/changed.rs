//! What has changed since it was last asked for.

/// Names of records that have to be written or deleted. Nothing is noted before it is first asked for, so that a core
/// whose records nobody wants keeps no list of them.
#[derive(Debug)]
pub(in crate::processor) struct Changed<T> {
    noted: Option<Vec<T>>,
}

impl<T> Default for Changed<T> {
    fn default() -> Self {
        Self { noted: None }
    }
}

impl<T: Copy + Ord> Changed<T> {
    /// Begins to note what changes.
    pub(in crate::processor) fn start(&mut self) {
        self.noted.get_or_insert_default();
    }

    /// Notes a change.
    pub(in crate::processor) fn note(&mut self, name: T) {
        if let Some(noted) = &mut self.noted {
            noted.push(name);
        }
    }

    /// Takes out what was noted: each once, in order.
    pub(in crate::processor) fn take(&mut self) -> Vec<T> {
        let mut noted = self.noted.as_mut().map(std::mem::take).unwrap_or_default();
        noted.sort_unstable();
        noted.dedup();
        noted
    }

    /// Takes a list back, for its memory.
    pub(in crate::processor) fn reuse(&mut self, mut list: Vec<T>) {
        list.clear();
        if let Some(noted) = &mut self.noted
            && noted.is_empty()
        {
            *noted = list;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_given_out_once_and_none_before_it_is_asked_for() {
        let mut changed = Changed::default();
        changed.note(1);
        assert!(changed.take().is_empty());
        changed.start();
        for name in [3, 1, 3, 2, 1] {
            changed.note(name);
        }
        let list = changed.take();
        assert_eq!(list, [1, 2, 3]);
        changed.reuse(list);
        assert!(changed.take().is_empty());
    }
}
