use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use domain::Instant;
use domain::id::{LogId, UserId};
use domain::machine::State;
use domain::notifications::{ErrorLogged, Level, LogEntry, LogStatus};
use serde::{Deserialize, Serialize};

use crate::dynamodb::{
    Db, Item, Page, PageRequest, Query, ShardedQuery, Table, Transaction, UpdateExpression, decode, encode, key,
    outbox, time,
};
use crate::error::StoreError;
use crate::keys::error_logs::{BY_LEVEL, BY_SERVICE, BY_STATUS};
use crate::{EventContext, keys};

/// Attribute with the time when an item expires, in epoch seconds. `DynamoDB` deletes the item some time later.
const EXPIRES_AT: &str = "expiresAt";

/// The error log, in the error-logs table. The sort key is when the reported problem occurred.
#[derive(Clone, Debug)]
pub struct ErrorLogStore {
    table: Table,
    retention: TimeDelta,
}

/// Selects the entries to list, newest first. One of the conditions selects the index; the others are filters.
#[derive(Clone, Debug, Default)]
pub struct ErrorLogFilter {
    /// Entries of this level.
    pub level: Option<Level>,
    /// Entries reported by this service.
    pub service: Option<String>,
    /// Entries in this status.
    pub status: Option<LogStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK", with = "time")]
    sk: Instant,
    level: Level,
    service: String,
    message: String,
    status: LogStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handled_by: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    handled_at: Option<Instant>,
    published: bool,
    #[serde(default)]
    mailed: bool,
    version: u64,
    /// Partition key of an index, like the two attributes below; used for nothing else. They are sharded because every
    /// session end causes two or three entries of one level and service.
    #[serde(skip_deserializing)]
    level_shard: String,
    #[serde(skip_deserializing)]
    service_shard: String,
    #[serde(skip_deserializing)]
    status_shard: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

impl ErrorLogStore {
    /// Creates the store for `table`. Entries expire `retention` after they were last reported or handled.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>, retention: TimeDelta) -> Self {
        Self { table: Table::new(db, table), retention }
    }

    /// Returns the table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Adds an entry that is reported at `now`, with the event `ERROR_LOGGED`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the entry already exists.
    pub async fn insert(&self, entry: &LogEntry, event: Option<ErrorLogged>, now: Instant) -> Result<(), StoreError> {
        self.table.insert(new_item(entry, event, self.expiry(entry, now))?).await
    }

    /// Adds an entry as [`Self::insert`] does, but one that is identified by its id alone, whenever it is reported.
    ///
    /// The primary key also contains the time, so a marker item beside the entry makes the id unique. The marker
    /// expires with the entry.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the entry already exists and has not expired.
    pub async fn insert_once(
        &self,
        entry: &LogEntry,
        event: Option<ErrorLogged>,
        now: Instant,
    ) -> Result<(), StoreError> {
        let pk = keys::error_log(&entry.id);
        let expiry = self.expiry(entry, now);
        let mut marker = key(&pk, keys::UNIQUE);
        marker.extend(expiry.map(|at| (EXPIRES_AT.to_owned(), AttributeValue::N(at.to_string()))));
        let mut transaction = Transaction::new();
        transaction.insert_unless_alive(self.table.name(), marker, EXPIRES_AT, now.timestamp())?;
        transaction.insert(self.table.name(), new_item(entry, event, expiry)?)?;
        transaction.commit(self.table.db()).await
    }

    fn expiry(&self, entry: &LogEntry, now: Instant) -> Option<i64> {
        entry.expires_at(now, self.retention).map(|at| at.timestamp())
    }

