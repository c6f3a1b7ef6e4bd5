use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Stopwatch};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, KeysAndAttributes, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
};
use backon::{ExponentialBuilder, Retryable};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{StoreError, classify};
use crate::keys;
use crate::page::{Page, PageRequest, Position, resume, token};
use crate::transaction::{Update, is_same_item};

/// Whether an attempt at a write ended without an answer: it may have had its effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostAnswer(Arc<AtomicBool>);

impl LostAnswer {
    fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for LostAnswer {
    fn name(&self) -> &'static str {
        "LostAnswer"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_refused = context.response().is_some_and(|response| response.status().is_client_error());
        if !is_refused && !matches!(context.output_or_error(), Some(Ok(_))) {
            self.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// An item as the SDK carries it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// `BatchGetItem`'s limit.
const BATCH: usize = 100;
/// Batches read at the same time.
const PARALLEL_BATCHES: usize = 8;
/// Keys that a list reads at a time, once its first read did not fill the page.
pub(crate) const LIST_READ: usize = 100;
/// Reads of one page of a list. After these the page ends, however short it is.
pub(crate) const LIST_READS: usize = 10;
/// A call that did not succeed within this time is not tried again: its caller, which has 15 s, still answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least magnitude that `DynamoDB` can store. Smaller numbers are stored as 0.
const LEAST_MAGNITUDE: f64 = 1e-130;

/// A `DynamoDB` client that counts the capacity its calls consume and retries what contention refused.
///
/// It alone retries: the SDK's own retries are turned off, since they leave out conflicts with transactions and multiply
/// the time that a caller waits.
#[derive(Clone, Debug)]
pub struct Db {
    client: Client,
    capacity: Capacity,
}

/// Capacity consumed since the counter was made.
#[derive(Clone, Debug, Default)]
pub struct Capacity(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    table_write: AtomicU64,
    index_write: AtomicU64,
}

/// Capacity in `DynamoDB`'s units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Units {
    /// Read units, of tables and indexes.
    pub read: f64,
    /// Write units of tables.
    pub table_write: f64,
    /// Write units of indexes.
    pub index_write: f64,
}

/// Counters hold thousandths: half a read unit is the smallest step.
const MILLI: f64 = 1000.0;

impl Capacity {
    /// What was consumed so far.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn units(&self) -> Units {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / MILLI;
        Units { read: get(&self.0.read), table_write: get(&self.0.table_write), index_write: get(&self.0.index_write) }
    }

    pub(crate) fn read(&self, consumed: &[ConsumedCapacity]) {
        for capacity in consumed {
            add(&self.0.read, capacity.capacity_units());
        }
    }

    pub(crate) fn wrote(&self, consumed: &[ConsumedCapacity]) {
        for capacity in consumed {
            let indexes: f64 = [capacity.global_secondary_indexes(), capacity.local_secondary_indexes()]
                .into_iter()
                .flatten()
                .flat_map(HashMap::values)
                .filter_map(aws_sdk_dynamodb::types::Capacity::capacity_units)
                .sum();
            add(&self.0.index_write, Some(indexes));
            add(&self.0.table_write, capacity.capacity_units().map(|total| total - indexes));
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn add(counter: &AtomicU64, units: Option<f64>) {
    counter.fetch_add((units.unwrap_or_default() * MILLI).round().max(0.0) as u64, Ordering::Relaxed);
}

/// Jittered pauses between tries: 20 ms to 1 s, 8 times at most.
pub(crate) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(8)
}

/// Makes a call, and makes it again after a pause while the table is busy, works on a transaction or cannot be reached.
///
/// # Errors
/// The last error of the call.
pub(crate) async fn retrying<T, F>(call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let watch = Stopwatch::now();
    let tries = call.retry(backoff()).when(|error| error.is_retryable() && watch.elapsed() < PATIENCE);
    // Boxed: the layout of a whole handler's future would exceed the compiler's depth limit.
    Box::pin(tries.into_future()).await
}

/// A query of one partition of a table or index.
#[derive(Default)]
pub(crate) struct Query<'a> {
    pub table: &'a str,
    pub index: Option<&'a str>,
    /// Partition key attribute and its value.
    pub partition: (&'a str, String),
    /// Sort key attribute; lists need it for their tokens.
    pub sort: &'a str,
    /// Sort key attribute and what it begins with.
    pub prefix: Option<(&'a str, String)>,
    /// Sort key attribute and its bounds, both within; instead of a prefix.
    pub between: Option<(&'a str, String, String)>,
    pub newest_first: bool,
    pub consistent: bool,
}

impl Query<'_> {
    /// Whether a sort key lies within the query's bounds.
    pub fn covers(&self, sort: &str) -> bool {
        self.prefix.as_ref().is_none_or(|(_, prefix)| sort.starts_with(prefix.as_str()))
            && self.between.as_ref().is_none_or(|(_, from, to)| (from.as_str()..=to.as_str()).contains(&sort))
    }
}

impl Db {
    /// Counts from zero.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // a client is a handle, and every caller has one to give
    pub fn new(client: Client) -> Self {
        let config = client.config().to_builder().retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(config.build()), capacity: Capacity::default() }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What its calls consumed.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Opens the connection (name resolution, TLS) so that the first request does not wait for it. A failure shows at
    /// that request.
    pub async fn warm(&self, table: &str) {
        let _ = self.get_once(table, &key("WARM#UP", keys::METADATA), false).await;
    }

    /// Reads one item.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        table: &str,
        pk: &str,
        sk: &str,
        consistent: bool,
    ) -> Result<Option<T>, StoreError> {
        self.get_key(table, key(pk, sk), consistent).await
    }

    /// Reads one item by its whole key.
    pub(crate) async fn get_key<T: DeserializeOwned>(
        &self,
        table: &str,
        key: Item,
        consistent: bool,
    ) -> Result<Option<T>, StoreError> {
        let item = retrying(|| self.get_once(table, &key, consistent)).await?;
        item.map(|item| decode(&describe(&key), item)).transpose()
    }

    async fn get_once(&self, table: &str, key: &Item, consistent: bool) -> Result<Option<Item>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(key.clone()))
            .consistent_read(consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify(&describe(key), &error))?;
        self.capacity.read(answer.consumed_capacity.as_slice());
        Ok(answer.item)
    }

    /// One page of a query, from `start`, and the key at which the next begins.
    pub(crate) async fn query_page(
        &self,
        query: &Query<'_>,
        start: Option<Item>,
        limit: Option<i32>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        retrying(|| self.query_once(query, start.clone(), limit)).await
    }

    async fn query_once(
        &self,
        query: &Query<'_>,
        start: Option<Item>,
        limit: Option<i32>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let (partition, value) = &query.partition;
        let mut names = HashMap::from([("#p".to_owned(), (*partition).to_owned())]);
        let mut values = HashMap::from([(":p".to_owned(), AttributeValue::S(value.clone()))]);
        let mut condition = "#p = :p".to_owned();
        if let Some((attribute, prefix)) = &query.prefix {
            names.insert("#s".to_owned(), (*attribute).to_owned());
            values.insert(":s".to_owned(), AttributeValue::S(prefix.clone()));
            condition.push_str(" AND begins_with(#s, :s)");
        }
        if let Some((attribute, from, to)) = &query.between {
            names.insert("#b".to_owned(), (*attribute).to_owned());
            values.insert(":from".to_owned(), AttributeValue::S(from.clone()));
            values.insert(":to".to_owned(), AttributeValue::S(to.clone()));
            condition.push_str(" AND #b BETWEEN :from AND :to");
        }
        let answer = self
            .client
            .query()
            .table_name(query.table)
            .set_index_name(query.index.map(str::to_owned))
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
            .map_err(|error| classify(value, &error))?;
        self.capacity.read(answer.consumed_capacity.as_slice());
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key.filter(|key| !key.is_empty())))
    }

    /// Every item of a query, page after page.
    pub(crate) async fn query_all(&self, query: &Query<'_>) -> Result<Vec<Item>, StoreError> {
        let (mut items, mut next) = self.query_page(query, None, None).await?;
        while next.is_some() {
            let (more, after) = self.query_page(query, next, None).await?;
            items.extend(more);
            next = after;
        }
        Ok(items)
    }

    /// Lists the items behind the keys of a keys-only index, in its order, as far as `keep` accepts them.
    ///
    /// `list` describes the list, so that a token of another one is refused. An item that cannot be decoded is left out
    /// with an error in the log.
    pub(crate) async fn list<T>(
        &self,
        query: &Query<'_>,
        list: &str,
        page: &PageRequest,
        decode: impl Fn(Item) -> Result<T, StoreError>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, StoreError> {
        self.read_list(query, list, page, true, |item| readable(decode(item)).filter(&keep)).await
    }

    /// As [`Db::list`], where the index or table that is queried has all that is listed.
    pub(crate) async fn list_found<T>(
        &self,
        query: &Query<'_>,
        list: &str,
        page: &PageRequest,
        decode: impl Fn(Item) -> Result<T, StoreError>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, StoreError> {
        self.read_list(query, list, page, false, |item| readable(decode(item)).filter(&keep)).await
    }

    /// Reads a page of a list in few reads, however much of it is filtered away.
    ///
    /// The first read is as long as the page, which is all that a list without filter needs. The others have a fixed
    /// length. After the last the page ends where it is, and its token goes on behind the last item that was looked at.
    async fn read_list<T>(
        &self,
        query: &Query<'_>,
        list: &str,
        page: &PageRequest,
        keys_only: bool,
        show: impl Fn(Item) -> Option<T>,
    ) -> Result<Page<T>, StoreError> {
        let from: Option<Position> = resume(list, page.next_token.as_deref())?;
        let mut start = from.map(|from| from.into_key(query)).transpose()?;
        let mut items = Vec::new();
        let mut limit = page.limit;
        for _ in 0..LIST_READS {
            let (found, next) = self.query_page(query, start, i32::try_from(limit).ok()).await?;
            let whole = if keys_only { self.behind(query.table, &found).await? } else { found.clone() };
            let mut whole: HashMap<String, Item> = whole.into_iter().map(|item| (describe(&item), item)).collect();
            for (index, key) in found.iter().enumerate() {
                items.extend(whole.remove(&describe(key)).and_then(&show));
                let is_last = index + 1 == found.len() && next.is_none();
                if items.len() == page.limit && !is_last {
                    return Ok(Page { items, next_token: Some(token(list, Position::of(query, key)?)?) });
                }
            }
            start = next;
            if start.is_none() {
                return Ok(Page { items, next_token: None });
            }
            limit = LIST_READ;
        }
        let next_token = start.map(|key| token(list, Position::of(query, &key)?)).transpose()?;
        Ok(Page { items, next_token })
    }

    /// The items behind what a keys-only index found, in no order; missing ones are left out.
    pub(crate) async fn behind(&self, table: &str, found: &[Item]) -> Result<Vec<Item>, StoreError> {
        self.batch_get_keys(table, found.iter().map(own_key).collect(), false).await
    }

    /// Reads the items with these keys, in no order; missing ones are left out.
    pub(crate) async fn batch_get_keys(
        &self,
        table: &str,
        keys: Vec<Item>,
        consistent: bool,
    ) -> Result<Vec<Item>, StoreError> {
        let batches: Vec<Vec<Item>> = keys.chunks(BATCH).map(<[Item]>::to_vec).collect();
        let read: Vec<Vec<Item>> = stream::iter(batches)
            .map(|batch| self.batch_get_100(table, batch, consistent))
            .buffer_unordered(PARALLEL_BATCHES)
            .try_collect()
            .await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn batch_get_100(&self, table: &str, batch: Vec<Item>, consistent: bool) -> Result<Vec<Item>, StoreError> {
        // The keys that are still to be read, and the items that were.
        let progress = std::sync::Mutex::new((batch, Vec::new()));
        let attempt = || async {
            let keys = lock(&progress).0.clone();
            let (items, left) = self.batch_get_once(table, keys, consistent).await?;
            let mut progress = lock(&progress);
            progress.1.extend(items);
            progress.0 = left;
            if progress.0.is_empty() {
                return Ok(());
            }
            Err(StoreError::Unavailable(format!("{table}: keys were left unprocessed")))
        };
        retrying(attempt).await?;
        Ok(std::mem::take(&mut lock(&progress).1))
    }

    async fn batch_get_once(
        &self,
        table: &str,
        batch: Vec<Item>,
        consistent: bool,
    ) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
        let request = KeysAndAttributes::builder()
            .set_keys(Some(batch))
            .consistent_read(consistent)
            .build()
            .map_err(|error| StoreError::Rejected(error.to_string()))?;
        let answer = self
            .client
            .batch_get_item()
            .request_items(table, request)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify(table, &error))?;
        self.capacity.read(answer.consumed_capacity());
        let left = answer.unprocessed_keys.and_then(|mut left| left.remove(table)).map(|left| left.keys);
        let items = answer.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default();
        Ok((items, left.unwrap_or_default()))
    }

    /// Puts an item whose key must not exist yet. After a lost answer an item that is the same counts as put, as in
    /// [`Db::update`].
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when another item has the key.
    pub(crate) async fn insert(&self, table: &str, item: Item) -> Result<(), StoreError> {
        let lost_answer = LostAnswer::default();
        retrying(|| self.insert_once(table, &item, &lost_answer)).await
    }

    async fn insert_once(&self, table: &str, item: &Item, lost_answer: &LostAnswer) -> Result<(), StoreError> {
        let sent = self
            .client
            .put_item()
            .table_name(table)
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
        let answer = sent.map_err(|error| classify(&describe(item), &error))?;
        self.capacity.wrote(answer.consumed_capacity.as_slice());
        Ok(())
    }

    /// Deletes an item, if it is there.
    pub(crate) async fn delete(&self, table: &str, key: Item) -> Result<(), StoreError> {
        retrying(|| async {
            let delete = self.client.delete_item().table_name(table).set_key(Some(key.clone()));
            let delete = delete.return_consumed_capacity(ReturnConsumedCapacity::Indexes);
            let answer = delete.send().await.map_err(|error| classify(&describe(&key), &error))?;
            self.capacity.wrote(answer.consumed_capacity.as_slice());
            Ok(())
        })
        .await
    }

    /// Runs one update by itself.
    ///
    /// A write whose answer is lost is tried again and then fails by its own success: its condition does not hold any
    /// more. So after a lost answer an item that is as the update leaves it counts as written.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when the item is another.
    pub(crate) async fn update(&self, update: Update) -> Result<(), StoreError> {
        retrying(|| self.update_once(&update)).await
    }

    async fn update_once(&self, update: &Update) -> Result<(), StoreError> {
        let request = update.request.clone();
        let sent = self
            .client
            .update_item()
            .table_name(request.table_name)
            .set_key(Some(request.key))
            .update_expression(request.update_expression)
            .set_condition_expression(request.condition_expression)
            .set_expression_attribute_names(request.expression_attribute_names)
            .set_expression_attribute_values(request.expression_attribute_values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Indexes)
            .customize()
            .interceptor(update.lost_answer.clone())
            .send()
            .await;
        if let Err(error) = &sent
            && let Some(UpdateItemError::ConditionalCheckFailedException(failed)) = error.as_service_error()
            && update.lost_answer.happened()
            && failed.item().is_some_and(|found| update.is_done(found))
        {
            return Ok(());
        }
        let answer = sent.map_err(|error| classify(&describe(update.request.key()), &error))?;
        self.capacity.wrote(answer.consumed_capacity.as_slice());
        Ok(())
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Both parts of a key.
pub(crate) fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([
        (keys::PK.to_owned(), AttributeValue::S(pk.to_owned())),
        (keys::SK.to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

/// The table's key in an item of an index.
fn own_key(item: &Item) -> Item {
    let own = item.iter().filter(|(name, _)| keys::PRIMARY.contains(&name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The key of an item, for messages.
pub(crate) fn describe(item: &Item) -> String {
    let part = |name: &&str| item.get(*name).and_then(|value| value.as_s().ok()).map(String::as_str);
    keys::PRIMARY.iter().filter_map(part).collect::<Vec<_>>().join("/")
}

/// An item as a row type.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, item: Item) -> Result<T, StoreError> {
    serde_dynamo::from_item(item).map_err(|error| StoreError::corrupt(what, error))
}

/// What a list shows of a row: nothing, and an error in the log, where it cannot be read. One row must not take a whole
/// page with it; the alarm on error logs tells.
pub(crate) fn readable<T>(decoded: Result<T, StoreError>) -> Option<T> {
    decoded.inspect_err(|error| tracing::error!(%error, "an item was left out of a list")).ok()
}

/// A row type as an item.
pub(crate) fn encode<T: Serialize>(what: &str, row: T) -> Result<Item, StoreError> {
    let item: Item = serde_dynamo::to_item(row).map_err(|error| StoreError::corrupt(what, error))?;
    Ok(item.into_iter().map(|(name, value)| (name, storable(value))).collect())
}

/// The value, with 0 for numbers that are too small for `DynamoDB`, which would refuse the whole item.
pub(crate) fn storable(value: AttributeValue) -> AttributeValue {
    match value {
        AttributeValue::N(text) => {
            let tiny = text.parse().is_ok_and(|number: f64| number.abs() < LEAST_MAGNITUDE);
            AttributeValue::N(if tiny { "0".to_owned() } else { text })
        }
        AttributeValue::L(values) => AttributeValue::L(values.into_iter().map(storable).collect()),
        AttributeValue::M(item) => {
            AttributeValue::M(item.into_iter().map(|(name, value)| (name, storable(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::UpdateExpression;
    use testkit::{EmbeddedDynamoDb, Fault, FaultyHttp, sdk_config};

    const TABLE: &str = "ev-error-logs";

    /// The table over a connection on which calls fail. Its client would try again by itself, as those of functions.
    fn faulty(dynamodb: &EmbeddedDynamoDb) -> (FaultyHttp, Db) {
        let http = FaultyHttp::default();
        let retry = RetryConfig::standard().with_max_attempts(4);
        let config = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).retry_config(retry);
        (http, Db::new(Client::new(&config.build())))
    }

    fn item(pk: &str, version: u64, text: &str) -> Item {
        let mut item = key(pk, keys::METADATA);
        item.insert("version".to_owned(), AttributeValue::N(version.to_string()));
        item.insert("text".to_owned(), AttributeValue::S(text.to_owned()));
        item
    }

    #[tokio::test]
    async fn a_throttled_batch_is_read_again() {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let (http, db) = faulty(&dynamodb);
        for pk in ["A", "B"] {
            db.insert(TABLE, item(pk, 1, "")).await.unwrap();
        }
        http.plan([(0, Fault::Throttle), (1, Fault::LostAnswer)].into());
        let keys = ["A", "B", "C"].map(|pk| key(pk, keys::METADATA));
        let read = db.batch_get_keys(TABLE, keys.to_vec(), false).await.unwrap();
        assert_eq!((read.len(), http.calls()), (2, 3));
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_recognised_as_our_own() {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let (http, db) = faulty(&dynamodb);
        http.plan([(0, Fault::LostAnswer)].into());
        db.insert(TABLE, item("A", 1, "one")).await.unwrap();
        assert_eq!(http.calls(), 2, "one more try, and not another one by the SDK");
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
        db.update(change("")).await.unwrap();
        assert_eq!(http.calls(), 2, "one more try, and not another one by the SDK");

        // Another's write is not ours, even after a lost answer.
        http.plan([(0, Fault::LostAnswer)].into());
        assert!(db.insert(TABLE, item("A", 1, "one")).await.unwrap_err().is_stale());
        http.plan([(0, Fault::LostAnswer)].into());
        assert!(db.update(change("more")).await.unwrap_err().is_stale());
        let missing = UpdateExpression::new().set("version", AttributeValue::N("2".to_owned())).only_version(1);
        http.plan([(0, Fault::LostAnswer)].into());
        assert!(db.update(missing.build(TABLE, key("B", keys::METADATA)).unwrap()).await.unwrap_err().is_stale());

        // Nor is one that is the same, while every answer arrived: fifty ticks at once write the same.
        assert!(db.update(change("")).await.unwrap_err().is_stale());
        http.plan([(0, Fault::Throttle)].into());
        assert!(db.update(change("")).await.unwrap_err().is_stale());
    }
}
