use std::collections::HashMap;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    self, AttributeValue, ConditionCheck, Delete, Put, ReturnConsumedCapacity, TransactWriteItem,
};
use uuid::Uuid;

use super::db::Db;
use super::item::{Item, describe, storable};
use super::retry::{LostAnswer, retrying};
use crate::aws_error::AwsError;
use crate::error::{StoreError, classify};

/// Cancellation reasons that may not occur again on a later try.
const CONTENTION: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    items: Vec<TransactWriteItem>,
    labels: Vec<String>,
}

impl Transaction {
    /// Creates an empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn insert(&mut self, table: &str, item: Item) -> Result<(), StoreError> {
        self.labels.push(describe(&item));
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(PK)")
            .build()
            .map_err(|error| StoreError::rejected(table, error))?;
        self.items.push(TransactWriteItem::builder().put(put).build());
        Ok(())
    }

    /// Adds an insertion as [`Self::insert`] does, but also replaces an item that has expired and that `DynamoDB` has
    /// not deleted yet: an item whose `expiry`, in epoch seconds, is not after `now`.
    pub(crate) fn insert_unless_alive(
        &mut self,
        table: &str,
        item: Item,
        expiry: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        self.labels.push(describe(&item));
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(PK) OR #e <= :now")
            .expression_attribute_names("#e", expiry)
            .expression_attribute_values(":now", AttributeValue::N(now.to_string()))
            .build()
            .map_err(|error| StoreError::rejected(table, error))?;
        self.items.push(TransactWriteItem::builder().put(put).build());
        Ok(())
    }

    /// Replaces an item as a whole, on condition that the item has this version.
    pub(crate) fn replace(&mut self, table: &str, item: Item, version: u64) -> Result<(), StoreError> {
        self.labels.push(describe(&item));
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression("#v = :v")
            .expression_attribute_names("#v", "version")
            .expression_attribute_values(":v", AttributeValue::N(version.to_string()))
            .build()
            .map_err(|error| StoreError::rejected(table, error))?;
        self.items.push(TransactWriteItem::builder().put(put).build());
        Ok(())
    }

    /// Requires that there is no item with this key.
    pub(crate) fn require_absent(&mut self, table: &str, key: Item) -> Result<(), StoreError> {
        self.labels.push(describe(&key));
        let check = ConditionCheck::builder()
            .table_name(table)
            .set_key(Some(key))
            .condition_expression("attribute_not_exists(PK)")
            .build()
            .map_err(|error| StoreError::rejected(table, error))?;
        self.items.push(TransactWriteItem::builder().condition_check(check).build());
        Ok(())
    }

    pub(crate) fn update(&mut self, update: Update) {
        self.labels.push(describe(update.request.key()));
        self.items.push(TransactWriteItem::builder().update(update.request).build());
    }

    pub(crate) fn delete(&mut self, delete: Delete) {
        self.labels.push(describe(delete.key()));
        self.items.push(TransactWriteItem::builder().delete(delete).build());
    }

    /// Commits all writes, or none.
    ///
    /// Conflicts with other transactions are retried with jittered backoff. All tries have the same client token, so
    /// that a lost response does not lead to a second write.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`], naming the items that have changed since they were read;
    /// [`StoreError::Unavailable`] if contention or throttling outlasted the retries.
    pub async fn commit(self, db: &Db) -> Result<(), StoreError> {
        let token = Uuid::now_v7().to_string();
        let attempt = || async {
            let answer = db
                .client()
                .transact_write_items()
                .set_transact_items(Some(self.items.clone()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Indexes)
                .send()
                .await
                .map_err(|error| self.explain(error))?;
            db.capacity().wrote(answer.consumed_capacity());
            Ok(())
        };
        retrying(attempt).await
    }

    fn explain(&self, error: SdkError<TransactWriteItemsError, HttpResponse>) -> StoreError {
        let what = format!("transaction on {}", self.labels.join(", "));
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
            return classify(what, error);
        };
        let codes: Vec<&str> =
            cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or("None")).collect();
        let failed: Vec<&str> = codes
            .iter()
            .zip(&self.labels)
            .filter(|(code, _)| **code == "ConditionalCheckFailed")
            .map(|(_, label)| label.as_str())
            .collect();
        if !failed.is_empty() {
            return StoreError::ConditionFailed(failed.join(", "));
        }
        let is_contended = codes.iter().any(|code| CONTENTION.contains(code));
        let error = AwsError::from(error);
        if is_contended { StoreError::unavailable(what, error) } else { StoreError::rejected(what, error) }
    }
}

