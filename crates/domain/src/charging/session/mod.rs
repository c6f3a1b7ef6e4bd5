//! Charging sessions: their states, how a tick advances them, how they end, and what they cost.

mod advance;
mod clock;
mod events;
mod least_price;
mod meter;
mod running_meter;
mod user_check;

pub use advance::{TickOutcome, advance_station};
pub use events::{EventPeriod, SessionEnded, SessionStarted};
pub use least_price::balance_allows_least_price;
pub use meter::{MAX_READINGS, MeterLog, Reading};
pub use user_check::UserCheck;

use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::actor::{Actor, Role};
use crate::battery::ModelConfig;
use crate::charging::station::{Port, Station};
use crate::charging::tariff::Bill;
use crate::charging::tariff::{PeriodState, Tariff, price};
use crate::error::{Checks, Conflict, DomainError, IllegalTransition};
use crate::id::{PortId, SessionId, StationId, UserId};
use crate::machine::State;
use crate::money::optional_decimal_schema;
use crate::units::{LEAST_ENERGY_KWH, LEAST_POWER_KW, WattHours, zero_if_negligible};

const SYSTEM: &[Role] = &[Role::System];
const ANYONE: &[Role] = &Role::ALL;
const FAILURE: &[Role] = &[Role::TechSupport, Role::Admin, Role::System];

/// Status of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SessionStatus {
    /// Started, but not yet advanced by a tick.
    Started,
    /// Charging.
    InProgress,
    /// Ended because the target state of charge was reached or the battery is full.
    Completed,
    /// Ended before the target, by a request to stop or by a limit.
    Interrupted,
    /// Ended by an error. A failed session is not billed.
    Failed,
}

impl State for SessionStatus {
    const WHAT: &'static str = "session";
    const ALL: &'static [Self] = &[Self::Started, Self::InProgress, Self::Completed, Self::Interrupted, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Interrupted => "INTERRUPTED",
            Self::Failed => "FAILED",
        }
    }

    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::Started => &[(Self::InProgress, SYSTEM), (Self::Interrupted, ANYONE), (Self::Failed, FAILURE)],
            Self::InProgress => &[
                (Self::InProgress, SYSTEM),
                (Self::Completed, SYSTEM),
                (Self::Interrupted, ANYONE),
                (Self::Failed, FAILURE),
            ],
            Self::Completed | Self::Interrupted | Self::Failed => &[],
        }
    }
}

impl SessionStatus {
    /// Returns whether the session is still running.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Started | Self::InProgress)
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndReason {
    /// The requested state of charge was reached.
    TargetReached,
    /// The battery accepts no more energy.
    BatteryFull,
    /// `limits.maxEnergyKwh` was reached.
    EnergyLimit,
    /// `limits.maxCost` was reached.
    CostLimit,
    /// The user stopped the session.
    StoppedByUser,
    /// A person with role `TECH_SUPPORT` or ADMIN stopped the session.
    StoppedByOperator,
    /// The user was blocked, and the block ended the running sessions of the user.
    UserBlocked,
    /// The account of the user was deleted, or its deletion has begun.
    UserDeleted,
    /// The port failed.
    PortFailed,
    /// The station went out of order.
    StationOutOfOrder,
    /// An operator or the platform marked the session as failed.
    Error,
}

impl EndReason {
    /// Returns whether the session ended by itself, and not because somebody or a failure ended it.
    #[must_use]
    pub fn is_natural(self) -> bool {
        match self {
            Self::TargetReached | Self::BatteryFull | Self::EnergyLimit | Self::CostLimit => true,
            Self::StoppedByUser
            | Self::StoppedByOperator
            | Self::UserBlocked
            | Self::UserDeleted
            | Self::PortFailed
            | Self::StationOutOfOrder
            | Self::Error => false,
        }
    }
}

/// The vehicle that charges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vehicle {
    /// Usable battery capacity, kWh.
    #[schemars(range(min = LEAST_ENERGY_KWH, max = 2000.0))]
    pub battery_capacity_kwh: f64,
    /// Maximum charging power of the vehicle, kW. If absent, the vehicle takes whatever power the port delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    pub max_power_kw: Option<f64>,
}

