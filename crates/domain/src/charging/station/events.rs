use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Port, PortStatus, Station, StationStatus};
use crate::id::{PortId, SessionId, StationId};

/// The ports of a station, counted by their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // the names of the contract
pub struct PortCounts {
    /// Number of ports of the station.
    pub ports: u32,
    /// Number of ports that are FREE.
    pub free_ports: u32,
    /// Number of ports that are CHARGING.
    pub charging_ports: u32,
    /// Number of ports that are in ERROR.
    pub failed_ports: u32,
}

impl PortCounts {
    /// Counts `ports`, which must be all ports of a station.
    #[must_use]
    pub fn of(ports: &[Port]) -> Self {
        let mut counts = Self::default();
        for port in ports {
            counts.ports += 1;
            *match port.status {
                PortStatus::Free => &mut counts.free_ports,
                PortStatus::Charging => &mut counts.charging_ports,
                PortStatus::Error => &mut counts.failed_ports,
            } += 1;
        }
        counts
    }
}

/// A station was created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationCreated {
    /// Id of the station.
    pub station_id: StationId,
    /// Name of the station.
    pub name: String,
    /// Status of the station.
    pub status: StationStatus,
    /// Version of the station. It is above that of an earlier station with the same id.
    pub version: u64,
    /// Version of the station, the same as `version`.
    pub station_version: u64,
    /// Ports of the station.
    #[serde(flatten)]
    pub counts: PortCounts,
}

/// The data of a station was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationUpdated {
    /// Id of the station.
    pub station_id: StationId,
    /// Name of the station after the change.
    pub name: String,
    /// Status of the station, which the change left as it was.
    pub status: StationStatus,
    /// Version of the station after the change.
    pub version: u64,
    /// Version of the station, the same as `version`.
    pub station_version: u64,
    /// Ports of the station.
    #[serde(flatten)]
    pub counts: PortCounts,
}

/// A station was deleted with its ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationDeleted {
    /// Id of the station.
    pub station_id: StationId,
    /// Version of the deletion, which is above that of the station.
    pub version: u64,
    /// Version of the station, the same as `version`.
    pub station_version: u64,
    /// Ports of the station after the deletion: none.
    #[serde(flatten)]
    pub counts: PortCounts,
}

/// A station changed its status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationStatusChanged {
    /// Id of the station.
    pub station_id: StationId,
    /// Status before the change.
    pub from: StationStatus,
    /// Status after the change.
    pub to: StationStatus,
    /// Version of the station after the change. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Version of the station, the same as `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station_version: Option<u64>,
    /// Ports of the station after the change. Absent from events that were written before the fields existed.
    #[serde(flatten)]
    pub counts: Option<PortCounts>,
}

/// A port was added to a station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortAdded {
    /// Id of the station.
    pub station_id: StationId,
    /// Id of the new port.
    pub port_id: PortId,
    /// Version of the port.
    pub version: u64,
    /// Version of the station after the change.
    pub station_version: u64,
    /// Ports of the station after the change.
    #[serde(flatten)]
    pub counts: PortCounts,
}

/// A port was removed from a station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortRemoved {
    /// Id of the station.
    pub station_id: StationId,
    /// Id of the removed port.
    pub port_id: PortId,
    /// Version of the removal, which is above that of the port.
    pub version: u64,
    /// Version of the station after the change.
    pub station_version: u64,
    /// Ports of the station after the change.
    #[serde(flatten)]
    pub counts: PortCounts,
}

/// A port failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortFailed {
    /// Id of the station.
    pub station_id: StationId,
    /// Id of the port that failed.
    pub port_id: PortId,
    /// Id of the session that failed together with the port. Absent if no session failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Why the port failed, as free text.
    pub reason: String,
    /// Version of the port after the change. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Version of the station after the change. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station_version: Option<u64>,
    /// Ports of the station after the change. Absent from events that were written before the fields existed.
    #[serde(flatten)]
    pub counts: Option<PortCounts>,
}

/// A failed port was reset and is free again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortReset {
    /// Id of the station.
    pub station_id: StationId,
    /// Id of the port.
    pub port_id: PortId,
    /// Version of the port after the change.
    pub version: u64,
    /// Version of the station after the change.
    pub station_version: u64,
    /// Ports of the station after the change.
    #[serde(flatten)]
    pub counts: PortCounts,
}

/// What a change of a station reports.
#[derive(Clone, Debug, PartialEq)]
pub enum StationEvent {
    /// The status changed.
    StatusChanged(StationStatusChanged),
    /// The data changed.
    Updated(StationUpdated),
}

impl StationCreated {
    /// Returns the event of the creation of `station` with `ports`.
    #[must_use]
    pub fn new(station: &Station, ports: &[Port]) -> Self {
        Self {
            station_id: station.id.clone(),
            name: station.name.clone(),
            status: station.status,
            version: station.version,
            station_version: station.version,
            counts: PortCounts::of(ports),
        }
    }
}

impl StationUpdated {
    /// Returns the event of an update. `station` and `ports` are as they are after the update.
    #[must_use]
    pub fn new(station: &Station, ports: &[Port]) -> Self {
        Self {
            station_id: station.id.clone(),
            name: station.name.clone(),
            status: station.status,
            version: station.version,
            station_version: station.version,
            counts: PortCounts::of(ports),
        }
    }
}

impl StationDeleted {
    /// Returns the event of the deletion of `station`, which is as it was read.
    #[must_use]
    pub fn new(station: &Station) -> Self {
        let version = station.version + 1;
        Self { station_id: station.id.clone(), version, station_version: version, counts: PortCounts::default() }
    }
}

impl PortAdded {
    /// Returns the event of the addition of `port` to `station`, which is as it was read. `ports` includes the new port.
    #[must_use]
    pub fn new(station: &Station, port: &Port, ports: &[Port]) -> Self {
        Self {
            station_id: station.id.clone(),
            port_id: port.id.clone(),
            version: port.version,
            station_version: station.version + 1,
            counts: PortCounts::of(ports),
        }
    }
}

impl PortRemoved {
    /// Returns the event of the removal of `port` from `station`, which are as they were read. `ports` are the other
    /// ports.
    #[must_use]
    pub fn new(station: &Station, port: &Port, ports: &[Port]) -> Self {
        Self {
            station_id: station.id.clone(),
            port_id: port.id.clone(),
            version: port.version + 1,
            station_version: station.version + 1,
            counts: PortCounts::of(ports),
        }
    }
}

impl PortReset {
    /// Returns the event of the reset of `port`, which is as it is after the reset, and so are `ports`. `station` is as
    /// it was read.
    #[must_use]
    pub fn new(station: &Station, port: &Port, ports: &[Port]) -> Self {
        Self {
            station_id: station.id.clone(),
            port_id: port.id.clone(),
            version: port.version,
            station_version: station.version + 1,
            counts: PortCounts::of(ports),
        }
    }
}
