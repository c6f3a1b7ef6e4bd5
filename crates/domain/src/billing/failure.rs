use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// A session could not be billed. The report of its end is kept in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BillingFailed {
    /// Id of the session.
    pub session_id: SessionId,
    /// Why the report cannot be billed.
    pub reason: String,
    /// Key of the report in the quarantine bucket.
    pub quarantine_key: String,
}
