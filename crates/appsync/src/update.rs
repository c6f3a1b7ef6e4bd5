//! The updates of subscriptions, as `infrastructure/graphql/live.graphql` defines them.

use domain::Instant;
use domain::charging::session::SessionStatus;
use domain::charging::station::{PortStatus, StationStatus};
use domain::telemetry::SwapStationStatus;
use serde::Deserialize;

/// An update, by the name of the subscription's field.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Update {
    /// A session started or ended.
    SessionChanged(SessionUpdate),
    /// A station or one of its ports changed.
    StationChanged(StationUpdate),
    /// The sessions at a station were advanced.
    StationProgress(StationProgress),
    /// The balance of a wallet changed.
    WalletChanged(WalletUpdate),
    /// The status or the batteries of a battery-swap station changed.
    SwapStationChanged(SwapStationUpdate),
    /// Operators have to look at a new entry of the error log.
    OperatorAlert(OperatorAlert),
}

/// A session started or ended.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionUpdate {
    /// The id of the session.
    pub session_id: String,
    /// The user who pays for the session.
    pub user_id: String,
    /// The station at which the vehicle charges.
    pub station_id: String,
    /// The port at which the vehicle charges.
    pub port_id: String,
    /// The status of the session.
    pub status: SessionStatus,
    /// Why the session ended.
    pub reason: Option<String>,
    /// The state of charge, %.
    pub percent: Option<f64>,
    /// The energy in the meter register, kWh.
    pub energy_kwh: Option<f64>,
    /// The cost including VAT, a decimal.
    pub cost: Option<String>,
    /// The currency of the cost (ISO 4217).
    pub currency: Option<String>,
    /// The time at which the session started.
    pub started_at: Option<Instant>,
    /// The time at which the session ended.
    pub ended_at: Option<Instant>,
    /// The time of the change.
    pub occurred_at: Instant,
    /// The version of the session.
    pub version: u64,
}

/// A station or one of its ports changed. A field about which the change says nothing is `None`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StationUpdate {
    /// The id of the station.
    pub station_id: String,
    /// The status of the station.
    pub status: Option<StationStatus>,
    /// The name of the station.
    pub name: Option<String>,
    /// The number of ports.
    pub ports: Option<u32>,
    /// The number of ports that are FREE.
    pub free_ports: Option<u32>,
    /// The number of ports that are CHARGING.
    pub charging_ports: Option<u32>,
    /// The port that changed; `None` if the station itself changed.
    pub port_id: Option<String>,
    /// The status of the port that changed; `None` if it was removed.
    pub port_status: Option<PortStatus>,
    /// Whether the station was deleted.
    pub deleted: bool,
    /// The time of the change.
    pub occurred_at: Instant,
    /// The version of the station.
    pub version: u64,
}

/// The sessions at a station were advanced.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StationProgress {
    /// The id of the station.
    pub station_id: String,
    /// The time up to which the sessions were advanced.
    pub at: Instant,
    /// The sessions that the tick advanced, including the sessions that it ended.
    pub sessions: Vec<SessionProgress>,
}

/// The progress of a session.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionProgress {
    /// The port at which the vehicle charges.
    pub port_id: String,
    /// The id of the session.
    pub session_id: String,
    /// The state of charge, %.
    pub percent: f64,
    /// The charging power, kW.
    pub power_kw: f64,
    /// The energy in the meter register, kWh.
    pub energy_kwh: f64,
}

/// The balance of a wallet changed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalletUpdate {
    /// The owner of the wallet.
    pub user_id: String,
    /// The balance, a decimal.
    pub balance: String,
    /// The currency of the balance (ISO 4217).
    pub currency: String,
    /// Why the balance changed, e.g. `TOP_UP`.
    pub reason: String,
    /// The id of what changed the balance, e.g. of the invoice.
    pub reference: Option<String>,
    /// The time of the change.
    pub occurred_at: Instant,
    /// The version of the wallet: the number of entries in its ledger.
    pub version: u64,
}

/// The status or the batteries of a battery-swap station changed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapStationUpdate {
    /// The id of the station.
    pub station_id: String,
    /// The status that the station reports of itself.
    pub status: SwapStationStatus,
    /// The number of batteries that can be taken.
    pub battery_available: u32,
    /// The number of batteries that are charging.
    pub battery_charging: u32,
    /// The time of the report, by the clock of the station.
    pub occurred_at: Instant,
    /// The time at which the platform received the report.
    pub received_at: Instant,
}

/// Operators have to look at a new entry of the error log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorAlert {
    /// The id of the entry in the error log.
    pub log_id: String,
    /// What the entry is about, e.g. `PORT_FAILED`.
    pub kind: String,
    /// The severity, e.g. `ERROR`.
    pub level: String,
    /// The function or context that reports.
    pub service: String,
    /// What happened.
    pub message: String,
    /// The time at which it happened.
    pub occurred_at: Instant,
}
