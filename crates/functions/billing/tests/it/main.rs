//! The tests of billing on an embedded `DynamoDB`: single rules, random histories with faults, and the real binary.
//! They are one binary, so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
mod exactly_once;
mod holds;
#[path = "../../../../domain/tests/it/oracle.rs"]
mod oracle;
mod rules;
mod service_level;
