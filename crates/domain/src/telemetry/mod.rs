//! Telemetry of battery-swap stations: what a device reports, in which order reports count, when a station is silent.

pub mod archive;
mod events;
mod rejections;

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Instant;
use crate::error::{Checks, DomainError, FieldError};
use crate::id::{StationId, derive};

pub use events::{TelemetryRejected, TelemetryStale};
pub use rejections::{Rejections, Verdict};

/// What the IoT rule adds to a message: the station in whose topic it was published.
pub const TOPIC_STATION: &str = "topic_station_id";

/// How far ahead of ours a device's clock may be.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// Before this, s since 1970: a device whose clock was never set, not a late message (2000-01-01).
const NO_CLOCK: i64 = 946_684_800;
/// A station is silent when nothing came for so many of its intervals.
const SILENT_INTERVALS: u32 = 3;

/// What a battery-swap station reports. Field names are the devices'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// The station, which is the thing that published it.
    pub station_id: StationId,
    /// Batteries that can be taken.
    #[schemars(range(min = 0, max = 10000))]
    pub battery_available: u32,
    /// Batteries that are being charged.
    #[schemars(range(min = 0, max = 10000))]
    pub battery_charging: u32,
    /// In the cabinet, °C.
    #[schemars(range(min = -60, max = 150))]
    pub temperature: f64,
    /// In the cabinet, relative, %.
    #[schemars(range(min = 0, max = 100))]
    pub humidity: f64,
    /// What the station says of itself.
    pub status: SwapStationStatus,
    /// When it was measured, by the device's clock.
    pub timestamp: Instant,
}

/// What a battery-swap station says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SwapStationStatus {
    /// Swaps batteries.
    Operational,
    /// Swaps batteries, but not all of it works.
    Degraded,
    /// Being worked on.
    Maintenance,
    /// Does not swap batteries: a fault.
    Error,
    /// Going off the network.
    Offline,
}

impl SwapStationStatus {
    /// The name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operational => "operational",
            Self::Degraded => "degraded",
            Self::Maintenance => "maintenance",
            Self::Error => "error",
            Self::Offline => "offline",
        }
    }
}

impl Reading {
    /// What a schema cannot say: the station is the topic's, and the clock is neither unset nor far ahead.
    ///
    /// `topic` is the station in whose topic it was published, where it came over MQTT.
    ///
    /// # Errors
    /// A validation error naming every failing field.
    pub fn check(&self, topic: Option<&str>, now: Instant) -> Result<(), DomainError> {
        let mut checks = Checks::new();
        let own = topic.is_none_or(|topic| topic == self.station_id.as_str());
        checks.require(own, "station_id", "must be the station in whose topic the message is published");
        let latest = now + CLOCK_SKEW;
        let ahead = "must not be more than 5 minutes ahead of the time now: the device's clock is wrong";
        checks.require(self.timestamp <= latest, "timestamp", ahead);
        let unset = "must not lie before 2000-01-01: the device's clock was never set";
        checks.require(self.timestamp.timestamp() >= NO_CLOCK, "timestamp", unset);
        checks.finish()
    }
}

/// A message of a device that was found valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Derived from its content: the same message, however often it arrives, has one id.
    pub id: Uuid,
    /// What it says.
    pub reading: Reading,
    /// The message as it was sent, in one line of JSON.
    pub line: String,
}

impl Message {
    /// Of what was read from `sent`, which is the message as it arrived.
    #[must_use]
    pub fn new(mut reading: Reading, sent: &Value) -> Self {
        // Whole milliseconds, as they are stored: what is compared here is what is compared there.
        let millis = DateTime::from_timestamp_millis(reading.timestamp.timestamp_millis());
        reading.timestamp = millis.unwrap_or(reading.timestamp);
        let mut own = sent.clone();
        if let Value::Object(fields) = &mut own {
            fields.remove(TOPIC_STATION);
        }
        let line = own.to_string();
        Self { id: derive(&["telemetry", &line]), reading, line }
    }

