//! Event contracts: what the contexts tell each other over the bus.
//!
//! A detail is flat: the envelope's fields and the payload's side by side. Within a version fields are only added;
//! consumers ignore what they do not know. JSON Schemas and examples under `events/` are generated from these types.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Instant;
use crate::id::{self, PortId, SessionId, StationId, UserId};
use crate::money::decimal_schema;
use crate::session::{EndReason, SessionStatus};
use crate::station::StationStatus;
use crate::tariff::{PeriodState, Tariff};

/// What every event carries beside its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The same for every delivery of this event.
    pub event_id: Uuid,
    /// Version of the payload's contract.
    pub schema_version: u32,
    /// When it happened.
    pub occurred_at: Instant,
    /// Of the request that brought it about.
    pub correlation_id: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. `eventType` names it, and is the detail-type on the bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "eventType", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// A session began to charge.
    SessionStarted(SessionStarted),
    /// A session ended; carries all that billing needs.
    SessionEnded(Box<SessionEnded>),
    /// A station changed its state.
    StationStatusChanged(StationStatusChanged),
    /// A port failed.
    PortFailed(PortFailed),
}

/// A session began to charge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SessionStarted {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub station_id: StationId,
    pub port_id: PortId,
    /// State of charge at the start, %.
    pub charge_percent: f64,
    /// State of charge at which it will end, %.
    pub target_percent: f64,
    pub started_at: Instant,
}

/// A session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SessionEnded {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub station_id: StationId,
    pub port_id: PortId,
    /// COMPLETED, INTERRUPTED or FAILED; a FAILED session is not billed.
    pub status: SessionStatus,
    pub reason: EndReason,
    /// Of the billable meter register, kWh.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub energy_kwh: Decimal,
    pub duration_minutes: f64,
    pub started_at: Instant,
    pub ended_at: Instant,
    /// The tariff as it was when the session started.
    pub tariff: Tariff,
    /// IANA name of the zone in which the tariff's times are meant.
    pub time_zone: String,
    pub charging_periods: Vec<EventPeriod>,
}

/// A stretch of the session during which energy flowed evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct EventPeriod {
    pub start: Instant,
    pub end: Instant,
    pub state: PeriodState,
    /// kWh.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub energy_kwh: Decimal,
    /// kW.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub power_kw: Decimal,
}

/// A station changed its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct StationStatusChanged {
    pub station_id: StationId,
    pub from: StationStatus,
    pub to: StationStatus,
}

/// A port failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PortFailed {
    pub station_id: StationId,
    pub port_id: PortId,
    /// The session that failed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    pub reason: String,
}

impl Event {
    /// `eventType`, which is the detail-type on the bus.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::SessionStarted(_) => "SESSION_STARTED",
            Self::SessionEnded(_) => "SESSION_ENDED",
            Self::StationStatusChanged(_) => "STATION_STATUS_CHANGED",
            Self::PortFailed(_) => "PORT_FAILED",
        }
    }

    /// The source on the bus: `evoke.` and the context.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::SessionStarted(_) | Self::SessionEnded(_) => "evoke.sessions",
            Self::StationStatusChanged(_) | Self::PortFailed(_) => "evoke.stations",
        }
    }

    /// Version of the payload's contract.
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        1
    }
}

/// The events that ride on one write, sealed with ids derived from the item, its version and their index: however
/// often they are relayed, their ids stay the same.
#[must_use]
pub fn seal(
    item: &str,
    version: u64,
    occurred_at: Instant,
    correlation_id: &str,
    events: impl IntoIterator<Item = Event>,
) -> Vec<Envelope> {
    let version = version.to_string();
    events
        .into_iter()
        .enumerate()
        .map(|(index, event)| Envelope {
            event_id: id::derive(&["event", item, &version, &index.to_string()]),
            schema_version: event.schema_version(),
            occurred_at,
            correlation_id: correlation_id.to_owned(),
            event,
        })
        .collect()
}
