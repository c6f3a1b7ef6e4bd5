use domain::Instant;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::station::{Port, PortStatus, Station, StationStatus};
use domain::charging::tariff::Tariff;
use domain::id::{PortId, StationId};
use schemars::JsonSchema;
use serde::Serialize;

/// A station as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationView {
    station_id: String,
    name: String,
    address: String,
    latitude: f64,
    longitude: f64,
    time_zone: &'static str,
    power_kw: f64,
    status: StationStatus,
    /// Ports that charge now.
    charging_ports: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tariff: Option<Tariff>,
    charging_model: ModelConfig,
    created_at: Instant,
    updated_at: Instant,
    /// Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortView>>,
    /// From the place that was searched from.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance_km: Option<f64>,
}

/// A port as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    port_id: String,
    port_number: u32,
    connector_type: ConnectorType,
    max_power_kw: f64,
    status: PortStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
}

/// The answer to the deletion of a station.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedStation {
    pub station_id: StationId,
    pub deleted: bool,
}

/// The answer to the removal of a port.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovedPort {
    pub station_id: StationId,
    pub port_id: PortId,
    pub removed: bool,
}

impl StationView {
    /// `station`, with `ports` unless it is one of a list.
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
            ports: ports.map(|ports| ports.iter().map(PortView::new).collect()),
            distance_km: None,
        }
    }

    /// The same, `km` from the place that was searched from.
    #[must_use]
    pub fn at_distance(self, km: f64) -> Self {
        Self { distance_km: Some((km * 1000.0).round() / 1000.0), ..self }
    }
}

impl PortView {
    /// `port`.
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
