use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Level;
use crate::id::LogId;

/// The error log has a new entry that operators have to look at. The event occurred when the reported problem did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorLogged {
    /// Id of the entry.
    pub log_id: LogId,
    /// What the entry is about: the type of the reported event, NOTICE or `MAIL_REFUSED`.
    pub kind: String,
    /// Severity: WARNING, ERROR or CRITICAL.
    pub level: Level,
    /// The function or context that reports the problem.
    pub service: String,
    /// Description of the problem, without personal data.
    pub message: String,
}
