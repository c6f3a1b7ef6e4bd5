//! Items as the SDK represents them, and their conversion from and to row types.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::error::Chain;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::keys;

/// An item as the SDK represents it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The smallest magnitude that `DynamoDB` can store. Smaller numbers are stored as 0.
const LEAST_MAGNITUDE: f64 = 1e-130;

/// Returns a primary key of partition key and sort key.
pub(crate) fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([
        (keys::PK.to_owned(), AttributeValue::S(pk.to_owned())),
        (keys::SK.to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

/// Returns the primary key of the table from an item of an index.
pub(crate) fn own_key(item: &Item) -> Item {
    let own = item.iter().filter(|(name, _)| keys::PRIMARY.contains(&name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the key of an item as text, for messages. Registration numbers and charging tokens are left out.
pub(crate) fn describe(item: &Item) -> String {
    parts(item).map(keys::without_personal_data).collect::<Vec<_>>().join("/")
}

/// Returns the key of an item as text, to find the item by.
pub(crate) fn identity(item: &Item) -> String {
    parts(item).collect::<Vec<_>>().join("/")
}

fn parts(item: &Item) -> impl Iterator<Item = &str> {
    keys::PRIMARY.into_iter().filter_map(move |name| item.get(name)?.as_s().ok()).map(String::as_str)
}

/// Decodes an item as a row type.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, item: Item) -> Result<T, StoreError> {
    serde_dynamo::from_item(item).map_err(|error| StoreError::corrupt(what, error))
}

/// Returns a decoded row of a list. A row that cannot be decoded gives `None`: one row must not fail a whole page.
pub(crate) fn readable<T>(decoded: Result<T, StoreError>) -> Option<T> {
    decoded.inspect_err(|error| left_out(error, "an item was left out of a list")).ok()
}

/// Reports an item that cannot be read and is left out. It counts as a failure of the platform, which raises an alarm.
pub(crate) fn left_out(error: &StoreError, what: &str) {
    tracing::error!(error = %Chain(error), "{what}");
    metrics::counter!("InternalFailures").increment(1);
}

/// Encodes a row type as an item.
pub(crate) fn encode<T: Serialize>(what: &str, row: T) -> Result<Item, StoreError> {
    let item: Item = serde_dynamo::to_item(row).map_err(|error| StoreError::corrupt(what, error))?;
    Ok(item.into_iter().map(|(name, value)| (name, storable(value))).collect())
}

/// Returns the value with numbers replaced by 0 that are too small for `DynamoDB`, which would refuse the whole item.
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

/// Returns the partition key of an item.
pub(crate) fn pk_of(item: &Item) -> Option<String> {
    item.get(keys::PK)?.as_s().ok().cloned()
}

/// Returns a number as an attribute.
pub(crate) fn number(n: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// Returns a value as JSON text for an attribute.
pub(crate) fn json<T: Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt(what, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_items_without_registration_numbers_and_tokens() {
        for (pk, sk, described) in [
            ("USER#u-1", "METADATA", "USER#u-1/METADATA"),
            ("USER#u-1", "TOKEN#04A2B3C4", "USER#u-1/TOKEN#"),
            ("TOKEN#04A2B3C4", "METADATA", "TOKEN#/METADATA"),
            ("REGISTRATION#MEV42E", "METADATA", "REGISTRATION#/METADATA"),
        ] {
            let key = key(pk, sk);
            assert_eq!((describe(&key).as_str(), identity(&key)), (described, format!("{pk}/{sk}")));
        }
    }
}
