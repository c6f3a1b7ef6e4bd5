//! Entries of the error log: problems that operators should know about until somebody has resolved them.

mod events;

pub use events::ErrorLogged;

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::actor::{Actor, Role};
use crate::error::DomainError;
use crate::id::{LogId, UserId};
use crate::machine::State;

/// Severity of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// For information.
    Info,
    /// Should be looked at.
    Warning,
    /// Something failed.
    Error,
    /// Somebody must act now.
    Critical,
}

impl Level {
    /// Returns the name of the level in contracts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// Returns whether somebody has to look at an entry of this level.
    #[must_use]
    pub fn is_alert(self) -> bool {
        match self {
            Self::Info => false,
            Self::Warning | Self::Error | Self::Critical => true,
        }
    }
}

/// Handling status of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LogStatus {
    /// Nothing has been done yet.
    Open,
    /// Somebody is looking into it.
    Acknowledged,
    /// The problem has been resolved.
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
    /// Id derived from the reported problem, so that a second report of the same problem creates no second entry.
    pub id: LogId,
    /// When the problem occurred.
    pub occurred_at: Instant,
    /// Severity.
    pub level: Level,
    /// The function or context that reports the problem.
    pub service: String,
    /// Description of the problem, without personal data.
    pub message: String,
    /// Handling status.
    pub status: LogStatus,
    /// Correlation id of the request or event that caused the entry.
    pub correlation_id: Option<String>,
    /// The user who last acknowledged or resolved the entry.
    pub handled_by: Option<UserId>,
    /// When the entry was last acknowledged or resolved.
    pub handled_at: Option<Instant>,
    /// Whether the entry has been published to its topic.
    pub published: bool,
    /// Whether the e-mail about the entry has been dealt with: it was sent, it was refused for good, or nobody can get
    /// it. False if there is no such e-mail.
    pub mailed: bool,
    /// Number of the entry's last change.
    pub version: u64,
}

impl LogEntry {
    /// Returns when the entry may be deleted: `retention` after `changed_at`, the time at which it was last reported or
    /// handled.
    ///
    /// A CRITICAL entry that is not resolved is never deleted (`None`), because it may be the only record of a session
    /// that was not billed.
    #[must_use]
    pub fn expires_at(&self, changed_at: Instant, retention: TimeDelta) -> Option<Instant> {
        let must_be_dealt_with = self.level == Level::Critical && self.status != LogStatus::Resolved;
        (!must_be_dealt_with).then(|| changed_at + retention)
    }

    /// Returns the event of the entry, which was added to the log of the operators, if it is an alert. `kind` says what
    /// the entry is about.
    #[must_use]
    pub fn alert(&self, kind: &str) -> Option<ErrorLogged> {
        self.level.is_alert().then(|| ErrorLogged {
            log_id: self.id.clone(),
            kind: kind.to_owned(),
            level: self.level,
            service: self.service.clone(),
            message: self.message.clone(),
        })
    }

    /// Moves the entry to status `to`.
    ///
    /// # Errors
    /// `Forbidden` or `Conflict` if the state machine does not allow the transition.
    pub fn transition(&mut self, to: LogStatus, actor: &Actor, now: Instant) -> Result<(), DomainError> {
        self.status.transition(to, actor.role)?;
        self.status = to;
        self.handled_by = Some(actor.user_id.clone());
        self.handled_at = Some(now);
        self.version += 1;
        Ok(())
    }
}
