//! Stations and their ports: their data, their states, and which operations each state allows.

mod events;

pub use events::{
    PortAdded, PortCounts, PortFailed, PortRemoved, PortReset, StationCreated, StationDeleted, StationEvent,
    StationStatusChanged, StationUpdated,
};

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

/// The maximum number of ports of a station. Taking a station out of order ends all its sessions in one transaction,
/// and a transaction is limited to 100 items.
pub const MAX_PORTS: usize = 40;
/// The maximum power of a station or a port, kW.
pub const MAX_POWER_KW: f64 = 5000.0;

const ADMIN: &[Role] = &[Role::Admin];
const TECHNICIANS: &[Role] = &[Role::TechSupport, Role::Admin];
const FAILURE: &[Role] = &[Role::TechSupport, Role::Admin, Role::System];
const ANYONE: &[Role] = &Role::ALL;

/// Status of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StationStatus {
    /// Created, but not yet commissioned.
    New,
    /// In service.
    Active,
    /// Draining: running sessions continue, new sessions are refused.
    Maintenance,
    /// Failed: the sessions that were running failed too.
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
    /// Returns whether running sessions fail when their station enters this status.
    #[must_use]
    pub fn fails_sessions(self) -> bool {
        match self {
            Self::OutOfOrder => true,
            Self::New | Self::Active | Self::Maintenance => false,
        }
    }
}

/// Status of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PortStatus {
    /// No session is running at the port.
    Free,
    /// A session is running at the port.
    Charging,
    /// The port has failed and stays in this status until a technician resets it.
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
    /// Id of the station.
    pub id: StationId,
    /// Name of the station, for display.
    pub name: String,
    /// Postal address.
    pub address: String,
    /// Geographic position.
    pub location: Location,
    /// Time zone in which the times of the tariff apply.
    pub time_zone: Tz,
    /// Power that all ports of the station share, kW.
    pub power_kw: f64,
    /// Tariff of the station. A station without a tariff cannot be commissioned.
    pub tariff: Option<Tariff>,
    /// Charging model: how vehicles draw power at this station.
    pub model: ModelConfig,
    /// Current status.
    pub status: StationStatus,
    /// Number of ports where a session is running.
    pub charging_ports: u32,
    /// When the station was created.
    pub created_at: Instant,
    /// When the station was last changed. Sessions that start or end do not change this time.
    pub updated_at: Instant,
    /// Number of the station's last change. Every write is conditional on it (optimistic locking).
    pub version: u64,
}

/// A port of a station.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Id of the station that the port belongs to.
    pub station_id: StationId,
    /// Id of the port, unique within the station.
    pub id: PortId,
    /// Number painted on the port.
    pub number: u32,
    /// Connector type of the port.
    pub connector: ConnectorType,
    /// Maximum power that the port delivers, kW.
    pub max_power_kw: f64,
    /// Current status.
    pub status: PortStatus,
    /// Id of the session that is running at the port.
    pub session_id: Option<SessionId>,
    /// Number of the port's last change.
    pub version: u64,
}

/// The changes of a station update. A field that is `None` leaves its value unchanged.
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
    /// New tariff. It applies to sessions that start after the update.
    pub tariff: Option<Tariff>,
    /// New charging model.
    pub model: Option<ModelConfig>,
}

/// Checks that `actor` may create, change and delete stations and their ports.
///
/// # Errors
/// `Forbidden` unless the actor's role is ADMIN.
pub fn may_configure(actor: &Actor) -> Result<(), DomainError> {
    if actor.role == Role::Admin {
        return Ok(());
    }
    Err(DomainError::Forbidden("stations and ports are configured by role ADMIN".to_owned()))
}

