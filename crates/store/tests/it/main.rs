//! The tests of the stores on an embedded `DynamoDB`: lists and their tokens, indexes, and faults. They are one binary,
//! so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod bounded_lists;
mod common;
mod contention;
mod indexes;
mod near;
mod tokens;
mod users;
