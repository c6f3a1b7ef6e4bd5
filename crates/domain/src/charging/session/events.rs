use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndReason, SessionStatus};
use crate::Instant;
use crate::charging::tariff::{ChargingPeriod, PeriodState, Tariff};
use crate::id::{PortId, SessionId, StationId, UserId};
use crate::money::decimal_schema;

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

impl EventPeriod {
    /// As the price engine takes it. JSON numbers are brought back to the three decimals that meters have.
    #[must_use]
    pub fn metered(&self) -> ChargingPeriod {
        ChargingPeriod {
            start: self.start,
            end: self.end,
            state: self.state,
            kwh: self.energy_kwh.round_dp(3),
            power_kw: Some(self.power_kw.round_dp(3)),
            current_a: None,
        }
    }
}
