use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use domain::event::Event;
use domain::geo::Location;
use domain::poi::mirror::{Manifest, SHARDS, Shard, State};
use domain::poi::{Poi, PoiDetails, PoiFilter, PoiSummary};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dynamodb::{
    Db, Item, Near, Page, PageRequest, Query, Table, UpdateExpression, decode, encode, json, key, outbox, pk_of, time,
};
use crate::error::StoreError;
use crate::keys::pois::{BY_CELL, BY_COUNTRY};
use crate::{EventContext, keys};

/// The maximum number of POIs that a page of a search examines: about 2 MB of the index.
const MOST_CANDIDATES: usize = 5000;
/// The number of manifest shards that are written concurrently.
const PARALLEL_SHARDS: usize = 16;
const MODIFIED: &str = "modified";
const VERSION: &str = "version";

/// The mirror of OpenChargeMap: POIs, reference data, the manifest of the mirrored POIs, and the progress of the
/// mirror.
#[derive(Clone, Debug)]
pub struct PoiStore {
    table: Table,
}

/// The state of the mirror, with the version at which it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedState {
    /// The state.
    pub state: State,
    /// Version of the stored state; 0 if nothing is stored yet.
    pub version: u64,
}

/// A POI in two parts. An index that contains the summaries can answer searches without reading the table.
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

