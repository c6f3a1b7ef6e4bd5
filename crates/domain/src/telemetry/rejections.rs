use chrono::TimeDelta;
use uuid::Uuid;

use crate::Instant;

/// The recently rejected messages of one station.
///
/// Each delivery is counted once, no matter how often it is tried. When more than a limit fall within five minutes,
/// this is reported, at most once in five minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejections {
    /// Time of each rejection, and the id of its delivery.
    pub recent: Vec<(Instant, Uuid)>,
    /// When too many rejections were last reported.
    pub reported_at: Option<Instant>,
    /// Number of the record's last change.
    pub version: u64,
}

/// The result of counting a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionOutcome {
    /// Nothing has to be written: the delivery is already counted, or too many rejections were reported recently.
    Known,
    /// The rejection was counted.
    Counted,
    /// The rejection was counted and the limit is exceeded. The value is the number of rejections.
    TooMany(usize),
}

impl Rejections {
    /// The window within which rejected messages are counted.
    pub const WINDOW: TimeDelta = TimeDelta::minutes(5);

    /// Counts the rejection of `delivery` at `at`. More than `limit` rejections within the window are too many.
    pub fn note(&mut self, delivery: Uuid, at: Instant, limit: usize) -> RejectionOutcome {
        let is_recent = |other: Instant| (at - other).abs() < Self::WINDOW;
        let reported = self.reported_at.is_some_and(is_recent);
        if reported || self.recent.iter().any(|(_, known)| *known == delivery) {
            return RejectionOutcome::Known;
        }
        self.recent.retain(|(other, _)| is_recent(*other));
        self.recent.push((at, delivery));
        self.version += 1;
        if self.recent.len() <= limit {
            return RejectionOutcome::Counted;
        }
        self.reported_at = Some(at);
        let count = self.recent.len();
        self.recent.clear();
        RejectionOutcome::TooMany(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::derive;

    fn at(seconds: i64) -> Instant {
        chrono::DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap_or_default()
    }

    fn delivery(number: i64) -> Uuid {
        derive(&[&number.to_string()])
    }

    #[test]
    fn rejections_above_the_limit_in_five_minutes_are_reported_once() {
        let mut rejections = Rejections::default();
        for number in 0..3 {
            assert_eq!(rejections.note(delivery(number), at(number), 3), RejectionOutcome::Counted);
        }
        assert_eq!(rejections.note(delivery(2), at(9), 3), RejectionOutcome::Known, "a retry of the same delivery");
        assert_eq!(rejections.note(delivery(3), at(10), 3), RejectionOutcome::TooMany(4));
        let before = rejections.clone();
        for number in 4..100 {
            assert_eq!(rejections.note(delivery(number), at(11), 3), RejectionOutcome::Known);
        }
        assert_eq!(rejections, before, "a flood writes nothing");
        for number in 100..103 {
            assert_eq!(rejections.note(delivery(number), at(311), 3), RejectionOutcome::Counted);
        }
        assert_eq!(
            rejections.note(delivery(103), at(312), 3),
            RejectionOutcome::TooMany(4),
            "a later window is reported again"
        );
    }

    #[test]
    fn the_window_slides() {
        let mut rejections = Rejections::default();
        for number in 0..100 {
            let outcome = rejections.note(delivery(number), at(number * 100), 3);
            assert_eq!(outcome, RejectionOutcome::Counted, "three within five minutes are not too many");
        }
        assert_eq!(rejections.recent.len(), 3, "rejections outside the window are forgotten");
    }
}
