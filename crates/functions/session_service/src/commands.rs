use chrono::TimeDelta;
use chrono_tz::Tz;
use domain::Instant;
use domain::actor::Actor;
use domain::charging::session::{Limits, Session, SessionStatus, Vehicle};
use domain::charging::tariff::{Bill, Tariff, time_zone};
use domain::error::{Checks, DomainError};
use domain::id::{PortId, SessionId, StationId, UserId, VehicleId, derive};
use domain::money::amount_schema;
use lambda_kit::PageArguments;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::SessionFilter;

use crate::Start;

/// 9999-12-31, in days since 1970-01-01.
const LAST_DAY: i64 = 2_932_896;

/// A request to start a charging session.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("anyOf" = [{ "required": ["vehicle"] }, { "required": ["vehicleId"] }]))]
pub struct StartSession {
    /// The station at which the vehicle charges.
    pub station_id: StationId,
    /// The port at which the vehicle charges. It must be FREE.
    pub port_id: PortId,
    /// The user who pays for the session. The default is the actor; only staff may name another user.
    #[serde(default)]
    user_id: Option<UserId>,
    /// The vehicle that charges. Give either `vehicle` or `vehicleId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vehicle: Option<Vehicle>,
    /// The vehicle that charges, one of the saved vehicles of the user. Give either `vehicle` or `vehicleId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vehicle_id: Option<VehicleId>,
    /// The state of charge at the start, %. It must be below `targetPercent`.
    #[schemars(range(min = 0.0, max = 100.0))]
    charge_percent: f64,
    /// The state of charge at which the session ends, %. The default is 100.
    #[serde(default)]
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    target_percent: Option<f64>,
    /// Limits that end the session before `targetPercent`. The default is no limits.
    #[serde(default)]
    limits: Option<Limits>,
    /// The idempotency key. A request of the same user with the same key returns the same session.
    #[serde(default, skip_serializing)]
    #[schemars(length(min = 1, max = 255))]
    pub idempotency_key: Option<String>,
}

/// A reference to one session.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRef {
    /// The id of the session.
    pub session_id: SessionId,
}

/// A request to end a session as FAILED.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailSession {
    /// The id of the session.
    pub session_id: SessionId,
    /// The reason for the failure. It is part of the event about the failed port.
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
}

/// Arguments of a list of sessions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListSessions {
    /// Return only sessions of this user. The default is the actor; staff name `userId`, `stationId` or `status`.
    #[serde(default)]
    user_id: Option<UserId>,
    /// Return only sessions at this station.
    #[serde(default)]
    station_id: Option<StationId>,
    /// Return only sessions with this status.
    #[serde(default)]
    status: Option<SessionStatus>,
    /// Return only sessions that entered their current status at this time or later. An ended session entered its
    /// status when it ended.
    #[serde(default)]
    changed_from: Option<Instant>,
    /// Return only sessions that entered their current status at this time or earlier.
    #[serde(default)]
    changed_to: Option<Instant>,
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A request for the price of a hypothetical session.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// The station whose tariff applies, in the time zone of the station. Give either `stationId` or `tariff`.
    #[serde(default)]
    station_id: Option<StationId>,
    /// The tariff that applies, an OCPI 2.2.1 Tariff. Give either `stationId` or `tariff`.
    #[serde(default)]
    tariff: Option<Tariff>,
    /// The IANA time zone of the times in `tariff`, e.g. `Europe/Berlin`. The default is UTC. It is given only with
    /// `tariff`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    time_zone: Option<String>,
    /// The energy to price, kWh. It is rounded to three decimals.
    #[schemars(range(min = 0.0, max = 2000.0))]
    pub energy_kwh: f64,
    /// The duration for which the vehicle charges, minutes.
    #[schemars(range(max = 44640.0), extend("exclusiveMinimum" = 0))]
    pub minutes: f64,
    /// The start of the session. The default is the current time.
    #[serde(default)]
    pub start_at: Option<Instant>,
}

/// How a request names the vehicle that charges.
#[derive(Clone, Copy, Debug)]
pub enum NamedVehicle<'a> {
    /// The request describes the vehicle.
    Described(Vehicle),
    /// The vehicle is saved in the account of the user.
    Saved(&'a VehicleId),
}

/// What prices a hypothetical session.
#[derive(Clone, Copy, Debug)]
pub enum Basis<'a> {
    /// The tariff of this station, in the time zone of the station.
    Station(&'a StationId),
    /// This valid tariff of the request, in this time zone.
    Tariff(&'a Tariff, Tz),
}

/// The price of a hypothetical session.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuoteView {
    /// The station whose tariff applies; absent if the request gave a tariff.
    #[serde(skip_serializing_if = "Option::is_none")]
    station_id: Option<String>,
    /// The priced energy, kWh.
    energy_kwh: f64,
    /// The duration of the session, minutes.
    minutes: f64,
    /// The start of the session.
    start_at: Instant,
    /// The total price including VAT, like the `cost` of a session.
    #[schemars(schema_with = "amount_schema")]
    cost: Decimal,
    #[serde(flatten)]
    bill: Bill,
}

