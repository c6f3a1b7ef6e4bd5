use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{Reading, SwapStationStatus};
use crate::Instant;

/// What those who have subscribed to a battery-swap station were told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Status of the station.
    pub status: SwapStationStatus,
    /// Number of batteries that could be taken.
    pub battery_available: u32,
    /// Number of batteries that were charging.
    pub battery_charging: u32,
    /// When they were told.
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

    /// Returns the announcement of `reading` if it is due: it differs from the `last` one, which is at least a minute
    /// old.
    ///
    /// A change within the minute is not lost. The next reading after the minute differs from the last announcement too.
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
