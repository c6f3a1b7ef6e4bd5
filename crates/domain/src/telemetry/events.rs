//! The events of battery-swap stations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::id::StationId;

/// A battery-swap station fell silent, or is back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct TelemetryStale {
    pub station_id: StationId,
    /// Whether it is silent; false when it is back.
    pub stale: bool,
    /// Of its latest reading, by its own clock.
    pub last_seen_at: Instant,
    /// For how long it has been silent, or was until it came back, s.
    pub silent_seconds: u64,
}

/// Too many messages of a battery-swap station were rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct TelemetryRejected {
    /// The station in whose topic they were published.
    pub station_id: StationId,
    /// How many.
    pub count: u32,
    /// Within this time, s.
    pub window_seconds: u32,
    /// What was wrong with the last one.
    pub reason: String,
    /// Where in the telemetry bucket that one is.
    pub rejected_key: String,
}
