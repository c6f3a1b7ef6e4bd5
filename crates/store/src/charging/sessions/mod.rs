mod rows;

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use domain::charging::session::{Session, SessionStatus, SessionTerms};
use domain::event::Event;
use domain::id::{SessionId, StationId, UserId};
use domain::machine::State;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::FleetPart;
use crate::dynamodb::{
    Db, Item, Page, PageRequest, Query, Range, ShardedQuery, Table, Transaction, Update, UpdateExpression, decode,
    encode, key, left_out, number, outbox, pk_of, readable, time,
};
use crate::error::StoreError;
use crate::keys::sessions::{ACTIVE, BY_STATION, BY_STATUS, BY_USER};
use crate::{EventContext, keys};
use rows::{DetailsRow, MeterText, SessionRow};

/// The number of active-index partitions that are read concurrently.
const PARALLEL_PARTITIONS: usize = 16;

/// Charging sessions, in the sessions table.
#[derive(Clone, Debug)]
pub struct SessionStore {
    table: Table,
}

/// A session as read, with its terms.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedSession {
    /// The session.
    pub session: Session,
    /// The terms of the session.
    pub terms: SessionTerms,
}

/// Selects the sessions to list, newest first.
#[derive(Clone, Debug)]
pub enum SessionFilter {
    /// The sessions of a user.
    User(UserId),
    /// The sessions of a station.
    Station(StationId),
    /// The sessions in a status, sorted by when they entered it.
    Status(SessionStatus),
    /// The sessions that entered a status from the first instant to the second.
    Changed(SessionStatus, Instant, Instant),
}

/// An active session as the active index names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActiveKey {
    /// Id of the station.
    pub station_id: StationId,
    /// Id of the session.
    pub session_id: SessionId,
}

impl SessionStore {
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

    /// Reads a session with its terms (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn load(&self, id: &SessionId) -> Result<Option<LoadedSession>, StoreError> {
        let pk = keys::session(id);
        let query = Query { partition: pk.clone(), consistent: true, ..Query::default() };
        let (mut session, mut terms) = (None, None);
        for item in self.table.query_all(&query).await? {
            if item.get(keys::SK).and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == keys::METADATA) {
                session = Some(decode::<SessionRow>(&pk, item)?.into_session()?);
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
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the item is missing or cannot be decoded.
    pub async fn load_terms(&self, id: &SessionId) -> Result<SessionTerms, StoreError> {
        let pk = keys::session(id);
        let mut row: Option<DetailsRow> = self.table.get(&pk, keys::DETAILS, false).await?;
        if row.is_none() {
            // Only a consistent read, which costs twice as much, is sure to see the terms of a session that has just
            // started.
            row = self.table.get(&pk, keys::DETAILS, true).await?;
        }
        row.ok_or_else(|| StoreError::corrupt(pk, "its DETAILS are missing"))?.into_terms()
    }

    /// Adds to `transaction` the insertion of a new session with the events of its start.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the session cannot be encoded.
    pub fn insert(
        &self,
        transaction: &mut Transaction,
        session: &Session,
        terms: &SessionTerms,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        transaction.insert(self.table.name(), Self::item(session, events, context)?)?;
        let details = DetailsRow::new(&session.id, terms)?;
        transaction.insert(self.table.name(), encode(session.id.as_str(), details)?)
    }

    /// Writes the changes of a tick: one item, and no index unless the status of the session changed.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer changed the session first.
    pub async fn save_tick(&self, session: &Session) -> Result<(), StoreError> {
        self.table.update(self.tick(session)?).await
    }

    /// Adds to `transaction` the changes that settling made to a session that continues.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the session cannot be encoded.
    pub fn save_tick_in(&self, transaction: &mut Transaction, session: &Session) -> Result<(), StoreError> {
        transaction.update(self.tick(session)?);
        Ok(())
    }

    fn tick(&self, session: &Session) -> Result<Update, StoreError> {
        let pk = keys::session(&session.id);
        let mut update = UpdateExpression::new()
            .set("meteredAt", AttributeValue::S(time::text(&session.metered_at)))
            .set("chargePercent", number(session.charge_percent))
            .set("powerKw", number(session.power_kw))
            .set("meter", AttributeValue::S(MeterText(session.meter.clone()).into()))
            .set("version", number(session.version))
            .remove(keys::OUTBOX)
            .only_version(session.version - 1);
        // Only the first tick changes the status. Otherwise the update would touch the status index for nothing.
        if session.status_changed_at == session.metered_at {
            update = update
                .set("status", AttributeValue::S(session.status.name().to_owned()))
                .set(BY_STATUS.partition, AttributeValue::S(status_shard(session)))
                .set(BY_STATUS.sort, AttributeValue::S(time::text(&session.status_changed_at)));
        }
        update.build(self.table.name(), key(&pk, keys::METADATA))
    }

    /// Adds to `transaction` the write of a session that ended, with the events of its end. The session leaves the
    /// active index.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the session cannot be encoded.
    pub fn save_end(
        &self,
        transaction: &mut Transaction,
        session: &Session,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        transaction.update(self.change(session, events, context)?);
        Ok(())
    }

    /// Makes the stream relay the events of an ended session once more, with the same event ids. Any write of the item
    /// brings its outbox to the stream again.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer changed the session first.
    pub async fn relay_again(&self, session: &Session, now: Instant) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .set("relayedAgainAt", AttributeValue::S(time::text(&now)))
            .only_version(session.version);
        self.table.update(update.build(self.table.name(), key(&keys::session(&session.id), keys::METADATA))?).await
    }

