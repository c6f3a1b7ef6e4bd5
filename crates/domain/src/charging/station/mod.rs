//! Stations and their ports: what they are, and what may be done to them when.

mod events;

pub use events::{PortFailed, StationStatusChanged};

use chrono::TimeDelta;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::actor::{Actor, Role};
use crate::battery::ModelConfig;
use crate::charging::connector::ConnectorType;
use crate::charging::tariff::Tariff;
use crate::error::{Checks, DomainError};
use crate::geo::Location;
use crate::id::{PortId, SessionId, StationId};
use crate::machine::State;
use crate::units::LEAST_POWER_KW;

/// The most ports a station may have: taking it out of order ends all its sessions in one transaction of 100 items.
pub const MAX_PORTS: usize = 40;
/// The most power a station or port may have, kW.
pub const MAX_POWER_KW: f64 = 5000.0;

const ADMIN: &[Role] = &[Role::Admin];
const TECHNICIANS: &[Role] = &[Role::TechSupport, Role::Admin];
const FAILURE: &[Role] = &[Role::TechSupport, Role::Admin, Role::System];
const ANYONE: &[Role] = &Role::ALL;

/// State of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StationStatus {
    /// Created, not yet commissioned.
    New,
    /// In service.
    Active,
    /// Draining: running sessions go on, new ones are refused.
    Maintenance,
    /// Failed: running sessions fail with it.
    OutOfOrder,
}

impl State for StationStatus {
    const WHAT: &'static str = "station";
    const ALL: &'static [Self] = &[Self::New, Self::Active, Self::Maintenance, Self::OutOfOrder];

    fn name(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Active => "ACTIVE",
            Self::Maintenance => "MAINTENANCE",
            Self::OutOfOrder => "OUT_OF_ORDER",
        }
    }

    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::New => &[(Self::Active, ADMIN)],
            Self::Active => &[(Self::Maintenance, TECHNICIANS), (Self::OutOfOrder, TECHNICIANS)],
            Self::Maintenance | Self::OutOfOrder => &[(Self::Active, TECHNICIANS)],
        }
    }
}

impl StationStatus {
    /// Whether sessions that run at a station fail when it enters this state.
    #[must_use]
    pub fn fails_sessions(self) -> bool {
        match self {
            Self::OutOfOrder => true,
            Self::New | Self::Active | Self::Maintenance => false,
        }
    }
}

/// State of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PortStatus {
    /// Nobody charges here.
    Free,
    /// A session runs.
    Charging,
    /// Failed, until a technician resets it.
    Error,
}

impl State for PortStatus {
    const WHAT: &'static str = "port";
    const ALL: &'static [Self] = &[Self::Free, Self::Charging, Self::Error];

    fn name(self) -> &'static str {
        match self {
            Self::Free => "FREE",
            Self::Charging => "CHARGING",
            Self::Error => "ERROR",
        }
    }

    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::Free => &[(Self::Charging, ANYONE)],
            Self::Charging => &[(Self::Free, ANYONE), (Self::Error, FAILURE)],
            Self::Error => &[(Self::Free, TECHNICIANS)],
        }
    }
}

/// A charging station.
#[derive(Clone, Debug, PartialEq)]
pub struct Station {
    /// Its id.
    pub id: StationId,
    /// For people.
    pub name: String,
    /// Postal address.
    pub address: String,
    /// Where it stands.
    pub location: Location,
    /// Zone in which its tariff's times are meant.
    pub time_zone: Tz,
    /// Power shared by its ports, kW.
    pub power_kw: f64,
    /// How it is priced; without one it cannot be commissioned.
    pub tariff: Option<Tariff>,
    /// How vehicles take power there.
    pub model: ModelConfig,
    /// Its state.
    pub status: StationStatus,
    /// Ports that charge now.
    pub charging_ports: u32,
    /// When it was created.
    pub created_at: Instant,
    /// When it was last changed (not by sessions starting and ending).
    pub updated_at: Instant,
    /// Counts its changes; every write is conditional on it.
    pub version: u64,
}

/// A port of a station.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The station it belongs to.
    pub station_id: StationId,
    /// Its id, unique within the station.
    pub id: PortId,
    /// The number painted on it.
    pub number: u32,
    /// Its plug.
    pub connector: ConnectorType,
    /// What it delivers at most, kW.
    pub max_power_kw: f64,
    /// Its state.
    pub status: PortStatus,
    /// The session that charges at it.
    pub session_id: Option<SessionId>,
    /// Counts its changes.
    pub version: u64,
}