/// The part of a POI that the indexes contain.
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
    /// Creates the store for `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { table: Table::new(db, table) }
    }

    /// Returns the table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Writes a POI unless the mirror has a newer one. Returns whether it was written.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn put(&self, poi: &Poi) -> Result<bool, StoreError> {
        let pk = keys::poi(poi.summary.ocm_id);
        let row = PoiRow {
            summary: json(&pk, &poi.summary)?,
            details: json(&pk, &poi.details)?,
            modified: poi.modified_at(),
            cell: poi.summary.location.map(|location| location.cell()),
            country: poi.summary.country_id.map(|country| country.to_string()),
        };
        let modified = AttributeValue::S(time::text(&row.modified));
        let update = UpdateExpression::new()
            .set_all(encode(&pk, row)?, &[BY_CELL.partition, BY_COUNTRY.partition])
            .only_unless_above(MODIFIED, modified)
            .build(self.table.name(), key(&pk, keys::METADATA))?;
        match self.table.update(update).await {
            Err(error) if error.is_stale() => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Removes a POI, and the record that was set aside under its id, if they exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn remove(&self, id: u32) -> Result<(), StoreError> {
        for pk in [keys::poi(id), keys::failed_poi(id)] {
            self.table.delete(key(&pk, keys::METADATA)).await?;
        }
        Ok(())
    }

    /// Sets aside a record that cannot be parsed, with the reason.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn keep_aside(&self, id: u32, record: &str, reason: &str, seen_at: Instant) -> Result<(), StoreError> {
        let pk = keys::failed_poi(id);
        let row = encode(&pk, FailedRow { reason, record, seen_at })?;
        let update = UpdateExpression::new().set_all(row, &[]).build(self.table.name(), key(&pk, keys::METADATA))?;
        self.table.update(update).await
    }

    /// Reads a POI.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn load(&self, id: u32) -> Result<Option<Poi>, StoreError> {
        let pk = keys::poi(id);
        let row: Option<PoiRow> = self.table.get(&pk, keys::METADATA, false).await?;
        row.map(|row| {
            let details: PoiDetails = parse(&pk, &row.details)?;
            Ok(Poi { summary: parse(&pk, &row.summary)?, details })
        })
        .transpose()
    }

    /// Returns the POIs within `radius_km` of a place that `filter` accepts, nearest first, each with its distance in
    /// km.
    ///
    /// Cells are read from the nearest on, and only as many as the page needs. A page can be short or even empty and
    /// still have a next page.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another search;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn near(
        &self,
        at: Location,
        radius_km: f64,
        filter: &PoiFilter,
        page: &PageRequest,
    ) -> Result<Page<(f64, PoiSummary)>, StoreError> {
        let near = Near {
            table: &self.table,
            index: &BY_CELL,
            keys_only: false,
            most_items: MOST_CANDIDATES,
            at,
            radius_km,
            list: format!("pois near {},{} within {radius_km} {filter:?}", at.latitude, at.longitude),
        };
        let place = |poi: &PoiSummary| poi.location.map(|at| (at, poi.ocm_id));
        near.page(page, summary, place, |poi| filter.accepts(poi)).await
    }

    /// Returns the POIs of a country that `filter` accepts, in no particular order.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn of_country(
        &self,
        country_id: u32,
        filter: &PoiFilter,
        page: &PageRequest,
    ) -> Result<Page<PoiSummary>, StoreError> {
        let query =
            Query { index: Some(&BY_COUNTRY), partition: country_id.to_string(), covering: true, ..Query::default() };
        let list = format!("pois of country {country_id} {filter:?}");
        self.table.list(&query, &list, page, summary, |poi| filter.accepts(poi)).await
    }

    /// Writes one kind of the reference data.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn put_reference(&self, kind: &str, entries: &[Value]) -> Result<(), StoreError> {
        let pk = keys::poi_reference(kind);
        let row = encode(&pk, ReferenceRow { entries: json(&pk, &entries)? })?;
        self.table
            .update(UpdateExpression::new().set_all(row, &[]).build(self.table.name(), key(&pk, keys::METADATA))?)
            .await
    }

    /// Reads one kind of the reference data.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn reference(&self, kind: &str) -> Result<Option<Vec<Value>>, StoreError> {
        let pk = keys::poi_reference(kind);
        let row: Option<ReferenceRow> = self.table.get(&pk, keys::METADATA, false).await?;
        row.map(|row| parse(&pk, &row.entries)).transpose()
    }

    /// Reads the progress of the mirror.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn load_state(&self) -> Result<LoadedState, StoreError> {
        let row: Option<StateRow> = self.table.get(keys::POI_STATE, keys::METADATA, true).await?;
        let Some(row) = row else { return Ok(LoadedState::default()) };
        Ok(LoadedState { state: parse(keys::POI_STATE, &row.state)?, version: row.version })
    }

    /// Writes the progress of the mirror with its events, on condition that it has not changed since it was read.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer wrote it meanwhile.
    pub async fn save_state(
        &self,
        loaded: &mut LoadedState,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let version = loaded.version + 1;
        let row = StateRow {
            state: json(keys::POI_STATE, &loaded.state)?,
            version,
            outbox: outbox(keys::POI_STATE, keys::METADATA, version, events, context)?,
        };
        let update = UpdateExpression::new().set_all(encode(keys::POI_STATE, row)?, &[keys::OUTBOX]);
        let update =
            only_version(update, loaded.version).build(self.table.name(), key(keys::POI_STATE, keys::METADATA))?;
        self.table.update(update).await?;
        loaded.version = version;
        Ok(())
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn load_manifest(&self) -> Result<Manifest, StoreError> {
        let pks = (0..SHARDS).map(|number| key(&keys::poi_manifest(number), keys::METADATA)).collect();
        let items = self.table.batch_get_keys(pks, true).await?;
        let shards: BTreeMap<u32, Shard> = items.iter().map(shard).collect::<Result<_, _>>()?;
        Ok(Manifest::new(shards))
    }

    /// Writes the changed shards of the manifest, each on condition that it has not changed since it was read.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer wrote a shard meanwhile.
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
        self.table.update(only_version(update, version).build(self.table.name(), key)?).await
    }
}

fn only_version(update: UpdateExpression, version: u64) -> UpdateExpression {
    if version == 0 { update.only_without(VERSION) } else { update.only_version(version) }
}

fn summary(item: Item) -> Result<PoiSummary, StoreError> {
    let pk = pk_of(&item).unwrap_or_default();
    let row: SummaryRow = decode(&pk, item)?;
    parse(&pk, &row.summary)
}

fn shard(item: &Item) -> Result<(u32, Shard), StoreError> {
    let pk = pk_of(item).unwrap_or_default();
    let number = keys::id_of(&pk).parse().map_err(|error| StoreError::corrupt(&pk, error))?;
    let version = item.get(VERSION).and_then(|version| version.as_n().ok()?.parse().ok());
    let bytes = item.get("entries").and_then(|entries| entries.as_b().ok());
    let shard = version.zip(bytes).and_then(|(version, bytes)| Shard::decode(version, bytes.as_ref()));
    Ok((number, shard.ok_or_else(|| StoreError::corrupt(&pk, "is no shard of the manifest"))?))
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::corrupt(what, error))
}
