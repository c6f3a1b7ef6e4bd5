use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono_tz::Tz;
use domain::Instant;
use domain::charging::ModelConfig;
use domain::event::Event;
use domain::id::{PortId, SessionId, StationId, UserId};
use domain::machine::State;
use domain::session::{EndReason, Limits, MeterLog, Reading, Session, SessionStatus, SessionTerms, Vehicle};
use domain::units::WattHours;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::db::{Db, Item, Query, decode, encode, key, readable};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::sharded::ShardedQuery;
use crate::stations::{json, number, outbox, pk_of};
use crate::transaction::{Transaction, Update, UpdateExpression};
use crate::{Trace, keys, time};

/// Partitions of the active index read at the same time.
const PARALLEL_PARTITIONS: usize = 16;

/// Charging sessions, in the sessions table.
#[derive(Clone, Debug)]
pub struct SessionStore {
    db: Db,
    table: String,
}

/// A session as read, with its terms.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedSession {
    /// The session.
    pub session: Session,
    /// Its terms.
    pub terms: SessionTerms,
}

/// Which sessions are listed, newest first.
#[derive(Clone, Debug)]
pub enum SessionFilter {
    /// A user's.
    User(UserId),
    /// A station's.
    Station(StationId),
    /// Those in a state, by when they entered it.
    Status(SessionStatus),
    /// Those that entered a state from the first instant to the second.
    Changed(SessionStatus, Instant, Instant),
}

/// An active session as the active index names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActiveKey {
    /// Its station.
    pub station_id: StationId,
    /// Its id.
    pub session_id: SessionId,
}

/// A part of the fleet: the stations whose hash falls to `number` when it is dealt out to `count`.
///
/// A station is in exactly one part, whatever `count` is, and `count` is not stored anywhere: it may be another one at
/// every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetPart {
    number: u32,
    count: u32,
}

impl FleetPart {
    /// All stations.
    pub const WHOLE: Self = Self { number: 0, count: 1 };

    /// Part `number`, from 0, of `count`; nothing if there is no such part.
    #[must_use]
    pub fn new(number: u32, count: u32) -> Option<Self> {
        (number < count).then_some(Self { number, count })
    }

    fn contains(self, station: &StationId) -> bool {
        station.shard(self.count) == self.number
    }

    /// The shards of the active index in which its stations are: the hash that is `number` modulo `count` is, modulo
    /// [`keys::SHARDS`], what both numbers' greatest common divisor leaves open.
    fn shards(self) -> impl Iterator<Item = u32> {
        let divisor = greatest_common_divisor(self.count, keys::SHARDS);
        (0..keys::SHARDS).filter(move |shard| shard % divisor == self.number % divisor)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

// What a tick writes is here, and stays under 1 KB. `createdAt` is when the session started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    station_id: StationId,
    port_id: PortId,
    user_id: UserId,
    status: SessionStatus,
    /// For the status index alone.
    #[serde(skip_deserializing)]
    status_shard: String,
    #[serde(with = "time")]
    created_at: Instant,
    #[serde(with = "time")]
    status_changed_at: Instant,
    #[serde(with = "time")]
    metered_at: Instant,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    ended_at: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_reason: Option<EndReason>,
    start_percent: f64,
    charge_percent: f64,
    target_percent: f64,
    capacity_kwh: f64,
    limit_kw: f64,
    vehicle_max_kw: f64,
    station_power_kw: f64,
    model: ModelText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_cost: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_energy_kwh: Option<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    prepaid: bool,
    power_kw: f64,
    meter: MeterText,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_shard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_key: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DetailsRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    tariff: String,
    time_zone: String,
    vehicle: Vehicle,
    request_fingerprint: String,
    correlation_id: String,
}

/// A meter's readings as one short attribute: `ms:Wh:W` joined by spaces, since every byte of a tick's item counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct MeterText(MeterLog);

impl From<MeterText> for String {
    fn from(MeterText(log): MeterText) -> Self {
        let readings: Vec<String> =
            log.readings().iter().map(|r| format!("{}:{}:{}", r.offset_ms, r.register.0, r.power_w)).collect();
        readings.join(" ")
    }
}

impl TryFrom<String> for MeterText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let readings: Option<Vec<Reading>> = text.split_whitespace().map(reading).collect();
        readings.map(|readings| Self(MeterLog::new(readings))).ok_or_else(|| format!("{text:?} are no meter readings"))
    }
}

