//! The only place where keys are formatted and attributes that indexes use are named.

use domain::Instant;
use domain::id::{CreditNoteId, InvoiceId, LogId, PortId, SessionId, StationId, UserId};
use uuid::Uuid;

use crate::dynamodb::time;

/// Partition key attribute.
pub const PK: &str = "PK";
/// Sort key attribute.
pub const SK: &str = "SK";
/// Partition key attribute of the telemetry table, which has no sort key.
pub const TELEMETRY_STATION: &str = "station_id";
/// Every attribute that primary keys are made of.
pub const PRIMARY: [&str; 3] = [PK, SK, TELEMETRY_STATION];
/// Sort key of the main item of an aggregate.
pub const METADATA: &str = "METADATA";
/// Sort key of what never changes about a session.
pub const DETAILS: &str = "DETAILS";
/// Sort key of the marker that makes a log entry's id unique; it sorts before every timestamp.
pub const UNIQUE: &str = "#";
/// Sort key of a wallet's balance. The sort keys of what sessions hold of the balance begin with it as well, so that one
/// query reads both.
pub const BALANCE: &str = "BALANCE";
/// Beginning of the sort keys of a wallet's ledger.
pub const ENTRIES: &str = "ENTRY#";
/// Beginning of the sort keys of the invoices that wait for a wallet's money, oldest first.
pub const OPEN_INVOICES: &str = "OPEN#";
/// Attribute with the events that ride on a write; the streams' filters name it.
pub const OUTBOX: &str = "outbox";

/// Shards of every sharded partition of an index. It is part of the keys, so it is not configuration: items that were
/// written with one number would not be found with another.
pub const SHARDS: u32 = 16;

/// Stations by (status, stationId), sessions by (statusShard, statusChangedAt), log entries by (statusShard, SK).
pub const STATUS_INDEX: &str = "status-index";
/// Stations by (cell, stationId), POIs by (cell, PK).
pub const CELL_INDEX: &str = "cell-index";
/// Sessions by (userId, createdAt).
pub const USER_INDEX: &str = "userId-index";
/// Sessions by (stationId, createdAt).
pub const STATION_INDEX: &str = "stationId-index";
/// Active sessions by (activeShard, activeKey); sparse.
pub const ACTIVE_INDEX: &str = "active-index";
/// Log entries by (levelShard, SK).
pub const LEVEL_INDEX: &str = "level-index";
/// Battery-swap stations by (fleet, `station_id`); sparse.
pub const FLEET_INDEX: &str = "fleet-index";
/// The one partition of the fleet's index: only new stations are written to it.
pub const FLEET: &str = "FLEET";
/// Key, in the telemetry table, of the round through the fleet that is not finished. No station's id has a `#`.
pub const FLEET_ROUND: &str = "ROUND#FLEET";
/// POIs by (country, PK).
pub const COUNTRY_INDEX: &str = "country-index";
/// Partition of how far the mirror of OpenChargeMap is.
pub const POI_STATE: &str = "SYNC";
/// Log entries by (serviceShard, SK).
pub const SERVICE_INDEX: &str = "service-index";

/// Partition of a station and its ports.
#[must_use]
pub fn station(id: &StationId) -> String {
    format!("STATION#{id}")
}

/// Sort key of a port.
#[must_use]
pub fn port(id: &PortId) -> String {
    format!("PORT#{id}")
}

/// Partition of a session.
#[must_use]
pub fn session(id: &SessionId) -> String {
    format!("SESSION#{id}")
}

/// Partition of a user.
#[must_use]
pub fn user(id: &UserId) -> String {
    format!("USER#{id}")
}

/// Partition of a log entry.
#[must_use]
pub fn error_log(id: &LogId) -> String {
    format!("ERROR#{id}")
}

/// Partition of an invoice, its lines and its credit notes.
#[must_use]
pub fn invoice(id: &InvoiceId) -> String {
    format!("INVOICE#{id}")
}

/// Sort key of an invoice's line, numbered from 1.
#[must_use]
pub fn line(number: usize) -> String {
    format!("LINE#{number:03}")
}

/// Sort key of a credit note on an invoice.
#[must_use]
pub fn credit_note(id: &CreditNoteId) -> String {
    format!("CREDIT#{id}")
}

/// Partition of a wallet, its holds, its ledger, its top-ups and the invoices that wait for its money.
#[must_use]
pub fn wallet(user: &UserId) -> String {
    format!("WALLET#{user}")
}

/// Sort key of what a session holds of a wallet's balance.
#[must_use]
pub fn hold(session: &SessionId) -> String {
    format!("{BALANCE}#HOLD#{session}")
}

/// Sort key of a ledger's entry: numbers sort as text.
#[must_use]
pub fn entry(sequence: u64) -> String {
    format!("{ENTRIES}{sequence:012}")
}

/// Sort key of a top-up, by which a second one with the same idempotency key is known.
#[must_use]
pub fn top_up(id: Uuid) -> String {
    format!("TOPUP#{id}")
}

/// Sort key of an invoice that waits for its wallet's money.
#[must_use]
pub fn open_invoice(issued_at: &Instant, id: &InvoiceId) -> String {
    format!("{OPEN_INVOICES}{}#{id}", time::text(issued_at))
}

/// Partition of a session that could not be billed.
#[must_use]
pub fn billing_failure(session: &SessionId) -> String {
    format!("FAILURE#{session}")
}

/// Partition of the active index in which the sessions of a shard are.
#[must_use]
pub fn active_shard(shard: u32) -> String {
    sharded("ACTIVE", shard)
}

/// Partition of a sharded index in which the items of a shard with this value are.
#[must_use]
pub fn sharded(value: &str, shard: u32) -> String {
    format!("{value}#{shard}")
}

/// Sort key of the active index: sessions of a station are neighbours.
#[must_use]
pub fn active_key(station: &StationId, session: &SessionId) -> String {
    format!("{station}#{session}")
}

/// Beginning of [`active_key`] that all sessions of a station share.
#[must_use]
pub fn active_prefix(station: &StationId) -> String {
    format!("{station}#")
}

/// Key, in the telemetry table, of what was rejected of a station.
#[must_use]
pub fn rejections(station: &StationId) -> String {
    format!("REJECTED#{station}")
}

/// Partition of a POI.
#[must_use]
pub fn poi(id: u32) -> String {
    format!("POI#{id}")
}

/// Partition of a record of OpenChargeMap that is not understood.
#[must_use]
pub fn failed_poi(id: u32) -> String {
    format!("FAILED#{id}")
}

/// Partition of one kind of OpenChargeMap's reference data.
#[must_use]
pub fn poi_reference(kind: &str) -> String {
    format!("REFERENCE#{kind}")
}

/// Partition of a shard of the mirror's manifest.
#[must_use]
pub fn poi_manifest(number: u32) -> String {
    format!("MANIFEST#{number}")
}

/// What follows the first `#` of a key.
#[must_use]
pub fn id_of(key: &str) -> &str {
    key.split_once('#').map_or(key, |(_, id)| id)
}
