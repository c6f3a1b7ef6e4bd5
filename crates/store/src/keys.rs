//! The only place where keys are formatted and attributes that indexes use are named.

use domain::id::{LogId, PortId, SessionId, StationId, UserId};

/// Partition key attribute.
pub const PK: &str = "PK";
/// Sort key attribute.
pub const SK: &str = "SK";
/// Sort key of the main item of an aggregate.
pub const METADATA: &str = "METADATA";
/// Sort key of what never changes about a session.
pub const DETAILS: &str = "DETAILS";
/// Sort key of the marker that makes a log entry's id unique; it sorts before every timestamp.
pub const UNIQUE: &str = "#";
/// Attribute with the events that ride on a write; the streams' filters name it.
pub const OUTBOX: &str = "outbox";

/// Stations by (status, stationId).
pub const STATUS_INDEX: &str = "status-index";
/// Stations by (cell, stationId).
pub const CELL_INDEX: &str = "cell-index";
/// Sessions by (userId, createdAt).
pub const USER_INDEX: &str = "userId-index";
/// Sessions by (stationId, createdAt).
pub const STATION_INDEX: &str = "stationId-index";
/// Active sessions by (activeShard, activeKey); sparse.
pub const ACTIVE_INDEX: &str = "active-index";
/// Log entries by (level, SK).
pub const LEVEL_INDEX: &str = "level-index";
/// Log entries by (service, SK).
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

/// Partition of the active index in which the sessions of a shard are.
#[must_use]
pub fn active_shard(shard: u32) -> String {
    format!("ACTIVE#{shard}")
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

/// What follows the first `#` of a key.
#[must_use]
pub fn id_of(key: &str) -> &str {
    key.split_once('#').map_or(key, |(_, id)| id)
}
