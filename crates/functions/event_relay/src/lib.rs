//! The `event_relay` Lambda: publishes the events that were written together with a change.
//!
//! An item that reports a change has an outbox attribute with the events. The streams of the tables, filtered to items
//! with an outbox, invoke this function. Each event got its id when the item was written. Therefore a batch that is
//! delivered again publishes the same events with the same ids.
//!
//! A stream delivers a failed batch again as long as it keeps the records, and delivers nothing after that batch in the
//! meantime. Therefore events that no attempt can publish are moved to the dead-letter queue, and the rest continues.

mod config;

use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eventbridge::operation::put_events::PutEventsError;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use backon::{ExponentialBuilder, Retryable};
use chrono::TimeDelta;
use domain::Instant;
use domain::dead_letter::UnpublishedEvents;
use domain::event::Envelope;
use lambda_kit::events::{StreamBatchResponse, StreamEvent, StreamItemFailure, StreamRecord};
use lambda_kit::{AwsError, Context, Failure, Function, Trigger};
use serde_dynamo::AttributeValue;
use serde_json::Value;
use store::StoreError;

pub use config::Config;

/// The maximum number of entries of `PutEvents`.
const ENTRIES: usize = 10;
/// The maximum size of all entries of a call, bytes. It is below the limit of `PutEvents`, 256 KB, to leave room for
/// names and times.
const BYTES: usize = 240_000;
/// The error codes by which `PutEvents` refuses an entry because of its content. Another attempt would be refused too.
const REFUSED_FOR_GOOD: [&str; 3] = ["MalformedDetail", "InvalidArgument", "RedactionFailure"];
/// How long an outbox that cannot be parsed is retried. A deployment may update a writer before it updates the relay.
const PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// The `event_relay` function.
#[derive(Debug)]
pub struct EventRelay {
    client: Client,
    bus: String,
    sqs: aws_sdk_sqs::Client,
    set_aside: String,
}

/// An event to publish, with the stream record that it came from.
#[derive(Debug)]
struct Outgoing {
    sequence_number: String,
    item: String,
    source: &'static str,
    detail_type: &'static str,
    time: Instant,
    detail: String,
}

impl Function for EventRelay {
    const NAME: &'static str = "event_relay";

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Stream(batch) = trigger else {
            return Err(Failure::invalid("Records", "must be records of a table's stream"));
        };
        self.relay(batch, context.now).await
    }
}

impl EventRelay {
    /// Creates the function. It publishes to `bus`, and sends events that can never be published to the queue with the
    /// URL `set_aside`.
    #[must_use]
    pub fn new(client: Client, bus: String, sqs: aws_sdk_sqs::Client, set_aside: String) -> Self {
        Self { client, bus, sqs, set_aside }
    }