    fn change(
        &self,
        session: &Session,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<Update, StoreError> {
        let mut row = Self::item(session, events, context)?;
        row.remove(keys::PK);
        row.remove(keys::SK);
        UpdateExpression::new()
            .set_all(row, &[ACTIVE.partition, ACTIVE.sort, keys::OUTBOX])
            .only_version(session.version - 1)
            .build(self.table.name(), key(&keys::session(&session.id), keys::METADATA))
    }

    fn item(
        session: &Session,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<Item, StoreError> {
        let pk = keys::session(&session.id);
        let outbox = outbox(&pk, keys::METADATA, session.version, events, context)?;
        encode(&pk, SessionRow::new(session, outbox))
    }

    /// Streams the active sessions of a part of the fleet from the keys-only index, page by page. Sessions of one shard
    /// are in order of their stations; sessions of several shards are mixed. A page has at most `limit` keys if a limit
    /// is given, and 1 MB otherwise. Dropping the stream stops the reading.
    pub fn active(
        &self,
        part: FleetPart,
        limit: Option<usize>,
    ) -> impl Stream<Item = Result<Vec<ActiveKey>, StoreError>> + '_ {
        let limit = limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let pages = stream::iter(part.shards()).map(move |shard| {
            let pages = stream::try_unfold(Some(None), move |start: Option<Option<Item>>| async move {
                let Some(start) = start else { return Ok(None) };
                let (items, next) = self.table.query_page(&Self::active_query(shard, Range::All), start, limit).await?;
                Ok(Some((active_keys(&items), next.map(Some))))
            });
            Box::pin(pages)
        });
        pages.flatten_unordered(PARALLEL_PARTITIONS).map_ok(move |mut keys| {
            keys.retain(|key| part.contains(&key.station_id));
            keys
        })
    }

    /// Returns the active sessions of a station, from the keys-only index.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the index cannot be read.
    pub async fn active_at_station(&self, station: &StationId) -> Result<Vec<ActiveKey>, StoreError> {
        let of_station = Range::Prefix(keys::active_prefix(station));
        let query = Self::active_query(station.shard(keys::SHARDS), of_station);
        Ok(active_keys(&self.table.query_all(&query).await?))
    }

    fn active_query(shard: u32, range: Range) -> Query {
        Query { index: Some(&ACTIVE), partition: keys::active_shard(shard), range, ..Query::default() }
    }

    /// Reads the sessions with these keys. Sessions that have ended since are left out. Items that cannot be decoded
    /// are left out too and logged, so that they do not stop the other sessions of their shard.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn read_active(&self, keys: &[ActiveKey]) -> Result<Vec<Session>, StoreError> {
        let read = self.read_each(keys.iter().map(|key| &key.session_id), false).await?;
        Ok(active(read).0)
    }