    /// Reads an entry (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn load(&self, id: &LogId) -> Result<Option<LogEntry>, StoreError> {
        let pk = keys::error_log(id);
        let query = Query { partition: pk.clone(), newest_first: true, consistent: true, ..Query::default() };
        let (items, _) = self.table.query_page(&query, None, Some(1)).await?;
        // The marker may outlive its entry by the days that DynamoDB takes to delete expired items.
        let is_entry = |item: &Item| item.get(keys::SK) != Some(&AttributeValue::S(keys::UNIQUE.to_owned()));
        let entry = items.into_iter().find(is_entry);
        entry.map(|item| decode::<LogRow>(&pk, item).map(LogRow::into_entry)).transpose()
    }

    /// Writes a changed entry. Its expiry does not change.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer changed the entry first.
    pub async fn save(&self, entry: &LogEntry) -> Result<(), StoreError> {
        let update = change(entry, None)?.build(self.table.name(), entry_key(entry))?;
        self.table.update(update).await
    }

    /// Writes an entry that was handled at `now`, with its new expiry.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer changed the entry first.
    pub async fn save_handled(&self, entry: &LogEntry, now: Instant) -> Result<(), StoreError> {
        let expiry = self.expiry(entry, now);
        // The marker must not expire before its entry. An entry without a marker gets one, which does no harm.
        let marker = match expiry {
            Some(at) => UpdateExpression::new().set(EXPIRES_AT, AttributeValue::N(at.to_string())),
            None => UpdateExpression::new().remove(EXPIRES_AT),
        };
        let mut transaction = Transaction::new();
        transaction.update(change(entry, expiry)?.build(self.table.name(), entry_key(entry))?);
        transaction.update(marker.build(self.table.name(), key(&keys::error_log(&entry.id), keys::UNIQUE))?);
        transaction.commit(self.table.db()).await
    }

    /// Lists the entries that have not expired at `now`, newest first. Without any filter, lists the OPEN entries.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn list(
        &self,
        filter: &ErrorLogFilter,
        page: &PageRequest,
        now: Instant,
    ) -> Result<Page<LogEntry>, StoreError> {
        let list = format!("error logs {filter:?}");
        let decode = |item| {
            let row: LogRow = decode("error log", item)?;
            let alive = row.expires_at.is_none_or(|at| at > now.timestamp());
            Ok((alive, row.into_entry()))
        };
        let keep = |(alive, entry): &(bool, LogEntry)| *alive && filter.matches(entry);
        let page = self.table.list_sharded(&Self::query(filter), &list, page, decode, keep).await?;
        Ok(Page { items: page.items.into_iter().map(|(_, entry)| entry).collect(), next_token: page.next_token })
    }

    fn query(filter: &ErrorLogFilter) -> ShardedQuery<'_> {
        let (index, value) = match filter {
            ErrorLogFilter { service: Some(service), .. } => (&BY_SERVICE, service.as_str()),
            ErrorLogFilter { level: Some(level), .. } => (&BY_LEVEL, level.name()),
            ErrorLogFilter { status, .. } => (&BY_STATUS, status.unwrap_or(LogStatus::Open).name()),
        };
        ShardedQuery { index, value, between: None }
    }
}

impl ErrorLogFilter {
    fn matches(&self, entry: &LogEntry) -> bool {
        let any = self.level.is_none() && self.service.is_none() && self.status.is_none();
        (!any || entry.status == LogStatus::Open)
            && self.level.is_none_or(|level| entry.level == level)
            && self.service.as_ref().is_none_or(|service| entry.service == *service)
            && self.status.is_none_or(|status| entry.status == status)
    }
}

fn entry_key(entry: &LogEntry) -> Item {
    key(&keys::error_log(&entry.id), &time::text(&entry.occurred_at))
}

/// Returns the item of a new entry. The event of the entry occurs when the reported problem did.
fn new_item(entry: &LogEntry, event: Option<ErrorLogged>, expiry: Option<i64>) -> Result<Item, StoreError> {
    let (pk, sk) = (keys::error_log(&entry.id), time::text(&entry.occurred_at));
    let correlation_id = entry.correlation_id.clone().unwrap_or_default();
    let context = EventContext { correlation_id, now: entry.occurred_at };
    let outbox = outbox(&pk, &sk, entry.version, event, &context)?;
    encode(&pk, LogRow { outbox, ..LogRow::new(entry, expiry) })
}

fn change(entry: &LogEntry, expiry: Option<i64>) -> Result<UpdateExpression, StoreError> {
    let mut row: Item = encode(&keys::error_log(&entry.id), LogRow::new(entry, expiry))?;
    row.remove(keys::PK);
    row.remove(keys::SK);
    Ok(UpdateExpression::new().set_all(row, &[keys::OUTBOX]).only_version(entry.version - 1))
}

impl LogRow {
    fn new(entry: &LogEntry, expires_at: Option<i64>) -> Self {
        let shard = entry.id.shard(keys::SHARDS);
        Self {
            level_shard: keys::sharded(entry.level.name(), shard),
            service_shard: keys::sharded(&entry.service, shard),
            status_shard: keys::sharded(entry.status.name(), shard),
            pk: keys::error_log(&entry.id),
            sk: entry.occurred_at,
            level: entry.level,
            service: entry.service.clone(),
            message: entry.message.clone(),
            status: entry.status,
            correlation_id: entry.correlation_id.clone(),
            handled_by: entry.handled_by.clone(),
            handled_at: entry.handled_at,
            published: entry.published,
            mailed: entry.mailed,
            version: entry.version,
            expires_at,
            outbox: None,
        }
    }

    fn into_entry(self) -> LogEntry {
        LogEntry {
            id: LogId::new(keys::id_of(&self.pk)).unwrap_or_else(|_| uuid::Uuid::nil().into()),
            occurred_at: self.sk,
            level: self.level,
            service: self.service,
            message: self.message,
            status: self.status,
            correlation_id: self.correlation_id,
            handled_by: self.handled_by,
            handled_at: self.handled_at,
            published: self.published,
            mailed: self.mailed,
            version: self.version,
        }
    }
}
