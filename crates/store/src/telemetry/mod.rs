mod archive;

pub use archive::{Archive, ArchiveRequests};

use aws_sdk_dynamodb::types::AttributeValue;
use backon::Retryable;
use domain::Instant;
use domain::event::Event;
use domain::id::SwapStationId;
use domain::telemetry::{
    Announced, Message, Reading, RejectionOutcome, Rejections, SwapStationStatus, TelemetryRejected,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dynamodb::{
    Db, Item, Page, PageRequest, Query, Table, Update, UpdateExpression, backoff, decode, encode, json, outbox, time,
};
use crate::error::StoreError;
use crate::{EventContext, keys};

const TIMESTAMP: &str = "timestamp";
const MESSAGE_ID: &str = "message_id";
const SILENT: &str = "silent";
/// Attribute with the last announcement. A message leaves this attribute as it is.
const ANNOUNCED: &str = "announced";
const ROUND: &str = "round";
/// How long the rejections of a station are kept after the last one, s. DynamoDB's time to live deletes them.
const FORGET_AFTER: i64 = 86_400;

/// The latest state of every battery-swap station, in the telemetry table.
#[derive(Clone, Debug)]
pub struct TelemetryStore {
    table: Table,
}

/// The latest state of a battery-swap station.
#[derive(Clone, Debug, PartialEq)]
pub struct StationState {
    /// The latest reading, by the device's clock.
    pub reading: Reading,
    /// When the reading was received.
    pub received_at: Instant,
    /// The time of the last reading before the silence, if it was reported that the station is silent and not yet that
    /// it reports again.
    pub silent_since: Option<Instant>,
}

/// The outcome of recording a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// A later message already is the state of the station.
    Late,
    /// The message is the state of the station now.
    Latest {
        /// The last announcement of the station, if there was one.
        announced: Option<Announced>,
    },
}

/// A round through the whole fleet, page by page, which several runs continue one after another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// When the first run of the round began.
    #[serde(with = "time")]
    pub began_at: Instant,
    /// Number of stations found silent so far.
    pub silent: usize,
    /// Token of the page of [`TelemetryStore::list`] with which the round continues; `None` for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

impl Round {
    /// Creates a round that begins now with the first page.
    #[must_use]
    pub fn begun(now: Instant) -> Self {
        Self { began_at: now, silent: 0, next_token: None }
    }
}

/// The attributes have the names of the devices' fields.
#[derive(Debug, Serialize, Deserialize)]
struct StateRow {
    station_id: SwapStationId,
    fleet: String,
    battery_available: u32,
    battery_charging: u32,
    temperature: f64,
    humidity: f64,
    status: SwapStationStatus,
    #[serde(with = "time")]
    timestamp: Instant,
    message_id: Uuid,
    #[serde(with = "time")]
    received_at: Instant,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    silent: Option<Instant>,
}

#[derive(Debug, Deserialize)]
struct RoundRow {
    #[serde(default)]
    round: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RejectionsRow {
    station_id: String,
    recent: Vec<(Instant, Uuid)>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    reported_at: Option<Instant>,
    version: u64,
    expires_at: i64,
}

impl TelemetryStore {
    /// Creates the store for `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { table: Table::new(db, table) }
    }

    /// Returns the table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Makes a message the latest state of its station, unless a later message already is. Returns whether it was
    /// written.
    ///
    /// The write costs one write unit of the table and none of the index, because only a station's first message
    /// changes an attribute of the index.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn record(&self, message: &Message, received_at: Instant) -> Result<bool, StoreError> {
        match self.table.update(self.new_state(message, received_at)?).await {
            Err(error) if error.is_stale() => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Records a message as [`Self::record`] does, and also returns the last announcement of the station. This costs no
    /// read: the answer of the write has the announcement.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn record_and_look(&self, message: &Message, received_at: Instant) -> Result<Recorded, StoreError> {
        let state = match self.table.update_and_get(self.new_state(message, received_at)?).await {
            Err(error) if error.is_stale() => return Ok(Recorded::Late),
            state => state?,
        };
        let announced = state.get(ANNOUNCED).and_then(|announced| announced.as_s().ok());
        // Another version wrote a record that cannot be parsed. The message is announced.
        Ok(Recorded::Latest { announced: announced.and_then(|text| serde_json::from_str(text).ok()) })
    }

