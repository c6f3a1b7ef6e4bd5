//! The `telemetry_handler` Lambda: validates and archives the messages of battery-swap stations, and keeps the latest
//! state of each station.
//!
//! Messages arrive in two ways: an IoT rule invokes the function with single messages, or sends them to a queue that
//! the function reads in batches. The rule passes on the published bytes. Both ways use the same code. A valid message
//! goes to the archive and, if it is the latest, to the state of its station. An invalid message goes to the prefix for
//! rejected messages in the bucket, with the reason, and is never retried.

mod announcer;
mod config;
mod intake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use announcer::{Announcer, Due};
use domain::telemetry::TelemetryRejected;
use domain::telemetry::{Message, RejectedMessage, RejectionOutcome, Rejections, latest};
use futures::future::{join, join3};
use futures::{StreamExt, stream};
use intake::{Classified, Delivery, classify};
use lambda_kit::events::SqsMessage;
use lambda_kit::{
    Action, Answer, Context, Failure, Function, Redelivery, RemoteFunction, Request, Trigger, action, drive_batch,
    record_sample,
};
use serde_json::{Value, json};
use store::{Archive, Recorded, StoreError, TelemetryStore};
use uuid::Uuid;

pub use config::Config;

/// How many stations, and how many rejected messages, of a batch are written concurrently.
const PARALLEL_WRITES: usize = 32;

/// The `telemetry_handler` function.
#[derive(Debug)]
pub struct TelemetryHandler {
    states: TelemetryStore,
    archive: Archive,
    redelivery: Redelivery,
    rejected_limit: usize,
    /// Sends subscribers the changes of stations; `None` if no changes are sent.
    announcer: Option<Announcer>,
}

impl Function for TelemetryHandler {
    const NAME: &'static str = "telemetry_handler";
    const ACTIONS: &'static [Action<Self>] = &[action!("ingest", Value => Value, Self::handle_ingest)
        .by("whoever may invoke telemetry_handler")
        .about("Handles one message of a battery-swap station. `topic_station_id` is from the MQTT topic.")];
    const DEFAULT_ACTION: Option<&'static str> = Some("ingest");

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        match trigger {
            Trigger::Iot(message) => self.ingest(message, &context).await,
            Trigger::Sqs(batch) => {
                let work = |messages: Arc<[SqsMessage]>| async move { self.ingest_batch(&messages, &context).await };
                drive_batch(batch, &self.redelivery, work).await
            }
            Trigger::Stream(_) | Trigger::Event(_) | Trigger::UserPool(_) => Err(Failure::invalid(
                "payload",
                "must be a message of a battery-swap station, or a queue's batch of them",
            )),
        }
    }
}

impl TelemetryHandler {
    /// Creates the function. It reports a station with more than `rejected_limit` rejected messages in five minutes.
    #[must_use]
    pub fn new(states: TelemetryStore, archive: Archive, redelivery: Redelivery, rejected_limit: usize) -> Self {
        Self { states, archive, redelivery, rejected_limit, announcer: None }
    }

    /// Sets the function `live_publisher`, which sends subscribers the changes of stations.
    #[must_use]
    pub fn telling(self, live_publisher: Option<RemoteFunction>) -> Self {
        let announcer = live_publisher.map(|function| Announcer::new(self.states.clone(), function));
        Self { announcer, ..self }
    }

    async fn handle_ingest(&self, _: Value, request: &Request) -> Result<Answer, Failure> {
        // As it was sent: the id of a message is derived from its text.
        let mut message = request.arguments.clone();
        if let Value::Object(fields) = &mut message {
            fields.remove("action");
            fields.remove("actor");
        }
        Answer::ok(self.ingest(message, &request.context).await?)
    }

