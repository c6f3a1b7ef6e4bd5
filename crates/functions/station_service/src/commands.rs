use chrono_tz::Tz;
use domain::Instant;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::station::{self, Port, PortStatus, Station, StationStatus, StationUpdate};
use domain::charging::tariff::{Tariff, time_zone};
use domain::error::{Checks, DomainError};
use domain::geo::{Location, MAX_RADIUS_KM};
use domain::id::{PortId, StationId};
use domain::money::{Currency, optional_decimal_schema};
use domain::units::LEAST_POWER_KW;
use lambda_kit::PageArguments;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::StationFilter;
use uuid::Uuid;

/// A new charging station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateStation {
    /// The id of the station. By default an id is generated.
    #[serde(default)]
    pub station_id: Option<StationId>,
    /// The name of the station, for people.
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// The postal address of the station.
    #[schemars(length(min = 1, max = 500))]
    address: String,
    /// The latitude, degrees north.
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: f64,
    /// The longitude, degrees east.
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: f64,
    /// The IANA time zone of the times in the tariff, e.g. `Europe/Berlin`. The default is UTC.
    #[serde(default)]
    #[schemars(length(max = 64))]
    time_zone: Option<String>,
    /// The power that the ports of the station share, kW.
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    power_kw: f64,
    #[serde(flatten)]
    price: PriceArguments,
    /// The model by which charging is simulated at the station. The default is `STEP_TAPER`.
    #[serde(default)]
    charging_model: Option<ModelConfig>,
    /// The ports of the station. The default is no ports.
    #[serde(default)]
    #[schemars(length(max = 40))]
    ports: Vec<NewPort>,
}

/// The price at a station: a tariff, or its short form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PriceArguments {
    /// The tariff of the station, an OCPI 2.2.1 Tariff. It excludes `pricePerKwh` and `currency`.
    #[serde(default)]
    tariff: Option<Tariff>,
    /// The price of energy per kWh. With `currency` it is the short form of a tariff without VAT.
    #[serde(default)]
    #[schemars(schema_with = "optional_decimal_schema")]
    price_per_kwh: Option<Decimal>,
    /// The currency of `pricePerKwh` (ISO 4217).
    #[serde(default)]
    currency: Option<Currency>,
}

/// A new port of a station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewPort {
    /// The id of the port, unique at its station. The default is `port-` and the port number.
    #[serde(default)]
    port_id: Option<PortId>,
    /// The number that is painted on the port.
    #[schemars(range(min = 1, max = 9999))]
    port_number: u32,
    /// The connector of the port.
    connector_type: ConnectorType,
    /// The maximum power of the port, kW.
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    max_power_kw: f64,
}

/// Changes of a station. Fields that are not given stay as they are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStation {
    /// The id of the station.
    pub station_id: StationId,
    /// The new name of the station, for people.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    name: Option<String>,
    /// The new postal address of the station.
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    address: Option<String>,
    /// The new latitude, degrees north.
    #[serde(default)]
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: Option<f64>,
    /// The new longitude, degrees east.
    #[serde(default)]
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: Option<f64>,
    /// The new IANA time zone of the times in the tariff, e.g. `Europe/Berlin`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    time_zone: Option<String>,
    /// The new power that the ports of the station share, kW. It changes only while no session runs.
    #[serde(default)]
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    power_kw: Option<f64>,
    #[serde(flatten)]
    price: PriceArguments,
    /// The new charging model. It changes only while no session runs.
    #[serde(default)]
    charging_model: Option<ModelConfig>,
}

/// Arguments of a list of stations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListStations {
    /// Return only stations with this status. The default is ACTIVE; a search near a place returns every status by
    /// default.
    #[serde(default)]
    status: Option<StationStatus>,
    /// The latitude of the place near which stations are searched, degrees north.
    #[serde(default)]
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: Option<f64>,
    /// The longitude of the place near which stations are searched, degrees east.
    #[serde(default)]
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: Option<f64>,
    /// The radius of the search, km. The default is 10.
    #[serde(default)]
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    radius_km: Option<f64>,
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A reference to one station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationRef {
    /// The id of the station.
    pub station_id: StationId,
}

/// A request to change the status of a station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionStation {
    /// The id of the station.
    pub station_id: StationId,
    /// The new status.
    pub to: StationStatus,
}

/// A new port for an existing station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddPort {
    /// The id of the station.
    pub station_id: StationId,
    #[serde(flatten)]
    pub port: NewPort,
}

/// A reference to one port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortRef {
    /// The id of the station.
    pub station_id: StationId,
    /// The id of the port.
    pub port_id: PortId,
}

/// A request to bring a port to the status ERROR.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailPort {
    /// The id of the station.
    pub station_id: StationId,
    /// The id of the port.
    pub port_id: PortId,
    /// The reason for the failure. It is part of the event about the failed port.
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
}

/// The answer to the deletion of a station.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedStation {
    /// The id of the deleted station.
    pub station_id: StationId,
    /// Always true.
    pub deleted: bool,
}

/// The answer to the removal of a port.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovedPort {
    /// The id of the station.
    pub station_id: StationId,
    /// The id of the removed port.
    pub port_id: PortId,
    /// Always true.
    pub removed: bool,
}

