//! Publishes the events that rode on a write.
//!
//! The tables' streams, filtered to items with an outbox, invoke this function. Events were sealed with their ids by
//! the write, so a batch that is delivered again publishes the same events under the same ids.

use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use backon::{ExponentialBuilder, Retryable};
use domain::event::Envelope;
use lambda_kit::events::{StreamBatchResponse, StreamEvent, StreamItemFailure, StreamRecord};
use lambda_kit::{Answer, Context, Failure, Function, Request, Trigger};
use serde_dynamo::AttributeValue;
use serde_json::Value;

/// `PutEvents`'s limit of entries.
const ENTRIES: usize = 10;
/// Below `PutEvents`'s limit of 256 KB for all entries of a call, with room for names and times.
const BYTES: usize = 240_000;

/// The function.
#[derive(Debug)]
pub struct EventRelay {
    client: Client,
    bus: String,
}

/// An event on its way, with the stream record that carried it.
#[derive(Debug)]
struct Outgoing {
    sequence_number: String,
    source: &'static str,
    detail_type: &'static str,
    time: domain::Instant,
    detail: String,
}

impl Function for EventRelay {
    const NAME: &'static str = "event_relay";

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        Err(request.unknown_action(&["none: it relays the batches of table streams"]))
    }

    async fn trigger(&self, trigger: Trigger, _: Context) -> Result<Value, Failure> {
        let Trigger::Stream(batch) = trigger else {
            return Err(Failure::invalid("Records", "must be records of a table's stream"));
        };
        self.relay(batch).await
    }
}

impl EventRelay {
    /// Publishes to `bus`.
    #[must_use]
    pub fn new(client: Client, bus: String) -> Self {
        Self { client, bus }
    }

    /// Publishes the events of a batch in order, and answers the first record that was not published: the stream
    /// delivers from there again.
    ///
    /// # Errors
    /// When nothing of the batch could be published; the stream delivers it again as a whole.
    pub async fn relay(&self, batch: StreamEvent) -> Result<Value, Failure> {
        let first = batch.records.first().map(sequence_number);
        let mut outgoing = Vec::new();
        let mut failed = None;
        for record in &batch.records {
            match events_of(record) {
                Ok(events) => outgoing.extend(events),
                Err(failure) => {
                    failed = Some((sequence_number(record), failure));
                    break;
                }
            }
        }
        if let Err((sequence, failure)) = self.publish(&outgoing).await {
            failed = Some((sequence, failure));
        }
        let mut response = StreamBatchResponse::default();
        if let Some((sequence, failure)) = failed {
            if first.as_ref() == Some(&sequence) {
                return Err(failure);
            }
            tracing::error!(record = sequence, error = %failure, cause = failure.cause, "events were not published");
            let mut item = StreamItemFailure::default();
            item.item_identifier = Some(sequence);
            response.batch_item_failures.push(item);
        }
        serde_json::to_value(response).map_err(Failure::internal)
    }

    /// Publishes in order; the record whose event was the first not to be taken, if any.
    async fn publish(&self, events: &[Outgoing]) -> Result<(), (String, Failure)> {
        for chunk in chunks(events) {
            let published = std::sync::atomic::AtomicUsize::new(0);
            let attempt = || async {
                let done = published.load(std::sync::atomic::Ordering::Relaxed);
                let taken = self.put(&chunk[done..]).await?;
                published.fetch_add(taken, std::sync::atomic::Ordering::Relaxed);
                if done + taken == chunk.len() {
                    return Ok(());
                }
                Err(Failure::unavailable("the bus did not take every event"))
            };
            let backoff = ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(Duration::from_millis(100))
                .with_max_times(4);
            attempt.retry(backoff).await.map_err(|failure| {
                let next = published.load(std::sync::atomic::Ordering::Relaxed);
                (chunk[next].sequence_number.clone(), failure)
            })?;
        }
        metrics::counter!("EventsPublished").increment(events.len() as u64);
        Ok(())
    }

    /// One call; answers how many events, from the first on, were taken without a gap.
    async fn put(&self, events: &[Outgoing]) -> Result<usize, Failure> {
        let entries = events.iter().map(|event| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.bus)
                .source(event.source)
                .detail_type(event.detail_type)
                .time(aws_sdk_eventbridge::primitives::DateTime::from_millis(event.time.timestamp_millis()))
                .detail(&event.detail)
                .build()
        });
        let answer = self.client.put_events().set_entries(Some(entries.collect())).send().await;
        let answer =
            answer.map_err(|error| Failure::unavailable(aws_sdk_eventbridge::error::DisplayErrorContext(error)))?;
        let refused = answer.entries().iter().position(|entry| entry.error_code().is_some());
        Ok(refused.unwrap_or(events.len()))
    }
}

fn sequence_number(record: &StreamRecord) -> String {
    record.change.sequence_number.clone().unwrap_or_default()
}

/// The events that rode on the write of a record; none when it has no outbox, or when it was only removed with one.
fn events_of(record: &StreamRecord) -> Result<Vec<Outgoing>, Failure> {
    if record.event_name == "REMOVE" {
        return Ok(Vec::new());
    }
    let Some(AttributeValue::S(outbox)) = record.change.new_image.inner().get(store::keys::OUTBOX) else {
        return Ok(Vec::new());
    };
    let envelopes: Vec<Envelope> = serde_json::from_str(outbox)
        .map_err(|error| Failure::internal(format!("record {}: {error}", sequence_number(record))))?;
    envelopes
        .into_iter()
        .map(|envelope| {
            Ok(Outgoing {
                sequence_number: sequence_number(record),
                source: envelope.event.source(),
                detail_type: envelope.event.event_type(),
                time: envelope.occurred_at,
                detail: serde_json::to_string(&envelope).map_err(Failure::internal)?,
            })
        })
        .collect()
}

/// Runs of events that fit into one call.
fn chunks(events: &[Outgoing]) -> Vec<&[Outgoing]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, event) in events.iter().enumerate() {
        if index > start && (index - start == ENTRIES || bytes + event.detail.len() > BYTES) {
            chunks.push(&events[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += event.detail.len();
    }
    if start < events.len() {
        chunks.push(&events[start..]);
    }
    chunks
}
