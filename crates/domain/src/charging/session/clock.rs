//! Whole milliseconds, in which meters count, and hours, in which the simulation does.

use chrono::Duration;

use crate::Instant;

/// Instants as whole milliseconds from one origin.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub origin: Instant,
}

const MS_PER_HOUR: f64 = 3_600_000.0;

/// Forgives the rounding of an instant that is a whole millisecond.
const SNAP_MS: f64 = 1e-4;

impl Clock {
    pub fn ms(self, at: Instant) -> i64 {
        (at - self.origin).num_milliseconds()
    }

    pub fn instant(self, ms: i64) -> Instant {
        self.origin + Duration::milliseconds(ms)
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds within a few years are far below 2^52
pub(super) fn hours(ms: i64) -> f64 {
    ms as f64 / MS_PER_HOUR
}

/// The last whole millisecond not after `hours` from the origin, in which the simulation counts.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn ms_before(hours: f64) -> i64 {
    (hours * MS_PER_HOUR + SNAP_MS).floor() as i64
}

/// The first whole millisecond not before `hours`.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn ms_after(hours: f64) -> i64 {
    (hours * MS_PER_HOUR - SNAP_MS).ceil() as i64
}