/// What an update of a station may change; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct StationUpdate {
    /// New name.
    pub name: Option<String>,
    /// New address.
    pub address: Option<String>,
    /// New location.
    pub location: Option<Location>,
    /// New time zone.
    pub time_zone: Option<Tz>,
    /// New power, kW.
    pub power_kw: Option<f64>,
    /// New tariff, for sessions that start from now on.
    pub tariff: Option<Tariff>,
    /// New charging model.
    pub model: Option<ModelConfig>,
}

/// Whether `actor` may create, change and delete stations and their ports.
///
/// # Errors
/// Forbidden unless it is an ADMIN.
pub fn may_configure(actor: &Actor) -> Result<(), DomainError> {
    if actor.role == Role::Admin {
        return Ok(());
    }
    Err(DomainError::Forbidden("stations and ports are configured by role ADMIN".to_owned()))
}

/// Whether the parts of a station fit together.
///
/// # Errors
/// Validation errors naming the fields.
pub fn validate(
    power_kw: f64,
    tariff: Option<&Tariff>,
    model: &ModelConfig,
    ports: &[Port],
) -> Result<(), DomainError> {
    let mut checks = Checks::new();
    checks.require(in_power_range(power_kw), "powerKw", power_message());
    if let Some(tariff) = tariff {
        checks.take(tariff.validate("tariff"))?;
    }
    checks.take(model.validate("chargingModel"))?;
    checks.require(ports.len() <= MAX_PORTS, "ports", format!("must be {MAX_PORTS} at most"));
    for (index, port) in ports.iter().enumerate() {
        let earlier = &ports[..index];
        checks
            .require(in_power_range(port.max_power_kw), format!("ports[{index}].maxPowerKw"), power_message())
            .require(
                earlier.iter().all(|other| other.id != port.id),
                format!("ports[{index}].portId"),
                "must differ from the other ports'",
            )
            .require(
                earlier.iter().all(|other| other.number != port.number),
                format!("ports[{index}].portNumber"),
                "must differ from the other ports'",
            );
    }
    checks.finish()
}

fn in_power_range(kw: f64) -> bool {
    (LEAST_POWER_KW..=MAX_POWER_KW).contains(&kw)
}

fn power_message() -> String {
    format!("must be from {LEAST_POWER_KW} to {MAX_POWER_KW} kW")
}

impl Station {
    /// Brings the station to `to`, and answers the event that says so.
    ///
    /// # Errors
    /// Forbidden or conflict by the state machine; a conflict when a station without a tariff would be commissioned.
    pub fn transition(
        &mut self,
        to: StationStatus,
        actor: &Actor,
        now: Instant,
    ) -> Result<StationStatusChanged, DomainError> {
        let from = self.status;
        from.transition(to, actor.role)?;
        if to == StationStatus::Active && self.tariff.is_none() {
            return Err(DomainError::conflict(format!(
                "station {} has no tariff and cannot be commissioned: set tariff, or pricePerKwh and currency, first",
                self.id
            )));
        }
        self.status = to;
        self.touch(now);
        Ok(StationStatusChanged { station_id: self.id.clone(), from, to })
    }

    /// Applies `update`.
    ///
    /// # Errors
    /// Forbidden for anyone but an ADMIN; a validation error for a tariff or model out of range; a conflict when power
    /// or model would change under a running session, whose simulation was started with the old ones.
    pub fn update(&mut self, update: StationUpdate, actor: &Actor, now: Instant) -> Result<(), DomainError> {
        may_configure(actor)?;
        let physics_change = self.changes_physics(&update);
        let power_kw = update.power_kw.unwrap_or(self.power_kw);
        let model = update.model.unwrap_or_else(|| self.model.clone());
        validate(power_kw, update.tariff.as_ref(), &model, &[])?;
        if physics_change && self.charging_ports > 0 {
            return Err(DomainError::conflict(format!(
                "powerKw and chargingModel of station {} cannot change while {} sessions run: bring it to \
                 MAINTENANCE and wait for them to end",
                self.id, self.charging_ports
            )));
        }
        self.power_kw = power_kw;
        self.model = model;
        self.name = update.name.unwrap_or_else(|| self.name.clone());
        self.address = update.address.unwrap_or_else(|| self.address.clone());
        self.location = update.location.unwrap_or(self.location);
        self.time_zone = update.time_zone.unwrap_or(self.time_zone);
        self.tariff = update.tariff.or_else(|| self.tariff.take());
        self.touch(now);
        Ok(())
    }

