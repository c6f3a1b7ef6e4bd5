//! Formats every key, and names every index with the attributes that are its key.
//!
//! The row types of each context have fields for these attributes. `tests/it/indexes.rs` checks the names of the
//! fields.
//! A test of `testkit` checks that the template declares exactly these indexes.

use domain::Instant;
use domain::accounts::{RegistrationNumber, TokenId};
use domain::id::{CreditNoteId, InvoiceId, LogId, PortId, SessionId, StationId, SwapStationId, UserId, VehicleId};
use uuid::Uuid;

use crate::dynamodb::time;

/// Partition key attribute.
pub const PK: &str = "PK";
/// Sort key attribute.
pub const SK: &str = "SK";
/// Partition key attribute of the telemetry table, which has no sort key.
pub const TELEMETRY_STATION: &str = "station_id";
/// Every attribute that is part of a primary key.
pub const PRIMARY: [&str; 3] = [PK, SK, TELEMETRY_STATION];
/// Sort key of the main item of an aggregate.
pub const METADATA: &str = "METADATA";
/// Sort key of the session data that never changes.
pub const DETAILS: &str = "DETAILS";
/// Sort key of the marker that makes the id of a log entry unique. It sorts before every timestamp.
pub const UNIQUE: &str = "#";
/// Sort key of a wallet's balance. The sort keys of the wallet's holds begin with it too, so that one query reads both.
pub const BALANCE: &str = "BALANCE";
/// Prefix of the sort keys of a wallet's ledger entries.
pub const ENTRIES: &str = "ENTRY#";
/// Prefix of the sort keys of the invoices that wait for a wallet's money. They sort oldest first.
pub const OPEN_INVOICES: &str = "OPEN#";
/// Prefix of the sort keys of a user's vehicles.
pub const VEHICLES: &str = "VEHICLE#";
/// Prefix of the sort keys of a user's charging tokens.
pub const TOKENS: &str = "TOKEN#";
/// Prefix of the partitions that make registration numbers unique.
const REGISTRATIONS: &str = "REGISTRATION#";
/// Attribute with the events of a write (outbox). The filters of the streams name it.
pub const OUTBOX: &str = "outbox";

/// Number of shards of every sharded index partition. It is part of the keys and therefore not configurable: items that
/// were written with one number would not be found with another.
pub const SHARDS: u32 = 16;

/// The single partition of [`telemetry::BY_FLEET`]. Only new stations are written to it.
pub const FLEET: &str = "FLEET";
/// Key, in the telemetry table, of the unfinished round through the fleet. It contains `#`, so it cannot be the id of a
/// station.
pub const FLEET_ROUND: &str = "ROUND#FLEET";
/// The single partition of [`users::CLIENTS`]. There are few machine clients.
pub const CLIENTS: &str = "CLIENT";
/// Partition of the progress of the OpenChargeMap mirror.
pub const POI_STATE: &str = "SYNC";

/// An index of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// The name.
    pub name: &'static str,
    /// The attribute that is the partition key.
    pub partition: &'static str,
    /// The attribute that is the sort key.
    pub sort: &'static str,
}

/// The indexes of the stations table.
pub mod stations {
    use super::Index;

    /// Stations in a status, by id.
    pub const BY_STATUS: Index = Index { name: "status-index", partition: "status", sort: "stationId" };
    /// Stations in an H3 cell.
    pub const BY_CELL: Index = Index { name: "cell-index", partition: "cell", sort: "stationId" };
    /// Every index of the table.
    pub const ALL: [Index; 2] = [BY_STATUS, BY_CELL];
}

/// The indexes of the sessions table.
pub mod sessions {
    use super::Index;

    /// Sessions of a user, by the time of their start.
    pub const BY_USER: Index = Index { name: "userId-index", partition: "userId", sort: "createdAt" };
    /// Sessions of a station, by the time of their start.
    pub const BY_STATION: Index = Index { name: "stationId-index", partition: "stationId", sort: "createdAt" };
    /// Sessions in a status, by the time at which they entered the status. The partitions are sharded.
    pub const BY_STATUS: Index = Index { name: "status-index", partition: "statusShard", sort: "statusChangedAt" };
    /// Active sessions, by station. The partitions are sharded, and the index is sparse.
    pub const ACTIVE: Index = Index { name: "active-index", partition: "activeShard", sort: "activeKey" };
    /// Every index of the table.
    pub const ALL: [Index; 4] = [BY_USER, BY_STATION, BY_STATUS, ACTIVE];
}

