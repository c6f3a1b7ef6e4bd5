//! The `live_publisher` Lambda: sends updates to the subscribers of the GraphQL API.
//!
//! A rule of the event bus invokes the function asynchronously with each event from which updates follow. For each
//! update, the function calls a mutation, whose result AppSync sends to the subscribers. Other functions invoke the
//! action `publish` with updates that follow from no event. If a mutation fails, the invocation fails, and Lambda
//! repeats the invocation: updates are sent at least once, in any order. The function stores nothing, so every attempt
//! does the same. If all attempts fail, `dlq_reconciler` passes the event to this function later, as a message of a
//! queue.

mod api;
mod config;
mod mutation;

use std::time::{Duration, Instant as Stopwatch};

use domain::actor::Role;
use domain::error::DomainError;
use domain::event::Envelope;
use domain::live::{Announcement, EVENT_TYPES, Update, updates};
use futures::{StreamExt, stream};
use lambda_kit::events::EventBridgeEvent;
use lambda_kit::{Action, Answer, Context, Failure, Function, Request, Trigger, action, drive_sqs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use api::Api;
pub use config::Config;
pub use mutation::Mutation;

/// How many messages of a queue are processed concurrently.
const PARALLEL_MESSAGES: usize = 10;
/// How many updates of an event, a message or a command are published concurrently.
const PARALLEL_UPDATES: usize = 16;
/// The time before the deadline in which no further update is begun, so that running requests can end.
const RESERVE: Duration = Duration::from_secs(1).saturating_add(api::TIMEOUT);

/// Updates that follow from no event.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The updates.
    #[schemars(length(min = 1, max = 10_000))]
    updates: Vec<Announcement>,
}

/// The result of an invocation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The number of updates that were published.
    published: usize,
}

/// The `live_publisher` function.
#[derive(Debug)]
pub struct LivePublisher {
    api: Api,
}

impl Function for LivePublisher {
    const NAME: &'static str = "live_publisher";
    const ACTIONS: &'static [Action<Self>] =
        &[action!("publish", Publish => Published, Self::handle_publish).by("SYSTEM").about(
            "Sends subscribers updates without an event: the progress of sessions, changes of battery-swap stations.",
        )];

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let watch = Stopwatch::now();
        match trigger {
            Trigger::Event(event) => {
                let published = self.publish(updates_of(*event)?, &context, watch).await?;
                Ok(Answer::ok(published)?.body)
            }
            Trigger::Sqs(batch) => {
                drive_sqs(batch, PARALLEL_MESSAGES, None, async |message| {
                    let event = serde_json::from_str(message.body.as_deref().unwrap_or_default());
                    let event = event.map_err(|error| Failure::invalid("body", error.to_string()))?;
                    self.publish(updates_of(event)?, &context, watch).await.map(|_| ())
                })
                .await
            }
            Trigger::Stream(_) | Trigger::Iot(_) | Trigger::UserPool(_) => {
                Err(Failure::invalid("payload", "must be an event of the bus or a batch of such events"))
            }
        }
    }
}

impl LivePublisher {
    /// Creates the function, which publishes by `api`.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    async fn handle_publish(&self, command: Publish, request: &Request) -> Result<Answer, Failure> {
        if request.actor()?.role != Role::System {
            return Err(DomainError::Forbidden("publish is for role SYSTEM".to_owned()).into());
        }
        let updates = command.updates.into_iter().map(Update::from).collect();
        Answer::ok(self.publish(updates, &request.context, Stopwatch::now()).await?)
    }

    /// Publishes updates, in any order. If one fails, the others are published nevertheless. `watch` was started with
    /// the invocation.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the API was busy or could not be reached, or when
    /// there was no time for an update. [`Code::Internal`](lambda_kit::Code::Internal) when the API refuses an update.
    /// Of several failures, the first one is returned.
    async fn publish(&self, updates: Vec<Update>, context: &Context, watch: Stopwatch) -> Result<Published, Failure> {
        let published = stream::iter(updates).map(|update| async move {
            if watch.elapsed() + RESERVE > context.time_left() {
                return Err(Failure::unavailable("there was no time to publish every update"));
            }
            self.api.publish(&update, context.now).await.map_err(Failure::from)
        });
        let outcomes: Vec<Result<(), Failure>> = published.buffer_unordered(PARALLEL_UPDATES).collect().await;
        let published = outcomes.len();
        outcomes.into_iter().collect::<Result<(), Failure>>()?;
        Ok(Published { published })
    }
}

/// Returns the updates that follow from an event of the bus.
fn updates_of(event: EventBridgeEvent) -> Result<Vec<Update>, Failure> {
    if !EVENT_TYPES.contains(&event.detail_type.as_str()) {
        tracing::info!(event.kind = event.detail_type, "no update follows from an event of this type");
        return Ok(Vec::new());
    }
    let envelope: Result<Envelope, serde_json::Error> = serde_json::from_value(event.detail);
    let envelope = envelope.map_err(|error| Failure::invalid("detail", error.to_string()))?;
    let updates = updates(&envelope);
    if updates.is_empty() {
        let id = envelope.event_id.to_string();
        tracing::info!(event.id = id, event.kind = event.detail_type, "no update follows from an event");
    }
    Ok(updates)
}