    fn new_state(&self, message: &Message, received_at: Instant) -> Result<Update, StoreError> {
        let reading = &message.reading;
        let row = StateRow::new(message, received_at);
        let mut item: Item = encode(reading.station_id.as_str(), row)?;
        item.remove(keys::TELEMETRY_STATION);
        let order = (TIMESTAMP, AttributeValue::S(time::text(&reading.timestamp)));
        let tie = (MESSAGE_ID, AttributeValue::S(message.id.to_string()));
        UpdateExpression::new()
            .set_all(item, &[keys::OUTBOX])
            .only_if_later(order, tie)
            .build(self.table.name(), key(reading.station_id.as_str()))
    }

    /// Records the announcement of a message, provided that the message still is the state of its station. Returns
    /// whether the announcement was recorded. If not, a later message is the state, and may be announced itself.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn announce(&self, message: &Message, announced: &Announced) -> Result<bool, StoreError> {
        let station = message.reading.station_id.as_str();
        let update = UpdateExpression::new()
            .set(ANNOUNCED, AttributeValue::S(json(station, announced)?))
            .only_if(MESSAGE_ID, AttributeValue::S(message.id.to_string()))
            .build(self.table.name(), key(station))?;
        match self.table.update(update).await {
            Err(error) if error.is_stale() => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Removes the record of an announcement that could not be sent, unless there is a newer one. The next message is
    /// announced instead.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn take_back(&self, station: &SwapStationId, announced: &Announced) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .remove(ANNOUNCED)
            .only_if(ANNOUNCED, AttributeValue::S(json(station.as_str(), announced)?))
            .build(self.table.name(), key(station.as_str()))?;
        match self.table.update(update).await {
            Err(error) if error.is_stale() => Ok(()),
            written => written,
        }
    }

