//! Event contracts: the messages that the contexts exchange over the event bus.
//!
//! The detail of an event is flat: the fields of the envelope and of the payload are side by side. Within a schema
//! version, fields are only added, and consumers must ignore fields they do not know. The JSON Schemas and examples
//! under `events/` are generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Instant;
use crate::accounts::{UserBlocked, UserDeleted, UserRegistered, UserUnblocked};
use crate::billing::{
    BillingFailed, CreditNoteIssued, InvoiceGenerated, PaymentCompleted, PaymentFailed, PaymentOutcome, WalletToppedUp,
};
use crate::charging::session::{SessionEnded, SessionStarted};
use crate::charging::station::{
    PortAdded, PortFailed, PortRemoved, PortReset, StationCreated, StationDeleted, StationEvent, StationStatusChanged,
    StationUpdated,
};
use crate::id;
use crate::notifications::ErrorLogged;
use crate::poi::OcmSyncCompleted;
use crate::telemetry::{TelemetryRejected, TelemetryStale};

/// The fields that every event has in addition to its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Id of the event. It is the same for every delivery of the event.
    pub event_id: Uuid,
    /// Version of the payload's schema.
    pub schema_version: u32,
    /// When the event occurred.
    pub occurred_at: Instant,
    /// Correlation id of the request that caused the event.
    pub correlation_id: String,
    /// Type and payload of the event.
    #[serde(flatten)]
    pub event: Event,
}

/// Payload of the event. The field `eventType` names its type, which is also the detail-type on the event bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "eventType", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// A charging session started.
    SessionStarted(SessionStarted),
    /// A charging session ended. The event has all data that billing needs.
    SessionEnded(Box<SessionEnded>),
    /// A station was created.
    StationCreated(StationCreated),
    /// The data of a station was changed.
    StationUpdated(StationUpdated),
    /// A station was deleted with its ports.
    StationDeleted(StationDeleted),
    /// A station changed its status.
    StationStatusChanged(StationStatusChanged),
    /// A port was added to a station.
    PortAdded(PortAdded),
    /// A port was removed from a station.
    PortRemoved(PortRemoved),
    /// A port failed.
    PortFailed(PortFailed),
    /// A failed port was reset and is free again.
    PortReset(PortReset),
    /// An invoice was issued.
    InvoiceGenerated(InvoiceGenerated),
    /// An invoice was paid.
    PaymentCompleted(PaymentCompleted),
    /// An invoice could not be paid and waits for money.
    PaymentFailed(PaymentFailed),
    /// An invoice was credited, in full or in part.
    CreditNoteIssued(CreditNoteIssued),
    /// Money was paid into a wallet.
    WalletToppedUp(WalletToppedUp),
    /// A session could not be billed from the report of its end.
    BillingFailed(BillingFailed),
    /// The error log has a new entry that operators have to look at.
    ErrorLogged(ErrorLogged),
    /// A battery-swap station stopped reporting, or reports again.
    TelemetryStale(TelemetryStale),
    /// Too many messages of a battery-swap station were rejected.
    TelemetryRejected(TelemetryRejected),
    /// The mirror of OpenChargeMap was brought up to date.
    OcmSyncCompleted(OcmSyncCompleted),
    /// A user was registered.
    UserRegistered(UserRegistered),
    /// A user was blocked.
    UserBlocked(UserBlocked),
    /// The block of a user was lifted.
    UserUnblocked(UserUnblocked),
    /// The personal data of a user was deleted.
    UserDeleted(UserDeleted),
}

