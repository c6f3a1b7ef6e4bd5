use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::error::DomainError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::db::Item;
use crate::error::StoreError;

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    pub next_token: Option<String>,
}

/// Which page of a list is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The most items on it.
    pub limit: usize,
    /// The `nextToken` of the page before.
    pub next_token: Option<String>,
}

/// What a token says: where to go on, in which list.
#[derive(Serialize, Deserialize)]
struct Token<K> {
    list: String,
    from: K,
}

/// An opaque token for going on at `from` in the list that `list` describes.
pub(crate) fn token<K: Serialize>(list: &str, from: K) -> Result<String, StoreError> {
    let json = serde_json::to_vec(&Token { list: list.to_owned(), from })
        .map_err(|error| StoreError::Rejected(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// Where to go on, by a token handed out for the same list.
pub(crate) fn resume<K: DeserializeOwned>(list: &str, token: Option<&str>) -> Result<Option<K>, StoreError> {
    let Some(text) = token else { return Ok(None) };
    let wrong = || DomainError::invalid("nextToken", "must be the nextToken of the page before, of the same list");
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let token: Token<K> = serde_json::from_slice(&json).map_err(|_| wrong())?;
    if token.list != list {
        return Err(wrong().into());
    }
    Ok(Some(token.from))
}

/// A key of ours as text: all its parts are strings.
pub(crate) fn key_to_text(key: &Item) -> BTreeMap<String, String> {
    key.iter().filter_map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone()))).collect()
}

/// The inverse of [`key_to_text`].
pub(crate) fn text_to_key(text: BTreeMap<String, String>) -> Item {
    text.into_iter().map(|(name, value)| (name, AttributeValue::S(value))).collect()
}
