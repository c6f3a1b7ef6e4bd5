use domain::Instant;
use domain::error::DomainError;
use domain::id::{LogId, UserId};
use domain::notifications::{Level, LogEntry, LogStatus};
use lambda_kit::PageArguments;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::ErrorLogFilter;

use crate::{Audience, Recipient};

/// A notification to publish.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// The severity of the notification.
    pub level: Level,
    /// The function or context that reports.
    #[schemars(length(min = 1, max = 64))]
    pub service: String,
    /// A description of what happened. It must not contain personal data.
    #[schemars(length(min = 1, max = 2000))]
    pub message: String,
    /// The audience of the notification. The default is OPERATORS.
    #[serde(default)]
    audience: Option<Audience>,
    /// The user to notify; without it an audience of USERS means all users. Valid only with the audience USERS.
    #[serde(default)]
    user_id: Option<UserId>,
    /// The deduplication key. Two notifications of a service with the same key are one.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    pub deduplication_key: Option<String>,
}

/// Arguments of a list of log entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListLogs {
    /// Return only entries with this level.
    #[serde(default)]
    level: Option<Level>,
    /// Return only entries of this function or context.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    service: Option<String>,
    /// Return only entries with this status. The default is OPEN.
    #[serde(default)]
    status: Option<LogStatus>,
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A reference to one log entry.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct LogRef {
    /// The id of the log entry.
    pub id: LogId,
}

impl Notify {
    /// Returns the recipient of the notification.
    ///
    /// # Errors
    /// [`DomainError::Validation`] when `userId` is given for the audience OPERATORS.
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

/// An entry of the error log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogView {
    /// The id of the entry.
    id: String,
    /// The time at which the reported event occurred.
    occurred_at: Instant,
    /// The severity of the entry.
    level: Level,
    /// The function or context that reported.
    service: String,
    /// A description of what happened.
    message: String,
    /// The status of the entry.
    status: LogStatus,
    /// The correlation id of the request or event that is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// The user who last acknowledged or resolved the entry; absent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    handled_by: Option<String>,
    /// The time at which the entry was last acknowledged or resolved; absent before.
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
