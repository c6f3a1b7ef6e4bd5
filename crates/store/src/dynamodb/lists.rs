//! Lists: one page at a time, with a bounded number of reads.

use std::collections::HashMap;

use super::item::{Item, identity, readable};
use super::page::{Page, PageRequest, Position, resume, token};
use super::table::{Query, Table};
use crate::error::StoreError;

/// The number of keys per read of a list, after the first read did not fill the page.
pub(crate) const LIST_READ: usize = 100;
/// The maximum number of reads per page of a list. After these the page ends, however short it is.
pub(crate) const LIST_READS: usize = 10;

impl Table {
    /// Lists the items that a query finds and `keep` accepts, in the order of the query. The query is of a keys-only
    /// index, or it is a [covering](Query::covering) query that reads the items itself.
    ///
    /// `list` describes the list, so that a token of another list is refused. An item that cannot be decoded is left
    /// out and logged as an error.
    ///
    /// A page takes few reads, no matter how many items are filtered out. The first read is as long as the page, which
    /// is enough for a list without a filter. The other reads have a fixed length. After the last read the page ends,
    /// and its token continues after the last item that was examined.
    pub(crate) async fn list<T>(
        &self,
        query: &Query,
        list: &str,
        page: &PageRequest,
        decode: impl Fn(Item) -> Result<T, StoreError>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, StoreError> {
        let from: Option<Position> = resume(list, page.next_token.as_deref())?;
        let mut start = from.map(|from| from.into_key(query)).transpose()?;
        let mut items = Vec::new();
        let mut limit = page.limit;
        for _ in 0..LIST_READS {
            let (found, next) = self.query_page(query, start, i32::try_from(limit).ok()).await?;
            let whole = if query.covering { found.clone() } else { self.behind(&found).await? };
            let mut whole: HashMap<String, Item> = whole.into_iter().map(|item| (identity(&item), item)).collect();
            for (index, key) in found.iter().enumerate() {
                let item = whole.remove(&identity(key)).and_then(|item| readable(decode(item)));
                items.extend(item.filter(&keep));
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
}