    /// Whether `update` changes what the simulation of a running session was started with: power or charging model.
    #[must_use]
    pub fn changes_physics(&self, update: &StationUpdate) -> bool {
        #[allow(clippy::float_cmp)] // whether it is the same number, not a close one
        let power = update.power_kw.is_some_and(|power_kw| power_kw != self.power_kw);
        power || update.model.as_ref().is_some_and(|model| *model != self.model)
    }

    /// Whether the station can be deleted.
    ///
    /// # Errors
    /// Forbidden for anyone but an ADMIN; a conflict while sessions run.
    pub fn may_delete(&self, actor: &Actor) -> Result<(), DomainError> {
        may_configure(actor)?;
        if self.charging_ports == 0 {
            return Ok(());
        }
        Err(DomainError::conflict(format!(
            "station {} cannot be deleted while {} sessions run",
            self.id, self.charging_ports
        )))
    }

    /// The tariff.
    ///
    /// # Errors
    /// A conflict when there is none: a missing tariff is never a price of zero.
    pub fn tariff(&self) -> Result<&Tariff, DomainError> {
        let tariff = self.tariff.as_ref();
        tariff.ok_or_else(|| DomainError::conflict(format!("station {} has no tariff", self.id)))
    }

    /// Whether a session may start here.
    ///
    /// # Errors
    /// A conflict unless the station is ACTIVE.
    pub fn may_start(&self) -> Result<(), DomainError> {
        if self.status == StationStatus::Active {
            return Ok(());
        }
        Err(DomainError::conflict(format!(
            "station {} is {}: sessions start at ACTIVE stations only",
            self.id,
            self.status.name()
        )))
    }

    /// `updated_at` only ever grows, so that it tells one configuration from another, two changes within a millisecond
    /// included.
    fn touch(&mut self, now: Instant) {
        self.updated_at = now.max(self.updated_at + TimeDelta::milliseconds(1));
        self.version += 1;
    }
}

impl Port {
    /// Takes the port for `session`.
    ///
    /// # Errors
    /// A conflict unless it is FREE.
    pub fn occupy(&mut self, session: SessionId, role: Role) -> Result<(), DomainError> {
        if self.status != PortStatus::Free {
            return Err(DomainError::conflict(format!(
                "port {} of station {} is {}: sessions start at FREE ports only",
                self.id,
                self.station_id,
                self.status.name()
            )));
        }
        self.status.transition(PortStatus::Charging, role)?;
        self.set(PortStatus::Charging, Some(session));
        Ok(())
    }

    /// Frees the port when `session`, which charged here, has ended. A port that has failed stays in ERROR.
    pub fn release(&mut self, session: &SessionId) {
        if self.status == PortStatus::Charging && self.session_id.as_ref() == Some(session) {
            self.set(PortStatus::Free, None);
        }
    }

    /// The port has failed.
    ///
    /// # Errors
    /// Forbidden or conflict by the state machine.
    pub fn fail(&mut self, role: Role) -> Result<(), DomainError> {
        self.status.transition(PortStatus::Error, role)?;
        self.set(PortStatus::Error, None);
        Ok(())
    }

    /// The event of its failure; `session` failed with it.
    #[must_use]
    pub fn failed_event(&self, session: Option<SessionId>, reason: &str) -> PortFailed {
        PortFailed {
            station_id: self.station_id.clone(),
            port_id: self.id.clone(),
            session_id: session,
            reason: reason.to_owned(),
        }
    }

    /// Brings a failed port back.
    ///
    /// # Errors
    /// Forbidden for users; a conflict unless it is in ERROR (a port that charges is freed by its session's end).
    pub fn reset(&mut self, role: Role) -> Result<(), DomainError> {
        if self.status == PortStatus::Charging {
            return Err(DomainError::conflict(format!("port {} is CHARGING: stop or fail its session first", self.id)));
        }
        self.status.transition(PortStatus::Free, role)?;
        self.set(PortStatus::Free, None);
        Ok(())
    }

    /// Whether the port can be removed from its station.
    ///
    /// # Errors
    /// Forbidden for anyone but an ADMIN; a conflict while it charges.
    pub fn may_remove(&self, actor: &Actor) -> Result<(), DomainError> {
        may_configure(actor)?;
        if self.status != PortStatus::Charging {
            return Ok(());
        }
        Err(DomainError::conflict(format!("port {} cannot be removed while it is CHARGING", self.id)))
    }

    fn set(&mut self, status: PortStatus, session_id: Option<SessionId>) {
        self.status = status;
        self.session_id = session_id;
        self.version += 1;
    }
}
