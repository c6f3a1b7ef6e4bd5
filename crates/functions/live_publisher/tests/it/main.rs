//! `live_publisher` with a stand-in for AppSync that verifies signatures and sends what mutations select.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod appsync;
mod publish;
mod schema;
