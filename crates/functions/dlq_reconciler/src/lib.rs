//! The `dlq_reconciler` Lambda: processes the messages of all dead-letter queues.
//!
//! A message that is valid goes back to its queue, a bounded number of times and with a growing delay. An invalid
//! message is stored in the quarantine bucket with the reason. If a session cannot be billed because of it, the
//! function also reports `BILLING_FAILED`.

mod config;
mod quarantine;

use std::collections::BTreeMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use domain::billing::BillingFailed;
use domain::dead_letter::{Consumer, QuarantinedLetter, REPLAYS_ATTRIBUTE, Verdict, judge};
use domain::event::Event;
use domain::id::SessionId;
use lambda_kit::events::SqsMessage;
use lambda_kit::{AwsError, Context, Failure, Function, Redelivery, Trigger, drive_sqs};
use serde::Deserialize;
use serde_json::Value;
use store::BillingStore;

pub use config::Config;
pub use quarantine::Quarantine;

/// How many messages of a batch are processed concurrently.
const PARALLEL_MESSAGES: usize = 10;
/// Delay before the first replay, s. Each further delay is four times as long, up to the maximum of SQS.
const FIRST_DELAY: i32 = 15;
const LONGEST_DELAY: i32 = 900;

/// A dead-letter queue: the consumer of its messages, and the queue that they came from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterQueue {
    consumer: Consumer,
    /// The URL of the dead-letter queue.
    url: String,
    /// The URL of the queue to which messages go back; `None` if the consumer has no queue.
    #[serde(default)]
    source: Option<String>,
}

/// All dead-letter queues, by their ARNs.
#[derive(Clone, Debug)]
pub struct DeadLetterQueues(BTreeMap<String, DeadLetterQueue>);

impl DeadLetterQueues {
    /// Parses JSON such as `{"arn": {"consumer": "BILLING", "url": "url", "source": "url"}, …}`.
    ///
    /// # Errors
    /// A [`serde_json::Error`] if the text cannot be parsed.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self)
    }
}

/// The `dlq_reconciler` function.
#[derive(Debug)]
pub struct DlqReconciler {
    billing: BillingStore,
    quarantine: Quarantine,
    sqs: aws_sdk_sqs::Client,
    queues: DeadLetterQueues,
    max_replays: u32,
}

impl Function for DlqReconciler {
    const NAME: &'static str = "dlq_reconciler";

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Sqs(batch) = trigger else {
            return Err(Failure::invalid("Records", "must be a batch of a dead-letter queue"));
        };
        // All messages of a batch come from the same queue.
        let queue = batch.records.first().and_then(|message| self.queue_of(message));
        let redelivery = queue.map(|queue| Redelivery::with_client(self.sqs.clone(), queue.url.clone()));
        let reconcile = async |message: SqsMessage| self.reconcile(&message, &context).await;
        drive_sqs(batch, PARALLEL_MESSAGES, redelivery.as_ref(), reconcile).await
    }
}

impl DlqReconciler {
    /// Creates the function. A message goes back to its queue at most `max_replays` times.
    #[must_use]
    pub fn new(
        billing: BillingStore,
        quarantine: Quarantine,
        sqs: aws_sdk_sqs::Client,
        queues: DeadLetterQueues,
        max_replays: u32,
    ) -> Self {
        Self { billing, quarantine, sqs, queues, max_replays }
    }

    fn queue_of(&self, message: &SqsMessage) -> Option<&DeadLetterQueue> {
        self.queues.0.get(message.event_source_arn.as_deref()?)
    }

    async fn reconcile(&self, message: &SqsMessage, context: &Context) -> Result<(), Failure> {
        let arn = message.event_source_arn.as_deref().unwrap_or_default();
        let queue = self.queue_of(message);
        let queue = queue.ok_or_else(|| Failure::internal(format!("{arn:?} is no dead-letter queue that is known")))?;
        let body = message.body.as_deref().unwrap_or_default();
        let replays = replays(message);
        match (judge(queue.consumer, body, replays, self.max_replays), &queue.source) {
            (Verdict::Retry { message }, Some(source)) => self.replay(source, &message, replays).await,
            (Verdict::Retry { .. }, None) => {
                let reason = "its consumer has no queue to which it could go back".to_owned();
                self.isolate(message, queue.consumer, (reason, None), context).await
            }
            (Verdict::Poison { reason, unbilled }, _) => {
                self.isolate(message, queue.consumer, (reason, unbilled), context).await
            }
            (Verdict::Superseded, _) => {
                tracing::info!(queue = arn, "a run of a schedule failed; the next one makes up for it");
                metrics::counter!("DeadLettersSuperseded").increment(1);
                Ok(())
            }
        }
    }

    /// Sends a message back to its queue.
    ///
    /// A crash before the message is deleted from the dead-letter queue sends it twice. Every consumer tolerates this.
    async fn replay(&self, source: &str, body: &str, replays: u32) -> Result<(), Failure> {
        let count = MessageAttributeValue::builder().data_type("Number").string_value((replays + 1).to_string());
        self.sqs
            .send_message()
            .queue_url(source)
            .message_body(body)
            .message_attributes(REPLAYS_ATTRIBUTE, count.build().map_err(Failure::internal)?)
            .delay_seconds(FIRST_DELAY.saturating_mul(4_i32.saturating_pow(replays)).min(LONGEST_DELAY))
            .send()
            .await
            .map_err(AwsError::from)
            .map_err(Failure::unavailable)?;
        tracing::warn!(queue = source, replays = replays + 1, "a dead letter went back to its queue");
        metrics::counter!("DeadLettersReplayed").increment(1);
        Ok(())
    }

    /// Stores an invalid message in the quarantine bucket, and reports the session that cannot be billed because of it.
    async fn isolate(
        &self,
        message: &SqsMessage,
        consumer: Consumer,
        (reason, unbilled): (String, Option<SessionId>),
        context: &Context,
    ) -> Result<(), Failure> {
        let arn = message.event_source_arn.as_deref().unwrap_or_default();
        let letter = QuarantinedLetter {
            message_id: message.message_id.clone().unwrap_or_default(),
            consumer,
            queue: arn.rsplit(':').next().unwrap_or_default().to_owned(),
            reason,
            replays: replays(message),
            unbilled,
            quarantined_at: context.now,
            body: message.body.clone().unwrap_or_default(),
        };
        self.quarantine.keep(&letter).await?;
        if let Some(session) = &letter.unbilled {
            self.report_unbilled(session, &letter, context).await?;
        }
        tracing::error!(message.id = letter.message_id, queue = letter.queue, reason = letter.reason, "quarantined");
        metrics::counter!("DeadLettersQuarantined").increment(1);
        Ok(())
    }

    async fn report_unbilled(
        &self,
        session: &SessionId,
        letter: &QuarantinedLetter,
        context: &Context,
    ) -> Result<(), Failure> {
        let failed =
            BillingFailed { session_id: session.clone(), reason: letter.reason.clone(), quarantine_key: letter.key() };
        let event = Event::BillingFailed(failed);
        match self.billing.record_failure(session, &letter.reason, event, &context.event_context()).await {
            // Another message about this session has already been reported.
            Err(error) if error.is_stale() => Ok(()),
            written => Ok(written?),
        }
    }
}

/// Returns how often the message has already gone back to its queue.
fn replays(message: &SqsMessage) -> u32 {
    let attribute = message.message_attributes.get(REPLAYS_ATTRIBUTE);
    attribute.and_then(|count| count.string_value.as_deref()?.parse().ok()).unwrap_or_default()
}
