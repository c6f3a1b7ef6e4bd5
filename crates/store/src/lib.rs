//! Persistence: the tables in `DynamoDB` and the telemetry archive in S3.
//!
//! Each context has a module with the stores of its aggregates. `keys` formats every key and names the attributes of
//! the indexes. `dynamodb` has the parts that all stores share. Every write is either conditional or safe to repeat.
//! The rules that decide what may happen are in `domain`; this crate makes sure that it happens exactly once.

mod accounts;
mod aws_error;
mod billing;
mod charging;
mod dynamodb;
mod error;
pub mod keys;
mod notifications;
mod poi;
mod telemetry;

pub use accounts::{UserFilter, UserStore};
pub use aws_error::AwsError;
pub use billing::{BillingStore, InvoiceFilter, LoadedInvoice, TopUp};
pub use charging::{
    ActiveKey, ChargingStore, FleetPart, LoadedSession, LoadedStation, SessionFilter, SessionStore, StationFilter,
    StationStore,
};
pub use dynamodb::{Capacity, Db, Page, PageRequest, Table, Transaction, Units};
pub use error::StoreError;
pub use notifications::{ErrorLogFilter, ErrorLogStore};
pub use poi::{LoadedState, PoiStore};
pub use telemetry::{Archive, ArchiveRequests, Recorded, Round, StationState, TelemetryStore};

pub use aws_sdk_dynamodb::Client;
pub use aws_sdk_s3::Client as S3Client;

/// The context of a write: the correlation id that its events carry, and when the change happens.
#[derive(Clone, Debug)]
pub struct EventContext {
    /// Correlation id of the request or event that is being processed.
    pub correlation_id: String,
    /// When the change happens.
    pub now: domain::Instant,
}
