use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;

use super::db::Db;
use super::item::{Item, decode, describe, key, own_key};
use super::retry::{LostAnswer, retrying};
use super::transaction::{Update, is_same_item};
use crate::error::{StoreError, classify};
use crate::keys::{self, Index};

/// The maximum number of keys in a `BatchGetItem` call.
const BATCH: usize = 100;
/// The number of batches that are read concurrently.
const PARALLEL_BATCHES: usize = 8;
/// A table: its name and the database that contains it.
#[derive(Clone, Debug)]
pub struct Table {
    db: Db,
    name: String,
}

/// A query of one partition of a table or an index.
#[derive(Default)]
pub(crate) struct Query {
    /// The queried index; `None` for the table itself, whose key is [`keys::PK`] and [`keys::SK`].
    pub index: Option<&'static Index>,
    /// Value of the partition key.
    pub partition: String,
    pub range: Range,
    pub newest_first: bool,
    pub consistent: bool,
    /// Whether the queried table or index contains the whole items, not only their keys.
    pub covering: bool,
}

/// The sort keys that a query finds.
#[derive(Debug, Default)]
pub(crate) enum Range {
    #[default]
    All,
    /// The sort keys that begin with this text.
    Prefix(String),
    /// The sort keys from the first text to the second, both included.
    Between(String, String),
}

impl Query {
    /// Returns the attribute that is the partition key.
    pub fn partition_key(&self) -> &'static str {
        self.index.map_or(keys::PK, |index| index.partition)
    }

    /// Returns the attribute that is the sort key.
    pub fn sort_key(&self) -> &'static str {
        self.index.map_or(keys::SK, |index| index.sort)
    }
}

impl Range {
    /// Returns whether a sort key is in the range.
    pub fn contains(&self, sort: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => sort.starts_with(prefix.as_str()),
            Self::Between(from, to) => (from.as_str()..=to.as_str()).contains(&sort),
        }
    }
}

impl Table {
    /// Creates the table `name`.
    #[must_use]
    pub fn new(db: Db, name: impl Into<String>) -> Self {
        Self { db, name: name.into() }
    }

    /// Returns the name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the database that contains the table.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Opens the connection (name resolution, TLS), so that the first request does not have to wait for it. The
    /// function reads a key that does not exist and that need not fit the table. A failure appears at the first
    /// request.
    pub async fn warm(&self) {
        let _ = self.get_once(&key("WARM#UP", keys::METADATA), false).await;
    }

