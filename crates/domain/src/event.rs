//! Event contracts: what the contexts tell each other over the bus.
//!
//! A detail is flat: the envelope's fields and the payload's side by side. Within a version fields are only added;
//! consumers ignore what they do not know. JSON Schemas and examples under `events/` are generated from these types.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Instant;
use crate::billing::{InvoiceStatus, PaymentRefusal};
use crate::id::{self, CreditNoteId, InvoiceId, PortId, SessionId, StationId, UserId};
use crate::money::{Currency, amount_schema, decimal_schema};
use crate::session::{EndReason, SessionStatus};
use crate::station::StationStatus;
use crate::tariff::{ChargingPeriod, PeriodState, Tariff};

/// What every event carries beside its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The same for every delivery of this event.
    pub event_id: Uuid,
    /// Version of the payload's contract.
    pub schema_version: u32,
    /// When it happened.
    pub occurred_at: Instant,
    /// Of the request that brought it about.
    pub correlation_id: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. `eventType` names it, and is the detail-type on the bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "eventType", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// A session began to charge.
    SessionStarted(SessionStarted),
    /// A session ended; carries all that billing needs.
    SessionEnded(Box<SessionEnded>),
    /// A station changed its state.
    StationStatusChanged(StationStatusChanged),
    /// A port failed.
    PortFailed(PortFailed),
    /// An invoice was issued.
    InvoiceGenerated(InvoiceGenerated),
    /// An invoice was paid.
    PaymentCompleted(PaymentCompleted),
    /// An invoice could not be paid and waits for money.
    PaymentFailed(PaymentFailed),
    /// An invoice was credited, wholly or in part.
    CreditNoteIssued(CreditNoteIssued),
    /// A session cannot be billed as its end was reported.
    BillingFailed(BillingFailed),
    /// A battery-swap station fell silent, or is back.
    TelemetryStale(TelemetryStale),
    /// Too many messages of a battery-swap station were rejected.
    TelemetryRejected(TelemetryRejected),
    /// The mirror of OpenChargeMap was brought up to date.
    OcmSyncCompleted(OcmSyncCompleted),
}

/// A session began to charge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SessionStarted {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub station_id: StationId,
    pub port_id: PortId,
    /// State of charge at the start, %.
    pub charge_percent: f64,
    /// State of charge at which it will end, %.
    pub target_percent: f64,
    pub started_at: Instant,
}

/// A session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SessionEnded {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub station_id: StationId,
    pub port_id: PortId,
    /// COMPLETED, INTERRUPTED or FAILED; a FAILED session is not billed.
    pub status: SessionStatus,
    pub reason: EndReason,
    /// Of the billable meter register, kWh.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub energy_kwh: Decimal,
    pub duration_minutes: f64,
    pub started_at: Instant,
    pub ended_at: Instant,
    /// The tariff as it was when the session started.
    pub tariff: Tariff,
    /// IANA name of the zone in which the tariff's times are meant.
    pub time_zone: String,
    pub charging_periods: Vec<EventPeriod>,
}

/// A stretch of the session during which energy flowed evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct EventPeriod {
    pub start: Instant,
    pub end: Instant,
    pub state: PeriodState,
    /// kWh.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub energy_kwh: Decimal,
    /// kW.
    #[schemars(schema_with = "decimal_schema")]
    #[serde(with = "rust_decimal::serde::float")]
    pub power_kw: Decimal,
}

/// A station changed its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct StationStatusChanged {
    pub station_id: StationId,
    pub from: StationStatus,
    pub to: StationStatus,
}

/// A port failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PortFailed {
    pub station_id: StationId,
    pub port_id: PortId,
    /// The session that failed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    pub reason: String,
}

/// An invoice was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct InvoiceGenerated {
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    pub station_id: StationId,
    /// PAID or OPEN, as it was issued.
    pub status: InvoiceStatus,
    pub currency: Currency,
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
    pub issued_at: Instant,
}

/// An invoice was paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PaymentCompleted {
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    /// What was due, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    pub currency: Currency,
}

/// An invoice could not be paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PaymentFailed {
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    /// What is due, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    pub currency: Currency,
    pub reason: PaymentRefusal,
}

/// An invoice was credited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct CreditNoteIssued {
    pub credit_note_id: CreditNoteId,
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    /// What was credited, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    /// What of it went back to the wallet.
    #[schemars(schema_with = "amount_schema")]
    pub refunded: Decimal,
    pub currency: Currency,
}

