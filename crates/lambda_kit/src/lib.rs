//! The code that all Lambda functions share.
//!
//! A function implements [`Function`]. Its table of [`Action`]s answers [`Request`]s, which arrive as direct
//! invocations, over HTTP or as GraphQL fields. Its method `trigger` handles [`Trigger`]s: batches of queues and
//! streams, events and device messages. [`run`] does the rest: configuration, clients, logs, metrics and error
//! handling.

mod action;
mod batch;
mod bootstrap;
mod command;
mod config;
mod direct;
mod door;
mod failure;
mod function;
mod graphql;
mod http_api;
mod live_publisher;
mod measure;
mod oauth;
mod payload;
mod redelivery;
mod remote_function;
mod request;
mod retry;
mod token;

pub use action::{Action, Field, FieldKind, Handler, Operation, Route};
pub use batch::{EVENT_AGE_OBJECTIVE, attempt, drive_batch, drive_events, drive_sqs, handle_event};
pub use bootstrap::{BootError, run};
pub use command::{Command, validate};
pub use config::{ConfigError, Env, FromEnv};
pub use door::{Clock, Door};
pub use failure::{Code, Failure};
pub use function::Function;
pub use live_publisher::LivePublisher;
pub use measure::{CommonConfig, MAX_VALUES, count_failure, record_sample};
pub use payload::Payload;
pub use redelivery::Redelivery;
pub use remote_function::RemoteFunction;
pub use request::{Answer, Context, ListOf, PageArguments, Request, Trigger};
pub use retry::retry_while_stale;
pub use store::AwsError;

/// The payload types of triggers.
pub mod events {
    pub use aws_lambda_events::dynamodb::{Event as StreamEvent, EventRecord as StreamRecord};
    pub use aws_lambda_events::eventbridge::EventBridgeEvent;
    pub use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
    pub use aws_lambda_events::streams::{
        KinesisBatchItemFailure as StreamItemFailure, KinesisEventResponse as StreamBatchResponse,
    };
}