/// An update of one item.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub request: types::Update,
    /// The attributes to set, each with the placeholder of its value.
    sets: Vec<(String, String)>,
    removes: Vec<String>,
    /// Whether the item cannot show that the update was made, because the update adds to a number or sets an entry of a
    /// map.
    unrecognisable: bool,
    /// Shared by all clones of the update, so that every attempt at writing it sees a lost response.
    pub lost_answer: LostAnswer,
}

impl Update {
    /// Returns whether `item` is in the state in which this update leaves it.
    ///
    /// An update that adds an amount cannot be recognised.
    pub fn is_done(&self, item: &Item) -> bool {
        let values = self.request.expression_attribute_values();
        let is_set = |(attribute, value): &(String, String)| {
            let wanted = values.and_then(|values| values.get(value));
            wanted.zip(item.get(attribute)).is_some_and(|(wanted, is)| is_same(wanted, is))
        };
        !self.unrecognisable && self.sets.iter().all(is_set) && !self.removes.iter().any(|name| item.contains_key(name))
    }
}

/// Returns whether two items are equal.
pub(crate) fn is_same_item(a: &Item, b: &Item) -> bool {
    a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| is_same(value, other)))
}

/// Returns whether two values are equal. `DynamoDB` may return a number in another notation than it was written in.
fn is_same(a: &AttributeValue, b: &AttributeValue) -> bool {
    match (a, b) {
        (AttributeValue::N(a), AttributeValue::N(b)) => a == b || a.parse::<f64>().ok() == b.parse::<f64>().ok(),
        (AttributeValue::L(a), AttributeValue::L(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (AttributeValue::M(a), AttributeValue::M(b)) => is_same_item(a, b),
        _ => a == b,
    }
}

/// A builder of update expressions. Every attribute name and value is a placeholder.
#[derive(Debug, Default)]
pub(crate) struct UpdateExpression {
    sets: Vec<(String, String)>,
    /// The entries of map attributes to set.
    entries: Vec<String>,
    removes: Vec<String>,
    adds: Vec<String>,
    conditions: Vec<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl UpdateExpression {
    pub fn new() -> Self {
        Self::default()
    }

    fn name(&mut self, attribute: &str) -> String {
        let placeholder = placeholder(attribute);
        self.names.insert(placeholder.clone(), attribute.to_owned());
        placeholder
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), storable(value));
        placeholder
    }

    /// Sets every attribute of `row`, and removes the attributes of `optional` that `row` lacks.
    pub fn set_all(mut self, row: Item, optional: &[&str]) -> Self {
        for attribute in optional {
            if !row.contains_key(*attribute) {
                self = self.remove(attribute);
            }
        }
        for (attribute, value) in row {
            self = self.set(&attribute, value);
        }
        self
    }

    pub fn set(mut self, attribute: &str, value: AttributeValue) -> Self {
        self.name(attribute);
        let value = self.value(value);
        self.sets.push((attribute.to_owned(), value));
        self
    }

    /// Sets one entry of a map attribute and keeps its other entries.
    pub fn set_entry(mut self, attribute: &str, entry: &str, value: AttributeValue) -> Self {
        // The name of an entry may contain characters that are not allowed in a placeholder.
        let placeholder = format!("#entry{}", self.entries.len());
        let set = format!("{}.{placeholder} = {}", self.name(attribute), self.value(value));
        self.names.insert(placeholder, entry.to_owned());
        self.entries.push(set);
        self
    }

    pub fn remove(mut self, attribute: &str) -> Self {
        self.name(attribute);
        self.removes.push(attribute.to_owned());
        self
    }

    pub fn add(mut self, attribute: &str, amount: i64) -> Self {
        let add = format!("{} {}", self.name(attribute), self.value(AttributeValue::N(amount.to_string())));
        self.adds.push(add);
        self
    }

    pub fn only_if(mut self, attribute: &str, is: AttributeValue) -> Self {
        let condition = format!("{} = {}", self.name(attribute), self.value(is));
        self.conditions.push(condition);
        self
    }

    pub fn only_version(self, version: u64) -> Self {
        self.only_if("version", AttributeValue::N(version.to_string()))
    }

    /// Adds the condition that there is no item yet, or that `sort` is above the item's value, or that it is equal and
    /// `tie` is above the item's value.
    pub fn only_if_later(mut self, sort: (&str, AttributeValue), tie: (&str, AttributeValue)) -> Self {
        let (sort_name, sort_value) = (self.name(sort.0), self.value(sort.1));
        let (tie_name, tie_value) = (self.name(tie.0), self.value(tie.1));
        let later = format!(
            "(attribute_not_exists({sort_name}) OR {sort_name} < {sort_value} \
             OR ({sort_name} = {sort_value} AND {tie_name} < {tie_value}))"
        );
        self.conditions.push(later);
        self
    }

    /// Adds the condition that there is no such attribute yet, or that it is not above `value`.
    pub fn only_unless_above(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(attribute), self.value(value));
        self.conditions.push(format!("(attribute_not_exists({name}) OR {name} <= {value})"));
        self
    }

    /// Adds the condition that the attribute does not exist or has another value.
    pub fn only_unless(mut self, attribute: &str, is: AttributeValue) -> Self {
        let (name, value) = (self.name(attribute), self.value(is));
        self.conditions.push(format!("(attribute_not_exists({name}) OR {name} <> {value})"));
        self
    }

    pub fn only_with(mut self, attribute: &str) -> Self {
        let condition = format!("attribute_exists({})", self.name(attribute));
        self.conditions.push(condition);
        self
    }

    pub fn only_without(mut self, attribute: &str) -> Self {
        let condition = format!("attribute_not_exists({})", self.name(attribute));
        self.conditions.push(condition);
        self
    }

    pub fn build(self, table: &str, key: Item) -> Result<Update, StoreError> {
        let mut sets: Vec<String> =
            self.sets.iter().map(|(name, value)| format!("{} = {value}", placeholder(name))).collect();
        sets.extend_from_slice(&self.entries);
        let removes: Vec<String> = self.removes.iter().map(|name| placeholder(name)).collect();
        let clauses = [("SET", &sets), ("REMOVE", &removes), ("ADD", &self.adds)];
        let expression: Vec<String> = clauses
            .into_iter()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(clause, parts)| format!("{clause} {}", parts.join(", ")))
            .collect();
        let request = types::Update::builder()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(expression.join(" "))
            .set_condition_expression((!self.conditions.is_empty()).then(|| self.conditions.join(" AND ")))
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values((!self.values.is_empty()).then_some(self.values))
            .build()
            .map_err(|error| StoreError::rejected(table, error))?;
        let lost_answer = LostAnswer::default();
        let unrecognisable = !self.adds.is_empty() || !self.entries.is_empty();
        Ok(Update { request, sets: self.sets, removes: self.removes, unrecognisable, lost_answer })
    }
}

fn placeholder(attribute: &str) -> String {
    format!("#{attribute}")
}

/// Returns a delete on condition that `attribute` equals `is`.
pub(crate) fn delete_if(table: &str, key: Item, attribute: &str, is: AttributeValue) -> Result<Delete, StoreError> {
    Delete::builder()
        .table_name(table)
        .set_key(Some(key))
        .condition_expression("#a = :a")
        .expression_attribute_names("#a", attribute)
        .expression_attribute_values(":a", is)
        .build()
        .map_err(|error| StoreError::rejected(table, error))
}