/// Limits that stop a session before it reaches its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Maximum cost of the session including VAT, in the tariff's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub max_cost: Option<Decimal>,
    /// Maximum energy of the session, kWh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = LEAST_ENERGY_KWH, max = 2000.0))]
    pub max_energy_kwh: Option<f64>,
    /// If true, the session is prepaid: an amount is held from the user's wallet when the session starts, and the
    /// session may cost no more than that amount.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prepaid: bool,
}

impl Limits {
    /// Returns the limits of a prepaid session for which the amount `held` is held from the user's wallet. The session
    /// may cost no more than `held`.
    #[must_use]
    pub fn prepaid_by(self, held: Decimal) -> Self {
        Self { max_cost: Some(self.max_cost.map_or(held, |most| most.min(held))), prepaid: true, ..self }
    }
}

/// A request to start a session.
#[derive(Clone, Debug)]
pub struct StartSession {
    /// Id of the new session.
    pub id: SessionId,
    /// Id of the user who will pay for the session.
    pub user_id: UserId,
    /// The vehicle that charges.
    pub vehicle: Vehicle,
    /// State of charge now, %: at least 0 and below the target.
    pub charge_percent: f64,
    /// State of charge at which to stop, %: at most 100.
    pub target_percent: f64,
    /// Limits that stop the session before the target.
    pub limits: Limits,
    /// Fingerprint of the request, see [`SessionTerms`].
    pub request_fingerprint: String,
    /// Correlation id of the request.
    pub correlation_id: String,
}

/// A charging session: the data that a tick reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Id of the session.
    pub id: SessionId,
    /// Id of the station where the session runs.
    pub station_id: StationId,
    /// Id of the port where the session runs.
    pub port_id: PortId,
    /// Id of the user who charges.
    pub user_id: UserId,
    /// Current status.
    pub status: SessionStatus,
    /// When the session started.
    pub started_at: Instant,
    /// When the status last changed.
    pub status_changed_at: Instant,
    /// The instant up to which the session has been metered.
    pub metered_at: Instant,
    /// When the session ended.
    pub ended_at: Option<Instant>,
    /// Why the session ended.
    pub end_reason: Option<EndReason>,
    /// State of charge at the start, %.
    pub start_percent: f64,
    /// State of charge at `metered_at`, %.
    pub charge_percent: f64,
    /// Target state of charge, at which the session ends, %.
    pub target_percent: f64,
    /// Usable battery capacity, kWh.
    pub battery_capacity_kwh: f64,
    /// The lower of the power limits of the port and the vehicle, kW.
    pub limit_kw: f64,
    /// Maximum charging power of the vehicle, kW.
    pub vehicle_max_kw: f64,
    /// Power of the station, kW. It cannot change while sessions run.
    pub station_power_kw: f64,
    /// Charging model: how the vehicle draws power.
    pub model: ModelConfig,
    /// Limits that stop the session before the target.
    pub limits: Limits,
    /// Power at `metered_at`, kW.
    pub power_kw: f64,
    /// The billable meter: register readings since the start.
    pub meter: MeterLog,
    /// Number of the session's last change. Every write is conditional on it (optimistic locking).
    pub version: u64,
}

/// The data of a session that never changes and that a tick does not need.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionTerms {
    /// The station's tariff at the start of the session.
    pub tariff: Tariff,
    /// Time zone in which the tariff's times apply.
    pub time_zone: Tz,
    /// The vehicle that charges.
    pub vehicle: Vehicle,
    /// Fingerprint of the request. It distinguishes a repeated request from a different request with the same
    /// idempotency key.
    pub request_fingerprint: String,
    /// Correlation id of the request that started the session. The events of the session's end carry it too.
    pub correlation_id: String,
}

impl SessionTerms {
    /// Returns the terms under which `request` starts a session at `station`.
    ///
    /// # Errors
    /// `Conflict` if the station has no tariff.
    pub fn of(request: &StartSession, station: &Station) -> Result<Self, DomainError> {
        Ok(Self {
            tariff: station.tariff()?.clone(),
            time_zone: station.time_zone,
            vehicle: request.vehicle,
            request_fingerprint: request.request_fingerprint.clone(),
            correlation_id: request.correlation_id.clone(),
        })
    }
}

