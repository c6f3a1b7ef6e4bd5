//! Entries of the error log: what operators should know, until somebody has dealt with it.

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::actor::{Actor, Role};
use crate::error::DomainError;
use crate::id::{LogId, UserId};
use crate::machine::State;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
    /// Somebody must act now.
    Critical,
}

impl Level {
    /// The name in contracts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What has been done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LogStatus {
    /// Nothing yet.
    Open,
    /// Somebody looks into it.
    Acknowledged,
    /// Dealt with.
    Resolved,
}

const HANDLERS: &[Role] = &[Role::TechSupport, Role::Admin];

impl State for LogStatus {
    const WHAT: &'static str = "log entry";
    const ALL: &'static [Self] = &[Self::Open, Self::Acknowledged, Self::Resolved];

    fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Resolved => "RESOLVED",
        }
    }

    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::Open => &[(Self::Acknowledged, HANDLERS), (Self::Resolved, HANDLERS)],
            Self::Acknowledged => &[(Self::Resolved, HANDLERS)],
            Self::Resolved => &[],
        }
    }
}

/// An entry of the error log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Derived from what it reports, so that a second report of the same makes no second entry.
    pub id: LogId,
    /// When it happened.
    pub occurred_at: Instant,
    /// How bad it is.
    pub level: Level,
    /// The function or context that reports it.
    pub service: String,
    /// What happened, without personal data.
    pub message: String,
    /// What has been done about it.
    pub status: LogStatus,
    /// Correlation id of the request or event it came from.
    pub correlation_id: Option<String>,
    /// Who acknowledged or resolved it last.
    pub handled_by: Option<UserId>,
    /// When that was.
    pub handled_at: Option<Instant>,
    /// Whether it has been published to its topic.
    pub published: bool,
    /// Counts its changes.
    pub version: u64,
}

impl LogEntry {
    /// When the entry may be forgotten: `retention` after `changed_at`, at which it was reported or handled last.
    ///
    /// A CRITICAL entry that is not resolved is never forgotten: it may be the only place that says which session was
    /// not billed.
    #[must_use]
    pub fn expires_at(&self, changed_at: Instant, retention: TimeDelta) -> Option<Instant> {
        let must_be_dealt_with = self.level == Level::Critical && self.status != LogStatus::Resolved;
        (!must_be_dealt_with).then(|| changed_at + retention)
    }

    /// Brings the entry to `to`.
    ///
    /// # Errors
    /// Forbidden or conflict by the state machine.
    pub fn transition(&mut self, to: LogStatus, actor: &Actor, now: Instant) -> Result<(), DomainError> {
        self.status.transition(to, actor.role)?;
        self.status = to;
        self.handled_by = Some(actor.user_id.clone());
        self.handled_at = Some(now);
        self.version += 1;
        Ok(())
    }
}
