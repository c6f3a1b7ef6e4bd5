//! Live updates: the messages to subscribers of the GraphQL API, and which updates follow from which event.
//!
//! An update has the fields of the type of the same name in `infrastructure/graphql/live.graphql`. Updates are sent at
//! least once and in any order. Of two updates, the one with the higher version is newer. Two kinds of updates follow
//! from no event, because events would be too many: the progress of sessions, and changes of battery-swap stations.
//! These are [`Announcement`]s.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::billing::{CreditNoteIssued, EntryKind, Invoice, PaymentCompleted, WalletToppedUp};
use crate::charging::session::{EndReason, Session, SessionEnded, SessionStarted, SessionStatus};
use crate::charging::station::{PortCounts, PortStatus, StationStatus};
use crate::event::{Envelope, Event};
use crate::id::{LogId, PortId, SessionId, StationId, SwapStationId, UserId};
use crate::money::Currency;
use crate::notifications::{ErrorLogged, Level};
use crate::telemetry::{Reading, SwapStationStatus};

/// The types of the events from which updates follow. The rule that invokes `live_publisher` names them.
pub const EVENT_TYPES: [&str; 14] = [
    "SESSION_STARTED",
    "SESSION_ENDED",
    "STATION_CREATED",
    "STATION_UPDATED",
    "STATION_DELETED",
    "STATION_STATUS_CHANGED",
    "PORT_ADDED",
    "PORT_REMOVED",
    "PORT_FAILED",
    "PORT_RESET",
    "WALLET_TOPPED_UP",
    "PAYMENT_COMPLETED",
    "CREDIT_NOTE_ISSUED",
    "ERROR_LOGGED",
];

/// An update. One mutation sends the update to its subscribers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Update {
    /// A session started or ended.
    Session(SessionUpdate),
    /// A station or one of its ports changed.
    Station(StationUpdate),
    /// The sessions at a station were advanced.
    StationProgress(StationProgress),
    /// The balance of a wallet changed.
    Wallet(WalletUpdate),
    /// A battery-swap station changed.
    SwapStation(SwapStationUpdate),
    /// The error log has a new entry that operators have to look at.
    OperatorAlert(OperatorAlert),
}

/// A session started or ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionUpdate {
    /// Id of the session.
    pub session_id: SessionId,
    /// Id of the user who charges and pays.
    pub user_id: UserId,
    /// Id of the station where the session runs.
    pub station_id: StationId,
    /// Id of the port where the session runs.
    pub port_id: PortId,
    /// Status of the session.
    pub status: SessionStatus,
    /// Why the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// State of charge, %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Energy in the meter register, kWh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_kwh: Option<f64>,
    /// Cost including VAT: the total of the invoice, or zero if the session failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Decimal>,
    /// Currency of the cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// When the session started.
    pub started_at: Instant,
    /// When the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Instant>,
    /// When the change occurred.
    pub occurred_at: Instant,
    /// Version of the session.
    pub version: u64,
}

/// A station or one of its ports changed. A field about which the change says nothing is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StationUpdate {
    /// Id of the station.
    pub station_id: StationId,
    /// Status of the station.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StationStatus>,
    /// Name of the station.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// Number of ports that are FREE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_ports: Option<u32>,
    /// Number of ports that are CHARGING.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charging_ports: Option<u32>,
    /// Id of the port that changed. Absent if the station itself changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_id: Option<PortId>,
    /// Status of this port. Absent if the port was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_status: Option<PortStatus>,
    /// Whether the station was deleted.
    pub deleted: bool,
    /// When the change occurred.
    pub occurred_at: Instant,
    /// Version of the station.
    pub version: u64,
}

/// The progress of the sessions at a station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StationProgress {
    /// Id of the station.
    pub station_id: StationId,
    /// The time up to which the sessions were advanced.
    pub at: Instant,
    /// The sessions that a tick advanced, including the sessions that it ended.
    #[schemars(length(max = 100))]
    pub sessions: Vec<SessionProgress>,
}