impl Session {
    /// Starts a session, which occupies `port` of `station`. Returns the session and the event of its start.
    ///
    /// # Errors
    /// `Validation`, naming the invalid fields; `Conflict` if the station is not ACTIVE or the port is not FREE.
    pub fn start(
        request: StartSession,
        station: &mut Station,
        port: &mut Port,
        role: Role,
        now: Instant,
    ) -> Result<(Self, SessionStarted), DomainError> {
        request.validate()?;
        let charge_percent = zero_if_negligible(request.charge_percent);
        station.may_start()?;
        if let Some(tariff) = &station.tariff {
            request.limits.allow_least_price(tariff, station.time_zone, now)?;
        }
        port.occupy(request.id.clone(), role)?;
        station.charging_ports += 1;
        let vehicle_max_kw = request.vehicle.max_power_kw.unwrap_or(port.max_power_kw);
        let session = Self {
            station_id: station.id.clone(),
            port_id: port.id.clone(),
            user_id: request.user_id,
            status: SessionStatus::Started,
            started_at: now,
            status_changed_at: now,
            metered_at: now,
            ended_at: None,
            end_reason: None,
            start_percent: charge_percent,
            charge_percent,
            target_percent: request.target_percent,
            battery_capacity_kwh: request.vehicle.battery_capacity_kwh,
            limit_kw: port.max_power_kw.min(vehicle_max_kw),
            vehicle_max_kw,
            station_power_kw: station.power_kw,
            model: station.model.clone(),
            limits: request.limits,
            power_kw: 0.0,
            meter: MeterLog::default(),
            version: 1,
            id: request.id,
        };
        let event = SessionStarted {
            session_id: session.id.clone(),
            user_id: session.user_id.clone(),
            station_id: session.station_id.clone(),
            port_id: session.port_id.clone(),
            charge_percent: session.charge_percent,
            target_percent: session.target_percent,
            started_at: now,
            version: Some(session.version),
            // Concurrent starts at other ports may raise it too, and none of them knows of the others.
            station_version: Some(station.version + 1),
        };
        Ok((session, event))
    }

    /// Returns the value of the billable register, Wh.
    #[must_use]
    pub fn register(&self) -> WattHours {
        self.meter.register()
    }

    /// Returns the duration of the session in minutes, up to its end or, while it runs, up to its last reading.
    #[must_use]
    pub fn duration_minutes(&self) -> f64 {
        let end = self.ended_at.unwrap_or(self.metered_at);
        #[allow(clippy::cast_precision_loss)] // the milliseconds of a session are far below 2^52
        let ms = (end - self.started_at).num_milliseconds() as f64;
        (ms / 60.0).round() / 1000.0
    }

    /// Returns the bill that an invoice issued now would show.
    #[must_use]
    pub fn bill(&self, terms: &SessionTerms) -> Bill {
        let periods = self.meter.periods(self.started_at);
        Bill::new(&price(&terms.tariff, terms.time_zone, &periods), terms.tariff.currency)
    }

    /// Returns the total including VAT of an invoice issued now. It is zero for a FAILED session, which is not billed.
    #[must_use]
    pub fn cost(&self, terms: &SessionTerms) -> Decimal {
        if self.status == SessionStatus::Failed {
            return terms.tariff.currency.round(Decimal::ZERO);
        }
        self.bill(terms).total_incl_vat
    }

    /// Checks that `actor` may see the session.
    ///
    /// # Errors
    /// `Forbidden` if the actor is another user.
    pub fn may_see(&self, actor: &Actor) -> Result<(), DomainError> {
        actor.may_see(&self.user_id, &format!("session {}", self.id))
    }

    /// Checks that `actor` may stop the session now.
    ///
    /// # Errors
    /// `Forbidden` if the actor is another user; `Conflict`, naming the status, if the session has ended.
    pub fn may_stop(&self, actor: &Actor) -> Result<(), DomainError> {
        self.may_see(actor)?;
        self.status.transition(SessionStatus::Interrupted, actor.role).map_err(|error| self.explain(error))
    }

