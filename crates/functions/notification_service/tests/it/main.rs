//! The tests of notifications and of the error log on an embedded `DynamoDB`. They are one binary, so that the crate's
//! tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod lists;
mod mails;
mod notifications;