/// The progress of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionProgress {
    /// Id of the port where the session runs.
    pub port_id: PortId,
    /// Id of the session.
    pub session_id: SessionId,
    /// State of charge, % with at most two decimals.
    #[schemars(range(min = 0, max = 100))]
    pub percent: f64,
    /// Charging power, kW with at most three decimals. It is 0 if the session has ended.
    #[schemars(range(min = 0, max = 5000))]
    pub power_kw: f64,
    /// Energy in the meter register, kWh with at most three decimals.
    #[schemars(range(min = 0, max = 2000))]
    pub energy_kwh: f64,
}

/// The balance of a wallet changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WalletUpdate {
    /// Id of the user who owns the wallet.
    pub user_id: UserId,
    /// Balance after the change.
    pub balance: Decimal,
    /// Currency of the balance.
    pub currency: Currency,
    /// Why the balance changed.
    pub reason: EntryKind,
    /// Id of the top-up, the invoice or the credit note.
    pub reference: String,
    /// When the change occurred.
    pub occurred_at: Instant,
    /// Version of the wallet: the number of its ledger entries.
    pub version: u64,
}

/// The status or the batteries of a battery-swap station changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwapStationUpdate {
    /// Id of the battery-swap station.
    pub station_id: SwapStationId,
    /// Status that the station reports of itself.
    pub status: SwapStationStatus,
    /// Number of batteries that can be taken.
    #[schemars(range(min = 0, max = 10000))]
    pub battery_available: u32,
    /// Number of batteries that are charging.
    #[schemars(range(min = 0, max = 10000))]
    pub battery_charging: u32,
    /// When the values were measured, by the device's clock. Of two updates, the one with the later time is newer.
    pub occurred_at: Instant,
    /// When the reading was received.
    pub received_at: Instant,
}

/// The error log has a new entry that operators have to look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorAlert {
    /// Id of the entry.
    pub log_id: LogId,
    /// What the entry is about, e.g. `PORT_FAILED`.
    pub kind: String,
    /// Severity.
    pub level: Level,
    /// The function or context that reports the problem.
    pub service: String,
    /// Description of the problem.
    pub message: String,
    /// When the problem occurred.
    pub occurred_at: Instant,
}

/// An update that follows from no event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Announcement {
    /// The sessions at a station were advanced.
    StationProgress(StationProgress),
    /// A battery-swap station changed.
    SwapStation(SwapStationUpdate),
}

impl From<Announcement> for Update {
    fn from(announcement: Announcement) -> Self {
        match announcement {
            Announcement::StationProgress(progress) => Self::StationProgress(progress),
            Announcement::SwapStation(update) => Self::SwapStation(update),
        }
    }
}

/// Announcements for one invocation of `live_publisher`.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    announcements: Vec<Announcement>,
    bytes: usize,
}

impl Batch {
    /// The maximum size of the announcements of a batch, bytes. An asynchronous invocation takes a payload of 256 KB,
    /// and the rest of the payload is below 1 KB.
    pub const MOST_BYTES: usize = 200_000;

    /// Adds an announcement. If the announcement does not fit, this returns the earlier announcements, and the batch
    /// then has only the new one.
    pub fn add(&mut self, announcement: Announcement) -> Option<Vec<Announcement>> {
        // The announcement and the comma after it. The serialisation of an announcement cannot fail.
        let bytes = serde_json::to_string(&announcement).map_or(0, |text| text.len() + 1);
        let is_full = !self.announcements.is_empty() && self.bytes + bytes > Self::MOST_BYTES;
        let full = is_full.then(|| self.take());
        self.bytes += bytes;
        self.announcements.push(announcement);
        full
    }

    /// Takes all announcements out of the batch.
    pub fn take(&mut self) -> Vec<Announcement> {
        self.bytes = 0;
        std::mem::take(&mut self.announcements)
    }
}