    /// Processes one message. The archive and the state are written concurrently. If either write fails, the invocation
    /// fails, and the next attempt repeats both.
    async fn ingest(&self, sent: Value, context: &Context) -> Result<Value, Failure> {
        let delivery = Delivery::of_invocation(context);
        let message = match classify(sent, &delivery, context.now)? {
            Classified::Accepted(message) => message,
            Classified::Rejected(rejected) => {
                self.reject(&rejected, context).await?;
                return Ok(json!({ "accepted": false, "errors": rejected.errors, "key": rejected.key() }));
            }
        };
        let archiving = Box::pin(self.archive.keep(&message));
        let recording = Box::pin(self.record(&message, delivery.received_at, context));
        let (archived, recorded) = join(archiving, recording).await;
        if let (Some(announcer), Ok((_, Some(due)))) = (&self.announcer, &recorded) {
            announcer.tell(std::slice::from_ref(due), context).await;
        }
        archived?;
        let (is_latest, _) = recorded?;
        measure([&message], context);
        count_late(usize::from(!is_latest));
        Ok(json!({ "accepted": true, "messageId": message.id, "latest": is_latest, "key": message.key() }))
    }

    /// Processes a batch with one archive object for each day and one state write for each station. Returns for each
    /// message whether it was processed.
    async fn ingest_batch(&self, messages: &[SqsMessage], context: &Context) -> Vec<Result<(), Failure>> {
        let mut results = Results(vec![Ok(()); messages.len()]);
        let mut accepted: BTreeMap<usize, Message> = BTreeMap::new();
        let mut rejected: BTreeMap<usize, RejectedMessage> = BTreeMap::new();
        let mut received = BTreeMap::new();
        for (index, message) in messages.iter().enumerate() {
            let delivery = Delivery::of_message(message, context);
            match classify(intake::body(message), &delivery, context.now) {
                Ok(Classified::Accepted(message)) => {
                    received.insert(message.id, delivery.received_at);
                    accepted.insert(index, message);
                }
                Ok(Classified::Rejected(message)) => {
                    rejected.insert(index, message);
                }
                Err(failure) => results.fail([index], &failure),
            }
        }
        let (unarchived, unrecorded, unrejected) = join3(
            self.archive_batch(&accepted),
            self.record_batch(&accepted, &received, context),
            self.reject_batch(&rejected, context),
        )
        .await;
        for (indexes, failure) in [unarchived, unrecorded, unrejected].into_iter().flatten() {
            results.fail(indexes, &failure);
        }
        measure(accepted.iter().filter(|(index, _)| results.0[**index].is_ok()).map(|(_, message)| message), context);
        results.0
    }

