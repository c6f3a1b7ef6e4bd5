//! The rules of Evoke, and nothing else: state machines, the charging model, tariffs and their prices, invoices,
//! wallets, telemetry, the mirror of OpenChargeMap, event contracts.
//!
//! Everything here is pure. There is no clock (time is an argument), no environment, no network and no async runtime:
//! what a function of this crate answers depends on its arguments alone. `tests/invariants.rs` holds that.

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
pub mod machine;
pub mod money;
pub mod notifications;
pub mod poi;
pub mod rotation;
pub mod telemetry;
pub mod units;

/// An instant, UTC.
pub type Instant = chrono::DateTime<chrono::Utc>;
