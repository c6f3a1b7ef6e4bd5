use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// A session cannot be billed: the report of its end is kept in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BillingFailed {
    pub session_id: SessionId,
    /// What is wrong with the report.
    pub reason: String,
    /// Where in the quarantine bucket the report is.
    pub quarantine_key: String,
}
