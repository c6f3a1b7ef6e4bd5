//! The `account_service` function with an embedded `DynamoDB` and a user pool of MiniStack.
//!
//! The user pool has no trigger here, so its access tokens have no scopes. `token_scopes` has tests of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod clients;
mod customers;
mod deletion;
mod faults;
mod possessions;
mod races;
mod secrecy;
mod sign_in;
mod sign_up;
mod staff;
mod world;
