use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{UserStatus, may_have_one_more};
use crate::error::{Checks, DomainError};
use crate::id::{UserId, VehicleId};
use crate::units::{LEAST_ENERGY_KWH, LEAST_POWER_KW};

/// The maximum number of vehicles of a user.
pub const MAX_VEHICLES: u32 = 50;
/// The maximum length of a registration number without separators, in characters.
const MAX_NORMALISED: usize = 16;
/// The maximum length of a registration number as it is written, in characters.
const MAX_WRITTEN: usize = 32;
/// The maximum length of a brand or a model, in characters.
const MAX_NAME: usize = 100;
const MAX_CAPACITY_KWH: f64 = 2000.0;
const MAX_POWER_KW: f64 = 5000.0;

/// The registration number of a vehicle.
///
/// It is kept as it was written. Two numbers are the same if they have the same letters and digits, whatever their case
/// and the separators between them, because cameras at gates read no separators.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistrationNumber {
    written: String,
    normalised: String,
}

/// A vehicle that is added to an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewVehicle {
    /// Brand of the vehicle.
    #[schemars(length(min = 1, max = 100))]
    pub brand: String,
    /// Model of the vehicle.
    #[schemars(length(min = 1, max = 100))]
    pub model: String,
    /// Usable battery capacity, kWh.
    #[serde(rename = "batteryCapacity")]
    #[schemars(range(min = LEAST_ENERGY_KWH, max = MAX_CAPACITY_KWH))]
    pub battery_capacity_kwh: f64,
    /// Maximum charging power of the vehicle, kW. If absent, the vehicle takes whatever power the port delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = LEAST_POWER_KW, max = MAX_POWER_KW))]
    pub max_power_kw: Option<f64>,
    /// Registration number. It belongs to one user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_number: Option<RegistrationNumber>,
}

/// A vehicle of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SavedVehicle")] // the OpenAPI document has the vehicle of a session, too
pub struct Vehicle {
    /// Id of the vehicle.
    #[serde(rename = "vehicleId")]
    pub id: VehicleId,
    /// Brand of the vehicle.
    pub brand: String,
    /// Model of the vehicle.
    pub model: String,
    /// Usable battery capacity, kWh.
    #[serde(rename = "batteryCapacity")]
    pub battery_capacity_kwh: f64,
    /// Maximum charging power of the vehicle, kW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_power_kw: Option<f64>,
    /// Registration number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_number: Option<RegistrationNumber>,
}

impl RegistrationNumber {
    /// Creates a registration number from its text. White space around the text is ignored.
    ///
    /// # Errors
    /// `Validation` unless the text has 1 to 16 letters and digits, and 32 characters at most, none of them a control
    /// character.
    pub fn new(text: &str) -> Result<Self, DomainError> {
        Self::parse(text).map_err(|message| DomainError::invalid("registrationNumber", message))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let written = text.trim();
        let normalised: String = written.chars().flat_map(char::to_uppercase).filter(|c| c.is_alphanumeric()).collect();
        let fits = (1..=MAX_NORMALISED).contains(&normalised.chars().count());
        if fits && written.chars().count() <= MAX_WRITTEN && !written.chars().any(char::is_control) {
            return Ok(Self { written: written.to_owned(), normalised });
        }
        Err(format!("must have 1 to {MAX_NORMALISED} letters and digits, and {MAX_WRITTEN} characters at most"))
    }

    /// Returns the number as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns the letters and digits of the number, in upper case.
    #[must_use]
    pub fn normalised(&self) -> &str {
        &self.normalised
    }

    /// Returns the error for a vehicle whose number another vehicle has. It says neither whose vehicle that is, nor the
    /// number: the log has the messages of refused requests.
    #[must_use]
    pub fn taken(&self) -> DomainError {
        DomainError::conflict("the registration number belongs to another vehicle")
    }
}

impl PartialEq for RegistrationNumber {
    fn eq(&self, other: &Self) -> bool {
        self.normalised == other.normalised
    }
}

impl Eq for RegistrationNumber {}

impl fmt::Display for RegistrationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl TryFrom<String> for RegistrationNumber {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<RegistrationNumber> for String {
    fn from(number: RegistrationNumber) -> Self {
        number.written
    }
}

impl JsonSchema for RegistrationNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RegistrationNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_WRITTEN })
    }
}

impl Vehicle {
    /// Creates a vehicle with this id. White space around brand and model is ignored.
    ///
    /// # Errors
    /// `Validation`, naming every invalid field.
    pub fn new(id: VehicleId, new: NewVehicle) -> Result<Self, DomainError> {
        let (brand, model) = (new.brand.trim().to_owned(), new.model.trim().to_owned());
        let is_name = |text: &str| (1..=MAX_NAME).contains(&text.chars().count());
        let name = format!("must have 1 to {MAX_NAME} characters");
        let mut checks = Checks::new();
        checks
            .require(is_name(&brand), "vehicle.brand", &name)
            .require(is_name(&model), "vehicle.model", &name)
            .require(
                (LEAST_ENERGY_KWH..=MAX_CAPACITY_KWH).contains(&new.battery_capacity_kwh),
                "vehicle.batteryCapacity",
                format!("must be from {LEAST_ENERGY_KWH} to {MAX_CAPACITY_KWH} kWh"),
            )
            .require(
                new.max_power_kw.is_none_or(|kw| (LEAST_POWER_KW..=MAX_POWER_KW).contains(&kw)),
                "vehicle.maxPowerKw",
                format!("must be from {LEAST_POWER_KW} to {MAX_POWER_KW} kW"),
            );
        checks.finish()?;
        Ok(Self {
            id,
            brand,
            model,
            battery_capacity_kwh: new.battery_capacity_kwh,
            max_power_kw: new.max_power_kw,
            registration_number: new.registration_number,
        })
    }

    /// Checks that a vehicle may be added for `user`, who has this status and `count` vehicles.
    ///
    /// # Errors
    /// `NotFound` if the user was deleted; `Conflict` if the user is being deleted or has [`MAX_VEHICLES`] vehicles.
    pub fn may_be_added(user: &UserId, status: UserStatus, count: u32) -> Result<(), DomainError> {
        may_have_one_more("vehicle", (count, MAX_VEHICLES), status, user)
    }
}
