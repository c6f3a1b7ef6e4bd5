//! The layout of the archive: the key of a message in the bucket, and what an object's key says about its content.
//!
//! Every object lies in the partition of the UTC day of its messages, so that one table reads both kinds of objects.
//! `telemetry/year=2024/month=01/day=15/station-01_2024-01-15T14:23:45Z_UUID.json` holds one message.
//! `telemetry/year=2024/month=01/day=15/batch_FIRST_LAST_UUID.ndjson.gz` holds the messages of a batch, one per line.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, TimeDelta};
use uuid::Uuid;

use crate::Instant;
use crate::id::{SwapStationId, derive};

/// Key prefix of accepted messages.
pub const ACCEPTED: &str = "telemetry/";
/// Key prefix of rejected messages.
pub const REJECTED: &str = "rejected/";
/// Batches whose messages are further apart than this have a different name, so that a reader of a time range need not
/// look through all batches of the day.
pub const PROMPT: TimeDelta = TimeDelta::minutes(5);

const SECOND: &str = "%Y-%m-%dT%H:%M:%SZ";
const PROMPT_BATCHES: &str = "batch_";
const LATE_BATCHES: &str = "late_";
const MESSAGE_SUFFIX: &str = ".json";
const BATCH_SUFFIX: &str = ".ndjson.gz";

/// Returns the key prefix of a UTC day's partition.
#[must_use]
pub fn partition(day: NaiveDate) -> String {
    format!("{ACCEPTED}{}", day.format("year=%Y/month=%m/day=%d/"))
}

/// Returns the key of one message.
#[must_use]
pub fn message_key(station: &SwapStationId, at: Instant, id: Uuid) -> String {
    format!("{}{station}_{}_{id}{MESSAGE_SUFFIX}", partition(at.date_naive()), at.format(SECOND))
}

/// Returns the key prefix of a station's messages on one day.
#[must_use]
pub fn messages_prefix(station: &SwapStationId, day: NaiveDate) -> String {
    format!("{}{station}_{}T", partition(day), day.format("%Y-%m-%d"))
}

/// Returns the key prefixes of a day's batches: those whose messages lie close together, and the others.
#[must_use]
pub fn batch_prefixes(day: NaiveDate) -> [String; 2] {
    [PROMPT_BATCHES, LATE_BATCHES].map(|kind| format!("{}{kind}", partition(day)))
}

/// The position of a message in its station's history: by time in whole seconds, as in the keys, and by id within one
/// second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the values were measured, in whole seconds.
    pub at: Instant,
    /// Id of the message.
    pub id: Uuid,
}

impl Place {
    /// The position before every message.
    pub const START: Self = Self { at: Instant::MIN_UTC, id: Uuid::nil() };

    /// Returns the position of a message.
    #[must_use]
    pub fn new(at: Instant, id: Uuid) -> Self {
        Self { at: at.trunc_subsecs(0), id }
    }

    /// Returns the key of the message of this station at this position.
    #[must_use]
    pub fn key(&self, station: &SwapStationId) -> String {
        message_key(station, self.at, self.id)
    }

    /// Returns the position of the message with this key, if the key belongs to a message of this station.
    #[must_use]
    pub fn of_key(station: &SwapStationId, key: &str) -> Option<Self> {
        let name = key.rsplit('/').next()?.strip_suffix(MESSAGE_SUFFIX)?;
        let (rest, id) = name.rsplit_once('_')?;
        let (named, at) = rest.rsplit_once('_')?;
        (named == station.as_str()).then_some(Self { at: second(at)?, id: id.parse().ok()? })
    }
}

/// The content of a batch's key: when the first and the last message were measured, in whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    /// Time of the first message.
    pub first: Instant,
    /// Time of the last message.
    pub last: Instant,
    /// The key itself.
    pub key: String,
}

