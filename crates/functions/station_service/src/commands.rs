use chrono_tz::Tz;
use domain::Instant;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::station::{self, Port, PortStatus, Station, StationStatus, StationUpdate};
use domain::charging::tariff::Tariff;
use domain::error::{Checks, DomainError};
use domain::geo::{Location, MAX_RADIUS_KM};
use domain::id::{PortId, StationId};
use domain::money::{Currency, optional_decimal_schema};
use domain::units::LEAST_POWER_KW;
use lambda_kit::PageArguments;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use store::StationFilter;
use uuid::Uuid;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateStation {
    #[serde(default)]
    station_id: Option<StationId>,
    #[schemars(length(min = 1, max = 200))]
    name: String,
    #[schemars(length(min = 1, max = 500))]
    address: String,
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: f64,
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: f64,
    #[serde(default)]
    #[schemars(length(max = 64))]
    time_zone: Option<String>,
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    power_kw: f64,
    #[serde(flatten)]
    price: PriceArguments,
    #[serde(default)]
    charging_model: Option<ModelConfig>,
    #[serde(default)]
    #[schemars(length(max = 40))]
    ports: Vec<NewPort>,
}

/// A tariff, or its short form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PriceArguments {
    #[serde(default)]
    tariff: Option<Tariff>,
    #[serde(default)]
    #[schemars(schema_with = "optional_decimal_schema")]
    price_per_kwh: Option<Decimal>,
    #[serde(default)]
    currency: Option<Currency>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewPort {
    #[serde(default)]
    port_id: Option<PortId>,
    #[schemars(range(min = 1, max = 9999))]
    port_number: u32,
    connector_type: ConnectorType,
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    max_power_kw: f64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStation {
    pub station_id: StationId,
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    name: Option<String>,
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    address: Option<String>,
    #[serde(default)]
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: Option<f64>,
    #[serde(default)]
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: Option<f64>,
    #[serde(default)]
    #[schemars(length(max = 64))]
    time_zone: Option<String>,
    #[serde(default)]
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    power_kw: Option<f64>,
    #[serde(flatten)]
    price: PriceArguments,
    #[serde(default)]
    charging_model: Option<ModelConfig>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListStations {
    #[serde(default)]
    status: Option<StationStatus>,
    #[serde(default)]
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: Option<f64>,
    #[serde(default)]
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: Option<f64>,
    #[serde(default)]
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    radius_km: Option<f64>,
    #[serde(flatten)]
    pub page: PageArguments,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationRef {
    pub station_id: StationId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionStation {
    pub station_id: StationId,
    pub to: StationStatus,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddPort {
    pub station_id: StationId,
    #[serde(flatten)]
    pub port: NewPort,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortRef {
    pub station_id: StationId,
    pub port_id: PortId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailPort {
    pub station_id: StationId,
    pub port_id: PortId,
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
}

impl CreateStation {
    /// The station asked for, NEW, with its ports.
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
    /// A FREE port of `station`. Without an id it is called by its number.
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

impl UpdateStation {
    /// The update asked for. One coordinate alone keeps the other.
    pub fn update(&self, station: &Station) -> Result<StationUpdate, DomainError> {
        let mut checks = Checks::new();
        let zone = checks.take(self.time_zone.as_deref().map(time_zone).transpose())?;
        let tariff = checks.take(self.price.tariff())?;
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
    /// By place when one is given, otherwise by state, ACTIVE unless another is asked for.
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

fn time_zone(name: &str) -> Result<Tz, DomainError> {
    name.parse()
        .map_err(|_| DomainError::invalid("timeZone", format!("{name:?} is no IANA time zone such as Europe/Berlin")))
}