/// The indexes of the users table.
pub mod users {
    use super::{Index, PK};

    /// Users by their e-mail address. The index is sparse.
    pub const BY_EMAIL: Index = Index { name: "email-index", partition: "email", sort: PK };
    /// Users in a status, by the time of their registration. The partitions are sharded. Machine clients are not in the
    /// index.
    pub const BY_STATUS: Index = Index { name: "status-index", partition: "statusShard", sort: "registeredAt" };
    /// Machine clients, by the time of their registration. The index is sparse.
    pub const CLIENTS: Index = Index { name: "client-index", partition: "clientShard", sort: "registeredAt" };
    /// Every index of the table.
    pub const ALL: [Index; 3] = [BY_EMAIL, BY_STATUS, CLIENTS];
}

/// The indexes of the error-logs table. Their partitions are sharded.
pub mod error_logs {
    use super::{Index, SK};

    /// Entries of a level, by time.
    pub const BY_LEVEL: Index = Index { name: "level-index", partition: "levelShard", sort: SK };
    /// Entries of a service, by time.
    pub const BY_SERVICE: Index = Index { name: "service-index", partition: "serviceShard", sort: SK };
    /// Entries in a status, by time.
    pub const BY_STATUS: Index = Index { name: "status-index", partition: "statusShard", sort: SK };
    /// Every index of the table.
    pub const ALL: [Index; 3] = [BY_LEVEL, BY_SERVICE, BY_STATUS];
}

/// The indexes of the billing table.
pub mod billing {
    use super::Index;

    /// Invoices of a user, by the time of their issue.
    pub const BY_USER: Index = Index { name: "userId-index", partition: "userId", sort: "createdAt" };
    /// Invoices in a status, by the time of their issue. Wallets have a status of their own.
    pub const BY_STATUS: Index = Index { name: "status-index", partition: "status", sort: "createdAt" };
    /// Every index of the table.
    pub const ALL: [Index; 2] = [BY_USER, BY_STATUS];
}

/// The indexes of the telemetry table.
pub mod telemetry {
    use super::{Index, TELEMETRY_STATION};

    /// Battery-swap stations, by id. The index is sparse.
    pub const BY_FLEET: Index = Index { name: "fleet-index", partition: "fleet", sort: TELEMETRY_STATION };
    /// Every index of the table.
    pub const ALL: [Index; 1] = [BY_FLEET];
}

/// The indexes of the table of the POIs.
pub mod pois {
    use super::{Index, PK};

    /// POIs in an H3 cell.
    pub const BY_CELL: Index = Index { name: "cell-index", partition: "cell", sort: PK };
    /// POIs of a country.
    pub const BY_COUNTRY: Index = Index { name: "country-index", partition: "country", sort: PK };
    /// Every index of the table.
    pub const ALL: [Index; 2] = [BY_CELL, BY_COUNTRY];
}

/// Returns the partition of a station and its ports.
#[must_use]
pub fn station(id: &StationId) -> String {
    format!("STATION#{id}")
}

/// Returns the partition of the record that a station was deleted.
#[must_use]
pub fn deleted_station(id: &StationId) -> String {
    format!("DELETED#{id}")
}

/// Returns the sort key of a port.
#[must_use]
pub fn port(id: &PortId) -> String {
    format!("PORT#{id}")
}

/// Returns the partition of a session.
#[must_use]
pub fn session(id: &SessionId) -> String {
    format!("SESSION#{id}")
}

/// Returns the partition of a user with the user's vehicles and charging tokens.
#[must_use]
pub fn user(id: &UserId) -> String {
    format!("USER#{id}")
}

/// Returns the sort key of a vehicle.
#[must_use]
pub fn vehicle(id: &VehicleId) -> String {
    format!("{VEHICLES}{id}")
}

/// Returns the sort key of a charging token. It is also the partition of the item that makes the token unique.
#[must_use]
pub fn token(id: &TokenId) -> String {
    format!("{TOKENS}{}", id.normalised())
}

