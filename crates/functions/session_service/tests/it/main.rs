//! The tests of the charging context on an embedded `DynamoDB`: its rules, its lists, what it costs, and concurrent
//! commands. They are one binary, so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod blocks;
mod capacity;
mod changed;
mod common;
mod concurrency;
mod contention;
mod deletions;
mod events;
mod interleavings;
mod lists;
mod network;
mod prepaid;
mod quotes;
mod rules;
mod site;
mod unread_users;
mod vehicles;
