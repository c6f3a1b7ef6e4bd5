//! The tests of the domain: its rules by examples, by golden values and by random histories, its event contracts, and
//! what it may depend on. They are one binary, so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod accounts;
mod billing_properties;
mod charging_golden;
mod charging_properties;
mod common;
mod contracts;
mod cost_limits;
mod geo_properties;
mod hold_properties;
mod invariants;
mod least_price;
mod live;
mod oracle;
#[path = "../../../testkit/src/random.rs"]
mod random;
mod site;
mod state_machines;
mod tariff_golden;
mod tariff_properties;
