//! Lists over an index whose partitions are divided into shards, so that a burst of writes is spread over them.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::item::{Item, identity, readable};
use super::lists::{LIST_READ, LIST_READS};
use super::page::{self, Page, PageRequest, resume, token, wrong_token};
use super::table::{Query, Range, Table};
use super::time;
use crate::error::StoreError;
use crate::keys::{self, Index, SHARDS};

/// Sorts before every timestamp.
const BEGINNING: &str = "0";

/// A list of the items with one value over all shards of a keys-only index, sorted by a timestamp.
#[derive(Clone, Debug)]
pub(crate) struct ShardedQuery<'a> {
    /// The index. Its partition key has the value and the shard, and its sort key has the timestamp.
    pub index: &'static Index,
    /// The value that is listed.
    pub value: &'a str,
    /// Inclusive bounds of the timestamp.
    pub between: Option<(String, String)>,
}

/// The position at which a list continues: after this key, which is in this shard.
///
/// The list is in order of time (newest first), then shard, then key. So one position is enough for all shards: the
/// shards before it have returned everything of its instant, and the shards after it have returned nothing of it.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    shard: u32,
    at: page::Position,
}

/// The state of one shard: the keys that were read and not yet returned, and where to read next.
struct Head {
    shard: u32,
    query: Query,
    keys: VecDeque<Item>,
    next: Next,
}

enum Next {
    Beginning,
    After(Item),
    End,
}

impl Table {
    /// Lists the items that the query finds in all shards of a keys-only index and that `keep` accepts, newest first.
    ///
    /// `list` describes the list, so that a token of another list is refused.
    pub(crate) async fn list_sharded<T>(
        &self,
        query: &ShardedQuery<'_>,
        list: &str,
        page: &PageRequest,
        decode: impl Fn(Item) -> Result<T, StoreError>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, StoreError> {
        let mut heads = query.heads(resume(list, page.next_token.as_deref())?)?;
        let mut kept = Vec::new();
        let mut end = None;
        let mut more = true;
        for limit in std::iter::once(page.limit).chain([LIST_READ; LIST_READS - 1]) {
            let found = self.newest(&mut heads, query.index.sort, limit).await?;
            let keys: Vec<Item> = found.iter().map(|(_, key)| key.clone()).collect();
            let read = self.behind(&keys).await?;
            let mut read: HashMap<String, Item> = read.into_iter().map(|item| (identity(&item), item)).collect();
            let mut found = found.into_iter();
            while kept.len() < page.limit
                && let Some((shard, key)) = found.next()
            {
                kept.extend(read.remove(&identity(&key)).and_then(|item| readable(decode(item))).filter(&keep));
                end = Some((shard, key));
            }
            more = found.len() > 0 || !heads.iter().all(Head::is_at_its_end);
            if kept.len() == page.limit || !more {
                break;
            }
        }
        let position = end.filter(|_| more).map(|(shard, key)| {
            Ok::<_, StoreError>(Position { shard, at: page::Position::of(&query.shard(shard, None), &key)? })
        });
        let next_token = position.map(|position| token(list, position?)).transpose()?;
        Ok(Page { items: kept, next_token })
    }

    /// Returns the next keys of the list, at most `limit`, each with its shard.
    async fn newest(&self, heads: &mut [Head], sort: &str, limit: usize) -> Result<Vec<(u32, Item)>, StoreError> {
        // Twice an even share, so that most pages need only one query per shard.
        let size = i32::try_from(2 * limit.div_ceil(SHARDS as usize)).unwrap_or(i32::MAX);
        let mut found = Vec::with_capacity(limit);
        while found.len() < limit {
            // The next key is known only if every shard that has more keys shows its next one.
            try_join_all(heads.iter_mut().map(|head| self.read_on(head, size))).await?;
            let newest = heads.iter_mut().filter(|head| !head.keys.is_empty());
            let newest =
                newest.max_by_key(|head| (head.keys.front().map(|key| text_of(key, sort)), Reverse(head.shard)));
            let Some((shard, key)) = newest.and_then(|head| Some((head.shard, head.keys.pop_front()?))) else { break };
            found.push((shard, key));
        }
        Ok(found)
    }

    async fn read_on(&self, head: &mut Head, size: i32) -> Result<(), StoreError> {
        while head.keys.is_empty() {
            let start = match std::mem::replace(&mut head.next, Next::End) {
                Next::Beginning => None,
                Next::After(key) => Some(key),
                Next::End => return Ok(()),
            };
            let (keys, next) = self.query_page(&head.query, start, Some(size)).await?;
            head.keys.extend(keys);
            head.next = next.map_or(Next::End, Next::After);
        }
        Ok(())
    }
}

impl ShardedQuery<'_> {
    /// Returns every shard, from `position` on.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a position that does not belong to this list.
    fn heads(&self, position: Option<Position>) -> Result<Vec<Head>, StoreError> {
        let Some(Position { shard: last, at }) = position else {
            let head = |shard| Head::new(shard, self.shard(shard, self.between.clone()), Next::Beginning);
            return Ok((0..SHARDS).map(head).collect());
        };
        let instant: Option<domain::Instant> = at.sort().parse().ok();
        let instant = instant.filter(|instant| time::text(instant) == at.sort() && last < SHARDS);
        let instant = instant.ok_or_else(wrong_token)?;
        let key = at.into_key(&self.shard(last, self.between.clone()))?;
        let from = self.between.as_ref().map_or(BEGINNING, |(from, _)| from);
        let head = |shard| {
            // The shards before the position have returned everything of this instant; the shards after it have
            // returned nothing of it.
            let latest = if shard < last { instant - chrono::TimeDelta::milliseconds(1) } else { instant };
            let between = (from.to_owned(), time::text(&latest));
            let next = if shard == last { Next::After(key.clone()) } else { Next::Beginning };
            (between.0 <= between.1).then(|| Head::new(shard, self.shard(shard, Some(between)), next))
        };
        Ok((0..SHARDS).filter_map(head).collect())
    }

    /// Returns the query of one shard.
    fn shard(&self, shard: u32, between: Option<(String, String)>) -> Query {
        Query {
            index: Some(self.index),
            partition: keys::sharded(self.value, shard),
            range: between.map_or(Range::All, |(from, to)| Range::Between(from, to)),
            newest_first: true,
            ..Query::default()
        }
    }
}

impl Head {
    fn new(shard: u32, query: Query, next: Next) -> Self {
        Self { shard, query, keys: VecDeque::new(), next }
    }

    fn is_at_its_end(&self) -> bool {
        self.keys.is_empty() && matches!(self.next, Next::End)
    }
}

fn text_of(key: &Item, attribute: &str) -> String {
    key.get(attribute).and_then(|value: &AttributeValue| value.as_s().ok()).cloned().unwrap_or_default()
}
