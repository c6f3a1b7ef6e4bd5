//! The business rules of Evoke: state machines, the charging model, tariffs and their prices, invoices, wallets,
//! telemetry, the mirror of OpenChargeMap, and event contracts.
//!
//! Everything in this crate is pure. There is no clock (time is an argument), no environment, no network and no async
//! runtime: the result of a function depends on its arguments alone. `tests/it/invariants.rs` checks this.

pub mod accounts;
pub mod actor;
pub mod battery;
pub mod billing;
pub mod charging;
pub mod dead_letter;
pub mod error;
pub mod event;
pub mod geo;
pub mod id;
pub mod live;
pub mod machine;
pub mod money;
pub mod notifications;
pub mod poi;
pub mod rotation;
pub mod telemetry;
pub mod units;

/// A point in time, in UTC.
pub type Instant = chrono::DateTime<chrono::Utc>;
