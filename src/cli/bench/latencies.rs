//! How long things took: a histogram of fixed size, and percentiles of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Each power of two is cut into as many parts, so that a percentile is at most this fraction too large.
const PARTS: u64 = 128;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// Nanoseconds have 64 bits; the lowest powers of two share the parts of the first.
const PLACES: usize = (PARTS * (u64::BITS - PARTS_BITS + 1) as u64) as usize;

/// A histogram of durations, each known to within 0.8 %.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    samples: u64,
}

/// Percentiles in milliseconds. One is missing where too few samples lie beyond it to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Percentiles {
    pub(super) samples: u64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) p99_9_ms: Option<f64>,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; PLACES], samples: 0 }
    }

    pub(super) fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(place(nanos)) {
            *count += 1;
            self.samples += 1;
        }
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        Percentiles {
            samples: self.samples,
            p50_ms: self.per_mille(500),
            p99_ms: self.per_mille(990),
            p99_9_ms: self.per_mille(999),
        }
    }

    /// The shortest duration, in milliseconds, that so many thousandths of the samples do not exceed; `None` unless at
    /// least one sample does lie beyond it.
    fn per_mille(&self, share: u64) -> Option<f64> {
        let wanted = (self.samples * share).div_ceil(1_000);
        if wanted == 0 || wanted >= self.samples {
            return None;
        }
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map(|place| highest(place) as f64 / 1e6)
    }
}

/// Where in the histogram a number of nanoseconds stands.
fn place(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(PARTS_BITS + 1);
    (u64::from(shift) * PARTS + (nanos >> shift)) as usize
}

/// The highest number of nanoseconds in a place.
fn highest(place: usize) -> u64 {
    let place = place as u64;
    let shift = (place / PARTS).saturating_sub(1);
    let part = place - shift * PARTS;
    ((part + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_known_to_within_a_hundredth() {
        for bits in 0..u64::BITS {
            for nanos in [1_u64 << bits, (1_u64 << bits) + (1 << bits) / 3, (1_u64 << bits) - 1, u64::MAX >> bits] {
                let place = place(nanos);
                assert!(place < PLACES, "{nanos}");
                let highest = highest(place);
                assert!(highest >= nanos, "{nanos}: {highest}");
                assert!((highest - nanos) as f64 <= nanos as f64 / PARTS as f64, "{nanos}: {highest}");
            }
        }
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut latencies = Latencies::new();
        for millis in (1..=10_000).rev() {
            latencies.add(Duration::from_millis(millis));
        }
        let found = latencies.percentiles();
        assert_eq!(found.samples, 10_000);
        for (found, expected) in [(found.p50_ms, 5_000.0), (found.p99_ms, 9_900.0), (found.p99_9_ms, 9_990.0)] {
            let found = found.expect("there are enough samples");
            assert!(found >= expected && found < expected * 1.01, "{found} for {expected}");
        }
    }

    #[test]
    fn a_percentile_beyond_which_there_is_nothing_is_not_told() {
        assert_eq!(Latencies::new().percentiles(), Percentiles::default());
        let mut latencies = Latencies::new();
        for _ in 0..50 {
            latencies.add(Duration::from_millis(3));
        }
        let found = latencies.percentiles();
        assert!(found.p50_ms.is_some());
        assert_eq!((found.p99_ms, found.p99_9_ms), (None, None));
    }
}
