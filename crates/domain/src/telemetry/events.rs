//! The events of battery-swap stations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::id::SwapStationId;

/// A battery-swap station stopped reporting, or reports again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TelemetryStale {
    /// Id of the battery-swap station.
    pub station_id: SwapStationId,
    /// True if the station is silent; false if it reports again.
    pub stale: bool,
    /// Time of the station's latest reading, by the station's own clock.
    pub last_seen_at: Instant,
    /// How long the station has been silent or, if it reports again, how long it was silent, s.
    pub silent_seconds: u64,
}

/// Too many messages of a battery-swap station were rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TelemetryRejected {
    /// Id of the station in whose topic the messages were published.
    pub station_id: SwapStationId,
    /// Number of rejected messages.
    pub count: u32,
    /// Length of the window in which the messages were counted, s.
    pub window_seconds: u32,
    /// Why the last message was rejected.
    pub reason: String,
    /// Key of the last rejected message in the telemetry bucket.
    pub rejected_key: String,
}