    /// Archives the messages of each day in one object. Returns the messages of the days that failed.
    async fn archive_batch(&self, accepted: &BTreeMap<usize, Message>) -> Vec<(Vec<usize>, Failure)> {
        let mut days: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, message) in accepted {
            days.entry(message.reading.timestamp.date_naive()).or_default().push(*index);
        }
        let kept = stream::iter(days.into_values()).map(|day| async move {
            let messages: Vec<&Message> = day.iter().filter_map(|index| accepted.get(index)).collect();
            let failure = self.archive.keep_batch(&messages).await.err()?;
            Some((day, failure.into()))
        });
        kept.buffer_unordered(PARALLEL_WRITES).filter_map(|failed| async { failed }).collect().await
    }

    /// Makes a message the state of its station, unless a later one already is. Returns whether the message became the
    /// state, and the announcement that is due.
    async fn record(
        &self,
        message: &Message,
        received_at: domain::Instant,
        context: &Context,
    ) -> Result<(bool, Option<Due>), StoreError> {
        let Some(announcer) = &self.announcer else {
            return Ok((self.states.record(message, received_at).await?, None));
        };
        match self.states.record_and_look(message, received_at).await? {
            Recorded::Late => Ok((false, None)),
            Recorded::Latest { announced } => {
                Ok((true, announcer.due(message, received_at, announced.as_ref(), context.now).await))
            }
        }
    }

    /// Writes the latest message of each station to its state, and sends subscribers the changes of stations. Returns
    /// the messages that failed. The other messages of a station are older, so they need no retry.
    async fn record_batch(
        &self,
        accepted: &BTreeMap<usize, Message>,
        received: &BTreeMap<Uuid, domain::Instant>,
        context: &Context,
    ) -> Vec<(Vec<usize>, Failure)> {
        let latest: Vec<Message> = latest(accepted.values()).into_iter().cloned().collect();
        let ids: BTreeSet<Uuid> = accepted.values().map(|message| message.id).collect();
        let overtaken = ids.len() - latest.len();
        let recorded = stream::iter(latest).map(|message| async move {
            let received_at = received.get(&message.id).copied().unwrap_or(message.reading.timestamp);
            let recorded = self.record(&message, received_at, context).await;
            (message.id, recorded)
        });
        let recorded: Vec<_> = recorded.buffer_unordered(PARALLEL_WRITES).collect().await;
        if let Some(announcer) = &self.announcer {
            let due: Vec<Due> = recorded.iter().filter_map(|(_, recorded)| recorded.as_ref().ok()?.1.clone()).collect();
            announcer.tell(&due, context).await;
        }
        count_late(overtaken + recorded.iter().filter(|(_, recorded)| matches!(recorded, Ok((false, _)))).count());
        let failed = recorded.into_iter().filter_map(|(id, recorded)| Some((id, recorded.err()?)));
        let indexes = |id: Uuid| accepted.iter().filter(move |(_, message)| message.id == id).map(|(index, _)| *index);
        failed.map(|(id, failure)| (indexes(id).collect(), failure.into())).collect()
    }

    async fn reject_batch(
        &self,
        rejected: &BTreeMap<usize, RejectedMessage>,
        context: &Context,
    ) -> Vec<(Vec<usize>, Failure)> {
        let indexes: Vec<usize> = rejected.keys().copied().collect();
        let rejections = stream::iter(indexes).map(|index| async move {
            let failure = self.reject(rejected.get(&index)?, context).await.err()?;
            Some((vec![index], failure))
        });
        rejections.buffer_unordered(PARALLEL_WRITES).filter_map(|failed| async { failed }).collect().await
    }

    /// Stores a rejected message with the reason, and counts it for its station.
    async fn reject(&self, rejected: &RejectedMessage, context: &Context) -> Result<(), Failure> {
        self.archive.keep_rejected(rejected).await?;
        metrics::counter!("TelemetryRejected").increment(1);
        let (key, reason) = (rejected.key(), rejected.reason());
        let Some(station) = &rejected.station_id else {
            tracing::warn!(key, reason, "a message of an unknown station was rejected");
            return Ok(());
        };
        tracing::info!(station.id = station.as_str(), key, reason, "a message was rejected");
        let report = |count: usize| TelemetryRejected {
            station_id: station.clone(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            window_seconds: u32::try_from(Rejections::WINDOW.num_seconds()).unwrap_or(u32::MAX),
            reason: reason.clone(),
            rejected_key: key.clone(),
        };
        let (delivery, limit) = (rejected.delivery_id, self.rejected_limit);
        let outcome = self.states.note_rejection(station, delivery, limit, report, &context.event_context()).await?;
        if let RejectionOutcome::TooMany(count) = outcome {
            tracing::warn!(station.id = station.as_str(), count, "too many messages of a station are rejected");
        }
        Ok(())
    }
}

/// The result of each message of a batch.
struct Results(Vec<Result<(), Failure>>);

impl Results {
    fn fail(&mut self, indexes: impl IntoIterator<Item = usize>, failure: &Failure) {
        for index in indexes {
            self.0[index] = Err(failure.clone());
        }
    }
}

/// Counts the accepted messages and records their ages, of a large batch those of a sample.
fn measure<'a>(accepted: impl IntoIterator<Item = &'a Message>, context: &Context) {
    let age = |message: &Message| (context.now - message.reading.timestamp).to_std().unwrap_or_default();
    let ages: Vec<f64> = accepted.into_iter().map(|message| age(message).as_secs_f64() * 1000.0).collect();
    record_sample(&metrics::histogram!("TelemetryAge"), &ages);
    metrics::counter!("TelemetryAccepted").increment(ages.len() as u64);
}

/// Counts messages that were not the latest of their station.
fn count_late(messages: usize) {
    if messages > 0 {
        metrics::counter!("TelemetryLate").increment(messages as u64);
    }
}
