use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::error::DomainError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::item::Item;
use super::table::Query;
use crate::error::StoreError;
use crate::keys;

/// The maximum length of a sort key in `DynamoDB`, bytes.
const LONGEST_KEY: usize = 1024;

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items of the page. A page of a filtered list can be short or even empty and still have a next page.
    pub items: Vec<T>,
    /// The token of the next page; `None` on the last page.
    pub next_token: Option<String>,
}

/// A request for a page of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The maximum number of items on the page.
    pub limit: usize,
    /// The `nextToken` of the previous page.
    pub next_token: Option<String>,
}

/// The content of a token: a position in a list.
#[derive(Serialize, Deserialize)]
struct Token<K> {
    list: String,
    from: K,
}

/// Returns an opaque token for the rest of the list that `list` describes, after the position `from`.
pub(crate) fn token<K: Serialize>(list: &str, from: K) -> Result<String, StoreError> {
    let json = serde_json::to_vec(&Token { list: list.to_owned(), from })
        .map_err(|error| StoreError::rejected(list, error))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// Returns the position in a token, which must belong to the same list.
pub(crate) fn resume<K: DeserializeOwned>(list: &str, token: Option<&str>) -> Result<Option<K>, StoreError> {
    let Some(text) = token else { return Ok(None) };
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong_token())?;
    let token: Token<K> = serde_json::from_slice(&json).map_err(|_| wrong_token())?;
    if token.list != list {
        return Err(wrong_token());
    }
    Ok(Some(token.from))
}

/// Returns the error for a token that does not belong to this list.
pub(crate) fn wrong_token() -> StoreError {
    DomainError::invalid("nextToken", "must be the nextToken of the page before, of the same list").into()
}

/// A position in a query: the key values of an item, without the names of the attributes and without the partition. The
/// query supplies those, so a forged token cannot leave its partition or name another attribute.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Value of the sort key of the index or table.
    sort: String,
    /// Values of the item's primary key in its table, in the order of [`keys::PRIMARY`]. Empty in a query of the table
    /// itself.
    primary: Vec<String>,
}

impl Position {
    /// Returns the position of `item`, which the query found.
    pub fn of(query: &Query, item: &Item) -> Result<Self, StoreError> {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
        let sort_key = query.sort_key();
        let sort = text(sort_key).ok_or_else(|| StoreError::corrupt("an item of a list", format!("no {sort_key}")))?;
        let primary = match query.index {
            Some(_) => keys::PRIMARY.into_iter().filter_map(text).collect(),
            None => Vec::new(),
        };
        Ok(Self { sort, primary })
    }

    /// Returns the value of the sort key.
    pub fn sort(&self) -> &str {
        &self.sort
    }

    /// Returns the key after which the query continues.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for values that cannot be keys of the query.
    pub fn into_key(self, query: &Query) -> Result<Item, StoreError> {
        let sort_key = query.sort_key();
        let primary: &[&str] = match query.index {
            None => &[],
            Some(_) if sort_key == keys::TELEMETRY_STATION => &[keys::TELEMETRY_STATION],
            Some(_) => &[keys::PK, keys::SK],
        };
        let is_key = |text: &String| (1..=LONGEST_KEY).contains(&text.len());
        let fits = self.primary.len() == primary.len()
            && self.primary.iter().chain([&self.sort]).all(is_key)
            && query.range.contains(&self.sort)
            // If the index sorts by a part of the primary key, both values must be the same.
            && primary.iter().zip(&self.primary).all(|(name, value)| *name != sort_key || *value == self.sort);
        if !fits {
            return Err(wrong_token());
        }
        let names = primary.iter().copied().chain([sort_key, query.partition_key()]);
        let values = self.primary.into_iter().chain([self.sort, query.partition.clone()]);
        Ok(names
            .zip(values)
            .map(|(name, value)| (name.to_owned(), AttributeValue::S(value)))
            .collect::<HashMap<_, _>>())
    }
}
