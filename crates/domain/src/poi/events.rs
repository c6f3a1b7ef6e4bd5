//! The event of the mirror.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;

/// The mirror of OpenChargeMap was brought up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OcmSyncCompleted {
    /// Name of the source of the POIs.
    pub source: String,
    /// When the first run of this synchronisation began. If a run does not finish in time, the next run continues it.
    pub started_at: Instant,
    /// When the last run of this synchronisation ended.
    pub finished_at: Instant,
    /// Number of records read.
    pub processed: u64,
    /// Number of POIs written because they were new or had changed.
    pub updated: u64,
    /// Number of POIs removed because the source no longer has them.
    pub removed: u64,
    /// Number of records that could not be parsed and were set aside.
    pub failed: u64,
}
