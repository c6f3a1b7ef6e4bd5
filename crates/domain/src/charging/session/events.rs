use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndReason, SessionStatus};
use crate::Instant;
use crate::charging::station::PortStatus;
use crate::charging::tariff::{ChargingPeriod, PeriodState, Tariff};
use crate::id::{PortId, SessionId, StationId, UserId};
use crate::money::decimal_schema;

/// A charging session started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStarted {
    /// Id of the session.
    pub session_id: SessionId,
    /// Id of the user who charges and pays.
    pub user_id: UserId,
    /// Id of the station where the session runs.
    pub station_id: StationId,
    /// Id of the port where the session runs, unique within the station.
    pub port_id: PortId,
    /// State of charge at the start, %.
    pub charge_percent: f64,
    /// State of charge at which the session will end, %.
    pub target_percent: f64,
    /// When the session started.
    pub started_at: Instant,
    /// Version of the session. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Version of the station after the start. If something else changed the station at the same moment, it may be lower
    /// than it was. It is never below that of earlier events of this port, and it is below that of later ones. Absent
    /// from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station_version: Option<u64>,
}

/// A charging session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionEnded {
    /// Id of the session.
    pub session_id: SessionId,
    /// Id of the user who charged and pays.
    pub user_id: UserId,
    /// Id of the station where the session ran.
    pub station_id: StationId,
    /// Id of the port where the session ran, unique within the station.
    pub port_id: PortId,
    /// Final status: COMPLETED, INTERRUPTED or FAILED. A FAILED session is not billed.
    pub status: SessionStatus,
    /// Why the session ended.
    pub reason: EndReason,
    /// Energy counted by the billable meter register, kWh.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub energy_kwh: Decimal,
    /// Time from the start to the end of the session, minutes.
    pub duration_minutes: f64,
    /// When the session started.
    pub started_at: Instant,
    /// When the session ended.
    pub ended_at: Instant,
    /// The station's tariff at the start of the session. The session is billed by this tariff.
    pub tariff: Tariff,
    /// IANA name of the time zone in which the tariff's times apply.
    pub time_zone: String,
    /// Charging periods of the session, in order and without overlap. The session is priced by them.
    pub charging_periods: Vec<EventPeriod>,
    /// Version of the session. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Version of the station after the end. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station_version: Option<u64>,
    /// Status of the port after the end: FREE, ERROR if the port failed, or CHARGING if the next session started at the
    /// same moment. Absent from events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_status: Option<PortStatus>,
}

/// A charging period: a part of the session during which the power was constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventPeriod {
    /// When the charging period began.
    pub start: Instant,
    /// When the charging period ended.
    pub end: Instant,
    /// Whether the vehicle was charging or only occupied the port.
    pub state: PeriodState,
    /// Energy delivered during the charging period, kWh.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub energy_kwh: Decimal,
    /// Power during the charging period, kW.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub power_kw: Decimal,
}

impl EventPeriod {
    /// Returns the charging period in the form that the price engine takes. Energy and power are rounded to three
    /// decimals, the precision of the meter, because JSON numbers are floating point.
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
