//! Nearby searches by the cells of an index: nearest first, page by page, with a bounded number of reads.

use domain::geo::{Cell, Location};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::item::{Item, readable};
use super::page::{Page, PageRequest, resume, token, wrong_token};
use super::table::{Query, Table};
use crate::error::StoreError;
use crate::keys::Index;

/// The number of cells of the first read, which is enough in a city. Every further read has twice as many.
const FIRST_CELLS: usize = 4;
/// The maximum number of cells that are read concurrently.
const PARALLEL_CELLS: usize = 16;

/// A search in the cell index of a table.
pub(crate) struct Near<'a> {
    pub table: &'a Table,
    /// The index, whose partitions are cells.
    pub index: &'static Index,
    /// Whether the index has only keys, so that the items themselves must be read from the table.
    pub keys_only: bool,
    /// A page ends after the read in which it has examined this many items after its beginning, however short it is.
    pub most_items: usize,
    pub at: Location,
    pub radius_km: f64,
    /// Description of the search, so that a token of another search is refused.
    pub list: String,
}

/// A position in a search: all items nearer than `km` have been returned, and of the items at that distance those up to
/// `id`. Tokens contain the distance as the bits of the float, because a decimal number may be parsed as another float.
struct Position<K> {
    km: f64,
    id: Option<K>,
}

impl Near<'_> {
    /// Reads a page: the items that have a place and that `keep` accepts, nearest first, each with its distance in km.
    ///
    /// Cells are read from the nearest on, until the page is full of items that are nearer than every unread cell.
    /// Cells that lie wholly before the beginning of the page are not read.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another search;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
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
        // Everything nearer than this distance has been read.
        let horizon = |unread: &[Cell]| unread.first().map_or(f64::INFINITY, |cell| cell.nearest_km);
        while !unread.is_empty() {
            let is_full = found.partition_point(|(km, ..)| *km < horizon(unread)) >= page.limit;
            // A page that ends where it began would be returned again and again.
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
            // One item more than the page takes shows that there is a next page.
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
            self.table.query_all(&Query { index: Some(self.index), partition: id, ..Query::default() }).await
        });
        let found: Vec<Vec<Item>> = reads.buffer_unordered(PARALLEL_CELLS).try_collect().await?;
        let found = found.into_iter().flatten().collect::<Vec<_>>();
        if self.keys_only { self.table.behind(&found).await } else { Ok(found) }
    }
}
