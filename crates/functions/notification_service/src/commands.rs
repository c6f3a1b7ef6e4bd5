use domain::Instant;
use domain::error::DomainError;
use domain::id::{LogId, UserId};
use domain::notifications::{Level, LogEntry, LogStatus};
use lambda_kit::PageArguments;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::ErrorLogFilter;

use crate::{Audience, Recipient};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    pub level: Level,
    /// The function or context that reports.
    #[schemars(length(min = 1, max = 64))]
    pub service: String,
    /// What happened, without personal data.
    #[schemars(length(min = 1, max = 2000))]
    pub message: String,
    /// Who is told, operators unless it is said.
    #[serde(default)]
    audience: Option<Audience>,
    /// The one user who is told, of audience USERS.
    #[serde(default)]
    user_id: Option<UserId>,
    /// Two reports of a service with the same key are one.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    pub deduplication_key: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListLogs {
    #[serde(default)]
    level: Option<Level>,
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    service: Option<String>,
    #[serde(default)]
    status: Option<LogStatus>,
    #[serde(flatten)]
    pub page: PageArguments,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct LogRef {
    pub id: LogId,
}

impl Notify {
    /// Whom it is for.
    pub fn recipient(&self) -> Result<Recipient, DomainError> {
        match (self.audience.unwrap_or(Audience::Operators), &self.user_id) {
            (Audience::Operators, None) => Ok(Recipient::Operators),
            (Audience::Operators, Some(_)) => Err(DomainError::invalid("userId", "goes with audience USERS only")),
            (Audience::Users, None) => Ok(Recipient::AllUsers),
            (Audience::Users, Some(user)) => Ok(Recipient::User(user.clone())),
        }
    }
}

impl ListLogs {
    pub fn filter(&self) -> ErrorLogFilter {
        ErrorLogFilter { level: self.level, service: self.service.clone(), status: self.status }
    }
}

/// A log entry as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogView {
    id: String,
    occurred_at: Instant,
    level: Level,
    service: String,
    message: String,
    status: LogStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handled_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handled_at: Option<Instant>,
}

impl LogView {
    pub fn new(entry: &LogEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            occurred_at: entry.occurred_at,
            level: entry.level,
            service: entry.service.clone(),
            message: entry.message.clone(),
            status: entry.status,
            correlation_id: entry.correlation_id.clone(),
            handled_by: entry.handled_by.as_ref().map(ToString::to_string),
            handled_at: entry.handled_at,
        }
    }
}