fn reading(text: &str) -> Option<Reading> {
    let mut parts = text.split(':');
    let reading = Reading {
        offset_ms: parts.next()?.parse().ok()?,
        register: WattHours(parts.next()?.parse().ok()?),
        power_w: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(reading)
}

/// A charging model as one attribute of compact JSON: a curve as a map of `DynamoDB` types would be twice the size.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct ModelText(ModelConfig);

impl From<ModelText> for String {
    fn from(ModelText(model): ModelText) -> Self {
        match model {
            ModelConfig::StepTaper => "STEP_TAPER".to_owned(),
            ModelConfig::TwoStageLinear(two) => {
                format!("TWO_STAGE_LINEAR {}:{}", two.transition_percent, two.cutoff_kw)
            }
            ModelConfig::MeasuredCurve(curve) => {
                let points: Vec<String> =
                    curve.points.iter().map(|point| format!("{}:{}", point.percent, point.power_kw)).collect();
                format!("MEASURED_CURVE {}", points.join(" "))
            }
        }
    }
}

impl TryFrom<String> for ModelText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        use domain::charging::{CurvePoint, MeasuredCurve, TwoStageLinear};
        let mut words = text.split_whitespace();
        let kind = words.next();
        let pairs: Option<Vec<(f64, f64)>> = words
            .map(|word| word.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))))
            .collect();
        let model = match (kind, pairs.as_deref()) {
            (Some("STEP_TAPER"), Some([])) => Some(ModelConfig::StepTaper),
            (Some("TWO_STAGE_LINEAR"), Some([(transition_percent, cutoff_kw)])) => {
                Some(ModelConfig::TwoStageLinear(TwoStageLinear {
                    transition_percent: *transition_percent,
                    cutoff_kw: *cutoff_kw,
                }))
            }
            (Some("MEASURED_CURVE"), Some(pairs)) => {
                let points =
                    pairs.iter().map(|(percent, power_kw)| CurvePoint { percent: *percent, power_kw: *power_kw });
                Some(ModelConfig::MeasuredCurve(MeasuredCurve { points: points.collect() }))
            }
            _ => None,
        };
        model.map(Self).ok_or_else(|| format!("{text:?} is no charging model"))
    }
}

