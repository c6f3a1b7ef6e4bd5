//! The third door's batches: each message by itself, failures reported one by one.

use std::future::Future;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use domain::event::Envelope;
use futures::{StreamExt, stream};
use serde_json::Value;

use crate::Failure;

/// Works off every message of a batch, `concurrency` at a time, and reports those that failed, so that the queue
/// delivers them again and, after its last attempt, keeps them in its dead-letter queue.
///
/// # Errors
/// An internal failure when the report cannot be written as JSON; the whole batch is delivered again then.
pub async fn drive_sqs<F, Fut>(event: SqsEvent, concurrency: usize, work: F) -> Result<Value, Failure>
where
    F: Fn(SqsMessage) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let failed: Vec<String> = stream::iter(event.records)
        .map(|message| {
            let id = message.message_id.clone().unwrap_or_default();
            let work = work(message);
            async move { work.await.err().map(|failure| report(&id, &failure)) }
        })
        .buffer_unordered(concurrency.max(1))
        .filter_map(|failed| async { failed })
        .collect()
        .await;
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

fn report(id: &str, failure: &Failure) -> String {
    tracing::error!(message.id = id, error = %failure, cause = failure.cause, "a message was not handled");
    metrics::counter!("MessagesFailed").increment(1);
    id.to_owned()
}

/// The event that a rule of the bus put into a queue's message.
///
/// # Errors
/// A validation failure when the message is no event of ours.
pub fn event_in(message: &SqsMessage) -> Result<Envelope, Failure> {
    let body = message.body.as_deref().unwrap_or_default();
    let event: EventBridgeEvent<Envelope> =
        serde_json::from_str(body).map_err(|error| Failure::invalid("body", format!("no event of ours: {error}")))?;
    Ok(event.detail)
}
