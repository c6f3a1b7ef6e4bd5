//! Telemetry of battery-swap stations: what a device reports, in which order reports count, and when a station is
//! silent.

mod announced;
pub mod archive;
mod events;
mod published;
mod rejections;

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Instant;
use crate::error::{Checks, DomainError, FieldError};
use crate::id::{SwapStationId, derive};

pub use announced::Announced;
pub use events::{TelemetryRejected, TelemetryStale};
pub use published::{PAYLOAD, Published, TOPIC_STATION, passed_on};
pub use rejections::{RejectionOutcome, Rejections};

/// How far a device's clock may be ahead of the server's clock.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// A timestamp before this one (2000-01-01, in s since 1970) comes from a device whose clock was never set. It is not a
/// late message.
const NO_CLOCK: i64 = 946_684_800;
/// A station is silent if it has not reported for this many of its intervals.
const SILENT_INTERVALS: u32 = 3;

/// A report of a battery-swap station. The field names are those of the devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// Id of the station, which is also the IoT thing that published the message.
    pub station_id: SwapStationId,
    /// Number of batteries that can be taken.
    #[schemars(range(min = 0, max = 10000))]
    pub battery_available: u32,
    /// Number of batteries that are charging.
    #[schemars(range(min = 0, max = 10000))]
    pub battery_charging: u32,
    /// Temperature in the cabinet, °C.
    #[schemars(range(min = -60, max = 150))]
    pub temperature: f64,
    /// Relative humidity in the cabinet, %.
    #[schemars(range(min = 0, max = 100))]
    pub humidity: f64,
    /// Status that the station reports of itself.
    pub status: SwapStationStatus,
    /// When the values were measured, by the device's clock.
    pub timestamp: Instant,
}

/// The status that a battery-swap station reports of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SwapStationStatus {
    /// The station swaps batteries.
    Operational,
    /// The station swaps batteries, but not everything works.
    Degraded,
    /// The station is under maintenance.
    Maintenance,
    /// The station does not swap batteries because of a fault.
    Error,
    /// The station is going offline.
    Offline,
}

impl SwapStationStatus {
    /// Returns the name used in messages.
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
    /// Checks what a schema cannot express: the station is the one of the topic, and the device's clock is neither
    /// unset nor far ahead.
    ///
    /// `topic` is the station in whose topic the message was published, if it arrived over MQTT.
    ///
    /// # Errors
    /// `Validation`, naming every failing field.
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

/// A valid message of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Id derived from the message's content: the same message has the same id no matter how often it arrives.
    pub id: Uuid,
    /// The reading that the message carries.
    pub reading: Reading,
    /// The message as it was sent, as one line of JSON.
    pub line: String,
}

impl Message {
    /// Creates the message from the `reading` that was read from `sent`, the message as it arrived.
    #[must_use]
    pub fn new(mut reading: Reading, sent: &Value) -> Self {
        // Timestamps are stored in whole milliseconds, so they are compared in whole milliseconds here too.
        let millis = DateTime::from_timestamp_millis(reading.timestamp.timestamp_millis());
        reading.timestamp = millis.unwrap_or(reading.timestamp);
        let mut own = sent.clone();
        if let Value::Object(fields) = &mut own {
            fields.remove(TOPIC_STATION);
        }
        let line = own.to_string();
        Self { id: derive(&["telemetry", &line]), reading, line }
    }

    /// Returns the sort key that decides which of two messages of a station is later: their times, or their ids if the
    /// times are equal. Every order of arrival therefore leads to the same state.
    #[must_use]
    pub fn order(&self) -> (Instant, Uuid) {
        (self.reading.timestamp, self.id)
    }

    /// Returns the key of the message in the archive.
    #[must_use]
    pub fn key(&self) -> String {
        archive::message_key(&self.reading.station_id, self.reading.timestamp, self.id)
    }
}

/// A rejected message, in the form in which it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedMessage {
    /// Id of the station in whose topic the message was published, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station_id: Option<SwapStationId>,
    /// When the message was received.
    pub received_at: Instant,
    /// Id of the delivery. It is the same for every try of one delivery.
    pub delivery_id: Uuid,
    /// Every wrong field, with what would be right.
    pub errors: Vec<FieldError>,
    /// The message as it arrived. If it is not JSON, it is a string, in which bytes that are not UTF-8 are replaced.
    pub message: Value,
    /// Exactly the published bytes, in Base64, if the IoT rule passed them on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

impl RejectedMessage {
    /// Returns the key of the rejected message in the archive bucket.
    #[must_use]
    pub fn key(&self) -> String {
        archive::rejected_key(self.station_id.as_ref(), self.received_at, self.delivery_id)
    }

    /// Returns the errors in one line.
    #[must_use]
    pub fn reason(&self) -> String {
        DomainError::Validation(self.errors.clone()).to_string()
    }
}

/// Returns the latest message of each station in a batch.
#[must_use]
pub fn latest<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<&'a Message> {
    let mut latest = std::collections::BTreeMap::<&SwapStationId, &Message>::new();
    for message in messages {
        let known = latest.entry(&message.reading.station_id).or_insert(message);
        if known.order() < message.order() {
            *known = message;
        }
    }
    latest.into_values().collect()
}

/// The rule for when a station counts as silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    after: Duration,
}

impl Silence {
    /// Creates the rule for stations that report every `interval`.
    #[must_use]
    pub fn of_interval(interval: Duration) -> Self {
        Self { after: interval.saturating_mul(SILENT_INTERVALS) }
    }

    /// Returns whether a station whose latest reading was at `seen` is silent at `now`.
    #[must_use]
    pub fn is_stale(&self, seen: Instant, now: Instant) -> bool {
        (now - seen).to_std().is_ok_and(|silent| silent > self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_is_silent_only_after_more_than_three_intervals() {
        let silence = Silence::of_interval(Duration::from_secs(5));
        let at = |seconds: i64| DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap_or_default();
        assert!(!silence.is_stale(at(0), at(15)));
        assert!(silence.is_stale(at(0), at(15) + TimeDelta::milliseconds(1)));
        assert!(!silence.is_stale(at(100), at(0)), "a station whose clock is ahead is not silent");
    }

    #[test]
    fn the_id_of_a_message_ignores_the_topic_field_and_the_order_of_fields() {
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
