use aws_sdk_dynamodb::types::AttributeValue;
use chrono_tz::Tz;
use domain::Instant;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::station::{
    Port, PortAdded, PortRemoved, PortReset, PortStatus, Station, StationCreated, StationDeleted, StationStatus,
};
use domain::charging::tariff::Tariff;
use domain::event::Event;
use domain::geo::Location;
use domain::id::{PortId, SessionId, StationId};
use domain::machine::State;
use serde::{Deserialize, Serialize};

use crate::dynamodb::{
    Db, Item, Near, Page, PageRequest, Query, Table, Transaction, Update, UpdateExpression, decode, delete_if, encode,
    json, key, number, outbox, time,
};
use crate::error::StoreError;
use crate::keys::stations::{BY_CELL, BY_STATUS};
use crate::{EventContext, keys};

/// The maximum number of stations that a page of a nearby search reads: about 500 read units.
const MOST_CANDIDATES: usize = 1000;

/// Stations and their ports, in the stations table.
#[derive(Clone, Debug)]
pub struct StationStore {
    table: Table,
}

/// A station as read, with its ports in order of their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedStation {
    /// The station.
    pub station: Station,
    /// The ports of the station.
    pub ports: Vec<Port>,
}

/// Selects the stations to list.
#[derive(Clone, Debug)]
pub enum StationFilter {
    /// The stations in a status, by id.
    Status(StationStatus),
    /// The stations within a radius (km), nearest first, optionally only those in a status.
    Near(Location, f64, Option<StationStatus>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StationRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    station_id: StationId,
    name: String,
    address: String,
    latitude: f64,
    longitude: f64,
    cell: String,
    time_zone: String,
    power_kw: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tariff: Option<String>,
    model: ModelConfig,
    status: StationStatus,
    charging_ports: u32,
    #[serde(with = "time")]
    created_at: Instant,
    #[serde(with = "time")]
    updated_at: Instant,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

// The attribute is `portStatus` and not `status`, because ports must not appear in the indexes of stations.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    port_id: PortId,
    port_number: u32,
    connector_type: ConnectorType,
    max_power_kw: f64,
    port_status: PortStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

// A deleted item carries no event, so this item carries the event of the deletion. It stays, so that a station that is
// created with the same id gets a higher version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedRow {
    #[serde(with = "time")]
    deleted_at: Instant,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

/// The version of a station, whether it exists or was deleted.
#[derive(Debug, Deserialize)]
struct VersionRow {
    version: u64,
}

impl StationStore {
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

    /// Reads a station with its ports (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn load(&self, id: &StationId) -> Result<Option<LoadedStation>, StoreError> {
        let query = Query { partition: keys::station(id), consistent: true, ..Query::default() };
        let mut station = None;
        let mut ports = Vec::new();
        for item in self.table.query_all(&query).await? {
            if item.get(keys::SK).and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == keys::METADATA) {
                station = Some(decode::<StationRow>(&query.partition, item)?.into_station()?);
            } else {
                ports.push(decode::<PortRow>(&query.partition, item)?.into_port(id));
            }
        }
        ports.sort_by_key(|port| port.number);
        Ok(station.map(|station| LoadedStation { station, ports }))
    }