    /// The order in which messages of a station count: by their time, and where two have the same, by their ids, so
    /// that every order of arrival ends in the same state.
    #[must_use]
    pub fn order(&self) -> (Instant, Uuid) {
        (self.reading.timestamp, self.id)
    }

    /// Its key in the archive.
    #[must_use]
    pub fn key(&self) -> String {
        archive::message_key(&self.reading.station_id, self.reading.timestamp, self.id)
    }
}

/// A message that was found invalid, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedMessage {
    /// The station in whose topic it was published, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station_id: Option<StationId>,
    /// When it was received.
    pub received_at: Instant,
    /// Stands for its delivery: the same for every try of the same one.
    pub delivery_id: Uuid,
    /// Every field that is wrong, and what would be right.
    pub errors: Vec<FieldError>,
    /// The message as it arrived; text that is not JSON as a string.
    pub message: Value,
}

impl RejectedMessage {
    /// Its key in the archive's bucket.
    #[must_use]
    pub fn key(&self) -> String {
        archive::rejected_key(self.station_id.as_ref(), self.received_at, self.delivery_id)
    }

    /// What is wrong with it, in one line.
    #[must_use]
    pub fn reason(&self) -> String {
        DomainError::Validation(self.errors.clone()).to_string()
    }
}

/// The latest messages of a batch, one for each station.
#[must_use]
pub fn latest<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<&'a Message> {
    let mut latest = std::collections::BTreeMap::<&StationId, &Message>::new();
    for message in messages {
        let known = latest.entry(&message.reading.station_id).or_insert(message);
        if known.order() < message.order() {
            *known = message;
        }
    }
    latest.into_values().collect()
}

/// When a station counts as silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    after: Duration,
}

impl Silence {
    /// For stations that report every `interval`.
    #[must_use]
    pub fn of_interval(interval: Duration) -> Self {
        Self { after: interval.saturating_mul(SILENT_INTERVALS) }
    }

    /// Whether a station whose latest reading is of `seen` is silent at `now`.
    #[must_use]
    pub fn is_stale(&self, seen: Instant, now: Instant) -> bool {
        (now - seen).to_std().is_ok_and(|silent| silent > self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_is_silent_after_three_intervals_and_not_at_them() {
        let silence = Silence::of_interval(Duration::from_secs(5));
        let at = |seconds: i64| DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap_or_default();
        assert!(!silence.is_stale(at(0), at(15)));
        assert!(silence.is_stale(at(0), at(15) + TimeDelta::milliseconds(1)));
        assert!(!silence.is_stale(at(100), at(0)), "a clock that is ahead is not silent");
    }

    #[test]
    fn a_message_is_itself_whatever_topic_field_and_order_of_fields_it_arrives_with() {
        let sent = r#"{"station_id":"s","battery_available":1,"battery_charging":2,"temperature":20.50,"humidity":4,
            "status":"operational","timestamp":"2024-01-15T14:23:45.1239Z","firmware":{"b":1,"a":2}}"#;
        let other = r#"{"firmware":{"a":2,"b":1},"timestamp":"2024-01-15T14:23:45.1239Z","topic_station_id":"s",
            "status":"operational","humidity":4,"temperature":20.5,"battery_charging":2,"battery_available":1,"station_id":"s"}"#;
        let message = |text: &str| -> Result<Message, serde_json::Error> {
            let sent: Value = serde_json::from_str(text)?;
            Ok(Message::new(serde_json::from_value(sent.clone())?, &sent))
        };
        let (one, two) = (message(sent), message(other));
        assert!(one.is_ok());
        let same = one.ok().zip(two.ok()).is_some_and(|(one, two)| {
            assert!(!one.line.contains('\n') && one.line.contains("firmware"), "{}", one.line);
            assert_eq!(one.reading.timestamp.timestamp_subsec_nanos(), 123_000_000);
            one == two
        });
        assert!(same);
    }
}