/// Returns the partition of the item that makes a registration number unique.
#[must_use]
pub fn registration(number: &RegistrationNumber) -> String {
    format!("{REGISTRATIONS}{}", number.normalised())
}

/// Returns a part of a key for messages, which the log has: without a registration number or a charging token.
#[must_use]
pub fn without_personal_data(part: &str) -> &str {
    [REGISTRATIONS, TOKENS].into_iter().find(|prefix| part.starts_with(prefix)).unwrap_or(part)
}

/// Returns the partition of a log entry.
#[must_use]
pub fn error_log(id: &LogId) -> String {
    format!("ERROR#{id}")
}

/// Returns the partition of an invoice, its lines and its credit notes.
#[must_use]
pub fn invoice(id: &InvoiceId) -> String {
    format!("INVOICE#{id}")
}

/// Returns the sort key of an invoice line. Lines are numbered from 1.
#[must_use]
pub fn line(number: usize) -> String {
    format!("LINE#{number:03}")
}

/// Returns the sort key of a credit note on an invoice.
#[must_use]
pub fn credit_note(id: &CreditNoteId) -> String {
    format!("CREDIT#{id}")
}

/// Returns the partition of a wallet, its holds, its ledger, its top-ups and the invoices that wait for its money.
#[must_use]
pub fn wallet(user: &UserId) -> String {
    format!("WALLET#{user}")
}

/// Returns the sort key of the hold of a session on a wallet.
#[must_use]
pub fn hold(session: &SessionId) -> String {
    format!("{BALANCE}#HOLD#{session}")
}

/// Returns the sort key of a ledger entry. The number is padded so that entries sort as text.
#[must_use]
pub fn entry(sequence: u64) -> String {
    format!("{ENTRIES}{sequence:012}")
}

/// Returns the sort key of a top-up. It reveals a second top-up with the same idempotency key.
#[must_use]
pub fn top_up(id: Uuid) -> String {
    format!("TOPUP#{id}")
}

/// Returns the sort key of an invoice that waits for its wallet's money.
#[must_use]
pub fn open_invoice(issued_at: &Instant, id: &InvoiceId) -> String {
    format!("{OPEN_INVOICES}{}#{id}", time::text(issued_at))
}

/// Returns the partition of the record that a session could not be billed.
#[must_use]
pub fn billing_failure(session: &SessionId) -> String {
    format!("FAILURE#{session}")
}

/// Returns the partition of the active index that contains the sessions of a shard.
#[must_use]
pub fn active_shard(shard: u32) -> String {
    sharded("ACTIVE", shard)
}

/// Returns the partition of a sharded index that contains the items of a shard with this value.
#[must_use]
pub fn sharded(value: &str, shard: u32) -> String {
    format!("{value}#{shard}")
}

/// Returns the sort key of the active index. The sessions of a station are adjacent.
#[must_use]
pub fn active_key(station: &StationId, session: &SessionId) -> String {
    format!("{station}#{session}")
}

/// Returns the prefix of [`active_key`] that all sessions of a station share.
#[must_use]
pub fn active_prefix(station: &StationId) -> String {
    format!("{station}#")
}

/// Returns the key, in the telemetry table, of the rejections of a battery-swap station.
#[must_use]
pub fn rejections(station: &SwapStationId) -> String {
    format!("REJECTED#{station}")
}

/// Returns the partition of a POI.
#[must_use]
pub fn poi(id: u32) -> String {
    format!("POI#{id}")
}

/// Returns the partition of an OpenChargeMap record that cannot be parsed.
#[must_use]
pub fn failed_poi(id: u32) -> String {
    format!("FAILED#{id}")
}

/// Returns the partition of one kind of OpenChargeMap's reference data.
#[must_use]
pub fn poi_reference(kind: &str) -> String {
    format!("REFERENCE#{kind}")
}

/// Returns the partition of a shard of the mirror's manifest.
#[must_use]
pub fn poi_manifest(number: u32) -> String {
    format!("MANIFEST#{number}")
}

/// Returns the part of a key after its first `#`.
#[must_use]
pub fn id_of(key: &str) -> &str {
    key.split_once('#').map_or(key, |(_, id)| id)
}
