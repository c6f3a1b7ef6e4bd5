//! Fair turns: where in a circle of work a run begins, if its time may not suffice for all of it.

use crate::Instant;

/// 2^64 divided by the golden ratio, rounded to an odd number: one step of the sequence below.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The place, from 0 to `count` - 1, at which the run of the minute of `at` begins; 0 if there is nothing to do.
///
/// The places of successive minutes are a Kronecker sequence with the golden ratio. By the three-distance theorem any
/// `n` of them in a row leave no gap on the circle wider than 1.9 / `n` of it. So if every run gets through at least
/// `m` places from where it begins, any ceil(2 `count` / `m`) runs of successive minutes together cover the circle:
/// at most twice as many as a run that remembers where the last one stopped would need, with nothing to remember.
#[must_use]
pub fn first(at: Instant, count: usize) -> usize {
    let minute = at.timestamp().div_euclid(60).cast_unsigned();
    let turn = u128::from(minute.wrapping_mul(STEP));
    // The upper half of the product: `turn` / 2^64 is the share of the circle, below 1.
    usize::try_from((turn * count as u128) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: i64) -> Instant {
        Instant::from_timestamp(number * 60, 0).unwrap_or_default()
    }

    /// The promise: whatever the size of the circle, a run's share of it and the minute at which one starts to look.
    #[test]
    fn every_place_has_its_turn_within_twice_as_many_runs_as_needed() {
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
    fn a_minute_has_one_place_and_an_empty_circle_none() {
        let at: Instant = "2026-03-03T10:15:00Z".parse().unwrap_or_default();
        assert_eq!(first(at, 1000), first(at + chrono::TimeDelta::milliseconds(59_999), 1000));
        assert_ne!(first(at, 1000), first(at + chrono::TimeDelta::minutes(1), 1000));
        assert_eq!(first(at, 0), 0);
    }
}