    /// Reads one item.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        pk: &str,
        sk: &str,
        consistent: bool,
    ) -> Result<Option<T>, StoreError> {
        self.get_key(key(pk, sk), consistent).await
    }

    /// Reads one item by its whole key.
    pub(crate) async fn get_key<T: DeserializeOwned>(
        &self,
        key: Item,
        consistent: bool,
    ) -> Result<Option<T>, StoreError> {
        let item = retrying(|| self.get_once(&key, consistent)).await?;
        item.map(|item| decode(&describe(&key), item)).transpose()
    }

    async fn get_once(&self, key: &Item, consistent: bool) -> Result<Option<Item>, StoreError> {
        let answer = self
            .db
            .client()
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key.clone()))
            .consistent_read(consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify(describe(key), error))?;
        self.db.capacity().read(answer.consumed_capacity.as_slice());
        Ok(answer.item)
    }

    /// Reads one page of a query from `start`, and returns the key at which the next page begins.
    pub(crate) async fn query_page(
        &self,
        query: &Query,
        start: Option<Item>,
        limit: Option<i32>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        retrying(|| self.query_once(query, start.clone(), limit)).await
    }

    async fn query_once(
        &self,
        query: &Query,
        start: Option<Item>,
        limit: Option<i32>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let mut names = HashMap::from([("#p".to_owned(), query.partition_key().to_owned())]);
        let mut values = HashMap::from([(":p".to_owned(), AttributeValue::S(query.partition.clone()))]);
        let mut condition = "#p = :p".to_owned();
        match &query.range {
            Range::All => {}
            Range::Prefix(prefix) => {
                names.insert("#s".to_owned(), query.sort_key().to_owned());
                values.insert(":s".to_owned(), AttributeValue::S(prefix.clone()));
                condition.push_str(" AND begins_with(#s, :s)");
            }
            Range::Between(from, to) => {
                names.insert("#s".to_owned(), query.sort_key().to_owned());
                values.insert(":from".to_owned(), AttributeValue::S(from.clone()));
                values.insert(":to".to_owned(), AttributeValue::S(to.clone()));
                condition.push_str(" AND #s BETWEEN :from AND :to");
            }
        }
        let answer = self
            .db
            .client()
            .query()
            .table_name(&self.name)
            .set_index_name(query.index.map(|index| index.name.to_owned()))
            .key_condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .scan_index_forward(!query.newest_first)
            .consistent_read(query.consistent)
            .set_exclusive_start_key(start)
            .set_limit(limit)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify(&query.partition, error))?;
        self.db.capacity().read(answer.consumed_capacity.as_slice());
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key.filter(|key| !key.is_empty())))
    }

    /// Reads every item of a query, page after page.
    pub(crate) async fn query_all(&self, query: &Query) -> Result<Vec<Item>, StoreError> {
        let (mut items, mut next) = self.query_page(query, None, None).await?;
        while next.is_some() {
            let (more, after) = self.query_page(query, next, None).await?;
            items.extend(more);
            next = after;
        }
        Ok(items)
    }

    /// Reads the items that a keys-only index found, in no particular order. Missing items are left out.
    pub(crate) async fn behind(&self, found: &[Item]) -> Result<Vec<Item>, StoreError> {
        self.batch_get_keys(found.iter().map(own_key).collect(), false).await
    }

    /// Reads the items with these keys, in no particular order. Missing items are left out.
    pub(crate) async fn batch_get_keys(&self, keys: Vec<Item>, consistent: bool) -> Result<Vec<Item>, StoreError> {
        let batches: Vec<Vec<Item>> = keys.chunks(BATCH).map(<[Item]>::to_vec).collect();
        let read: Vec<Vec<Item>> = stream::iter(batches)
            .map(|batch| self.batch_get_100(batch, consistent))
            .buffer_unordered(PARALLEL_BATCHES)
            .try_collect()
            .await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn batch_get_100(&self, batch: Vec<Item>, consistent: bool) -> Result<Vec<Item>, StoreError> {
        // The keys that must still be read, and the items that have been read.
        let progress = std::sync::Mutex::new((batch, Vec::new()));
        let attempt = || async {
            let keys = lock(&progress).0.clone();
            let (items, left) = self.batch_get_once(keys, consistent).await?;
            let mut progress = lock(&progress);
            progress.1.extend(items);
            progress.0 = left;
            if progress.0.is_empty() {
                return Ok(());
            }
            Err(StoreError::unavailable(&self.name, "keys were left unprocessed"))
        };
        retrying(attempt).await?;
        Ok(std::mem::take(&mut lock(&progress).1))
    }

    async fn batch_get_once(&self, batch: Vec<Item>, consistent: bool) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
        let request = KeysAndAttributes::builder()
            .set_keys(Some(batch))
            .consistent_read(consistent)
            .build()
            .map_err(|error| StoreError::rejected(&self.name, error))?;
        let answer = self
            .db
            .client()
            .batch_get_item()
            .request_items(&self.name, request)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify(&self.name, error))?;
        self.db.capacity().read(answer.consumed_capacity());
        let left = answer.unprocessed_keys.and_then(|mut left| left.remove(&self.name)).map(|left| left.keys);
        let items = answer.responses.and_then(|mut tables| tables.remove(&self.name)).unwrap_or_default();
        Ok((items, left.unwrap_or_default()))
    }

    /// Inserts an item whose key must not exist yet. After a lost response, an equal item counts as inserted, as in
    /// [`Self::update`].
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another item has the key.
    pub(crate) async fn insert(&self, item: Item) -> Result<(), StoreError> {
        let lost_answer = LostAnswer::default();
        retrying(|| self.insert_once(&item, &lost_answer)).await
    }

    async fn insert_once(&self, item: &Item, lost_answer: &LostAnswer) -> Result<(), StoreError> {
        let sent = self
            .db
            .client()
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item.clone()))
            .condition_expression("attribute_not_exists(PK)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Indexes)
            .customize()
            .interceptor(lost_answer.clone())
            .send()
            .await;
        if let Err(error) = &sent
            && let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error()
            && lost_answer.happened()
            && failed.item().is_some_and(|found| is_same_item(found, item))
        {
            return Ok(());
        }
        let answer = sent.map_err(|error| classify(describe(item), error))?;
        self.db.capacity().wrote(answer.consumed_capacity.as_slice());
        Ok(())
    }

    /// Deletes an item, if it exists.
    pub(crate) async fn delete(&self, key: Item) -> Result<(), StoreError> {
        retrying(|| async {
            let delete = self.db.client().delete_item().table_name(&self.name).set_key(Some(key.clone()));
            let delete = delete.return_consumed_capacity(ReturnConsumedCapacity::Indexes);
            let answer = delete.send().await.map_err(|error| classify(describe(&key), error))?;
            self.db.capacity().wrote(answer.consumed_capacity.as_slice());
            Ok(())
        })
        .await
    }

    /// Makes one update in its own write.
    ///
    /// A write whose response was lost is retried, and then fails because of its own success: its condition does not
    /// hold any more. Therefore, after a lost response, an item in the state in which the update leaves it counts as
    /// written.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the item is in another state.
    pub(crate) async fn update(&self, update: Update) -> Result<(), StoreError> {
        retrying(|| self.update_once(&update, None)).await.map(|_| ())
    }

    /// Makes an update as [`Self::update`] does, and returns the item as it is after the update. That costs no read.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the item is in another state.
    pub(crate) async fn update_and_get(&self, update: Update) -> Result<Item, StoreError> {
        retrying(|| self.update_once(&update, Some(ReturnValue::AllNew))).await
    }

    /// Makes the update once. The item is empty unless `returned` asks for it.
    async fn update_once(&self, update: &Update, returned: Option<ReturnValue>) -> Result<Item, StoreError> {
        let request = update.request.clone();
        let sent = self
            .db
            .client()
            .update_item()
            .table_name(request.table_name)
            .set_key(Some(request.key))
            .update_expression(request.update_expression)
            .set_condition_expression(request.condition_expression)
            .set_expression_attribute_names(request.expression_attribute_names)
            .set_expression_attribute_values(request.expression_attribute_values)
            .set_return_values(returned)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Indexes)
            .customize()
            .interceptor(update.lost_answer.clone())
            .send()
            .await;
        if let Err(error) = &sent
            && let Some(UpdateItemError::ConditionalCheckFailedException(failed)) = error.as_service_error()
            && update.lost_answer.happened()
            && let Some(found) = failed.item().filter(|found| update.is_done(found))
        {
            return Ok(found.clone());
        }
        let answer = sent.map_err(|error| classify(describe(update.request.key()), error))?;
        self.db.capacity().wrote(answer.consumed_capacity.as_slice());
        Ok(answer.attributes.unwrap_or_default())
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamodb::UpdateExpression;
    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::config::retry::RetryConfig;
    use testkit::{EmbeddedDynamoDb, Fault, FaultyHttp, sdk_config};

    const TABLE: &str = "ev-error-logs";

    /// Returns the table over a connection on which calls fail. The client of the connection would retry by itself,
    /// like the clients of the functions.
    fn faulty(dynamodb: &EmbeddedDynamoDb) -> (FaultyHttp, Table) {
        let http = FaultyHttp::default();
        let retry = RetryConfig::standard().with_max_attempts(4);
        let config = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).retry_config(retry);
        (http, Table::new(Db::new(Client::new(&config.build())), TABLE))
    }

    fn item(pk: &str, version: u64, text: &str) -> Item {
        let mut item = key(pk, keys::METADATA);
        item.insert("version".to_owned(), AttributeValue::N(version.to_string()));
        item.insert("text".to_owned(), AttributeValue::S(text.to_owned()));
        item
    }

    #[tokio::test]
    async fn a_throttled_batch_read_is_retried() {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let (http, table) = faulty(&dynamodb);
        for pk in ["A", "B"] {
            table.insert(item(pk, 1, "")).await.unwrap();
        }
        http.plan([(0, Fault::Throttle), (1, Fault::LostAnswer)].into());
        let keys = ["A", "B", "C"].map(|pk| key(pk, keys::METADATA));
        let read = table.batch_get_keys(keys.to_vec(), false).await.unwrap();
        assert_eq!((read.len(), http.calls()), (2, 3));
    }

    #[tokio::test]
    async fn a_write_whose_response_was_lost_is_recognised_as_an_own_write() {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let (http, table) = faulty(&dynamodb);
        http.plan([(0, Fault::LostAnswer)].into());
        table.insert(item("A", 1, "one")).await.unwrap();
        assert_eq!(http.calls(), 2, "one retry, and none by the SDK");
        let change = |text: &str| {
            let update = UpdateExpression::new()
                .set("version", AttributeValue::N("2".to_owned()))
                .set("share", AttributeValue::N("0.50".to_owned()))
                .set("list", AttributeValue::L(vec![AttributeValue::N("1e2".to_owned())]))
                .remove("text")
                .only_version(1);
            let update = if text.is_empty() { update } else { update.set("more", AttributeValue::S(text.to_owned())) };
            update.build(TABLE, key("A", keys::METADATA)).unwrap()
        };
        http.plan([(0, Fault::LostAnswer)].into());
        table.update(change("")).await.unwrap();
        assert_eq!(http.calls(), 2, "one retry, and none by the SDK");

        // The write of another writer is not taken for an own write, even after a lost response.
        http.plan([(0, Fault::LostAnswer)].into());
        assert!(table.insert(item("A", 1, "one")).await.unwrap_err().is_stale());
        http.plan([(0, Fault::LostAnswer)].into());
        assert!(table.update(change("more")).await.unwrap_err().is_stale());
        let missing = UpdateExpression::new().set("version", AttributeValue::N("2".to_owned())).only_version(1);
        http.plan([(0, Fault::LostAnswer)].into());
        assert!(table.update(missing.build(TABLE, key("B", keys::METADATA)).unwrap()).await.unwrap_err().is_stale());

        // An equal write by another writer is not taken for an own write either if every response arrived: fifty
        // concurrent ticks write the same data.
        assert!(table.update(change("")).await.unwrap_err().is_stale());
        http.plan([(0, Fault::Throttle)].into());
        assert!(table.update(change("")).await.unwrap_err().is_stale());
    }
}
