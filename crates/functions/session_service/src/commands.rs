use chrono::TimeDelta;
use domain::Instant;
use domain::actor::Actor;
use domain::charging::session::{Limits, Session, SessionStatus, Vehicle};
use domain::error::DomainError;
use domain::id::{PortId, SessionId, StationId, UserId, derive};
use lambda_kit::PageArguments;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::SessionFilter;

use crate::Start;

/// 9999-12-31, in days since 1970.
const LAST_DAY: i64 = 2_932_896;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartSession {
    pub station_id: StationId,
    pub port_id: PortId,
    #[serde(default)]
    user_id: Option<UserId>,
    pub vehicle: Vehicle,
    #[schemars(range(min = 0.0, max = 100.0))]
    charge_percent: f64,
    #[serde(default)]
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    target_percent: Option<f64>,
    #[serde(default)]
    limits: Option<Limits>,
    #[serde(default, skip_serializing)]
    #[schemars(length(min = 1, max = 255))]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRef {
    pub session_id: SessionId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailSession {
    pub session_id: SessionId,
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListSessions {
    #[serde(default)]
    user_id: Option<UserId>,
    #[serde(default)]
    station_id: Option<StationId>,
    #[serde(default)]
    status: Option<SessionStatus>,
    /// Sessions that entered their present state from this instant on: an ended one did when it ended.
    #[serde(default)]
    changed_from: Option<Instant>,
    /// Sessions that entered their present state up to this instant.
    #[serde(default)]
    changed_to: Option<Instant>,
    #[serde(flatten)]
    pub page: PageArguments,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    pub station_id: StationId,
    /// kWh.
    #[schemars(range(min = 0.0, max = 2000.0))]
    pub energy_kwh: f64,
    /// How long the vehicle charges.
    #[schemars(range(max = 44640.0), extend("exclusiveMinimum" = 0))]
    pub minutes: f64,
    #[serde(default)]
    pub start_at: Option<Instant>,
}

impl StartSession {
    /// Whose session it will be.
    pub fn user(&self, actor: &Actor) -> Result<UserId, DomainError> {
        actor.on_behalf_of(self.user_id.as_ref())
    }

    /// The same for the same request, whatever the order and spelling of its JSON.
    pub fn fingerprint(&self) -> String {
        let canonical = serde_json::to_string(self).unwrap_or_default();
        derive(&["startSession", &canonical]).to_string()
    }

    /// The request as the rules take it.
    pub fn start(&self, id: SessionId, user_id: UserId, correlation_id: String) -> Start {
        Start {
            id,
            user_id,
            vehicle: self.vehicle,
            charge_percent: self.charge_percent,
            target_percent: self.target_percent.unwrap_or(100.0),
            limits: self.limits.unwrap_or_default(),
            request_fingerprint: self.fingerprint(),
            correlation_id,
        }
    }
}

impl ListSessions {
    /// The index that serves the list. Users see their own sessions alone.
    pub fn filter(&self, actor: &Actor) -> Result<SessionFilter, DomainError> {
        if !actor.role.is_staff() {
            return actor.on_behalf_of(self.user_id.as_ref()).map(SessionFilter::User);
        }
        match (&self.user_id, &self.station_id, self.status) {
            (Some(user), ..) => Ok(SessionFilter::User(user.clone())),
            (None, Some(station), _) => Ok(SessionFilter::Station(station.clone())),
            (None, None, Some(status)) if self.changed_from.is_none() && self.changed_to.is_none() => {
                Ok(SessionFilter::Status(status))
            }
            (None, None, Some(status)) => {
                // Times are compared as text, in which years have four digits: an offset may lead to one with five.
                let last = Instant::UNIX_EPOCH + TimeDelta::days(LAST_DAY);
                let bound = |at: Option<Instant>, default| at.unwrap_or(default).clamp(Instant::UNIX_EPOCH, last);
                let from = bound(self.changed_from, Instant::UNIX_EPOCH);
                let to = bound(self.changed_to, last);
                if from > to {
                    return Err(DomainError::invalid("changedFrom", "must not be after changedTo"));
                }
                Ok(SessionFilter::Changed(status, from, to))
            }
            (None, None, None) => {
                Err(DomainError::invalid("userId", "one of userId, stationId and status is required"))
            }
        }
    }

    /// What the index does not filter.
    pub fn keeps(&self, session: &Session) -> bool {
        self.station_id.as_ref().is_none_or(|station| session.station_id == *station)
            && self.status.is_none_or(|status| session.status == status)
            && self.changed_from.is_none_or(|from| session.status_changed_at >= from)
            && self.changed_to.is_none_or(|to| session.status_changed_at <= to)
    }
}

impl Quote {
    #[allow(clippy::cast_possible_truncation)] // bounded by the schema
    pub fn milliseconds(&self) -> i64 {
        (self.minutes * 60_000.0).round() as i64
    }
}
