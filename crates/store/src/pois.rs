use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use backon::Retryable;
use domain::Instant;
use domain::event::Event;
use domain::geo::{Grid, Location};
use domain::poi::mirror::{Manifest, SHARDS, Shard, State};
use domain::poi::{Poi, PoiDetails, PoiFilter, PoiSummary};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::db::{Db, Item, Query, backoff, decode, encode, key};
use crate::error::StoreError;
use crate::page::{Page, PageRequest, key_to_text, resume, text_to_key, token};
use crate::stations::{json, outbox};
use crate::transaction::{Update, UpdateExpression};
use crate::{Trace, keys, time};

/// Cells read at the same time; a search looks after so many whether it has enough.
const PARALLEL_CELLS: usize = 16;
/// Shards of the manifest written at the same time.
const PARALLEL_SHARDS: usize = 16;
const MODIFIED: &str = "modified";
const VERSION: &str = "version";

/// The mirror of OpenChargeMap: POIs, reference data, the manifest of what is there, and how far it is.
#[derive(Clone, Debug)]
pub struct PoiStore {
    db: Db,
    table: String,
}

/// The state of the mirror, and the version in which it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedState {
    /// The state.
    pub state: State,
    /// 0 where nothing is stored yet.
    pub version: u64,
}

/// A POI in two parts: an index that carries the summaries answers searches by itself.
#[derive(Debug, Serialize, Deserialize)]
struct PoiRow {
    summary: String,
    details: String,
    #[serde(with = "time")]
    modified: Instant,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cell: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<String>,
}

/// What an index knows of a POI.
#[derive(Debug, Deserialize)]
struct SummaryRow {
    summary: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StateRow {
    state: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReferenceRow {
    entries: String,
}

#[derive(Debug, Serialize)]
struct FailedRow<'a> {
    reason: &'a str,
    record: &'a str,
    #[serde(with = "time")]
    seen_at: Instant,
}

impl PoiStore {
    /// POIs in `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { db, table: table.into() }
    }

    /// The database behind it.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Opens the connection before the first request.
    pub async fn warm(&self) {
        self.db.warm(&self.table).await;
    }

    /// Writes a POI, unless the mirror has a newer one. Answers whether it did.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn put(&self, poi: &Poi) -> Result<bool, StoreError> {
        let pk = keys::poi(poi.summary.ocm_id);
        let row = PoiRow {
            summary: json(&pk, &poi.summary)?,
            details: json(&pk, &poi.details)?,
            modified: poi.modified_at(),
            cell: poi.summary.location.map(|location| location.cell(Grid::NARROW)),
            country: poi.summary.country_id.map(|country| country.to_string()),
        };
        let modified = AttributeValue::S(time::text(&row.modified));
        let update = UpdateExpression::new()
            .set_all(encode(&pk, row)?, &["cell", "country"])
            .only_unless_above(MODIFIED, modified)
            .build(&self.table, key(&pk, keys::METADATA))?;
        match self.write(update).await {
            Err(error) if error.is_stale() => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Removes a POI, or what was kept aside under its id. It may be gone already.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn remove(&self, id: u32) -> Result<(), StoreError> {
        for pk in [keys::poi(id), keys::failed_poi(id)] {
            let attempt = || self.db.delete(&self.table, key(&pk, keys::METADATA));
            attempt.retry(backoff()).when(StoreError::is_retryable).await?;
        }
        Ok(())
    }

    /// Keeps a record aside that is not understood, with the reason.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn keep_aside(&self, id: u32, record: &str, reason: &str, seen_at: Instant) -> Result<(), StoreError> {
        let pk = keys::failed_poi(id);
        let row = encode(&pk, FailedRow { reason, record, seen_at })?;
        let update = UpdateExpression::new().set_all(row, &[]).build(&self.table, key(&pk, keys::METADATA))?;
        self.write(update).await
    }