/// Checks that the power, tariff, charging model and ports of a station are valid together.
///
/// # Errors
/// `Validation`, naming every invalid field.
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
    /// Moves the station to status `to` and returns the event of the change. The event lacks the ports, which the
    /// station does not know.
    ///
    /// # Errors
    /// `Forbidden` or `Conflict` if the state machine does not allow the transition; `Conflict` if a station without a
    /// tariff would be commissioned.
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
        Ok(StationStatusChanged {
            station_id: self.id.clone(),
            from,
            to,
            version: Some(self.version),
            station_version: Some(self.version),
            counts: None,
        })
    }

    /// Applies `update` to the station.
    ///
    /// # Errors
    /// `Forbidden` unless the actor's role is ADMIN; `Validation` if the tariff, the power or the charging model is out
    /// of range; `Conflict` if the power or the charging model would change while a session runs, because its
    /// simulation was started with the old values.
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

    /// Returns whether `update` changes the inputs of a running simulation: the station's power or its charging model.
    #[must_use]
    pub fn changes_physics(&self, update: &StationUpdate) -> bool {
        #[allow(clippy::float_cmp)] // an exact comparison is intended: is it the same number?
        let power = update.power_kw.is_some_and(|power_kw| power_kw != self.power_kw);
        power || update.model.as_ref().is_some_and(|model| *model != self.model)
    }

    /// Checks that the station may be deleted.
    ///
    /// # Errors
    /// `Forbidden` unless the actor's role is ADMIN; `Conflict` while sessions run.
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

    /// Returns the tariff of the station.
    ///
    /// # Errors
    /// `Conflict` if the station has no tariff. A missing tariff never means a price of zero.
    pub fn tariff(&self) -> Result<&Tariff, DomainError> {
        let tariff = self.tariff.as_ref();
        tariff.ok_or_else(|| DomainError::conflict(format!("station {} has no tariff", self.id)))
    }

    /// Checks that a session may start at this station.
    ///
    /// # Errors
    /// `Conflict` unless the station is ACTIVE.
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

    /// Updates `updated_at` and the version. `updated_at` always increases, even between two changes within one
    /// millisecond, so that its value identifies one configuration.
    fn touch(&mut self, now: Instant) {
        self.updated_at = now.max(self.updated_at + TimeDelta::milliseconds(1));
        self.version += 1;
    }
}

impl Port {
    /// Occupies the port with `session`.
    ///
    /// # Errors
    /// `Conflict` unless the port is FREE.
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

    /// Frees the port if `session`, which has ended, was running here. A failed port stays in ERROR.
    pub fn release(&mut self, session: &SessionId) {
        if self.status == PortStatus::Charging && self.session_id.as_ref() == Some(session) {
            self.set(PortStatus::Free, None);
        }
    }

    /// Marks the port as failed.
    ///
    /// # Errors
    /// `Forbidden` or `Conflict` if the state machine does not allow the transition.
    pub fn fail(&mut self, role: Role) -> Result<(), DomainError> {
        self.status.transition(PortStatus::Error, role)?;
        self.set(PortStatus::Error, None);
        Ok(())
    }

    /// Returns the event of the port's failure. `session` is the session that failed together with the port. The event
    /// lacks the version and the other ports of the station, which the port does not know.
    #[must_use]
    pub fn failed_event(&self, session: Option<SessionId>, reason: &str) -> PortFailed {
        PortFailed {
            station_id: self.station_id.clone(),
            port_id: self.id.clone(),
            session_id: session,
            reason: reason.to_owned(),
            version: Some(self.version),
            station_version: None,
            counts: None,
        }
    }

    /// Resets a failed port, so that it is free again.
    ///
    /// # Errors
    /// `Forbidden` for users; `Conflict` unless the port is in ERROR. (A port that is CHARGING becomes free when its
    /// session ends.)
    pub fn reset(&mut self, role: Role) -> Result<(), DomainError> {
        if self.status == PortStatus::Charging {
            return Err(DomainError::conflict(format!("port {} is CHARGING: stop or fail its session first", self.id)));
        }
        self.status.transition(PortStatus::Free, role)?;
        self.set(PortStatus::Free, None);
        Ok(())
    }

    /// Checks that the port may be removed from its station.
    ///
    /// # Errors
    /// `Forbidden` unless the actor's role is ADMIN; `Conflict` while the port is CHARGING.
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
