//! The tests of a deployed stack. They are one binary, so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod accounts;
mod alarms;
mod billing;
mod charging;
mod deployment;
mod graphql;
mod http_api;
mod mirror;
mod notifications;
mod schemathesis;
mod telemetry;