    /// Reads a POI.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn load(&self, id: u32) -> Result<Option<Poi>, StoreError> {
        let pk = keys::poi(id);
        let row: Option<PoiRow> = self.db.get(&self.table, &pk, keys::METADATA, false).await?;
        row.map(|row| {
            let details: PoiDetails = parse(&pk, &row.details)?;
            Ok(Poi { summary: parse(&pk, &row.summary)?, details })
        })
        .transpose()
    }

    /// The POIs within `radius_km` of a place that `filter` accepts, nearest first, each with its distance, km.
    ///
    /// Reads the cells from the nearest on, and no more of them than the page needs.
    ///
    /// # Errors
    /// A validation error for a token of another search; otherwise when the table cannot be read.
    pub async fn near(
        &self,
        at: Location,
        radius_km: f64,
        filter: &PoiFilter,
        page: &PageRequest,
    ) -> Result<Page<(f64, PoiSummary)>, StoreError> {
        let list = format!("pois near {},{} within {radius_km} {filter:?}", at.latitude, at.longitude);
        let after: Option<(f64, u32)> = resume(&list, page.next_token.as_deref())?;
        let behind = |km: f64, id: u32| after.is_none_or(|(last_km, last)| (km, id) > (last_km, last));
        let mut found: Vec<(f64, PoiSummary)> = Vec::new();
        for cells in at.cells_within(radius_km, Grid::NARROW).chunks(PARALLEL_CELLS) {
            let unread_km = cells.first().map_or(f64::INFINITY, |(_, nearest)| *nearest);
            if found.iter().filter(|(km, _)| *km < unread_km).count() > page.limit {
                break;
            }
            let read = stream::iter(cells.to_vec()).map(|(cell, _)| async move { self.summaries(&cell).await });
            let read: Vec<Vec<PoiSummary>> = read.buffer_unordered(PARALLEL_CELLS).try_collect().await?;
            let near = read.into_iter().flatten().filter(|poi| filter.accepts(poi)).filter_map(|poi| {
                let km = at.distance_km(&poi.location?);
                (km <= radius_km && behind(km, poi.ocm_id)).then_some((km, poi))
            });
            found.extend(near);
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.ocm_id.cmp(&b.1.ocm_id)));
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let next_token = match found.last() {
            Some((km, farthest)) if more => Some(token(&list, (km, farthest.ocm_id))?),
            _ => None,
        };
        Ok(Page { items: found, next_token })
    }

    async fn summaries(&self, cell: &str) -> Result<Vec<PoiSummary>, StoreError> {
        let query = self.index(keys::CELL_INDEX, "cell", cell);
        self.db.query_all(&query).await?.into_iter().map(summary).collect()
    }

    /// The POIs of a country that `filter` accepts, in no particular order.
    ///
    /// # Errors
    /// A validation error for a token of another list; otherwise when the table cannot be read.
    pub async fn of_country(
        &self,
        country_id: u32,
        filter: &PoiFilter,
        page: &PageRequest,
    ) -> Result<Page<PoiSummary>, StoreError> {
        let query = self.index(keys::COUNTRY_INDEX, "country", &country_id.to_string());
        let list = format!("pois of country {country_id} {filter:?}");
        let mut start: Option<Item> = resume(&list, page.next_token.as_deref())?.map(text_to_key);
        let mut items = Vec::new();
        loop {
            let limit = i32::try_from(page.limit - items.len()).unwrap_or(i32::MAX);
            let (found, next) = self.db.query_page(&query, start, Some(limit)).await?;
            for item in found {
                items.push(summary(item)?);
            }
            items.retain(|poi| filter.accepts(poi));
            start = next;
            if start.is_none() || items.len() >= page.limit {
                break;
            }
        }
        let next_token = start.map(|key| token(&list, key_to_text(&key))).transpose()?;
        Ok(Page { items, next_token })
    }

    fn index<'a>(&'a self, index: &'a str, attribute: &'a str, value: &str) -> Query<'a> {
        Query { table: &self.table, index: Some(index), partition: (attribute, value.to_owned()), ..Query::default() }
    }

    /// Writes one kind of the reference data.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn put_reference(&self, kind: &str, entries: &[Value]) -> Result<(), StoreError> {
        let pk = keys::poi_reference(kind);
        let row = encode(&pk, ReferenceRow { entries: json(&pk, &entries)? })?;
        self.write(UpdateExpression::new().set_all(row, &[]).build(&self.table, key(&pk, keys::METADATA))?).await
    }

    /// Reads one kind of the reference data.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn reference(&self, kind: &str) -> Result<Option<Vec<Value>>, StoreError> {
        let pk = keys::poi_reference(kind);
        let row: Option<ReferenceRow> = self.db.get(&self.table, &pk, keys::METADATA, false).await?;
        row.map(|row| parse(&pk, &row.entries)).transpose()
    }

    /// Reads how far the mirror is.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn load_state(&self) -> Result<LoadedState, StoreError> {
        let row: Option<StateRow> = self.db.get(&self.table, keys::POI_STATE, keys::METADATA, true).await?;
        let Some(row) = row else { return Ok(LoadedState::default()) };
        Ok(LoadedState { state: parse(keys::POI_STATE, &row.state)?, version: row.version })
    }

    /// Writes how far the mirror is, with the events that ride on it, if it is still as it was read.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when somebody else wrote it meanwhile.
    pub async fn save_state(
        &self,
        loaded: &mut LoadedState,
        events: impl IntoIterator<Item = Event>,
        trace: &Trace,
    ) -> Result<(), StoreError> {
        let version = loaded.version + 1;
        let row = StateRow {
            state: json(keys::POI_STATE, &loaded.state)?,
            version,
            outbox: outbox(keys::POI_STATE, keys::METADATA, version, events, trace)?,
        };
        let update = UpdateExpression::new().set_all(encode(keys::POI_STATE, row)?, &[keys::OUTBOX]);
        let update = only_version(update, loaded.version).build(&self.table, key(keys::POI_STATE, keys::METADATA))?;
        self.write(update).await?;
        loaded.version = version;
        Ok(())
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn load_manifest(&self) -> Result<Manifest, StoreError> {
        let pks = (0..SHARDS).map(|number| key(&keys::poi_manifest(number), keys::METADATA)).collect();
        let items = self.db.batch_get_keys(&self.table, pks, true).await?;
        let shards: BTreeMap<u32, Shard> = items.iter().map(shard).collect::<Result<_, _>>()?;
        Ok(Manifest::new(shards))
    }

    /// Writes the shards of the manifest that have changed, each if it is still as it was read.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when somebody else wrote one meanwhile.
    pub async fn save_manifest(&self, manifest: &mut Manifest) -> Result<(), StoreError> {
        let changed: Vec<(u32, u64, Vec<u8>)> =
            manifest.changed().map(|(number, shard)| (number, shard.version, shard.encode())).collect();
        let written = stream::iter(changed).map(|(number, version, entries)| async move {
            self.save_shard(number, version, entries).await?;
            Ok::<u32, StoreError>(number)
        });
        let mut written = written.buffer_unordered(PARALLEL_SHARDS);
        while let Some(number) = written.next().await {
            manifest.saved(number?);
        }
        Ok(())
    }

    async fn save_shard(&self, number: u32, version: u64, entries: Vec<u8>) -> Result<(), StoreError> {
        let key = key(&keys::poi_manifest(number), keys::METADATA);
        let update = UpdateExpression::new()
            .set("entries", AttributeValue::B(Blob::new(entries)))
            .set(VERSION, AttributeValue::N((version + 1).to_string()));
        self.write(only_version(update, version).build(&self.table, key)?).await
    }

    async fn write(&self, update: Update) -> Result<(), StoreError> {
        let attempt = || async { self.db.update(update.clone()).await };
        attempt.retry(backoff()).when(StoreError::is_retryable).await
    }
}

fn only_version(update: UpdateExpression, version: u64) -> UpdateExpression {
    if version == 0 { update.only_without(VERSION) } else { update.only_version(version) }
}

fn summary(item: Item) -> Result<PoiSummary, StoreError> {
    let pk = crate::stations::pk_of(&item).unwrap_or_default();
    let row: SummaryRow = decode(&pk, item)?;
    parse(&pk, &row.summary)
}

fn shard(item: &Item) -> Result<(u32, Shard), StoreError> {
    let pk = crate::stations::pk_of(item).unwrap_or_default();
    let number = keys::id_of(&pk).parse().map_err(|error| StoreError::corrupt(&pk, error))?;
    let version = item.get(VERSION).and_then(|version| version.as_n().ok()?.parse().ok());
    let bytes = item.get("entries").and_then(|entries| entries.as_b().ok());
    let shard = version.zip(bytes).and_then(|(version, bytes)| Shard::decode(version, bytes.as_ref()));
    Ok((number, shard.ok_or_else(|| StoreError::corrupt(&pk, "is no shard of the manifest"))?))
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::corrupt(what, error))
}
