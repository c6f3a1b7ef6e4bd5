use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StationStatus;
use crate::id::{PortId, SessionId, StationId};

/// A station changed its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct StationStatusChanged {
    pub station_id: StationId,
    pub from: StationStatus,
    pub to: StationStatus,
}

/// A port failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PortFailed {
    pub station_id: StationId,
    pub port_id: PortId,
    /// The session that failed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    pub reason: String,
}
