use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StationStatus;
use crate::id::{PortId, SessionId, StationId};

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
}
