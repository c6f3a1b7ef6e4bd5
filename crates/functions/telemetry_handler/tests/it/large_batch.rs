//! A large batch stays within what the collector of metrics keeps between two flushes.
//!
//! The collector and the subscriber are those of the whole process, so the test needs one of its own. nextest gives one
//! to every test.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use lambda_kit::{Clock, Door, MAX_VALUES};
use metrics_cloudwatch_embedded::Builder;
use serde_json::{Value, json};
use store::Archive;
use telemetry_handler::TelemetryHandler;
use testkit::{EmbeddedDynamoDb, EmbeddedS3, invoke, no_redelivery, reading, sqs_event};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const BUCKET: &str = "telemetry";

/// Collects the errors that the function and the collector of its metrics log.
struct Errors(Arc<Mutex<Vec<String>>>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = ["lambda_kit", "metrics_cloudwatch_embedded", "telemetry_handler"];
        *metadata.level() == Level::ERROR && ours.iter().any(|name| metadata.target().starts_with(name))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_batch_of_500_messages_logs_no_error() {
    let errors = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Errors(errors.clone())).unwrap();
    let metrics = Builder::new().cloudwatch_namespace("Evoke/test").init().unwrap();
    let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start(BUCKET).await);
    let archive = Archive::new(s3.client(), BUCKET);
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive, no_redelivery(), 10);
    let door = Door::new(handler, Clock::SYSTEM);
    let now = (Clock::SYSTEM.0)();
    let messages: Vec<String> = (0..500_u32)
        .map(|n| reading(&format!("s-{}", n % 20), now - TimeDelta::seconds(n.into()), n % 17).to_string())
        .collect();
    for _ in 0..2 {
        let answer = invoke(&door, sqs_event(&messages)).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]));
        let mut written = Vec::new();
        metrics.flush(&mut written).unwrap();
        let line: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(line["TelemetryAge"].as_array().map(Vec::len), Some(MAX_VALUES), "{line}");
        assert_eq!(line["TelemetryAccepted"], json!(500), "{line}");
        assert_eq!(*errors.lock().unwrap(), [""; 0]);
    }
    // The subscriber does see what the collector says of too many values.
    for _ in 0..=MAX_VALUES {
        metrics::histogram!("Overflow").record(1.0);
    }
    assert_eq!(errors.lock().unwrap().len(), 1);
}