    /// Reads the sessions with these ids (consistent read). Sessions that have ended are left out. Also returns the ids
    /// of the items that cannot be decoded.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn read_running<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a SessionId>,
    ) -> Result<(Vec<Session>, Vec<SessionId>), StoreError> {
        Ok(active(self.read_each(ids, true).await?))
    }

    async fn read_each<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a SessionId>,
        consistent: bool,
    ) -> Result<Vec<Result<Session, StoreError>>, StoreError> {
        let wanted = ids.into_iter().map(|id| key(&keys::session(id), keys::METADATA)).collect();
        let items = self.table.batch_get_keys(wanted, consistent).await?;
        let session = |item: Item| decode::<SessionRow>(&pk_of(&item).unwrap_or_default(), item)?.into_session();
        Ok(items.into_iter().map(session).collect())
    }

    /// Returns the ids of the sessions that have ended and must be billed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn billable(&self, ids: &[SessionId]) -> Result<BTreeSet<SessionId>, StoreError> {
        let sessions: Vec<Session> = self.read_each(ids, true).await?.into_iter().collect::<Result<_, _>>()?;
        let billable =
            |session: &Session| matches!(session.status, SessionStatus::Completed | SessionStatus::Interrupted);
        Ok(sessions.into_iter().filter(billable).map(|session| session.id).collect())
    }

    /// Lists sessions as [`SessionStore::list`] does, each with its terms.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn list_loaded(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
        keep: impl Fn(&Session) -> bool,
    ) -> Result<Page<LoadedSession>, StoreError> {
        let Page { items, next_token } = self.list(filter, page, keep).await?;
        let mut details: HashMap<String, Item> = HashMap::new();
        // Only a consistent read, which costs twice as much, is sure to see the terms of a session that has just
        // started.
        for consistent in [false, true] {
            let pks = items.iter().map(|session| keys::session(&session.id)).filter(|pk| !details.contains_key(pk));
            let wanted: Vec<Item> = pks.map(|pk| key(&pk, keys::DETAILS)).collect();
            let read = self.table.batch_get_keys(wanted, consistent).await?;
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

    /// Lists sessions, newest first. `keep` filters by what the index cannot filter.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn list(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
        keep: impl Fn(&Session) -> bool,
    ) -> Result<Page<Session>, StoreError> {
        let decode = |item| decode::<SessionRow>("session", item).and_then(SessionRow::into_session);
        let (index, partition) = match filter {
            SessionFilter::User(id) => (&BY_USER, id.to_string()),
            SessionFilter::Station(id) => (&BY_STATION, id.to_string()),
            SessionFilter::Status(status) => {
                let query = Self::by_status(*status, None);
                let list = format!("sessions {}", status.name());
                return self.table.list_sharded(&query, &list, page, decode, keep).await;
            }
            SessionFilter::Changed(status, from, to) => {
                let between = (time::text(from), time::text(to));
                let list = format!("sessions {} {between:?}", status.name());
                let query = Self::by_status(*status, Some(between));
                return self.table.list_sharded(&query, &list, page, decode, keep).await;
            }
        };
        let list = format!("sessions by {} {partition}", index.partition);
        let query = Query { index: Some(index), partition, newest_first: true, ..Query::default() };
        self.table.list(&query, &list, page, decode, keep).await
    }

    fn by_status(status: SessionStatus, between: Option<(String, String)>) -> ShardedQuery<'static> {
        ShardedQuery { index: &BY_STATUS, value: status.name(), between }
    }
}

/// Returns the partition of the status index that contains the session. The partitions are sharded because first ticks
/// and ends move sessions between partitions, thousands at once in a large fleet.
fn status_shard(session: &Session) -> String {
    keys::sharded(session.status.name(), session.station_id.shard(keys::SHARDS))
}

/// Returns the keys that can be parsed. A key that cannot must not stop its shard.
fn active_keys(items: &[Item]) -> Vec<ActiveKey> {
    let keys = items.iter().filter_map(|item| {
        active_key(item).inspect_err(|error| left_out(error, "an active session cannot be found")).ok()
    });
    keys.collect()
}

fn active_key(item: &Item) -> Result<ActiveKey, StoreError> {
    let text = item.get(ACTIVE.sort).and_then(|value: &AttributeValue| value.as_s().ok());
    text.and_then(|text| text.split_once('#'))
        .and_then(|(station, session)| {
            Some(ActiveKey { station_id: StationId::new(station).ok()?, session_id: SessionId::new(session).ok()? })
        })
        .ok_or_else(|| StoreError::corrupt(ACTIVE.name, "a key that is not stationId#sessionId"))
}

/// Splits what was read into the active sessions and the ids of the items that cannot be decoded, which are logged.
fn active(read: Vec<Result<Session, StoreError>>) -> (Vec<Session>, Vec<SessionId>) {
    let (mut sessions, mut unreadable) = (Vec::new(), Vec::new());
    for session in read {
        match session {
            Ok(session) if session.status.is_active() => sessions.push(session),
            Ok(_) => {}
            Err(error) => {
                left_out(&error, "a session cannot be read");
                if let StoreError::Corrupt { item, .. } = &error {
                    unreadable.extend(SessionId::new(keys::id_of(item)).ok());
                }
            }
        }
    }
    (sessions, unreadable)
}