impl CreateStation {
    /// Builds the station, with the status NEW, and its ports.
    ///
    /// # Errors
    /// [`DomainError::Validation`] when a field or a combination of fields is invalid.
    pub fn station(self, now: Instant) -> Result<(Station, Vec<Port>), DomainError> {
        let mut checks = Checks::new();
        let time_zone = checks.take(time_zone(self.time_zone.as_deref().unwrap_or("UTC")))?;
        let tariff = checks.take(self.price.tariff())?.flatten();
        let location = checks.take(Location::new(self.latitude, self.longitude))?;
        let id = self.station_id.unwrap_or_else(|| Uuid::now_v7().into());
        let ports: Vec<Port> = self.ports.into_iter().map(|port| port.port(&id)).collect();
        let model = self.charging_model.unwrap_or_default();
        checks.take(station::validate(self.power_kw, tariff.as_ref(), &model, &ports))?;
        checks.finish()?;
        let station = Station {
            id,
            name: self.name,
            address: self.address,
            location: location.unwrap_or(Location { latitude: 0.0, longitude: 0.0 }),
            time_zone: time_zone.unwrap_or(Tz::UTC),
            power_kw: self.power_kw,
            tariff,
            model,
            status: StationStatus::New,
            charging_ports: 0,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        Ok((station, ports))
    }
}

impl NewPort {
    /// Builds a FREE port of `station`. Its default id is derived from its number.
    pub fn port(&self, station: &StationId) -> Port {
        let number = self.port_number;
        let named = || PortId::new(format!("port-{number}")).unwrap_or_else(|_| Uuid::now_v7().into());
        Port {
            station_id: station.clone(),
            id: self.port_id.clone().unwrap_or_else(named),
            number,
            connector: self.connector_type,
            max_power_kw: self.max_power_kw,
            status: PortStatus::Free,
            session_id: None,
            version: 1,
        }
    }
}

impl PriceArguments {
    fn tariff(&self) -> Result<Option<Tariff>, DomainError> {
        match (&self.tariff, self.price_per_kwh, self.currency) {
            (Some(tariff), None, None) => Ok(Some(tariff.clone())),
            (None, Some(price), Some(currency)) => Ok(Some(Tariff::per_kwh(price, currency))),
            (None, None, None) => Ok(None),
            (Some(_), ..) => Err(DomainError::invalid(
                "tariff",
                "is given together with its short form: give tariff, or pricePerKwh and currency",
            )),
            (None, Some(_), None) => Err(DomainError::invalid("currency", "is required with pricePerKwh")),
            (None, None, Some(_)) => Err(DomainError::invalid("pricePerKwh", "is required with currency")),
        }
    }
}

/// What was found so far, the time zone and the tariff; both are missing where they are wrong.
type Checked = (Checks, Option<Option<Tz>>, Option<Option<Tariff>>);

impl UpdateStation {
    /// Checks what can be checked without the station.
    ///
    /// # Errors
    /// A validation error for the time zone or the price.
    pub fn check(&self) -> Result<(), DomainError> {
        self.checked()?.0.finish()
    }

    fn checked(&self) -> Result<Checked, DomainError> {
        let mut checks = Checks::new();
        let zone = checks.take(self.time_zone.as_deref().map(time_zone).transpose())?;
        let tariff = checks.take(self.price.tariff())?;
        Ok((checks, zone, tariff))
    }

    /// Builds the update of `station`. If only one coordinate is given, the other one is kept.
    ///
    /// # Errors
    /// [`DomainError::Validation`] when a field or a combination of fields is invalid.
    pub fn update(&self, station: &Station) -> Result<StationUpdate, DomainError> {
        let (mut checks, zone, tariff) = self.checked()?;
        let location = (self.latitude.is_some() || self.longitude.is_some()).then(|| {
            let Location { latitude, longitude } = station.location;
            Location::new(self.latitude.unwrap_or(latitude), self.longitude.unwrap_or(longitude))
        });
        let location = checks.take(location.transpose())?;
        checks.finish()?;
        Ok(StationUpdate {
            name: self.name.clone(),
            address: self.address.clone(),
            location: location.flatten(),
            time_zone: zone.flatten(),
            power_kw: self.power_kw,
            tariff: tariff.flatten(),
            model: self.charging_model.clone(),
        })
    }
}

impl ListStations {
    /// Returns the filter of the list: by place if one is given, otherwise by status (default ACTIVE).
    ///
    /// # Errors
    /// [`DomainError::Validation`] when a search by place lacks `latitude` or `longitude`.
    pub fn filter(&self) -> Result<StationFilter, DomainError> {
        match (self.latitude, self.longitude) {
            (Some(latitude), Some(longitude)) => {
                let radius_km = self.radius_km.unwrap_or(10.0).min(MAX_RADIUS_KM);
                Ok(StationFilter::Near(Location::new(latitude, longitude)?, radius_km, self.status))
            }
            (None, None) if self.radius_km.is_none() => {
                Ok(StationFilter::Status(self.status.unwrap_or(StationStatus::Active)))
            }
            _ => {
                let mut checks = Checks::new();
                checks.require(self.latitude.is_some(), "latitude", "is required for a search by place").require(
                    self.longitude.is_some(),
                    "longitude",
                    "is required for a search by place",
                );
                checks.finish()?;
                Ok(StationFilter::Status(self.status.unwrap_or(StationStatus::Active)))
            }
        }
    }
}
