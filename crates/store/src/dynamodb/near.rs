//! Searches near a place, by the cells of an index: the nearest first, page by page, in bounded reads.

use domain::geo::{Cell, Location};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::item::{Item, readable};
use super::page::{Page, PageRequest, resume, token, wrong_token};
use super::table::{Query, Table};
use crate::error::StoreError;
use crate::keys;

/// Cells of the first read. In a city they are enough; every further read has twice as many.
const FIRST_CELLS: usize = 4;
/// The most cells that are read at the same time.
const PARALLEL_CELLS: usize = 16;

/// A search in the cell index of a table.
pub(crate) struct Near<'a> {
    pub table: &'a Table,
    /// Whether the index has keys only, so that the items behind them must be read.
    pub keys_only: bool,
    /// A page ends after the read with which it has looked at this many items behind its beginning, however short it is.
    pub most_items: usize,
    pub at: Location,
    pub radius_km: f64,
    /// Describes the search, so that a token of another one is refused.
    pub list: String,
}

/// A position in a search: all items nearer than `km` were handed out, and of those at that distance all up to `id`.
/// Tokens have the distance by its bits: a decimal number may come back as another float.
struct Position<K> {
    km: f64,
    id: Option<K>,
}

impl Near<'_> {
    /// Reads a page: the items that have a place and that `keep` accepts, each with its distance, km, nearest first.
    ///
    /// Reads the cells from the nearest on, until the page is full with items that are nearer than any cell not yet
    /// read. Of cells that lie wholly before the page's beginning nothing is read.
    ///
    /// # Errors
    /// A validation error for a token of another search; otherwise when the table cannot be read.
    pub async fn page<T, K>(
        &self,
        page: &PageRequest,
        decode: impl Fn(Item) -> Result<T, StoreError>,
        place: impl Fn(&T) -> Option<(Location, K)>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<(f64, T)>, StoreError>
    where
        K: Clone + Ord + Serialize + DeserializeOwned,
    {
        let begin: Position<K> = self.resume(page)?;
        let is_behind = |km: f64, id: &K| km > begin.km || (km >= begin.km && begin.id.as_ref().is_none_or(|b| id > b));
        let mut cells = self.at.cells_within(self.radius_km);
        cells.retain(|cell| cell.farthest_km >= begin.km);
        let mut found: Vec<(f64, K, T)> = Vec::new();
        let (mut unread, mut size, mut read) = (&cells[..], FIRST_CELLS, 0);
        // Everything that is nearer has been read.
        let horizon = |unread: &[Cell]| unread.first().map_or(f64::INFINITY, |cell| cell.nearest_km);
        while !unread.is_empty() {
            let is_full = found.partition_point(|(km, ..)| *km < horizon(unread)) >= page.limit;
            // A page that ends where it began would be the same for ever.
            if is_full || (read >= self.most_items && horizon(unread) > begin.km) {
                break;
            }
            let (now, later) = unread.split_at(size.min(unread.len()));
            let items = self.read(now).await?.into_iter().filter_map(|item| readable(decode(item)));
            for item in items {
                let Some((location, id)) = place(&item) else { continue };
                let km = self.at.distance_km(&location);
                if km <= self.radius_km && is_behind(km, &id) {
                    read += 1;
                    found.extend(keep(&item).then_some((km, id, item)));
                }
            }
            found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            // One more than the page takes tells that there is a next one.
            found.truncate(page.limit + 1);
            (unread, size) = (later, (size * 2).min(PARALLEL_CELLS));
        }
        let complete = found.partition_point(|(km, ..)| *km < horizon(unread));
        let rest = found.split_off(complete.min(page.limit));
        let end = match found.last() {
            Some((km, id, _)) if found.len() == page.limit => Position { km: *km, id: Some(id.clone()) },
            _ => Position { km: horizon(unread), id: None },
        };
        let more = !rest.is_empty() || !unread.is_empty();
        let next_token = more.then(|| token(&self.list, (end.km.to_bits(), end.id))).transpose()?;
        Ok(Page { items: found.into_iter().map(|(km, _, item)| (km, item)).collect(), next_token })
    }

    fn resume<K: DeserializeOwned>(&self, page: &PageRequest) -> Result<Position<K>, StoreError> {
        let from: Option<(u64, Option<K>)> = resume(&self.list, page.next_token.as_deref())?;
        let Some((bits, id)) = from else { return Ok(Position { km: 0.0, id: None }) };
        let km = f64::from_bits(bits);
        if (0.0..=self.radius_km).contains(&km) { Ok(Position { km, id }) } else { Err(wrong_token()) }
    }

    async fn read(&self, cells: &[Cell]) -> Result<Vec<Item>, StoreError> {
        let ids: Vec<String> = cells.iter().map(|cell| cell.id.clone()).collect();
        let reads = stream::iter(ids).map(|id| async move {
            let (index, partition) = (Some(keys::CELL_INDEX), ("cell", id));
            self.table.query_all(&Query { index, partition, ..Query::default() }).await
        });
        let found: Vec<Vec<Item>> = reads.buffer_unordered(PARALLEL_CELLS).try_collect().await?;
        let found = found.into_iter().flatten().collect::<Vec<_>>();
        if self.keys_only { self.table.behind(&found).await } else { Ok(found) }
    }
}