/// Returns the updates that follow from an event.
///
/// No update follows from an event without versions, which was written before events had versions: subscribers could
/// not compare the update with the values that they have. No update follows from a payment or a credit note that moved
/// no money.
#[must_use]
pub fn updates(envelope: &Envelope) -> Vec<Update> {
    let at = envelope.occurred_at;
    let station = |update: StationUpdate| vec![Update::Station(update)];
    match &envelope.event {
        Event::SessionStarted(event) => session_started(event, at),
        Event::SessionEnded(event) => session_ended(event, at),
        Event::StationCreated(event) => station(StationUpdate {
            status: Some(event.status),
            name: Some(event.name.clone()),
            ..StationUpdate::new(&event.station_id, at, event.station_version).counting(event.counts)
        }),
        Event::StationUpdated(event) => station(StationUpdate {
            status: Some(event.status),
            name: Some(event.name.clone()),
            ..StationUpdate::new(&event.station_id, at, event.station_version).counting(event.counts)
        }),
        Event::StationDeleted(event) => station(StationUpdate {
            deleted: true,
            ..StationUpdate::new(&event.station_id, at, event.station_version).counting(event.counts)
        }),
        Event::StationStatusChanged(event) => {
            let Some((version, counts)) = event.station_version.zip(event.counts) else { return Vec::new() };
            let update = StationUpdate::new(&event.station_id, at, version).counting(counts);
            station(StationUpdate { status: Some(event.to), ..update })
        }
        Event::PortAdded(event) => {
            let update = StationUpdate::new(&event.station_id, at, event.station_version).counting(event.counts);
            station(update.of_port(&event.port_id, Some(PortStatus::Free)))
        }
        Event::PortRemoved(event) => {
            let update = StationUpdate::new(&event.station_id, at, event.station_version).counting(event.counts);
            station(update.of_port(&event.port_id, None))
        }
        Event::PortFailed(event) => {
            let Some((version, counts)) = event.station_version.zip(event.counts) else { return Vec::new() };
            let update = StationUpdate::new(&event.station_id, at, version).counting(counts);
            station(update.of_port(&event.port_id, Some(PortStatus::Error)))
        }
        Event::PortReset(event) => {
            let update = StationUpdate::new(&event.station_id, at, event.station_version).counting(event.counts);
            station(update.of_port(&event.port_id, Some(PortStatus::Free)))
        }
        Event::WalletToppedUp(event) => vec![Update::Wallet(topped_up(event, at))],
        Event::PaymentCompleted(event) => paid(event, at).map(Update::Wallet).into_iter().collect(),
        Event::CreditNoteIssued(event) => refunded(event, at).map(Update::Wallet).into_iter().collect(),
        Event::ErrorLogged(event) => vec![Update::OperatorAlert(alert(event, at))],
        Event::InvoiceGenerated(_)
        | Event::PaymentFailed(_)
        | Event::BillingFailed(_)
        | Event::TelemetryStale(_)
        | Event::TelemetryRejected(_)
        | Event::OcmSyncCompleted(_)
        | Event::UserRegistered(_)
        | Event::UserBlocked(_)
        | Event::UserUnblocked(_)
        | Event::UserDeleted(_) => Vec::new(),
    }
}

fn session_started(event: &SessionStarted, at: Instant) -> Vec<Update> {
    let session = event.version.map(|version| {
        Update::Session(SessionUpdate {
            session_id: event.session_id.clone(),
            user_id: event.user_id.clone(),
            station_id: event.station_id.clone(),
            port_id: event.port_id.clone(),
            status: SessionStatus::Started,
            reason: None,
            percent: Some(event.charge_percent),
            energy_kwh: Some(0.0),
            cost: None,
            currency: None,
            started_at: event.started_at,
            ended_at: None,
            occurred_at: at,
            version,
        })
    });
    let station = event.station_version.map(|version| {
        let update = StationUpdate::new(&event.station_id, at, version);
        Update::Station(update.of_port(&event.port_id, Some(PortStatus::Charging)))
    });
    session.into_iter().chain(station).collect()
}