    /// Checks that `role` may fail the session now.
    ///
    /// # Errors
    /// `Forbidden` for users; `Conflict`, naming the status, if the session has ended.
    pub fn may_fail(&self, role: Role) -> Result<(), DomainError> {
        self.status.transition(SessionStatus::Failed, role).map_err(|error| self.explain(error))
    }

    /// Ends a running session at its last reading. The caller must have metered the session up to the end.
    pub fn end(&mut self, status: SessionStatus, reason: EndReason) {
        self.status = status;
        self.end_reason = Some(reason);
        self.ended_at = Some(self.metered_at);
        self.status_changed_at = self.metered_at;
        self.power_kw = 0.0;
    }

    /// Returns the event of the session's end. The event lacks the version of the station and the status of the port,
    /// which the session does not know.
    #[must_use]
    pub fn ended_event(&self, terms: &SessionTerms) -> SessionEnded {
        let periods = self.meter.periods(self.started_at).into_iter().map(|period| EventPeriod {
            start: period.start,
            end: period.end,
            state: PeriodState::Charging,
            energy_kwh: period.kwh,
            power_kw: period.power_kw.unwrap_or_default(),
        });
        SessionEnded {
            session_id: self.id.clone(),
            user_id: self.user_id.clone(),
            station_id: self.station_id.clone(),
            port_id: self.port_id.clone(),
            status: self.status,
            reason: self.end_reason.unwrap_or(EndReason::Error),
            energy_kwh: self.register().kwh(),
            duration_minutes: self.duration_minutes(),
            started_at: self.started_at,
            ended_at: self.ended_at.unwrap_or(self.metered_at),
            tariff: terms.tariff.clone(),
            time_zone: terms.time_zone.name().to_owned(),
            charging_periods: periods.collect(),
            version: Some(self.version),
            station_version: None,
            port_status: None,
        }
    }

    /// Replaces a conflict about an ended session by one that names the session, its status and when it ended.
    fn explain(&self, error: DomainError) -> DomainError {
        if self.status.is_active() {
            return error;
        }
        let DomainError::Conflict(Conflict { transition, .. }) = error else {
            return error;
        };
        let ended = self.ended_at.map_or_else(String::new, |at| format!(" since {}", at.to_rfc3339()));
        DomainError::Conflict(Conflict {
            message: format!("session {} has already ended: it is {}{ended}", self.id, self.status.name()),
            transition: transition.or(Some(IllegalTransition {
                from: self.status.name(),
                to: SessionStatus::Interrupted.name(),
                allowed: self.status.allowed(),
            })),
        })
    }
}

impl StartSession {
    fn validate(&self) -> Result<(), DomainError> {
        let mut checks = Checks::new();
        let capacity = self.vehicle.battery_capacity_kwh;
        checks
            .require(
                (LEAST_ENERGY_KWH..=2000.0).contains(&capacity),
                "vehicle.batteryCapacityKwh",
                format!("must be from {LEAST_ENERGY_KWH} to 2000 kWh"),
            )
            .require(
                self.vehicle.max_power_kw.is_none_or(|kw| (LEAST_POWER_KW..=5000.0).contains(&kw)),
                "vehicle.maxPowerKw",
                format!("must be from {LEAST_POWER_KW} to 5000 kW"),
            )
            .require((0.0..=100.0).contains(&self.charge_percent), "chargePercent", "must be from 0 to 100")
            .require(
                self.target_percent <= 100.0 && zero_if_negligible(self.target_percent - self.charge_percent) > 0.0,
                "targetPercent",
                format!("must be above chargePercent ({}) and at most 100", self.charge_percent),
            )
            .require(self.limits.max_cost.is_none_or(|cost| cost > Decimal::ZERO), "limits.maxCost", "must be above 0")
            .require(
                self.limits.max_energy_kwh.is_none_or(|kwh| (LEAST_ENERGY_KWH..=2000.0).contains(&kwh)),
                "limits.maxEnergyKwh",
                format!("must be from {LEAST_ENERGY_KWH} to 2000 kWh"),
            );
        checks.finish()
    }
}
