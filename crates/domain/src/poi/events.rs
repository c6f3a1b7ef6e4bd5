//! The event of the mirror.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;

/// The mirror of OpenChargeMap was brought up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OcmSyncCompleted {
    /// Where the POIs come from.
    pub source: String,
    /// When the first run of this synchronisation began; one that runs out of time is continued by the next.
    pub started_at: Instant,
    /// When the last one ended.
    pub finished_at: Instant,
    /// Records looked at.
    pub processed: u64,
    /// POIs written because they are new or different.
    pub updated: u64,
    /// POIs removed because the source has them no more.
    pub removed: u64,
    /// Records that cannot be understood, and were kept aside.
    pub failed: u64,
}
