//! Fair rotation: where a run begins in a circular list of work, if its time may not be enough for the whole list.

use crate::Instant;

/// One step of the sequence below: 2^64 divided by the golden ratio, rounded to an odd number.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Returns the place, from 0 to `count` - 1, at which the run of the minute of `at` begins; 0 if the list is empty.
///
/// The places of successive minutes are a Kronecker sequence with the golden ratio. By the three-distance theorem, any
/// `n` successive places leave no gap on the circle wider than 1.9 / `n` of it. So if every run handles at least `m`
/// places, any ceil(2 `count` / `m`) runs of successive minutes together cover the circle. A run that remembers where
/// the last one stopped would need at least half as many runs, but would have to store that place.
#[must_use]
pub fn first(at: Instant, count: usize) -> usize {
    let minute = at.timestamp().div_euclid(60).cast_unsigned();
    let turn = u128::from(minute.wrapping_mul(STEP));
    // The upper half of the product is needed: `turn` / 2^64 is the share of the circle, below 1.
    usize::try_from((turn * count as u128) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: i64) -> Instant {
        Instant::from_timestamp(number * 60, 0).unwrap_or_default()
    }

    /// Tests the guarantee for every size of the circle, every number of places per run, and several first minutes.
    #[test]
    fn every_place_is_covered_within_twice_the_minimal_number_of_runs() {
        let starts = [0, 1, 29_500_000, 29_523_517, 29_611_111, -3];
        for count in 1..=120_usize {
            for share in 1..=count {
                let runs = i64::try_from((2 * count).div_ceil(share)).unwrap_or_default();
                for start in starts {
                    let mut covered = vec![false; count];
                    for run in 0..runs {
                        let first = first(minute(start + run), count);
                        assert!(first < count);
                        (0..share).for_each(|place| covered[(first + place) % count] = true);
                    }
                    assert!(covered.iter().all(|covered| *covered), "{count} places, {share} a run, from {start}");
                }
            }
        }
    }

    #[test]
    fn a_minute_maps_to_one_place_and_an_empty_circle_to_zero() {
        let at: Instant = "2026-03-03T10:15:00Z".parse().unwrap_or_default();
        assert_eq!(first(at, 1000), first(at + chrono::TimeDelta::milliseconds(59_999), 1000));
        assert_ne!(first(at, 1000), first(at + chrono::TimeDelta::minutes(1), 1000));
        assert_eq!(first(at, 0), 0);
    }
}
