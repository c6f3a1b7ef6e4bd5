//! Persistence, in `DynamoDB` and the telemetry archive in S3: one file per aggregate, keys formatted in one place,
//! every write conditional or repeatable.
//!
//! Nothing here decides: what may happen is `domain`'s business, that it happens exactly once is this crate's.

mod archive;
mod billing;
mod capacity;
mod charging;
mod db;
mod error;
mod error_logs;
mod fleet_part;
mod item;
pub mod keys;
mod lists;
mod near;
mod outbox;
mod page;
mod pois;
mod retry;
mod sessions;
mod sharded;
mod stations;
mod telemetry;
mod time;
mod transaction;
mod users;

pub use archive::{Archive, ArchiveRequests};
pub use billing::{BillingStore, InvoiceFilter, LoadedInvoice, TopUp};
pub use capacity::{Capacity, Units};
pub use charging::ChargingStore;
pub use db::Db;
pub use error::StoreError;
pub use error_logs::{ErrorLogFilter, ErrorLogStore};
pub use fleet_part::FleetPart;
pub use page::{Page, PageRequest};
pub use pois::{LoadedState, PoiStore};
pub use sessions::{ActiveKey, LoadedSession, SessionFilter, SessionStore};
pub use stations::{LoadedStation, StationFilter, StationStore};
pub use telemetry::{Round, StationState, TelemetryStore};
pub use transaction::Transaction;
pub use users::UserStore;

pub use aws_sdk_dynamodb::Client;
pub use aws_sdk_s3::Client as S3Client;

/// The correlation id that events written by an operation carry, and when it happened.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Correlation id of the request or event being worked on.
    pub correlation_id: String,
    /// When the change happens.
    pub now: domain::Instant,
}
