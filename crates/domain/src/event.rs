//! Event contracts: what the contexts tell each other over the bus.
//!
//! A detail is flat: the envelope's fields and the payload's side by side. Within a version fields are only added;
//! consumers ignore what they do not know. JSON Schemas and examples under `events/` are generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Instant;
use crate::billing::{
    BillingFailed, CreditNoteIssued, InvoiceGenerated, PaymentCompleted, PaymentFailed, PaymentOutcome,
};
use crate::charging::session::{SessionEnded, SessionStarted};
use crate::charging::station::{PortFailed, StationStatusChanged};
use crate::id;
use crate::poi::OcmSyncCompleted;
use crate::telemetry::{TelemetryRejected, TelemetryStale};

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

macro_rules! event_from {
    ($($payload:ident),*) => {
        $(impl From<$payload> for Event {
            fn from(payload: $payload) -> Self {
                Self::$payload(payload)
            }
        })*
    };
}

event_from!(
    SessionStarted,
    StationStatusChanged,
    PortFailed,
    InvoiceGenerated,
    PaymentCompleted,
    PaymentFailed,
    CreditNoteIssued,
    BillingFailed,
    TelemetryStale,
    TelemetryRejected,
    OcmSyncCompleted
);

impl From<SessionEnded> for Event {
    fn from(ended: SessionEnded) -> Self {
        Self::SessionEnded(Box::new(ended))
    }
}

impl From<PaymentOutcome> for Event {
    fn from(outcome: PaymentOutcome) -> Self {
        match outcome {
            PaymentOutcome::Completed(completed) => completed.into(),
            PaymentOutcome::Failed(failed) => failed.into(),
        }
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
    events: impl IntoIterator<Item = impl Into<Event>>,
) -> Vec<Envelope> {
    let (version, at) = (version.to_string(), occurred_at.timestamp_millis().to_string());
    events
        .into_iter()
        .map(Into::<Event>::into)
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