impl BatchKey {
    /// Returns the key of a batch of these messages, which must all be of one day. The same messages in any order give
    /// the same key. Returns `None` if there are no messages.
    #[must_use]
    pub fn new(places: impl IntoIterator<Item = Place>) -> Option<Self> {
        let mut places: Vec<Place> = places.into_iter().collect();
        places.sort_unstable();
        let (first, last) = (places.first()?.at, places.last()?.at);
        let ids: Vec<String> = places.iter().map(|place| place.id.to_string()).collect();
        let parts: Vec<&str> = std::iter::once("telemetry batch").chain(ids.iter().map(String::as_str)).collect();
        let kind = if last - first > PROMPT { LATE_BATCHES } else { PROMPT_BATCHES };
        let (from, to) = (first.format(SECOND), last.format(SECOND));
        let key = format!("{}{kind}{from}_{to}_{}{BATCH_SUFFIX}", partition(first.date_naive()), derive(&parts));
        Some(Self { first, last, key })
    }

    /// Parses the key of an object, if it is the key of a batch.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let name = key.rsplit('/').next()?;
        let rest = name.strip_prefix(PROMPT_BATCHES).or_else(|| name.strip_prefix(LATE_BATCHES))?;
        let (first, rest) = rest.split_once('_')?;
        let (last, rest) = rest.split_once('_')?;
        rest.strip_suffix(BATCH_SUFFIX)?;
        Some(Self { first: second(first)?, last: second(last)?, key: key.to_owned() })
    }
}

/// Returns the key of a rejected message. `id` is the id of its delivery; `received_at` selects the partition.
#[must_use]
pub fn rejected_key(station: Option<&SwapStationId>, received_at: Instant, id: Uuid) -> String {
    let station = station.map_or("unknown", SwapStationId::as_str);
    format!("{REJECTED}{}{station}_{id}{MESSAGE_SUFFIX}", received_at.format("year=%Y/month=%m/day=%d/"))
}

fn second(text: &str) -> Option<Instant> {
    NaiveDateTime::parse_from_str(text, SECOND).ok().map(|at| DateTime::from_naive_utc_and_offset(at, chrono::Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().unwrap_or_default()
    }

    #[test]
    fn the_key_of_a_message_is_in_the_partition_of_its_day() {
        let station = SwapStationId::new("station-01");
        assert!(station.is_ok());
        let Ok(station) = station else { return };
        let id = derive(&["x"]);
        let key = message_key(&station, at("2024-01-15T14:23:45.678Z"), id);
        assert_eq!(key, format!("telemetry/year=2024/month=01/day=15/station-01_2024-01-15T14:23:45Z_{id}.json"));
        let place = Place::new(at("2024-01-15T14:23:45.678Z"), id);
        assert_eq!(Place::of_key(&station, &key), Some(place));
        assert_eq!(place.key(&station), key);
        assert!(key.starts_with(&messages_prefix(&station, at("2024-01-15T00:00:00Z").date_naive())));
        for foreign in ["station-01_x", "station", "station-0", "x_station-01"] {
            let Ok(foreign) = SwapStationId::new(foreign) else { continue };
            assert_eq!(Place::of_key(&foreign, &key), None, "{foreign}");
        }
    }

    #[test]
    fn the_key_of_a_batch_depends_on_its_content_and_not_on_the_order() {
        let place = |text: &str, id: &str| Place::new(at(text), derive(&[id]));
        let (a, b) = (place("2024-01-15T14:23:45Z", "a"), place("2024-01-15T14:24:50Z", "b"));
        let key = BatchKey::new([a, b]);
        assert_eq!(key, BatchKey::new([b, a]));
        assert_ne!(key, BatchKey::new([a]));
        assert_eq!(BatchKey::new([]), None);
        let text = key.as_ref().map(|key| key.key.clone()).unwrap_or_default();
        assert!(
            text.starts_with("telemetry/year=2024/month=01/day=15/batch_2024-01-15T14:23:45Z_2024-01-15T14:24:50Z_"),
            "{text}"
        );
        assert_eq!(BatchKey::parse(&text), key);
        let late = BatchKey::new([a, place("2024-01-15T14:28:46Z", "c")]).map(|key| key.key).unwrap_or_default();
        assert!(late.contains("/late_"), "{late}");
        assert_eq!(BatchKey::parse("telemetry/year=2024/month=01/day=15/batch_2024-01-15T14:23:45Z_x.json"), None);
    }
}
