//! Conversion between whole milliseconds, which meters use, and hours, which the simulation uses.

use chrono::Duration;

use crate::Instant;

/// Converts instants to whole milliseconds since an origin, and back.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub origin: Instant,
}

const MS_PER_HOUR: f64 = 3_600_000.0;

/// Tolerance for the rounding error of an instant that is a whole millisecond, ms.
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

/// Returns the last whole millisecond that is not after `hours`. Both count from the clock's origin.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn ms_before(hours: f64) -> i64 {
    (hours * MS_PER_HOUR + SNAP_MS).floor() as i64
}

/// Returns the first whole millisecond that is not before `hours`.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn ms_after(hours: f64) -> i64 {
    (hours * MS_PER_HOUR - SNAP_MS).ceil() as i64
}