impl SessionStore {
    /// Sessions in `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { db, table: table.into() }
    }

    /// The database behind it.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Opens the connection before the first request.
    pub async fn warm(&self) {
        self.db.warm(&self.table).await;
    }

    /// Reads a session with its terms, as they are now.
    ///
    /// # Errors
    /// When the table cannot be read or an item not understood.
    pub async fn load(&self, id: &SessionId) -> Result<Option<LoadedSession>, StoreError> {
        let pk = keys::session(id);
        let query =
            Query { table: &self.table, partition: (keys::PK, pk.clone()), consistent: true, ..Query::default() };
        let (mut session, mut terms) = (None, None);
        for item in self.db.query_all(&query).await? {
            if item.get(keys::SK).and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == keys::METADATA) {
                session = Some(decode::<SessionRow>(&pk, item)?.into_session());
            } else {
                terms = Some(decode::<DetailsRow>(&pk, item)?.into_terms()?);
            }
        }
        match (session, terms) {
            (Some(session), Some(terms)) => Ok(Some(LoadedSession { session, terms })),
            (None, None) => Ok(None),
            _ => Err(StoreError::corrupt(pk, "one of its two items is missing")),
        }
    }

    /// Reads the terms of a session, which never change.
    ///
    /// # Errors
    /// When the table cannot be read or the item is missing or not understood.
    pub async fn load_terms(&self, id: &SessionId) -> Result<SessionTerms, StoreError> {
        let pk = keys::session(id);
        let mut row: Option<DetailsRow> = self.db.get(&self.table, &pk, keys::DETAILS, false).await?;
        if row.is_none() {
            // A session that has just started: only a consistent read, which costs twice as much, is sure to see it.
            row = self.db.get(&self.table, &pk, keys::DETAILS, true).await?;
        }
        row.ok_or_else(|| StoreError::corrupt(pk, "its DETAILS are missing"))?.into_terms()
    }

    /// Puts a new session, with the events of its start, within `transaction`.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn insert(
        &self,
        transaction: &mut Transaction,
        session: &Session,
        terms: &SessionTerms,
        events: impl IntoIterator<Item = Event>,
        trace: &Trace,
    ) -> Result<(), StoreError> {
        transaction.insert(&self.table, Self::item(session, events, trace)?)?;
        let pk = keys::session(&session.id);
        let details = DetailsRow {
            sk: keys::DETAILS.to_owned(),
            tariff: json(&pk, &terms.tariff)?,
            time_zone: terms.time_zone.name().to_owned(),
            vehicle: terms.vehicle,
            request_fingerprint: terms.request_fingerprint.clone(),
            correlation_id: terms.correlation_id.clone(),
            pk: pk.clone(),
        };
        transaction.insert(&self.table, encode(&pk, details)?)
    }

    /// Writes what a tick changed: one item, and no index unless the session's state changed.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when somebody else changed the session first.
    pub async fn save_tick(&self, session: &Session) -> Result<(), StoreError> {
        let pk = keys::session(&session.id);
        let mut update = UpdateExpression::new()
            .set("meteredAt", AttributeValue::S(time::text(&session.metered_at)))
            .set("chargePercent", number(session.charge_percent))
            .set("powerKw", number(session.power_kw))
            .set("meter", AttributeValue::S(MeterText(session.meter.clone()).into()))
            .set("version", number(session.version))
            .remove(keys::OUTBOX)
            .only_version(session.version - 1);
        // Only the first tick changes the status, whose index would otherwise be looked at for nothing.
        if session.status_changed_at == session.metered_at {
            update = update
                .set("status", AttributeValue::S(session.status.name().to_owned()))
                .set("statusShard", AttributeValue::S(status_shard(session)))
                .set("statusChangedAt", AttributeValue::S(time::text(&session.status_changed_at)));
        }
        self.db.update(update.build(&self.table, key(&pk, keys::METADATA))?).await
    }

    /// Writes a session that ended, with the events of its end, within `transaction`; it leaves the active index.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn save_end(
        &self,
        transaction: &mut Transaction,
        session: &Session,
        events: impl IntoIterator<Item = Event>,
        trace: &Trace,
    ) -> Result<(), StoreError> {
        transaction.update(self.change(session, events, trace)?);
        Ok(())
    }

    /// Has the events that lie on an ended session relayed once more, under the ids that they have: any write of the
    /// item brings its outbox to the stream again.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when somebody else changed the session first.
    pub async fn relay_again(&self, session: &Session, now: Instant) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .set("relayedAgainAt", AttributeValue::S(time::text(&now)))
            .only_version(session.version);
        self.db.update(update.build(&self.table, key(&keys::session(&session.id), keys::METADATA))?).await
    }

    fn change(
        &self,
        session: &Session,
        events: impl IntoIterator<Item = Event>,
        trace: &Trace,
    ) -> Result<Update, StoreError> {
        let mut row = Self::item(session, events, trace)?;
        row.remove(keys::PK);
        row.remove(keys::SK);
        UpdateExpression::new()
            .set_all(row, &["activeShard", "activeKey", keys::OUTBOX])
            .only_version(session.version - 1)
            .build(&self.table, key(&keys::session(&session.id), keys::METADATA))
    }

    fn item(session: &Session, events: impl IntoIterator<Item = Event>, trace: &Trace) -> Result<Item, StoreError> {
        let pk = keys::session(&session.id);
        let outbox = outbox(&pk, keys::METADATA, session.version, events, trace)?;
        encode(&pk, SessionRow::new(session, outbox))
    }

    /// The active sessions of a part of the fleet, from the keys-only index, page by page as they come: those of a
    /// shard in order of their stations, those of several shards mixed. Pages hold at most `limit` keys where it is
    /// given, and 1 MB otherwise. The reader stops reading when it has enough: dropping the stream reads no further.
    pub fn active(
        &self,
        part: FleetPart,
        limit: Option<usize>,
    ) -> impl Stream<Item = Result<Vec<ActiveKey>, StoreError>> + '_ {
        let limit = limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let pages = stream::iter(part.shards()).map(move |shard| {
            let pages = stream::try_unfold(Some(None), move |start: Option<Option<Item>>| async move {
                let Some(start) = start else { return Ok(None) };
                let (items, next) = self.db.query_page(&self.active_query(shard, None), start, limit).await?;
                Ok(Some((active_keys(&items), next.map(Some))))
            });
            Box::pin(pages)
        });
        pages.flatten_unordered(PARALLEL_PARTITIONS).map_ok(move |mut keys| {
            keys.retain(|key| part.contains(&key.station_id));
            keys
        })
    }

    /// The active sessions of a station, from the keys-only index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn active_at_station(&self, station: &StationId) -> Result<Vec<ActiveKey>, StoreError> {
        let query = self.active_query(station.shard(keys::SHARDS), Some(keys::active_prefix(station)));
        Ok(active_keys(&self.db.query_all(&query).await?))
    }

    fn active_query(&self, shard: u32, prefix: Option<String>) -> Query<'_> {
        Query {
            table: &self.table,
            index: Some(keys::ACTIVE_INDEX),
            partition: ("activeShard", keys::active_shard(shard)),
            prefix: prefix.map(|prefix| ("activeKey", prefix)),
            ..Query::default()
        }
    }

    /// Reads the sessions behind these keys; those that ended since are left out.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn read_active(&self, keys: &[ActiveKey]) -> Result<Vec<Session>, StoreError> {
        self.read_running(keys.iter().map(|key| &key.session_id), false).await
    }

    /// Reads the sessions with these ids; those that have ended are left out.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn read_running<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a SessionId>,
        consistent: bool,
    ) -> Result<Vec<Session>, StoreError> {
        let wanted: Vec<Item> = ids.into_iter().map(|id| key(&keys::session(id), keys::METADATA)).collect();
        let mut sessions = Vec::with_capacity(wanted.len());
        for item in self.db.batch_get_keys(&self.table, wanted, consistent).await? {
            // One unreadable item must not stop its shard; the alarm on error logs tells.
            match decode::<SessionRow>("session", item) {
                Ok(row) if row.status.is_active() => sessions.push(row.into_session()),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "an active session cannot be read"),
            }
        }
        Ok(sessions)
    }

    /// Those of `ids` that ended and are to be billed.
    ///
    /// # Errors
    /// When the table cannot be read or an item not understood.
    pub async fn billable(&self, ids: &[SessionId]) -> Result<BTreeSet<SessionId>, StoreError> {
        let wanted = ids.iter().map(|id| key(&keys::session(id), keys::METADATA)).collect();
        let items = self.db.batch_get_keys(&self.table, wanted, true).await?;
        let sessions = items.into_iter().map(|item| Ok(decode::<SessionRow>("session", item)?.into_session()));
        let sessions: Vec<Session> = sessions.collect::<Result<_, StoreError>>()?;
        let billable =
            |session: &Session| matches!(session.status, SessionStatus::Completed | SessionStatus::Interrupted);
        Ok(sessions.into_iter().filter(billable).map(|session| session.id).collect())
    }

    /// Lists sessions as [`SessionStore::list`] does, each with its terms.
    ///
    /// # Errors
    /// A validation error for a token of another list; otherwise when the table cannot be read.
    pub async fn list_loaded(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
        keep: impl Fn(&Session) -> bool,
    ) -> Result<Page<LoadedSession>, StoreError> {
        let Page { items, next_token } = self.list(filter, page, keep).await?;
        let mut details: HashMap<String, Item> = HashMap::new();
        // Of a session that has just started only a consistent read, which costs twice as much, is sure to see them.
        for consistent in [false, true] {
            let pks = items.iter().map(|session| keys::session(&session.id)).filter(|pk| !details.contains_key(pk));
            let wanted: Vec<Item> = pks.map(|pk| key(&pk, keys::DETAILS)).collect();
            let read = self.db.batch_get_keys(&self.table, wanted, consistent).await?;
            details.extend(read.into_iter().filter_map(|item| Some((pk_of(&item)?, item))));
        }
        let loaded = items.into_iter().filter_map(|session| {
            let pk = keys::session(&session.id);
            let item = details.remove(&pk).ok_or_else(|| StoreError::corrupt(&pk, "its DETAILS are missing"));
            let terms = item.and_then(|item| decode::<DetailsRow>(&pk, item)?.into_terms());
            Some(LoadedSession { session, terms: readable(terms)? })
        });
        Ok(Page { items: loaded.collect(), next_token })
    }

    /// Lists sessions, newest first; `keep` filters what the index cannot.
    ///
    /// # Errors
    /// A validation error for a token of another list; otherwise when the table cannot be read.
    pub async fn list(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
        keep: impl Fn(&Session) -> bool,
    ) -> Result<Page<Session>, StoreError> {
        let decode = |item| decode::<SessionRow>("session", item).map(SessionRow::into_session);
        let (index, attribute, value) = match filter {
            SessionFilter::User(id) => (keys::USER_INDEX, "userId", id.to_string()),
            SessionFilter::Station(id) => (keys::STATION_INDEX, "stationId", id.to_string()),
            SessionFilter::Status(status) => {
                let query = self.by_status(*status, None);
                let list = format!("sessions {}", status.name());
                return self.db.list_sharded(&query, &list, page, decode, keep).await;
            }
            SessionFilter::Changed(status, from, to) => {
                let between = (time::text(from), time::text(to));
                let list = format!("sessions {} {between:?}", status.name());
                let query = self.by_status(*status, Some(between));
                return self.db.list_sharded(&query, &list, page, decode, keep).await;
            }
        };
        let list = format!("sessions by {attribute} {value}");
        let query = Query {
            table: &self.table,
            index: Some(index),
            partition: (attribute, value),
            sort: "createdAt",
            newest_first: true,
            ..Query::default()
        };
        self.db.list(&query, &list, page, decode, keep).await
    }

    fn by_status(&self, status: SessionStatus, between: Option<(String, String)>) -> ShardedQuery<'_> {
        ShardedQuery {
            table: &self.table,
            index: keys::STATUS_INDEX,
            attribute: "statusShard",
            value: status.name(),
            sort: "statusChangedAt",
            between,
        }
    }
}