fn session_ended(event: &SessionEnded, at: Instant) -> Vec<Update> {
    let session = event.version.map(|version| {
        Update::Session(SessionUpdate {
            session_id: event.session_id.clone(),
            user_id: event.user_id.clone(),
            station_id: event.station_id.clone(),
            port_id: event.port_id.clone(),
            status: event.status,
            reason: Some(event.reason),
            percent: None,
            energy_kwh: event.energy_kwh.to_f64(),
            cost: cost(event, at),
            currency: Some(event.tariff.currency),
            started_at: event.started_at,
            ended_at: Some(event.ended_at),
            occurred_at: at,
            version,
        })
    });
    let station = event.station_version.zip(event.port_status).map(|(version, port)| {
        let update = StationUpdate::new(&event.station_id, at, version);
        Update::Station(update.of_port(&event.port_id, Some(port)))
    });
    session.into_iter().chain(station).collect()
}

/// Returns the cost of the session: the total of its invoice. `None` if the session cannot be billed.
fn cost(event: &SessionEnded, at: Instant) -> Option<Decimal> {
    match Invoice::for_session(event, at) {
        Ok(Some(invoice)) => Some(invoice.bill.total_incl_vat),
        Ok(None) => Some(event.tariff.currency.round(Decimal::ZERO)),
        Err(_) => None,
    }
}

fn topped_up(event: &WalletToppedUp, at: Instant) -> WalletUpdate {
    WalletUpdate {
        user_id: event.user_id.clone(),
        balance: event.balance,
        currency: event.currency,
        reason: EntryKind::TopUp,
        reference: event.top_up_id.clone(),
        occurred_at: at,
        version: event.version,
    }
}

/// Returns the update of a payment, or `None` if no money was moved.
fn paid(event: &PaymentCompleted, at: Instant) -> Option<WalletUpdate> {
    let (balance, version) = event.balance.zip(event.wallet_version)?;
    Some(WalletUpdate {
        user_id: event.user_id.clone(),
        balance,
        currency: event.currency,
        reason: EntryKind::Invoice,
        reference: event.invoice_id.to_string(),
        occurred_at: at,
        version,
    })
}

/// Returns the update of a refund, or `None` if nothing was refunded.
fn refunded(event: &CreditNoteIssued, at: Instant) -> Option<WalletUpdate> {
    let (balance, version) = event.balance.zip(event.wallet_version)?;
    Some(WalletUpdate {
        user_id: event.user_id.clone(),
        balance,
        currency: event.currency,
        reason: EntryKind::CreditNote,
        reference: event.credit_note_id.to_string(),
        occurred_at: at,
        version,
    })
}

fn alert(event: &ErrorLogged, at: Instant) -> OperatorAlert {
    OperatorAlert {
        log_id: event.log_id.clone(),
        kind: event.kind.clone(),
        level: event.level,
        service: event.service.clone(),
        message: event.message.clone(),
        occurred_at: at,
    }
}

impl StationUpdate {
    /// Creates an update without any changed value.
    fn new(station_id: &StationId, occurred_at: Instant, version: u64) -> Self {
        Self {
            station_id: station_id.clone(),
            status: None,
            name: None,
            ports: None,
            free_ports: None,
            charging_ports: None,
            port_id: None,
            port_status: None,
            deleted: false,
            occurred_at,
            version,
        }
    }

    fn counting(self, counts: PortCounts) -> Self {
        Self {
            ports: Some(counts.ports),
            free_ports: Some(counts.free_ports),
            charging_ports: Some(counts.charging_ports),
            ..self
        }
    }

    fn of_port(self, port: &PortId, port_status: Option<PortStatus>) -> Self {
        Self { port_id: Some(port.clone()), port_status, ..self }
    }
}

impl SessionProgress {
    /// Returns the progress of a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self {
            port_id: session.port_id.clone(),
            session_id: session.id.clone(),
            percent: (session.charge_percent * 100.0).round() / 100.0,
            power_kw: (session.power_kw * 1000.0).round() / 1000.0,
            energy_kwh: session.register().kwh_f64(),
        }
    }
}

impl SwapStationUpdate {
    /// Returns the update of a station that sent `reading`.
    #[must_use]
    pub fn new(reading: &Reading, received_at: Instant) -> Self {
        Self {
            station_id: reading.station_id.clone(),
            status: reading.status,
            battery_available: reading.battery_available,
            battery_charging: reading.battery_charging,
            occurred_at: reading.timestamp,
            received_at,
        }
    }
}
