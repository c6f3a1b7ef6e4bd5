use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{Reading, SwapStationStatus};
use crate::Instant;

/// The last update of a battery-swap station that was sent to subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Status of the station.
    pub status: SwapStationStatus,
    /// Number of batteries that could be taken.
    pub battery_available: u32,
    /// Number of batteries that were charging.
    pub battery_charging: u32,
    /// When the update was sent.
    pub at: Instant,
}

impl Announced {
    /// The time between two announcements of a station.
    pub const LEAST_PAUSE: TimeDelta = TimeDelta::minutes(1);

    /// Returns the announcement of `reading` at `at`.
    #[must_use]
    pub fn of(reading: &Reading, at: Instant) -> Self {
        Self {
            status: reading.status,
            battery_available: reading.battery_available,
            battery_charging: reading.battery_charging,
            at,
        }
    }

    /// Returns the announcement of `reading` if it is due: there was none yet, or `reading` differs from the `last`
    /// one, which is at least a minute old.
    ///
    /// A change within the minute is announced later: the next reading after the minute differs from `last` too, unless
    /// the station has returned to the announced state.
    #[must_use]
    pub fn due(last: Option<&Self>, reading: &Reading, now: Instant) -> Option<Self> {
        let next = Self::of(reading, now);
        let is_due = last.is_none_or(|last| {
            let is_same = Self { at: last.at, ..next.clone() } == *last;
            !is_same && now - last.at >= Self::LEAST_PAUSE
        });
        is_due.then_some(next)
    }
}