    /// Returns the version of a station, or `None` if there is no such station (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn version(&self, id: &StationId) -> Result<Option<u64>, StoreError> {
        self.version_in(&keys::station(id)).await
    }

    /// Returns the version at which a station with this id was deleted, or `None` if there was none (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn deleted_version(&self, id: &StationId) -> Result<Option<u64>, StoreError> {
        self.version_in(&keys::deleted_station(id)).await
    }

    async fn version_in(&self, pk: &str) -> Result<Option<u64>, StoreError> {
        let row: Option<VersionRow> = self.table.get(pk, keys::METADATA, true).await?;
        Ok(row.map(|row| row.version))
    }

    /// Creates a station with its ports in one transaction, with the event of its creation. A station whose version is
    /// above 1 follows a deleted one with the same id, which had the version before.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the id is taken, or if the version does not follow that of a deleted station.
    pub async fn insert(
        &self,
        station: &Station,
        ports: &[Port],
        event: StationCreated,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        let outbox = outbox(&keys::station(&station.id), keys::METADATA, station.version, [event], context)?;
        transaction.insert(self.table.name(), station_item(station, outbox)?)?;
        let deleted = key(&keys::deleted_station(&station.id), keys::METADATA);
        if station.version > 1 {
            transaction.delete(delete_if(self.table.name(), deleted, "version", number(station.version - 1))?);
        } else {
            transaction.require_absent(self.table.name(), deleted)?;
        }
        for port in ports {
            transaction.insert(self.table.name(), port_item(port, None)?)?;
        }
        transaction.commit(self.table.db()).await
    }

    /// Adds to `transaction` the write of a changed station, with the events of the change.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the station cannot be encoded.
    pub fn save_in(
        &self,
        transaction: &mut Transaction,
        station: &Station,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let outbox = outbox(&keys::station(&station.id), keys::METADATA, station.version, events, context)?;
        let mut row = station_item(station, outbox)?;
        row.remove(keys::PK);
        row.remove(keys::SK);
        let change = UpdateExpression::new().set_all(row, &["tariff", keys::OUTBOX]).only_version(station.version - 1);
        transaction.update(change.build(self.table.name(), station_key(station))?);
        Ok(())
    }

    /// Deletes a station with its ports, and records the deletion with its event.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the station, the set of its ports or a port has changed since it was read.
    pub async fn delete(
        &self,
        loaded: &LoadedStation,
        event: StationDeleted,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        let station = &loaded.station;
        let (pk, version) = (keys::deleted_station(&station.id), event.version);
        let outbox = outbox(&pk, keys::METADATA, version, [event], context)?;
        let deleted = encode(&pk, DeletedRow { deleted_at: context.now, version, outbox })?;
        let record = UpdateExpression::new().set_all(deleted, &[keys::OUTBOX]);
        transaction.update(record.build(self.table.name(), key(&pk, keys::METADATA))?);
        // Every start of a session and every change of the set of ports raises the station's version.
        transaction.delete(delete_if(self.table.name(), station_key(station), "version", number(station.version))?);
        for port in &loaded.ports {
            transaction.delete(delete_if(self.table.name(), port_key(port), "version", number(port.version))?);
        }
        transaction.commit(self.table.db()).await
    }

    /// Adds a port to a station, with the event of the change.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the port's id is taken or the station has changed since it was read.
    pub async fn add_port(
        &self,
        station: &Station,
        port: &Port,
        event: PortAdded,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.bump(&mut transaction, station, event, context)?;
        transaction.insert(self.table.name(), port_item(port, None)?)?;
        transaction.commit(self.table.db()).await
    }

    /// Removes a port from a station, with the event of the change.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the port or the station has changed since it was read.
    pub async fn remove_port(
        &self,
        station: &Station,
        port: &Port,
        event: PortRemoved,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.bump(&mut transaction, station, event, context)?;
        transaction.delete(delete_if(self.table.name(), port_key(port), "version", number(port.version))?);
        transaction.commit(self.table.db()).await
    }

    /// Writes a port that was reset, with the event of the change.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the port or the station has changed since it was read.
    pub async fn reset_port(
        &self,
        station: &Station,
        port: &Port,
        event: PortReset,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.bump(&mut transaction, station, event, context)?;
        transaction.update(self.port_change(port, None)?);
        transaction.commit(self.table.db()).await
    }

    /// Raises the station's version, because its ports change, and puts the event of the change onto the station.
    ///
    /// Otherwise two concurrent changes could together exceed the limits on the set of ports, and the numbers of ports
    /// in the event might be wrong.
    fn bump(
        &self,
        transaction: &mut Transaction,
        station: &Station,
        event: impl Into<Event>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let version = station.version + 1;
        let events = outbox(&keys::station(&station.id), keys::METADATA, version, [event], context)?;
        let bump = UpdateExpression::new()
            .set("version", number(version))
            .set(keys::OUTBOX, AttributeValue::S(events.unwrap_or_default()))
            .only_version(station.version);
        transaction.update(bump.build(self.table.name(), station_key(station))?);
        Ok(())
    }

    /// Writes a changed port in its own write. The change is reported by no event.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if another writer changed the port first.
    pub async fn save_port(&self, port: &Port) -> Result<(), StoreError> {
        self.table.update(self.port_change(port, None)?).await
    }

    /// Adds to `transaction` the write of a changed port, with the events of the change.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the port cannot be encoded.
    pub fn save_port_in(
        &self,
        transaction: &mut Transaction,
        port: &Port,
        events: impl IntoIterator<Item = impl Into<Event>>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let outbox = outbox(&keys::station(&port.station_id), &keys::port(&port.id), port.version, events, context)?;
        transaction.update(self.port_change(port, outbox)?);
        Ok(())
    }

    fn port_change(&self, port: &Port, outbox: Option<String>) -> Result<Update, StoreError> {
        let mut row = port_item(port, outbox)?;
        row.remove(keys::PK);
        row.remove(keys::SK);
        UpdateExpression::new()
            .set_all(row, &["sessionId", keys::OUTBOX])
            .only_version(port.version - 1)
            .build(self.table.name(), port_key(port))
    }

    /// Adds to `transaction` the increment of the station's count of charging ports, on condition that the station is
    /// ACTIVE and its configuration is the one that was read.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the update cannot be built.
    pub fn count_in(&self, transaction: &mut Transaction, station: &Station) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .add("chargingPorts", 1)
            .add("version", 1)
            .remove(keys::OUTBOX)
            .only_if(BY_STATUS.partition, AttributeValue::S(StationStatus::Active.name().to_owned()))
            .only_if("updatedAt", AttributeValue::S(time::text(&station.updated_at)));
        transaction.update(update.build(self.table.name(), station_key(station))?);
        Ok(())
    }

    /// Adds to `transaction` the decrement of the count of charging ports at a station of which only the version was
    /// read, on condition that `running` sessions run there and that nothing else has changed it. Afterwards `left`
    /// sessions run, and the station has this `version`.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the update cannot be built.
    pub fn count_out(
        &self,
        transaction: &mut Transaction,
        (station, version): (&StationId, u64),
        running: usize,
        left: usize,
    ) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .set("chargingPorts", number(left))
            .set("version", number(version))
            .remove(keys::OUTBOX)
            .only_if("chargingPorts", number(running))
            .only_version(version - 1);
        transaction.update(update.build(self.table.name(), key(&keys::station(station), keys::METADATA))?);
        Ok(())
    }

    /// Adds to `transaction` the update that frees the port where `session` is running, without having read the port.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the update cannot be built.
    pub fn free_port(
        &self,
        transaction: &mut Transaction,
        station: &StationId,
        port: &PortId,
        session: &SessionId,
    ) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .set("portStatus", AttributeValue::S(PortStatus::Free.name().to_owned()))
            .remove("sessionId")
            .remove(keys::OUTBOX)
            .add("version", 1)
            .only_if("portStatus", AttributeValue::S(PortStatus::Charging.name().to_owned()))
            .only_if("sessionId", AttributeValue::S(session.to_string()));
        transaction.update(update.build(self.table.name(), key(&keys::station(station), &keys::port(port)))?);
        Ok(())
    }

    /// Lists stations without their ports. A page of a nearby search can be short or even empty and still have a next
    /// page.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn list(&self, filter: &StationFilter, page: &PageRequest) -> Result<Page<Station>, StoreError> {
        match filter {
            StationFilter::Status(status) => self.list_by_status(*status, page).await,
            StationFilter::Near(at, radius_km, status) => self.list_near(*at, *radius_km, *status, page).await,
        }
    }

    async fn list_by_status(&self, status: StationStatus, page: &PageRequest) -> Result<Page<Station>, StoreError> {
        let list = format!("stations by status {}", status.name());
        let query = Query { index: Some(&BY_STATUS), partition: status.name().to_owned(), ..Query::default() };
        let decode = |item| decode::<StationRow>("station", item)?.into_station();
        self.table.list(&query, &list, page, decode, |_| true).await
    }

    async fn list_near(
        &self,
        at: Location,
        radius_km: f64,
        status: Option<StationStatus>,
        page: &PageRequest,
    ) -> Result<Page<Station>, StoreError> {
        let near = Near {
            table: &self.table,
            index: &BY_CELL,
            keys_only: true,
            most_items: MOST_CANDIDATES,
            at,
            radius_km,
            list: format!("stations near {},{} within {radius_km} {status:?}", at.latitude, at.longitude),
        };
        let decode = |item| decode::<StationRow>("station", item)?.into_station();
        let place = |station: &Station| Some((station.location, station.id.to_string()));
        let keep = |station: &Station| status.is_none_or(|status| station.status == status);
        let Page { items, next_token } = near.page(page, decode, place, keep).await?;
        Ok(Page { items: items.into_iter().map(|(_, station)| station).collect(), next_token })
    }
}

