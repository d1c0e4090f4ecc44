//! Who may send, and how much. Pure: the time is an argument.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Config;
use crate::telemetry::DropReason;

/// How many source addresses are watched for their rate; the one seen first goes first. Whoever comes back after that
/// begins with a full second's allowance, which is no more than a sender of that rate may have anyway.
const SOURCES_MAX: usize = 1024;

/// The time that a sender may save up: what it may send at once is its allowance of this long.
const BURST: Duration = Duration::from_secs(1);

/// Decides for each datagram whether it comes in.
#[derive(Debug)]
pub(super) struct Admission {
    max_datagram_size: usize,
    allowed: Vec<IpNet>,
    rates: Option<Rates>,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max_datagram_size: config.max_datagram_size,
            allowed: config.allowed_sources.iter().map(canonical).collect(),
            rates: Rates::new(config.rate_limit_per_source),
        }
    }

    /// Judges one datagram of `length` bytes from `source` at `now`, which is monotonic and has any origin.
    ///
    /// The cheapest and most telling refusal comes first: a sender that may not speak uses up no allowance, and is not
    /// told from its size.
    pub(super) fn judge(&mut self, source: IpAddr, length: usize, now: Duration) -> Result<(), DropReason> {
        let source = source.to_canonical();
        if !self.allowed.is_empty() && !self.allowed.iter().any(|network| network.contains(&source)) {
            return Err(DropReason::DeniedSource);
        }
        if self.rates.as_mut().is_some_and(|rates| !rates.take(source, now)) {
            return Err(DropReason::RateLimited);
        }
        if length > self.max_datagram_size {
            return Err(DropReason::Oversize);
        }
        Ok(())
    }
}

/// A token bucket for each source address, kept as the one moment at which it is full again.
#[derive(Debug)]
struct Rates {
    /// What one datagram costs.
    interval: Duration,
    full_at: HashMap<IpAddr, Duration>,
    first_seen: VecDeque<IpAddr>,
}

impl Rates {
    /// `None` for the limit 0, which is no limit.
    fn new(per_second: u32) -> Option<Self> {
        (per_second > 0).then(|| Self {
            interval: BURST / per_second,
            full_at: HashMap::with_capacity(SOURCES_MAX),
            first_seen: VecDeque::with_capacity(SOURCES_MAX),
        })
    }

    /// Takes one datagram out of the bucket of `source`; false if it is empty.
    fn take(&mut self, source: IpAddr, now: Duration) -> bool {
        if !self.full_at.contains_key(&source) {
            self.make_room();
            self.first_seen.push_back(source);
        }
        let full_at = self.full_at.entry(source).or_insert(now);
        let after = (*full_at).max(now) + self.interval;
        let enough = after - now <= BURST;
        if enough {
            *full_at = after;
        }
        enough
    }

    fn make_room(&mut self) {
        while self.first_seen.len() >= SOURCES_MAX {
            if let Some(oldest) = self.first_seen.pop_front() {
                self.full_at.remove(&oldest);
            }
        }
    }
}