/// Partition of the status index in which a session is: a minute's first ticks move it from one to another, and so do
/// the ends, thousands at once in a large fleet.
fn status_shard(session: &Session) -> String {
    keys::sharded(session.status.name(), session.station_id.shard(keys::SHARDS))
}

/// The keys that are understood. One that is not must not stop its shard; the alarm on error logs tells.
fn active_keys(items: &[Item]) -> Vec<ActiveKey> {
    let keys = items.iter().filter_map(|item| {
        active_key(item).inspect_err(|error| tracing::error!(%error, "an active session cannot be found")).ok()
    });
    keys.collect()
}

fn active_key(item: &Item) -> Result<ActiveKey, StoreError> {
    let text = item.get("activeKey").and_then(|value: &AttributeValue| value.as_s().ok());
    text.and_then(|text| text.split_once('#'))
        .and_then(|(station, session)| {
            Some(ActiveKey { station_id: StationId::new(station).ok()?, session_id: SessionId::new(session).ok()? })
        })
        .ok_or_else(|| StoreError::corrupt(keys::ACTIVE_INDEX, "a key that is not stationId#sessionId"))
}

impl SessionRow {
    fn new(session: &Session, outbox: Option<String>) -> Self {
        let active = session.status.is_active();
        Self {
            pk: keys::session(&session.id),
            sk: keys::METADATA.to_owned(),
            station_id: session.station_id.clone(),
            port_id: session.port_id.clone(),
            user_id: session.user_id.clone(),
            status: session.status,
            status_shard: status_shard(session),
            created_at: session.started_at,
            status_changed_at: session.status_changed_at,
            metered_at: session.metered_at,
            ended_at: session.ended_at,
            end_reason: session.end_reason,
            start_percent: session.start_percent,
            charge_percent: session.charge_percent,
            target_percent: session.target_percent,
            capacity_kwh: session.battery_capacity_kwh,
            limit_kw: session.limit_kw,
            vehicle_max_kw: session.vehicle_max_kw,
            station_power_kw: session.station_power_kw,
            model: ModelText(session.model.clone()),
            max_cost: session.limits.max_cost,
            max_energy_kwh: session.limits.max_energy_kwh,
            prepaid: session.limits.prepaid,
            power_kw: session.power_kw,
            meter: MeterText(session.meter.clone()),
            version: session.version,
            outbox,
            active_shard: active.then(|| keys::active_shard(session.station_id.shard(keys::SHARDS))),
            active_key: active.then(|| keys::active_key(&session.station_id, &session.id)),
        }
    }