fn station_key(station: &Station) -> Item {
    key(&keys::station(&station.id), keys::METADATA)
}

fn port_key(port: &Port) -> Item {
    key(&keys::station(&port.station_id), &keys::port(&port.id))
}

fn station_item(station: &Station, outbox: Option<String>) -> Result<Item, StoreError> {
    let pk = keys::station(&station.id);
    let row = StationRow {
        pk: pk.clone(),
        sk: keys::METADATA.to_owned(),
        station_id: station.id.clone(),
        name: station.name.clone(),
        address: station.address.clone(),
        latitude: station.location.latitude,
        longitude: station.location.longitude,
        cell: station.location.cell(),
        time_zone: station.time_zone.name().to_owned(),
        power_kw: station.power_kw,
        tariff: station.tariff.as_ref().map(|tariff| json(&pk, tariff)).transpose()?,
        model: station.model.clone(),
        status: station.status,
        charging_ports: station.charging_ports,
        created_at: station.created_at,
        updated_at: station.updated_at,
        version: station.version,
        outbox,
    };
    encode(&pk, row)
}

fn port_item(port: &Port, outbox: Option<String>) -> Result<Item, StoreError> {
    let pk = keys::station(&port.station_id);
    let row = PortRow {
        pk: pk.clone(),
        sk: keys::port(&port.id),
        port_id: port.id.clone(),
        port_number: port.number,
        connector_type: port.connector,
        max_power_kw: port.max_power_kw,
        port_status: port.status,
        session_id: port.session_id.clone(),
        version: port.version,
        outbox,
    };
    encode(&pk, row)
}

impl StationRow {
    fn into_station(self) -> Result<Station, StoreError> {
        let time_zone: Tz = self.time_zone.parse().map_err(|error| StoreError::corrupt(&self.pk, error))?;
        let tariff: Option<Tariff> = self
            .tariff
            .map(|tariff| serde_json::from_str(&tariff).map_err(|error| StoreError::corrupt(&self.pk, error)))
            .transpose()?;
        Ok(Station {
            id: self.station_id,
            name: self.name,
            address: self.address,
            location: Location { latitude: self.latitude, longitude: self.longitude },
            time_zone,
            power_kw: self.power_kw,
            tariff,
            model: self.model,
            status: self.status,
            charging_ports: self.charging_ports,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        })
    }
}

impl PortRow {
    fn into_port(self, station: &StationId) -> Port {
        Port {
            station_id: station.clone(),
            id: self.port_id,
            number: self.port_number,
            connector: self.connector_type,
            max_power_kw: self.max_power_kw,
            status: self.port_status,
            session_id: self.session_id,
            version: self.version,
        }
    }
}
