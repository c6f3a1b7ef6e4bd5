//! Batches of queue messages: each message is processed on its own, and the failed ones are reported individually.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use domain::event::Envelope;
use futures::{FutureExt, StreamExt, stream};
use serde_json::Value;

use crate::{Context, Failure, Redelivery, measure};

/// The objective of the service level: an event is processed within this time after it occurred. A later event spends
/// the error budget.
pub const EVENT_AGE_OBJECTIVE: Duration = Duration::from_mins(1);
/// How many messages have their next delivery postponed concurrently.
const PARALLEL_POSTPONES: usize = 10;

/// Processes every message of a batch, `concurrency` at a time, and reports the failed ones.
///
/// The queue delivers a failed message again. With a `redelivery` the delay grows with each delivery. After the last
/// delivery the queue moves the message to its dead-letter queue.
///
/// # Errors
/// [`Code::Internal`](crate::Code::Internal) when the report cannot be serialized. The queue then delivers the whole
/// batch again.
pub async fn drive_sqs<F, Fut>(
    event: SqsEvent,
    concurrency: usize,
    redelivery: Option<&Redelivery>,
    work: F,
) -> Result<Value, Failure>
where
    F: Fn(SqsMessage) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let failed: Vec<String> = stream::iter(event.records)
        .map(|message| {
            let work = work(message.clone());
            async move {
                let failure = isolate(work).await.err()?;
                let id = message.message_id.clone().unwrap_or_default();
                report(&id, &failure);
                if let Some(redelivery) = redelivery {
                    redelivery.postpone(&message, &failure).await;
                }
                Some(id)
            }
        })
        .buffer_unordered(concurrency.max(1))
        .filter_map(|failed| async { failed })
        .collect()
        .await;
    answer(failed)
}

/// Passes the whole batch to `work`, which returns one result for each message, and reports the failed messages.
///
/// Failed messages are delivered again, as [`drive_sqs`] describes. A panic fails all messages.
///
/// # Errors
/// The same as [`drive_sqs`].
pub async fn drive_batch<F, Fut>(event: SqsEvent, redelivery: &Redelivery, work: F) -> Result<Value, Failure>
where
    F: FnOnce(Arc<[SqsMessage]>) -> Fut,
    Fut: Future<Output = Vec<Result<(), Failure>>>,
{
    let messages: Arc<[SqsMessage]> = event.records.into();
    let caught = AssertUnwindSafe(work(messages.clone())).catch_unwind().await;
    let mut results = match caught {
        Ok(results) => results.into_iter(),
        Err(panic) => vec![Err(Failure::panicked(&*panic)); messages.len()].into_iter(),
    };
    // A message without a result counts as failed.
    let mut next = || results.next().unwrap_or_else(|| Err(Failure::internal("nothing was said of the message")));
    let failed: Vec<(SqsMessage, Failure)> =
        messages.iter().filter_map(|message| Some((message.clone(), next().err()?))).collect();
    let reports = stream::iter(failed).map(|(message, failure)| async move {
        redelivery.postpone(&message, &failure).await;
        let id = message.message_id.unwrap_or_default();
        report(&id, &failure);
        id
    });
    let reports: Vec<String> = reports.buffer_unordered(PARALLEL_POSTPONES).collect().await;
    answer(reports)
}

/// Builds the batch response that names the failed messages.
fn answer(failed: impl IntoIterator<Item = String>) -> Result<Value, Failure> {
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failed
        .into_iter()
        .map(|id| {
            let mut item = BatchItemFailure::default();
            item.item_identifier = id;
            item
        })
        .collect();
    serde_json::to_value(response).map_err(Failure::internal)
}

/// Catches a panic. A panic is a bug in Evoke: it must fail the message that caused it, but not the rest of the batch.
async fn isolate<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(Failure::panicked(&*panic)))
}

/// Processes the message with this id. A failure is logged and counted; a panic fails this message alone.
///
/// # Errors
/// The failure of `work`. [`Code::Internal`](crate::Code::Internal) when it panics.
pub async fn attempt<T>(id: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    isolate(work).await.inspect_err(|failure| report(id, failure))
}

/// Works like [`drive_sqs`] for a queue that receives Evoke's events from a rule of the event bus, and measures the
/// time from the occurrence of each event to the end of its processing. `function` is the name of the function.
///
/// # Errors
/// The same as [`drive_sqs`].
pub async fn drive_events<F, Fut>(
    function: &'static str,
    event: SqsEvent,
    concurrency: usize,
    redelivery: &Redelivery,
    context: &Context,
    work: F,
) -> Result<Value, Failure>
where
    F: Fn(Envelope) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let arrived = Stopwatch::now();
    let work = &work;
    let handle = |message: SqsMessage| async move { handle_event(function, &message, context, arrived, work).await };
    drive_sqs(event, concurrency, Some(redelivery), handle).await
}