    fn into_session(self) -> Session {
        // A key of ours always holds an id of ours.
        let id = SessionId::new(keys::id_of(&self.pk)).unwrap_or_else(|_| uuid::Uuid::nil().into());
        Session {
            id,
            station_id: self.station_id,
            port_id: self.port_id,
            user_id: self.user_id,
            status: self.status,
            started_at: self.created_at,
            status_changed_at: self.status_changed_at,
            metered_at: self.metered_at,
            ended_at: self.ended_at,
            end_reason: self.end_reason,
            start_percent: self.start_percent,
            charge_percent: self.charge_percent,
            target_percent: self.target_percent,
            battery_capacity_kwh: self.capacity_kwh,
            limit_kw: self.limit_kw,
            vehicle_max_kw: self.vehicle_max_kw,
            station_power_kw: self.station_power_kw,
            model: self.model.0,
            limits: Limits { max_cost: self.max_cost, max_energy_kwh: self.max_energy_kwh, prepaid: self.prepaid },
            power_kw: self.power_kw,
            meter: self.meter.0,
            version: self.version,
        }
    }
}

impl DetailsRow {
    fn into_terms(self) -> Result<SessionTerms, StoreError> {
        let time_zone: Tz = self.time_zone.parse().map_err(|error| StoreError::corrupt(&self.pk, error))?;
        let tariff = serde_json::from_str(&self.tariff).map_err(|error| StoreError::corrupt(&self.pk, error))?;
        Ok(SessionTerms {
            tariff,
            time_zone,
            vehicle: self.vehicle,
            request_fingerprint: self.request_fingerprint,
            correlation_id: self.correlation_id,
        })
    }
}