impl StartSession {
    /// Returns the user of the new session.
    ///
    /// # Errors
    /// [`DomainError::Forbidden`] when a user names another user.
    pub fn user(&self, actor: &Actor) -> Result<UserId, DomainError> {
        actor.on_behalf_of(self.user_id.as_ref())
    }

    /// Returns how the request names the vehicle.
    ///
    /// # Errors
    /// [`DomainError::Validation`] unless exactly one of `vehicle` and `vehicleId` is given.
    pub fn vehicle(&self) -> Result<NamedVehicle<'_>, DomainError> {
        match (self.vehicle, &self.vehicle_id) {
            (Some(vehicle), None) => Ok(NamedVehicle::Described(vehicle)),
            (None, Some(id)) => Ok(NamedVehicle::Saved(id)),
            (Some(_), Some(_)) => {
                Err(DomainError::invalid("vehicleId", "is given together with vehicle: give vehicle, or vehicleId"))
            }
            (None, None) => Err(DomainError::invalid("vehicle", "one of vehicle and vehicleId is required")),
        }
    }

    /// Returns a fingerprint of the request that does not depend on the order and notation of its JSON.
    pub fn fingerprint(&self) -> String {
        let canonical = serde_json::to_string(self).unwrap_or_default();
        derive(&["startSession", &canonical]).to_string()
    }

    /// Converts the command to the request of the domain. `vehicle` is the vehicle that the command names.
    pub fn start(&self, id: SessionId, user_id: UserId, vehicle: Vehicle, correlation_id: String) -> Start {
        Start {
            id,
            user_id,
            vehicle,
            charge_percent: self.charge_percent,
            target_percent: self.target_percent.unwrap_or(100.0),
            limits: self.limits.unwrap_or_default(),
            request_fingerprint: self.fingerprint(),
            correlation_id,
        }
    }
}

impl ListSessions {
    /// Returns the filter whose index serves the list. Users see only their own sessions.
    ///
    /// # Errors
    /// [`DomainError::Forbidden`] when a user names another user. [`DomainError::Validation`] when staff name neither a
    /// user, a station nor a status, or when `changedFrom` is after `changedTo`.
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
                // The index compares times as text, in which years have four digits. A bound with an offset from UTC
                // can be in a year with five digits.
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

    /// Returns whether a session passes the conditions that the index does not cover.
    pub fn keeps(&self, session: &Session) -> bool {
        self.station_id.as_ref().is_none_or(|station| session.station_id == *station)
            && self.status.is_none_or(|status| session.status == status)
            && self.changed_from.is_none_or(|from| session.status_changed_at >= from)
            && self.changed_to.is_none_or(|to| session.status_changed_at <= to)
    }
}

impl Quote {
    /// Returns what prices the session: the station or the tariff of the request.
    ///
    /// # Errors
    /// [`DomainError::Validation`] unless exactly one of `stationId` and `tariff` is given, when `timeZone` is given
    /// without `tariff`, or when the tariff or the time zone is invalid.
    pub fn basis(&self) -> Result<Basis<'_>, DomainError> {
        match (&self.station_id, &self.tariff) {
            (Some(station), None) if self.time_zone.is_none() => Ok(Basis::Station(station)),
            (Some(_), None) => Err(DomainError::invalid(
                "timeZone",
                "is for tariff only: with stationId, the time zone of the station applies, so leave timeZone out",
            )),
            (None, Some(tariff)) => {
                let mut checks = Checks::new();
                let zone = checks.take(time_zone(self.time_zone.as_deref().unwrap_or("UTC")))?;
                checks.take(tariff.validate("tariff"))?;
                checks.finish()?;
                Ok(Basis::Tariff(tariff, zone.unwrap_or(Tz::UTC)))
            }
            (Some(_), Some(_)) => {
                Err(DomainError::invalid("tariff", "is given together with stationId: give stationId, or tariff"))
            }
            (None, None) => Err(DomainError::invalid("stationId", "one of stationId and tariff is required")),
        }
    }

    /// Returns the duration of the session, ms.
    #[allow(clippy::cast_possible_truncation)] // bounded by the schema
    pub fn milliseconds(&self) -> i64 {
        (self.minutes * 60_000.0).round() as i64
    }
}

impl QuoteView {
    /// Builds the answer to `request` from the priced bill.
    #[must_use]
    pub fn new(request: &Quote, start_at: Instant, bill: Bill) -> Self {
        Self {
            station_id: request.station_id.as_ref().map(ToString::to_string),
            energy_kwh: request.energy_kwh,
            minutes: request.minutes,
            start_at,
            cost: bill.total_incl_vat,
            bill,
        }
    }
}