    /// Publishes the events of a batch in order. The answer names the first record that was not published; the stream
    /// delivers again from there.
    ///
    /// # Errors
    /// Returns the failure when not even the first record was published. The stream then delivers the whole batch
    /// again.
    pub async fn relay(&self, batch: StreamEvent, now: Instant) -> Result<Value, Failure> {
        let first = batch.records.first().map(sequence_number);
        let mut outgoing = Vec::new();
        let mut failed = None;
        for record in &batch.records {
            let outcome = match events_of(record) {
                Ok(events) => {
                    outgoing.extend(events);
                    Ok(())
                }
                Err(reason) if now - record.change.approximate_creation_date_time < PATIENCE => {
                    Err(StoreError::Corrupt { item: item_of(record), source: reason.into() }.into())
                }
                Err(reason) => self.set_aside(unreadable(record, &reason.to_string())).await,
            };
            if let Err(failure) = outcome {
                failed = Some((sequence_number(record), failure));
                break;
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
            tracing::error!(record = sequence, error = %failure, cause = failure.cause(), "events were not published");
            let mut item = StreamItemFailure::default();
            item.item_identifier = Some(sequence);
            response.batch_item_failures.push(item);
        }
        serde_json::to_value(response).map_err(Failure::internal)
    }

    /// Publishes events in order.
    ///
    /// # Errors
    /// The failure, with the sequence number of the record whose event was not published.
    async fn publish(&self, events: &[Outgoing]) -> Result<(), (String, Failure)> {
        for chunk in chunks(events) {
            let published = std::sync::atomic::AtomicUsize::new(0);
            let attempt = || self.publish_chunk(chunk, &published);
            let backoff = ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(Duration::from_millis(100))
                .with_max_times(4);
            attempt.retry(backoff).await.map_err(|failure| {
                let next = published.load(std::sync::atomic::Ordering::Relaxed);
                (chunk[next].sequence_number.clone(), failure)
            })?;
        }
        Ok(())
    }

    /// Publishes those events of a chunk that are not published yet, and counts them in `published`.
    async fn publish_chunk(
        &self,
        chunk: &[Outgoing],
        published: &std::sync::atomic::AtomicUsize,
    ) -> Result<(), Failure> {
        loop {
            let left = &chunk[published.load(std::sync::atomic::Ordering::Relaxed)..];
            if left.is_empty() {
                return Ok(());
            }
            let put = self.put(left).await?;
            published.fetch_add(put.taken, std::sync::atomic::Ordering::Relaxed);
            metrics::counter!("EventsPublished").increment(put.taken as u64);
            match put.refused {
                None => {}
                Some(Refused::ForNow) => return Err(Failure::unavailable("the bus did not take every event")),
                Some(Refused::ForGood(reason)) => {
                    self.set_aside(left[put.taken].unpublished(&reason)).await?;
                    published.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
    }

    /// Calls `PutEvents` once.
    async fn put(&self, events: &[Outgoing]) -> Result<Put, Failure> {
        let entries = events.iter().map(|event| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.bus)
                .source(event.source)
                .detail_type(event.detail_type)
                .time(aws_sdk_eventbridge::primitives::DateTime::from_millis(event.time.timestamp_millis()))
                .detail(&event.detail)
                .build()
        });
        let answer = match self.client.put_events().set_entries(Some(entries.collect())).send().await {
            Ok(answer) => answer,
            Err(error) if is_too_large(events, &error) => {
                let reason = format!("the bus does not take an event of {} bytes", events[0].detail.len());
                return Ok(Put { taken: 0, refused: Some(Refused::ForGood(reason)) });
            }
            Err(error) => return Err(Failure::unavailable(AwsError::from(error))),
        };
        let refused = answer.entries().iter().enumerate().find_map(|(n, entry)| Some((n, entry, entry.error_code()?)));
        Ok(match refused {
            None => Put { taken: events.len(), refused: None },
            Some((taken, entry, code)) if REFUSED_FOR_GOOD.contains(&code) => {
                let reason = format!("the bus refuses it: {code}: {}", entry.error_message().unwrap_or_default());
                Put { taken, refused: Some(Refused::ForGood(reason)) }
            }
            Some((taken, ..)) => Put { taken, refused: Some(Refused::ForNow) },
        })
    }

    /// Sends events that cannot be published to the dead-letter queue for an operator. A batch that is delivered again
    /// may send them twice.
    async fn set_aside(&self, events: UnpublishedEvents) -> Result<(), Failure> {
        let body = serde_json::to_string(&events).map_err(Failure::internal)?;
        let sent = self.sqs.send_message().queue_url(&self.set_aside).message_body(body).send().await;
        sent.map_err(AwsError::from).map_err(Failure::unavailable)?;
        tracing::error!(item = events.item, reason = events.unpublished, "events were set aside");
        metrics::counter!("EventsSetAside").increment(1);
        Ok(())
    }
}

/// The result of one call: the number of entries accepted before the first refused one, and its refusal, if any.
struct Put {
    taken: usize,
    refused: Option<Refused>,
}

enum Refused {
    ForNow,
    ForGood(String),
}

/// Returns whether a call failed because its only event is larger than the bus allows. A larger event is always the
/// only one of its call.
fn is_too_large<R>(events: &[Outgoing], error: &SdkError<PutEventsError, R>) -> bool {
    let [only] = events else { return false };
    let refused =
        error.code().is_some_and(|code| ["ValidationException", "RequestEntityTooLargeException"].contains(&code));
    refused && only.detail.len() > BYTES
}

impl Outgoing {
    fn unpublished(&self, reason: &str) -> UnpublishedEvents {
        UnpublishedEvents {
            unpublished: reason.to_owned(),
            item: self.item.clone(),
            sequence_number: self.sequence_number.clone(),
            outbox: format!("[{}]", self.detail),
        }
    }
}

fn unreadable(record: &StreamRecord, reason: &str) -> UnpublishedEvents {
    UnpublishedEvents {
        unpublished: format!("the outbox is not understood: {reason}"),
        item: item_of(record),
        sequence_number: sequence_number(record),
        outbox: outbox_of(record).unwrap_or_default().to_owned(),
    }
}

fn sequence_number(record: &StreamRecord) -> String {
    record.change.sequence_number.clone().unwrap_or_default()
}

/// Returns the primary key of the record's item, its parts separated by `/`.
fn item_of(record: &StreamRecord) -> String {
    let keys = record.change.keys.inner();
    let part = |name: &&str| match keys.get(*name) {
        Some(AttributeValue::S(text)) => Some(text.as_str()),
        _ => None,
    };
    store::keys::PRIMARY.iter().filter_map(part).collect::<Vec<_>>().join("/")
}

fn outbox_of(record: &StreamRecord) -> Option<&str> {
    match record.change.new_image.inner().get(store::keys::OUTBOX) {
        Some(AttributeValue::S(outbox)) => Some(outbox),
        _ => None,
    }
}

/// Returns the events in the outbox of a record. There are none if the item has no outbox or was removed.
fn events_of(record: &StreamRecord) -> Result<Vec<Outgoing>, serde_json::Error> {
    let Some(outbox) = outbox_of(record).filter(|_| record.event_name != "REMOVE") else { return Ok(Vec::new()) };
    let envelopes: Vec<Envelope> = serde_json::from_str(outbox)?;
    envelopes
        .into_iter()
        .map(|envelope| {
            Ok(Outgoing {
                sequence_number: sequence_number(record),
                item: item_of(record),
                source: envelope.event.source(),
                detail_type: envelope.event.event_type(),
                time: envelope.occurred_at,
                detail: serde_json::to_string(&envelope)?,
            })
        })
        .collect()
}

/// Divides events into chunks that each fit into one call.
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
