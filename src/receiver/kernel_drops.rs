//! What the kernel threw away because nobody read in time: one cumulative counter, seen from two places.
//!
//! Linux counts per socket, in 32 bits, for ever. The count comes along with datagrams (`SO_RXQ_OVFL`), as it stood when
//! *that* datagram was queued, and so not at all while nothing more arrives; and it stands in `/proc/net/udp`, as of now.
//! Whichever is ahead is right, the other is merely older: [`DropCounter`] takes both and counts nothing twice.

/// The highest state of the kernel's counter that has been seen.
#[derive(Debug, Default)]
pub(super) struct DropCounter {
    seen: u32,
}

impl DropCounter {
    /// Counts on from `seen`: what was dropped before is somebody else's, for a socket may be older than the process.
    pub(super) const fn after(seen: u32) -> Self {
        Self { seen }
    }

    /// Takes a state of the cumulative counter and returns how many drops are new.
    ///
    /// The counter wraps, so "ahead" is meant as in serial number arithmetic: less than half the range in front.
    pub(super) fn observe(&mut self, cumulative: u32) -> u64 {
        let ahead = cumulative.wrapping_sub(self.seen);
        if ahead > u32::MAX / 2 {
            return 0;
        }
        self.seen = cumulative;
        u64::from(ahead)
    }
}

/// The `drops` column of the line with this inode in a table of the form of `/proc/net/udp` or `/proc/net/udp6`.
pub(super) fn drops_in_table(table: &str, inode: &str) -> Option<u32> {
    const INODE_COLUMN: usize = 9;
    const DROPS_COLUMN_AFTER_INODE: usize = 2;
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(INODE_COLUMN);
        if columns.next() != Some(inode) {
            return None;
        }
        columns.nth(DROPS_COLUMN_AFTER_INODE)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_counted_twice_whichever_place_it_is_seen_in() {
        let mut counter = DropCounter::default();
        let from_the_table = 10;
        let with_datagrams_queued_earlier = [3, 3, 7, 10];
        assert_eq!(counter.observe(from_the_table), 10);
        for older in with_datagrams_queued_earlier {
            assert_eq!(counter.observe(older), 0);
        }
        assert_eq!(counter.observe(12), 2);
    }

    #[test]
    fn the_counter_may_wrap() {
        let mut counter = DropCounter { seen: u32::MAX - 1 };
        assert_eq!(counter.observe(u32::MAX), 1);
        assert_eq!(counter.observe(4), 5);
        assert_eq!(counter.observe(u32::MAX - 1), 0);
        assert_eq!(counter.observe(4), 0);
    }

    #[test]
    fn the_table_is_read_by_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20  12: 0100007F:270D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 48210 2 0000000000000000 0\n\
            \x20 812: 00000000:14E9 00000000:0000 07 00000000:00000500 00:00000000 00000000   107        0 4821 2 0000000000000000 4834\n";
        assert_eq!(drops_in_table(table, "4821"), Some(4834));
        assert_eq!(drops_in_table(table, "48210"), Some(0));
        assert_eq!(drops_in_table(table, "0"), None);
        assert_eq!(drops_in_table("", "4821"), None);
    }
}
