//! The GraphQL API of the deployed stack, used in the way of a driver's application.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use appsync::{AppSync, Credentials, Error, GraphQlError, Live, Subscription, Update};
use domain::Instant;
use domain::charging::session::SessionStatus;
use domain::charging::station::{PortStatus, StationStatus};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::stack::Stack;

/// The fields of [`Session`] in a document.
const SESSION: &str = "sessionId stationId portId status chargePercent targetPercent powerKw energyKwh cost currency \
                       meteredAt endReason version";
/// The fields of [`Station`] in a document.
const STATION: &str =
    "stationId name status powerKw ports { portId portNumber connectorType maxPowerKw status } version";

/// A session, as a query reads it.
#[derive(Clone, Debug, Deserialize)]
#[allow(clippy::struct_field_names)] // the names of the schema
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub session_id: String,
    pub station_id: String,
    pub port_id: String,
    pub status: SessionStatus,
    /// The state of charge, %.
    pub charge_percent: f64,
    /// The state of charge at which the session ends, %.
    pub target_percent: f64,
    pub power_kw: f64,
    pub energy_kwh: f64,
    /// The total of an invoice that would be issued now, a decimal.
    pub cost: String,
    pub currency: String,
    /// The time up to which the values above are known.
    pub metered_at: Instant,
    pub end_reason: Option<String>,
    pub version: u64,
}

/// A station with its ports, as a query reads it.
#[derive(Clone, Debug, Deserialize)]
#[allow(clippy::struct_field_names)] // the names of the schema
#[serde(rename_all = "camelCase")]
pub struct Station {
    pub station_id: String,
    pub name: String,
    pub status: StationStatus,
    pub power_kw: f64,
    pub ports: Vec<Port>,
    pub version: u64,
}

/// A port of a station.
#[derive(Clone, Debug, Deserialize)]
#[allow(clippy::struct_field_names)] // the names of the schema
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub port_id: String,
    pub port_number: u32,
    pub connector_type: String,
    pub max_power_kw: f64,
    pub status: PortStatus,
}

/// A user's access to the GraphQL API.
pub struct GraphQl {
    api: AppSync,
    credentials: Arc<dyn Credentials>,
}

impl GraphQl {
    /// Creates an access with these credentials.
    pub fn new(stack: &Stack, credentials: Arc<dyn Credentials>) -> Result<Self> {
        Ok(Self { api: stack.appsync()?, credentials })
    }

    /// Reads a session.
    pub async fn session(&self, id: &str) -> Result<Session> {
        let document = format!("query Session($sessionId: ID!) {{ session(sessionId: $sessionId) {{ {SESSION} }} }}");
        self.call("session", &document, json!({ "sessionId": id })).await
    }

    /// Reads a station.
    pub async fn station(&self, id: &str) -> Result<Station> {
        let document = format!("query Station($stationId: ID!) {{ station(stationId: $stationId) {{ {STATION} }} }}");
        self.call("station", &document, json!({ "stationId": id })).await
    }

    /// Starts a session of a small car at the first port of a station.
    pub async fn start_session(&self, station: &str) -> Result<Session> {
        let document = format!(
            "mutation Start($stationId: ID!, $portId: ID!, $vehicle: VehicleInput!, $chargePercent: Float!) {{ \
             startSession(stationId: $stationId, portId: $portId, vehicle: $vehicle, chargePercent: $chargePercent) \
             {{ {SESSION} }} }}"
        );
        let vehicle = json!({ "batteryCapacityKwh": 60 });
        let start = json!({ "stationId": station, "portId": "port-1", "vehicle": vehicle, "chargePercent": 20 });
        self.call("startSession", &document, start).await
    }

    /// Stops a session.
    pub async fn stop_session(&self, id: &str) -> Result<Session> {
        let document =
            format!("mutation Stop($sessionId: ID!) {{ stopSession(sessionId: $sessionId) {{ {SESSION} }} }}");
        self.call("stopSession", &document, json!({ "sessionId": id })).await
    }

    /// Subscribes on a connection of its own.
    pub fn subscribe(&self, subscriptions: Vec<Subscription>) -> Live<Update> {
        self.api.subscribe(self.credentials.clone(), subscriptions)
    }

    /// Executes a document with one field. If the API refuses the authorization, another one is tried once.
    async fn call<T: DeserializeOwned>(&self, field: &str, document: &str, variables: Value) -> Result<T> {
        let first = self.credentials.authorization(None).await?.context("there is no authorization")?;
        let errors = match self.api.call(&first, field, document, &variables).await {
            Err(Error::Refused(errors)) if errors.iter().any(GraphQlError::is_unauthorized) => errors,
            answer => return Ok(answer?),
        };
        match self.credentials.authorization(Some(&first)).await? {
            Some(second) => Ok(self.api.call(&second, field, document, &variables).await?),
            None => bail!(Error::Refused(errors)),
        }
    }
}

/// Returns whether a request failed because nothing has this id.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().and_then(Error::kind) == Some("NotFoundError")
}
