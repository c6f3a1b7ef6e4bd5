//! Items as the SDK carries them, and rows as items.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::keys;

/// An item as the SDK carries it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The least magnitude that `DynamoDB` can store. Smaller numbers are stored as 0.
const LEAST_MAGNITUDE: f64 = 1e-130;

/// Both parts of a key.
pub(crate) fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([
        (keys::PK.to_owned(), AttributeValue::S(pk.to_owned())),
        (keys::SK.to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

/// The table's key in an item of an index.
pub(crate) fn own_key(item: &Item) -> Item {
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

/// The partition key of an item.
pub(crate) fn pk_of(item: &Item) -> Option<String> {
    item.get(keys::PK)?.as_s().ok().cloned()
}

/// A number as an attribute.
pub(crate) fn number(n: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// A value as an attribute of JSON text.
pub(crate) fn json<T: Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt(what, error))
}
