//! The only place where keys are formatted and where the attributes of indexes are named.

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
/// Attribute with the events of a write (outbox). The filters of the streams name it.
pub const OUTBOX: &str = "outbox";

/// Number of shards of every sharded index partition. It is part of the keys and therefore not configurable: items that
/// were written with one number would not be found with another.
pub const SHARDS: u32 = 16;

/// Stations by (status, stationId), sessions by (statusShard, statusChangedAt), log entries by (statusShard, SK).
pub const STATUS_INDEX: &str = "status-index";
/// Stations by (cell, stationId), POIs by (cell, PK).
pub const CELL_INDEX: &str = "cell-index";
/// Sessions by (userId, createdAt).
pub const USER_INDEX: &str = "userId-index";
/// Sessions by (stationId, createdAt).
pub const STATION_INDEX: &str = "stationId-index";
/// Active sessions by (activeShard, activeKey). The index is sparse.
pub const ACTIVE_INDEX: &str = "active-index";
/// Log entries by (levelShard, SK).
pub const LEVEL_INDEX: &str = "level-index";
/// Battery-swap stations by (fleet, `station_id`). The index is sparse.
pub const FLEET_INDEX: &str = "fleet-index";
/// The single partition of the fleet index. Only new stations are written to it.
pub const FLEET: &str = "FLEET";
/// Key, in the telemetry table, of the unfinished round through the fleet. It contains `#`, so it cannot be the id of a
/// station.
pub const FLEET_ROUND: &str = "ROUND#FLEET";
/// POIs by (country, PK).
pub const COUNTRY_INDEX: &str = "country-index";
/// Partition of the progress of the OpenChargeMap mirror.
pub const POI_STATE: &str = "SYNC";
/// Log entries by (serviceShard, SK).
pub const SERVICE_INDEX: &str = "service-index";

/// Returns the partition of a station and its ports.
#[must_use]
pub fn station(id: &StationId) -> String {
    format!("STATION#{id}")
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

/// Returns the partition of a user.
#[must_use]
pub fn user(id: &UserId) -> String {
    format!("USER#{id}")
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

/// Returns the key, in the telemetry table, of the rejections of a station.
#[must_use]
pub fn rejections(station: &StationId) -> String {
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
