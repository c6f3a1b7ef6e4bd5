//! Helpers for tests: the embedded DynamoDB, fakes of the services around a function, and functions that invoke it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // a test fails by panicking

mod aws;
mod builders;
mod doors;
mod dynamodb;
mod faults;
mod lambda;
mod ocm;
mod places;
mod random;
mod runtime_api;
mod s3;
mod shares;
mod tables;
mod telemetry;
mod template;
mod turns;
mod user_pool;

pub use aws::{FakeAws, NOWHERE, RecordedCall, no_redelivery, sdk_config};
pub use builders::{ended, low_below, machine_client, registered, rfid, vehicle};
pub use doors::{Outcome, graphql_event, http_event, identity, invoke, invoke_raw, sqs_event, stream_event};
pub use dynamodb::EmbeddedDynamoDb;
pub use faults::{Fault, FaultyHttp};
pub use lambda::FakeLambda;
pub use ocm::{OcmChange, OcmFault, OcmServer};
pub use places::{places, places_around};
pub use random::seeded;
pub use runtime_api::RuntimeApi;
pub use s3::EmbeddedS3;
pub use shares::run_in_shares;
pub use tables::{Attribute, Key, Projection, Table, TableIndex, tables};
pub use telemetry::{archived, lines, reading};
pub use template::{resources, template};
pub use turns::{Turn, Turns};
pub use user_pool::LocalCognito;