/// Handles the event in one message of a batch, and measures it, as [`drive_events`] does. This is for a queue that
/// receives other messages, too. `arrived` is when the batch arrived.
///
/// # Errors
/// [`Code::Validation`](crate::Code::Validation) when the message is no event of ours. The failure of `work`.
pub async fn handle_event<F, Fut>(
    function: &'static str,
    message: &SqsMessage,
    context: &Context,
    arrived: Stopwatch,
    work: F,
) -> Result<(), Failure>
where
    F: FnOnce(Envelope) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let envelope = event_in(message)?;
    let happened = envelope.occurred_at;
    let result = work(envelope).await;
    let age = (context.now - happened).to_std().unwrap_or_default() + arrived.elapsed();
    measure_delivery(function, age, result.is_ok());
    result
}

/// Records the service level. A delivery is late if it fails or ends after the objective.
fn measure_delivery(function: &'static str, age: Duration, handled: bool) {
    metrics::histogram!("EventAge", "Function" => function).record(age.as_secs_f64() * 1000.0);
    // 0 or 1 for each delivery, so that the average is the share of late deliveries.
    let late = if handled && age <= EVENT_AGE_OBJECTIVE { 0.0 } else { 1.0 };
    metrics::histogram!("EventsLate", "Function" => function).record(late);
}

/// Logs and counts a message that was not handled.
fn report(id: &str, failure: &Failure) {
    tracing::error!(message.id = id, error = %failure, cause = failure.cause(), "a message was not handled");
    measure::count_failure(failure);
}

/// Parses the event in a queue message that a rule of the event bus sent.
fn event_in(message: &SqsMessage) -> Result<Envelope, Failure> {
    let body = message.body.as_deref().unwrap_or_default();
    domain::dead_letter::event(body).map_err(|reason| Failure::invalid("body", reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn batch(ids: &[&str]) -> SqsEvent {
        let message = |id: &&str| json!({ "messageId": id, "body": id, "attributes": {}, "messageAttributes": {} });
        let batch = json!({ "Records": ids.iter().map(message).collect::<Vec<_>>() });
        let batch: SqsEvent = serde_json::from_value(batch).unwrap_or_default();
        assert_eq!(batch.records.len(), ids.len());
        batch
    }

    /// A redelivery for a queue that does not exist. The messages have no receipt handle, so the queue is never called.
    fn redelivery() -> Redelivery {
        let sdk = aws_config::SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::v2026_01_12()).build();
        Redelivery::new(&sdk, "http://127.0.0.1:9/queue".to_owned())
    }

    async fn failed_of(results: impl FnOnce() -> Vec<Result<(), Failure>>) -> Value {
        let work = |messages: Arc<[SqsMessage]>| async move {
            assert_eq!(messages.len(), 3);
            results()
        };
        drive_batch(batch(&["a", "b", "c"]), &redelivery(), work).await.unwrap_or_default()["batchItemFailures"].take()
    }

    #[tokio::test]
    async fn drive_batch_reports_failed_messages_and_those_without_a_result() {
        let failure = || Err(Failure::unavailable("busy"));
        assert_eq!(failed_of(|| vec![Ok(()), Ok(()), Ok(())]).await, json!([]));
        assert_eq!(failed_of(|| vec![Ok(()), failure(), Ok(())]).await, json!([{ "itemIdentifier": "b" }]));
        assert_eq!(failed_of(|| vec![Ok(()), Ok(())]).await, json!([{ "itemIdentifier": "c" }]));
        let panicked = failed_of(|| panic!("a bug")).await;
        assert_eq!(panicked.as_array().map(Vec::len), Some(3), "a panic fails them all: {panicked}");
    }

    #[tokio::test]
    async fn a_panic_fails_only_its_own_message() {
        let batch = batch(&["a", "bug", "b"]);
        let work = async |message: SqsMessage| {
            assert_ne!(message.body.as_deref(), Some("bug"));
            Ok(())
        };
        let report = drive_sqs(batch, 10, None, work).await.unwrap_or_default();
        assert_eq!(report["batchItemFailures"], json!([{ "itemIdentifier": "bug" }]));
    }
}