/// An IPv4 network that is written as IPv4-mapped IPv6 is the IPv4 network: datagrams on a dual-stack socket are compared
/// by their IPv4 address.
fn canonical(network: &IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) | IpNet::V6(_) => None,
    };
    mapped.and_then(|(address, length)| IpNet::new(address.into(), length).ok()).unwrap_or(*network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(allowed: &[&str], per_second: u32) -> Admission {
        Admission::new(&Config {
            endpoint: String::new(),
            receive_buffer: 0,
            max_datagram_size: 100,
            allowed_sources: allowed.iter().map(|text| text.parse().expect("a network")).collect(),
            rate_limit_per_source: per_second,
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at_millis(millis: u64) -> Duration {
        Duration::from_secs(1_000) + Duration::from_millis(millis)
    }

    #[test]
    fn an_empty_list_allows_anyone() {
        let mut anyone = admission(&[], 0);
        assert_eq!(anyone.judge(address("203.0.113.9"), 100, at_millis(0)), Ok(()));
        assert_eq!(anyone.judge(address("2001:db8::1"), 0, at_millis(0)), Ok(()));
    }

    #[test]
    fn mapped_addresses_and_networks_count_as_ipv4() {
        for networks in [["10.0.0.0/8"], ["::ffff:10.0.0.0/104"]] {
            let mut site = admission(&networks, 0);
            assert_eq!(site.judge(address("10.1.2.3"), 1, at_millis(0)), Ok(()));
            assert_eq!(site.judge(address("::ffff:10.1.2.3"), 1, at_millis(0)), Ok(()));
            assert_eq!(site.judge(address("11.1.2.3"), 1, at_millis(0)), Err(DropReason::DeniedSource));
            assert_eq!(site.judge(address("::ffff:11.1.2.3"), 1, at_millis(0)), Err(DropReason::DeniedSource));
            assert_eq!(site.judge(address("2001:db8::1"), 1, at_millis(0)), Err(DropReason::DeniedSource));
        }
        // A short prefix of IPv6 is no IPv4 network, even if mapped addresses lie in it.
        let mut everything_v6 = admission(&["::/0"], 0);
        assert_eq!(everything_v6.judge(address("::1"), 1, at_millis(0)), Ok(()));
        assert_eq!(everything_v6.judge(address("::ffff:10.1.2.3"), 1, at_millis(0)), Err(DropReason::DeniedSource));
    }

    #[test]
    fn size_is_judged_last_and_inclusively() {
        let mut site = admission(&["127.0.0.0/8"], 0);
        assert_eq!(site.judge(address("127.0.0.1"), 100, at_millis(0)), Ok(()));
        assert_eq!(site.judge(address("127.0.0.1"), 101, at_millis(0)), Err(DropReason::Oversize));
        assert_eq!(site.judge(address("192.0.2.1"), 101, at_millis(0)), Err(DropReason::DeniedSource));
    }

    #[test]
    fn a_second_of_allowance_at_once_then_the_rate() {
        let mut limited = admission(&[], 10);
        let source = address("192.0.2.1");
        let at_once = (0..50).filter(|_| limited.judge(source, 1, at_millis(0)).is_ok()).count();
        assert_eq!(at_once, 10);
        assert_eq!(limited.judge(source, 1, at_millis(99)), Err(DropReason::RateLimited));
        assert_eq!(limited.judge(source, 1, at_millis(100)), Ok(()));
        assert_eq!(limited.judge(source, 1, at_millis(100)), Err(DropReason::RateLimited));
        // Another address has an allowance of its own; the same one in its mapped form has not.
        assert_eq!(limited.judge(address("192.0.2.2"), 1, at_millis(100)), Ok(()));
        assert_eq!(limited.judge(address("::ffff:192.0.2.1"), 1, at_millis(100)), Err(DropReason::RateLimited));
        let after_a_rest = (0..50).filter(|_| limited.judge(source, 1, at_millis(60_000)).is_ok()).count();
        assert_eq!(after_a_rest, 10);
    }

    #[test]
    fn time_that_goes_back_grants_nothing() {
        let mut limited = admission(&[], 1);
        let source = address("192.0.2.1");
        assert_eq!(limited.judge(source, 1, at_millis(500)), Ok(()));
        assert_eq!(limited.judge(source, 1, at_millis(0)), Err(DropReason::RateLimited));
    }

    #[test]
    fn the_watched_sources_are_bounded() {
        let mut limited = admission(&[], 1);
        for number in 0..100_000_u32 {
            assert_eq!(limited.judge(IpAddr::V4(number.into()), 1, at_millis(0)), Ok(()));
        }
        let rates = limited.rates.as_ref().expect("a limit");
        assert_eq!((rates.full_at.len(), rates.first_seen.len()), (SOURCES_MAX, SOURCES_MAX));
        // The last is still watched, the first is forgotten and begins afresh.
        assert_eq!(limited.judge(IpAddr::V4(99_999.into()), 1, at_millis(1)), Err(DropReason::RateLimited));
        assert_eq!(limited.judge(IpAddr::V4(0.into()), 1, at_millis(1)), Ok(()));
    }
}
