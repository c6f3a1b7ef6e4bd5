//! All functions through their [`Door`], and what the template, docs/openapi.json, docs/API.md and the GraphQL schema
//! say of them.
//!
//! [`functions`] is the only list of functions. The modules of the contexts have what is known of single functions: the
//! input that they must refuse, and the requests that are the examples of the `OpenAPI` document. The tests of the
//! simulated OpenChargeMap are here too, so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod accounts;
mod bad_input;
mod billing;
mod charging;
mod configuration;
mod graphql;
mod health;
mod http;
mod live;
mod metrics;
mod notifications;
mod oauth;
mod ocm_server;
mod openapi;
mod poi;
mod telemetry;
mod triggers;

use std::sync::Arc;
use std::time::Duration;

use ::billing::Billing;
use aws_config::SdkConfig;
use billing_audit::BillingAudit;
use charging_simulator::ChargingSimulator;
use dlq_reconciler::{DeadLetterQueues, DlqReconciler, Quarantine};
use domain::telemetry::Silence;
use event_relay::EventRelay;
use futures::future::LocalBoxFuture;
use health_check::HealthCheck;
use lambda_kit::{Clock, ConfigError, Door, Env, FromEnv, Function, Operation, RemoteFunction};
use live_publisher::LivePublisher;
use notification_service::{NotificationService, Topics};
use ocm_sync::{ApiKey, OcmSync, Source};
use poi_service::PoiService;
use station_service::StationService;
use store::{Archive, S3Client};
use telemetry_api::TelemetryApi;
use telemetry_handler::TelemetryHandler;
use telemetry_monitor::TelemetryMonitor;
use testkit::{EmbeddedDynamoDb, NOWHERE, Outcome, invoke_raw, low_below, no_redelivery, sdk_config};
use token_scopes::TokenScopes;

/// All functions, in the order of docs/API.md. Each is created with the embedded DynamoDB, and reaches nothing else.
fn functions() -> Vec<AnyFunction> {
    vec![
        AnyFunction::of::<_, station_service::Config>(|dynamodb| StationService::new(dynamodb.charging())),
        AnyFunction::of::<_, session_service::Config>(charging::session_service),
        AnyFunction::of::<_, ::billing::Config>(|dynamodb| {
            Billing::new(dynamodb.billing(), dynamodb.users(), "EUR".parse().unwrap(), no_redelivery())
        }),
        AnyFunction::of::<_, notification_service::Config>(|dynamodb| {
            NotificationService::new(dynamodb.error_logs(), topics(&nowhere()), low_below("0"), None, no_redelivery())
        }),
        AnyFunction::of::<_, account_service::Config>(|dynamodb| accounts::service(dynamodb, &nowhere())),
        AnyFunction::of::<_, telemetry_api::Config>(|dynamodb| {
            TelemetryApi::new(dynamodb.telemetry(), no_archive(), silence())
        }),
        AnyFunction::of::<_, poi_service::Config>(|dynamodb| PoiService::new(dynamodb.pois())),
        AnyFunction::of::<_, health_check::Config>(|dynamodb| {
            HealthCheck::new(vec![], None, dynamodb.client(), aws_sdk_eventbridge::Client::new(&nowhere()))
        }),
        AnyFunction::of::<_, charging_simulator::Config>(|dynamodb| {
            ChargingSimulator::new(dynamodb.charging(), None, 100)
        }),
        AnyFunction::of::<_, telemetry_handler::Config>(|dynamodb| {
            TelemetryHandler::new(dynamodb.telemetry(), no_archive(), no_redelivery(), 10)
        }),
        AnyFunction::of::<_, telemetry_monitor::Config>(|dynamodb| {
            TelemetryMonitor::new(dynamodb.telemetry(), silence())
        }),
        AnyFunction::of::<_, ocm_sync::Config>(|dynamodb| {
            OcmSync::new(dynamodb.pois(), Source::new(NOWHERE, ApiKey::parameter(&nowhere(), "/key"), 100).unwrap())
        }),
        AnyFunction::of::<_, billing_audit::Config>(|dynamodb| {
            BillingAudit::new(dynamodb.charging().sessions, dynamodb.billing(), no_function(), no_function())
        }),
        AnyFunction::of::<_, token_scopes::Config>(|dynamodb| TokenScopes::new(dynamodb.users())),
        AnyFunction::of::<_, live_publisher::Config>(|_| LivePublisher::new(live::api(&nowhere()))),
        AnyFunction::of::<_, event_relay::Config>(|_| {
            let (bus, sqs) = (aws_sdk_eventbridge::Client::new(&nowhere()), aws_sdk_sqs::Client::new(&nowhere()));
            EventRelay::new(bus, "bus".to_owned(), sqs, "queue".to_owned())
        }),
        AnyFunction::of::<_, dlq_reconciler::Config>(|dynamodb| {
            let quarantine = Quarantine::new(S3Client::new(&nowhere()), "quarantine".to_owned());
            let queues = DeadLetterQueues::parse("{}").unwrap();
            DlqReconciler::new(dynamodb.billing(), quarantine, &nowhere(), queues, 3)
        }),
    ]
}

/// A function of any type.
struct AnyFunction {
    name: &'static str,
    /// The environment variables of its configuration.
    variables: &'static [&'static str],
    /// Reads its configuration.
    read: fn(&Env) -> Result<(), ConfigError>,
    operations: Vec<Operation>,
    open: Box<dyn Fn(&EmbeddedDynamoDb) -> AnyDoor>,
}

/// The door of a function of any type. The payload may not be JSON.
type AnyDoor = Box<dyn Fn(Vec<u8>) -> LocalBoxFuture<'static, Outcome>>;

impl AnyFunction {
    fn of<F: Function, C: FromEnv>(create: fn(&EmbeddedDynamoDb) -> F) -> Self {
        Self {
            name: F::NAME,
            variables: C::VARIABLES,
            read: |env| C::from_env(env).map(|_| ()),
            operations: F::ACTIONS.iter().map(|action| action.operation).collect(),
            open: Box::new(move |dynamodb: &EmbeddedDynamoDb| -> AnyDoor {
                let door = Arc::new(Door::new(create(dynamodb), Clock::SYSTEM));
                Box::new(move |payload: Vec<u8>| -> LocalBoxFuture<'static, Outcome> {
                    let door = door.clone();
                    Box::pin(async move { invoke_raw(&door, &payload).await })
                })
            }),
        }
    }
}

fn nowhere() -> SdkConfig {
    sdk_config(NOWHERE)
}

fn no_function() -> RemoteFunction {
    RemoteFunction::new(&nowhere(), "nobody".to_owned())
}

fn no_archive() -> Archive {
    Archive::new(S3Client::new(&nowhere()), "telemetry")
}

fn topics(sdk: &SdkConfig) -> Topics {
    Topics::new(aws_sdk_sns::Client::new(sdk), "operators".to_owned(), "users".to_owned())
}

fn silence() -> Silence {
    Silence::of_interval(Duration::from_secs(5))
}