impl Event {
    /// Returns the `eventType`, which is also the detail-type on the event bus.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::SessionStarted(_) => "SESSION_STARTED",
            Self::SessionEnded(_) => "SESSION_ENDED",
            Self::StationCreated(_) => "STATION_CREATED",
            Self::StationUpdated(_) => "STATION_UPDATED",
            Self::StationDeleted(_) => "STATION_DELETED",
            Self::StationStatusChanged(_) => "STATION_STATUS_CHANGED",
            Self::PortAdded(_) => "PORT_ADDED",
            Self::PortRemoved(_) => "PORT_REMOVED",
            Self::PortFailed(_) => "PORT_FAILED",
            Self::PortReset(_) => "PORT_RESET",
            Self::InvoiceGenerated(_) => "INVOICE_GENERATED",
            Self::PaymentCompleted(_) => "PAYMENT_COMPLETED",
            Self::PaymentFailed(_) => "PAYMENT_FAILED",
            Self::CreditNoteIssued(_) => "CREDIT_NOTE_ISSUED",
            Self::WalletToppedUp(_) => "WALLET_TOPPED_UP",
            Self::BillingFailed(_) => "BILLING_FAILED",
            Self::ErrorLogged(_) => "ERROR_LOGGED",
            Self::TelemetryStale(_) => "TELEMETRY_STALE",
            Self::TelemetryRejected(_) => "TELEMETRY_REJECTED",
            Self::OcmSyncCompleted(_) => "OCM_SYNC_COMPLETED",
            Self::UserRegistered(_) => "USER_REGISTERED",
            Self::UserBlocked(_) => "USER_BLOCKED",
            Self::UserUnblocked(_) => "USER_UNBLOCKED",
            Self::UserDeleted(_) => "USER_DELETED",
        }
    }

    /// Returns the source of the event on the event bus: `evoke.` followed by the context.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::SessionStarted(_) | Self::SessionEnded(_) => "evoke.sessions",
            Self::StationCreated(_)
            | Self::StationUpdated(_)
            | Self::StationDeleted(_)
            | Self::StationStatusChanged(_)
            | Self::PortAdded(_)
            | Self::PortRemoved(_)
            | Self::PortFailed(_)
            | Self::PortReset(_) => "evoke.stations",
            Self::InvoiceGenerated(_)
            | Self::PaymentCompleted(_)
            | Self::PaymentFailed(_)
            | Self::CreditNoteIssued(_)
            | Self::WalletToppedUp(_)
            | Self::BillingFailed(_) => "evoke.billing",
            Self::ErrorLogged(_) => "evoke.notifications",
            Self::TelemetryStale(_) | Self::TelemetryRejected(_) => "evoke.telemetry",
            Self::OcmSyncCompleted(_) => "evoke.ocm",
            Self::UserRegistered(_) | Self::UserBlocked(_) | Self::UserUnblocked(_) | Self::UserDeleted(_) => {
                "evoke.accounts"
            }
        }
    }

    /// Returns the version of the payload's schema.
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
    StationCreated,
    StationUpdated,
    StationDeleted,
    StationStatusChanged,
    PortAdded,
    PortRemoved,
    PortFailed,
    PortReset,
    InvoiceGenerated,
    PaymentCompleted,
    PaymentFailed,
    CreditNoteIssued,
    WalletToppedUp,
    BillingFailed,
    ErrorLogged,
    TelemetryStale,
    TelemetryRejected,
    OcmSyncCompleted,
    UserRegistered,
    UserBlocked,
    UserUnblocked,
    UserDeleted
);

impl From<SessionEnded> for Event {
    fn from(ended: SessionEnded) -> Self {
        Self::SessionEnded(Box::new(ended))
    }
}

impl From<StationEvent> for Event {
    fn from(event: StationEvent) -> Self {
        match event {
            StationEvent::StatusChanged(changed) => changed.into(),
            StationEvent::Updated(updated) => updated.into(),
        }
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

/// Creates the envelopes of the events that are written together with one write of an item (outbox). The event ids are
/// derived from the item, its version, the instant and the index of the event, so they stay the same no matter how
/// often the events are relayed. The instant distinguishes the events of an item from those of a deleted item with the
/// same key, because the versions of both start at 1.
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