    /// Reads the latest state of a station.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn load(&self, station: &SwapStationId) -> Result<Option<StationState>, StoreError> {
        let row: Option<StateRow> = self.table.get_key(key(station.as_str()), true).await?;
        Ok(row.map(StateRow::into_state))
    }

    /// Lists the stations by id.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<StationState>, StoreError> {
        let query =
            Query { index: Some(&keys::telemetry::BY_FLEET), partition: keys::FLEET.to_owned(), ..Query::default() };
        let decode = |item| decode::<StateRow>("station state", item).map(StateRow::into_state);
        self.table.list(&query, "telemetry stations", page, decode, |_| true).await
    }

    /// Records that a station is silent or reports again, with the event of the change, on condition that its state has
    /// not changed since it was read.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if a newer message arrived meanwhile or another writer recorded the change
    /// first.
    pub async fn set_silent(
        &self,
        state: &StationState,
        silent: bool,
        event: impl Into<Event>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let station = &state.reading.station_id;
        let seen = time::text(&state.reading.timestamp);
        // For each reading it is reported at most once that the station fell silent after it, and at most once that the
        // station reports again with it.
        let version = state.reading.timestamp.timestamp_millis().unsigned_abs() * 2 + u64::from(silent);
        let events = outbox(&format!("TELEMETRY#{station}"), "STATE", version, [event], context)?.unwrap_or_default();
        let change = UpdateExpression::new()
            .set(keys::OUTBOX, AttributeValue::S(events))
            .only_if(TIMESTAMP, AttributeValue::S(seen.clone()));
        let change = match (silent, &state.silent_since) {
            (true, _) => change.set(SILENT, AttributeValue::S(seen)).only_without(SILENT),
            (false, Some(since)) => change.remove(SILENT).only_if(SILENT, AttributeValue::S(time::text(since))),
            (false, None) => return Err(StoreError::ConditionFailed(station.to_string())),
        };
        self.table.update(change.build(self.table.name(), key(station.as_str()))?).await
    }

    /// Returns the round through the fleet that the last run left unfinished, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn round(&self) -> Result<Option<Round>, StoreError> {
        let row: Option<RoundRow> = self.table.get_key(key(keys::FLEET_ROUND), true).await?;
        // A row that cannot be parsed was written by another version. A new round begins then.
        Ok(row.and_then(|row| row.round).and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Stores an unfinished round for the next run, or stores that there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn keep_round(&self, round: Option<&Round>) -> Result<(), StoreError> {
        let change = match round {
            Some(round) => {
                let text = serde_json::to_string(round);
                let text = text.map_err(|error| StoreError::corrupt(keys::FLEET_ROUND, error))?;
                UpdateExpression::new().set(ROUND, AttributeValue::S(text))
            }
            None => UpdateExpression::new().remove(ROUND),
        };
        self.table.update(change.build(self.table.name(), key(keys::FLEET_ROUND))?).await
    }

    /// Counts the rejection of a station's message. `report` creates the event if there were too many rejections
    /// recently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read or written.
    pub async fn note_rejection(
        &self,
        station: &SwapStationId,
        delivery: Uuid,
        limit: usize,
        report: impl Fn(usize) -> TelemetryRejected,
        context: &EventContext,
    ) -> Result<RejectionOutcome, StoreError> {
        let attempt = || async {
            let pk = keys::rejections(station);
            let row: Option<RejectionsRow> = self.table.get_key(key(&pk), true).await?;
            let mut rejections = row.map(RejectionsRow::into_rejections).unwrap_or_default();
            let before = rejections.version;
            let outcome = rejections.note(delivery, context.now, limit);
            let events = match outcome {
                RejectionOutcome::Known => return Ok(outcome),
                RejectionOutcome::Counted => None,
                RejectionOutcome::TooMany(count) => {
                    outbox(&pk, "REJECTIONS", rejections.version, [report(count)], context)?
                }
            };
            self.save_rejections(&pk, rejections, before, events).await.map(|()| outcome)
        };
        attempt.retry(backoff()).when(StoreError::is_stale).await
    }

    async fn save_rejections(
        &self,
        pk: &str,
        rejections: Rejections,
        before: u64,
        events: Option<String>,
    ) -> Result<(), StoreError> {
        let mut item: Item = encode(pk, RejectionsRow::new(pk, rejections))?;
        item.remove(keys::TELEMETRY_STATION);
        item.extend(events.map(|events| (keys::OUTBOX.to_owned(), AttributeValue::S(events))));
        let change = UpdateExpression::new().set_all(item, &["reported_at", keys::OUTBOX]);
        let change = if before == 0 { change.only_without("version") } else { change.only_version(before) };
        self.table.update(change.build(self.table.name(), key(pk))?).await
    }
}

fn key(station: &str) -> Item {
    Item::from([(keys::TELEMETRY_STATION.to_owned(), AttributeValue::S(station.to_owned()))])
}

impl StateRow {
    fn new(message: &Message, received_at: Instant) -> Self {
        let reading = message.reading.clone();
        Self {
            station_id: reading.station_id,
            fleet: keys::FLEET.to_owned(),
            battery_available: reading.battery_available,
            battery_charging: reading.battery_charging,
            temperature: reading.temperature,
            humidity: reading.humidity,
            status: reading.status,
            timestamp: reading.timestamp,
            message_id: message.id,
            received_at,
            silent: None,
        }
    }

    fn into_state(self) -> StationState {
        let reading = Reading {
            station_id: self.station_id,
            battery_available: self.battery_available,
            battery_charging: self.battery_charging,
            temperature: self.temperature,
            humidity: self.humidity,
            status: self.status,
            timestamp: self.timestamp,
        };
        StationState { reading, received_at: self.received_at, silent_since: self.silent }
    }
}

impl RejectionsRow {
    fn new(pk: &str, rejections: Rejections) -> Self {
        let latest = rejections.recent.iter().map(|(at, _)| *at).chain(rejections.reported_at).max();
        Self {
            station_id: pk.to_owned(),
            recent: rejections.recent,
            reported_at: rejections.reported_at,
            version: rejections.version,
            expires_at: latest.map_or(0, |at| at.timestamp()) + FORGET_AFTER,
        }
    }

    fn into_rejections(self) -> Rejections {
        Rejections { recent: self.recent, reported_at: self.reported_at, version: self.version }
    }
}
