use domain::Instant;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::station::{Port, PortStatus, Station, StationStatus};
use domain::charging::tariff::Tariff;
use schemars::JsonSchema;
use serde::Serialize;

/// A charging station.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationView {
    /// The id of the station.
    station_id: String,
    /// The name of the station, for people.
    name: String,
    /// The postal address of the station.
    address: String,
    /// The latitude, degrees north.
    latitude: f64,
    /// The longitude, degrees east.
    longitude: f64,
    /// The IANA time zone of the times in the tariff, e.g. `Europe/Berlin`.
    time_zone: &'static str,
    /// The power that the ports of the station share, kW.
    power_kw: f64,
    /// The status of the station.
    status: StationStatus,
    /// The number of ports that are charging now.
    charging_ports: u32,
    /// The tariff of the station, an OCPI 2.2.1 Tariff; absent if the station has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    tariff: Option<Tariff>,
    /// The model by which charging is simulated at the station.
    charging_model: ModelConfig,
    /// The time at which the station was created.
    created_at: Instant,
    /// The time of the last change of the station. The start and end of sessions do not change it.
    updated_at: Instant,
    /// The version of the station, which rises with every change of the station and of its ports. Updates with a lower
    /// version are older.
    version: u64,
    /// The ports of the station; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortView>>,
    /// The distance from the place of the search, km; absent outside of searches.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance_km: Option<f64>,
}

/// A port of a station.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    /// The id of the port, unique at its station.
    port_id: String,
    /// The number that is painted on the port.
    port_number: u32,
    /// The connector of the port.
    connector_type: ConnectorType,
    /// The maximum power of the port, kW.
    max_power_kw: f64,
    /// The status of the port.
    status: PortStatus,
    /// The session that is running at the port; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
}

impl StationView {
    /// Builds the view of a station. `ports` is `None` in lists.
    #[must_use]
    pub fn new(station: &Station, ports: Option<&[Port]>) -> Self {
        Self {
            station_id: station.id.to_string(),
            name: station.name.clone(),
            address: station.address.clone(),
            latitude: station.location.latitude,
            longitude: station.location.longitude,
            time_zone: station.time_zone.name(),
            power_kw: station.power_kw,
            status: station.status,
            charging_ports: station.charging_ports,
            tariff: station.tariff.clone(),
            charging_model: station.model.clone(),
            created_at: station.created_at,
            updated_at: station.updated_at,
            version: station.version,
            ports: ports.map(|ports| ports.iter().map(PortView::new).collect()),
            distance_km: None,
        }
    }

    /// Adds the distance from the place of the search, rounded to metres.
    #[must_use]
    pub fn at_distance(self, km: f64) -> Self {
        Self { distance_km: Some((km * 1000.0).round() / 1000.0), ..self }
    }
}

impl PortView {
    /// Builds the view of a port.
    #[must_use]
    pub fn new(port: &Port) -> Self {
        Self {
            port_id: port.id.to_string(),
            port_number: port.number,
            connector_type: port.connector,
            max_power_kw: port.max_power_kw,
            status: port.status,
            session_id: port.session_id.as_ref().map(ToString::to_string),
        }
    }
}
