use domain::Instant;
use domain::error_log::{Level, LogEntry, LogStatus};
use domain::id::{LogId, UserId};
use domain::machine::State;
use serde::{Deserialize, Serialize};

use crate::db::{Db, Item, Query, decode, encode, key};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::sharded::ShardedQuery;
use crate::transaction::{Transaction, UpdateExpression};
use crate::{keys, time};

/// The error log, in the error-logs table. Its sort key is when the entry's cause happened.
#[derive(Clone, Debug)]
pub struct ErrorLogStore {
    db: Db,
    table: String,
}

/// Which entries are listed, newest first: one of them picks the index, the others filter.
#[derive(Clone, Debug, Default)]
pub struct ErrorLogFilter {
    /// Of this level.
    pub level: Option<Level>,
    /// Reported by this service.
    pub service: Option<String>,
    /// In this state.
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
    version: u64,
    /// For the indexes alone, as are the two below: every end of a session is worth two or three entries of one level
    /// and service.
    #[serde(skip_deserializing)]
    level_shard: String,
    #[serde(skip_deserializing)]
    service_shard: String,
    #[serde(skip_deserializing)]
    status_shard: String,
}

impl ErrorLogStore {
    /// Entries in `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { db, table: table.into() }
    }

    /// Opens the connection before the first request.
    pub async fn warm(&self) {
        self.db.warm(&self.table).await;
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when it exists already.
    pub async fn insert(&self, entry: &LogEntry) -> Result<(), StoreError> {
        let pk = keys::error_log(&entry.id);
        self.db.insert(&self.table, encode(&pk, LogRow::new(entry))?).await
    }

    /// Adds an entry whose id alone, whenever it is reported, stands for it.
    ///
    /// The key holds the time as well, so a marker beside the entry makes the id unique.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when it exists already.
    pub async fn insert_once(&self, entry: &LogEntry) -> Result<(), StoreError> {
        let pk = keys::error_log(&entry.id);
        let mut transaction = Transaction::new();
        transaction.insert(&self.table, key(&pk, keys::UNIQUE))?;
        transaction.insert(&self.table, encode(&pk, LogRow::new(entry))?)?;
        transaction.commit(&self.db).await
    }

    /// Reads an entry as it is now.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn load(&self, id: &LogId) -> Result<Option<LogEntry>, StoreError> {
        let pk = keys::error_log(id);
        let query = Query {
            table: &self.table,
            partition: (keys::PK, pk.clone()),
            newest_first: true,
            consistent: true,
            ..Query::default()
        };
        let (items, _) = self.db.query_page(&query, None, Some(1)).await?;
        items.into_iter().next().map(|item| decode::<LogRow>(&pk, item).map(LogRow::into_entry)).transpose()
    }

    /// Writes a changed entry.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when somebody else changed it first.
    pub async fn save(&self, entry: &LogEntry) -> Result<(), StoreError> {
        let pk = keys::error_log(&entry.id);
        let mut row: Item = encode(&pk, LogRow::new(entry))?;
        row.remove(keys::PK);
        row.remove(keys::SK);
        let update = UpdateExpression::new()
            .set_all(row, &[])
            .only_version(entry.version - 1)
            .build(&self.table, key(&pk, &time::text(&entry.occurred_at)))?;
        self.db.update(update).await
    }

    /// Lists entries, newest first. Without any filter those that are OPEN.
    ///
    /// # Errors
    /// A validation error for a token of another list; otherwise when the table cannot be read.
    pub async fn list(&self, filter: &ErrorLogFilter, page: &PageRequest) -> Result<Page<LogEntry>, StoreError> {
        let decode = |item| decode::<LogRow>("error log", item).map(LogRow::into_entry);
        let list = format!("error logs {filter:?}");
        self.db.list_sharded(&self.query(filter), &list, page, decode, |entry| filter.matches(entry)).await
    }

    fn query<'a>(&'a self, filter: &'a ErrorLogFilter) -> ShardedQuery<'a> {
        let (index, attribute, value) = match filter {
            ErrorLogFilter { service: Some(service), .. } => (keys::SERVICE_INDEX, "serviceShard", service.as_str()),
            ErrorLogFilter { level: Some(level), .. } => (keys::LEVEL_INDEX, "levelShard", level.name()),
            ErrorLogFilter { status, .. } => {
                (keys::STATUS_INDEX, "statusShard", status.unwrap_or(LogStatus::Open).name())
            }
        };
        ShardedQuery { table: &self.table, index, attribute, value, sort: keys::SK, between: None }
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

impl LogRow {
    fn new(entry: &LogEntry) -> Self {
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
            version: entry.version,
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
            version: self.version,
        }
    }
}