/// A session cannot be billed: the report of its end is kept in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BillingFailed {
    pub session_id: SessionId,
    /// What is wrong with the report.
    pub reason: String,
    /// Where in the quarantine bucket the report is.
    pub quarantine_key: String,
}

/// A battery-swap station fell silent, or is back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct TelemetryStale {
    pub station_id: StationId,
    /// Whether it is silent; false when it is back.
    pub stale: bool,
    /// Of its latest reading, by its own clock.
    pub last_seen_at: Instant,
    /// For how long it has been silent, or was until it came back, s.
    pub silent_seconds: u64,
}

/// Too many messages of a battery-swap station were rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct TelemetryRejected {
    /// The station in whose topic they were published.
    pub station_id: StationId,
    /// How many.
    pub count: u32,
    /// Within this time, s.
    pub window_seconds: u32,
    /// What was wrong with the last one.
    pub reason: String,
    /// Where in the telemetry bucket that one is.
    pub rejected_key: String,
}

/// The mirror of OpenChargeMap was brought up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OcmSyncCompleted {
    /// Where the POIs come from.
    pub source: String,
    /// When the first run of this synchronisation began; one that runs out of time is continued by the next.
    pub started_at: Instant,
    /// When the last one ended.
    pub finished_at: Instant,
    /// Records looked at.
    pub processed: u64,
    /// POIs written because they are new or different.
    pub updated: u64,
    /// POIs removed because the source has them no more.
    pub removed: u64,
    /// Records that cannot be understood, and were kept aside.
    pub failed: u64,
}

impl EventPeriod {
    /// As the price engine takes it. JSON numbers are brought back to the three decimals that meters have.
    #[must_use]
    pub fn metered(&self) -> ChargingPeriod {
        ChargingPeriod {
            start: self.start,
            end: self.end,
            state: self.state,
            kwh: self.energy_kwh.round_dp(3),
            power_kw: Some(self.power_kw.round_dp(3)),
            current_a: None,
        }
    }
}

impl Event {
    /// `eventType`, which is the detail-type on the bus.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::SessionStarted(_) => "SESSION_STARTED",
            Self::SessionEnded(_) => "SESSION_ENDED",
            Self::StationStatusChanged(_) => "STATION_STATUS_CHANGED",
            Self::PortFailed(_) => "PORT_FAILED",
            Self::InvoiceGenerated(_) => "INVOICE_GENERATED",
            Self::PaymentCompleted(_) => "PAYMENT_COMPLETED",
            Self::PaymentFailed(_) => "PAYMENT_FAILED",
            Self::CreditNoteIssued(_) => "CREDIT_NOTE_ISSUED",
            Self::BillingFailed(_) => "BILLING_FAILED",
            Self::TelemetryStale(_) => "TELEMETRY_STALE",
            Self::TelemetryRejected(_) => "TELEMETRY_REJECTED",
            Self::OcmSyncCompleted(_) => "OCM_SYNC_COMPLETED",
        }
    }

    /// The source on the bus: `evoke.` and the context.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::SessionStarted(_) | Self::SessionEnded(_) => "evoke.sessions",
            Self::StationStatusChanged(_) | Self::PortFailed(_) => "evoke.stations",
            Self::InvoiceGenerated(_)
            | Self::PaymentCompleted(_)
            | Self::PaymentFailed(_)
            | Self::CreditNoteIssued(_)
            | Self::BillingFailed(_) => "evoke.billing",
            Self::TelemetryStale(_) | Self::TelemetryRejected(_) => "evoke.telemetry",
            Self::OcmSyncCompleted(_) => "evoke.ocm",
        }
    }

    /// Version of the payload's contract.
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        1
    }
}

/// Seals the events that ride on one write of an item. Their ids are derived from the item, its version, the instant
/// and their index, so they stay the same however often they are relayed. The instant tells the events of an item from
/// those of an item with the same key that was deleted before: the versions of both begin at 1.
#[must_use]
pub fn seal(
    item: &str,
    version: u64,
    occurred_at: Instant,
    correlation_id: &str,
    events: impl IntoIterator<Item = Event>,
) -> Vec<Envelope> {
    let (version, at) = (version.to_string(), occurred_at.timestamp_millis().to_string());
    events
        .into_iter()
        .enumerate()
        .map(|(index, event)| Envelope {
            event_id: id::derive(&["event", item, &version, &at, &index.to_string()]),
            schema_version: event.schema_version(),
            occurred_at,
            correlation_id: correlation_id.to_owned(),
            event,
        })
        .collect()
}
