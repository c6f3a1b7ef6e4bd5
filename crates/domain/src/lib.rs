//! The rules of Evoke, and nothing else: state machines, the charging model, tariffs and their prices, invoices,
//! wallets, telemetry, the mirror of OpenChargeMap, event contracts.
//!
//! Everything here is pure. There is no clock (time is an argument), no environment, no network and no async runtime:
//! what a function of this crate answers depends on its arguments alone. `tests/invariants.rs` holds that.

pub mod actor;
pub mod bill;
pub mod billing;
pub mod charging;
pub mod connector;
pub mod dead_letter;
pub mod error;
pub mod error_log;
pub mod event;
pub mod geo;
pub mod id;
pub mod machine;
pub mod money;
pub mod poi;
pub mod rotation;
pub mod session;
pub mod site;
pub mod station;
pub mod tariff;
pub mod telemetry;
pub mod units;
pub mod user;

/// An instant, UTC.
pub type Instant = chrono::DateTime<chrono::Utc>;
