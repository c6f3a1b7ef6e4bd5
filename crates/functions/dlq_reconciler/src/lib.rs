//! Dead letters: back to their queue, or into quarantine.
//!
//! Every dead-letter queue of the application ends here. A letter with which nothing is wrong goes back to its queue,
//! later every time and a bounded number of times; poison is kept in the quarantine bucket with the reason, and a
//! session that cannot be billed because of it is reported as `BILLING_FAILED`.

mod quarantine;

use std::collections::BTreeMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use domain::billing::BillingFailed;
use domain::dead_letter::{Consumer, QuarantinedLetter, REPLAYS_ATTRIBUTE, Verdict, judge};
use domain::event::Event;
use domain::id::SessionId;
use lambda_kit::events::SqsMessage;
use lambda_kit::{Context, Failure, Function, Redelivery, Trigger, drive_sqs};
use serde::Deserialize;
use serde_json::Value;
use store::BillingStore;

pub use quarantine::Quarantine;

/// Messages of a batch worked at the same time.
const PARALLEL_MESSAGES: usize = 10;
/// Before the first replay, s; every further one waits four times as long, up to what SQS allows.
const FIRST_DELAY: i32 = 15;
const LONGEST_DELAY: i32 = 900;

/// A dead-letter queue: whose messages it holds, and where they came from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterQueue {
    consumer: Consumer,
    /// Its own URL.
    url: String,
    /// URL of the queue to which a letter goes back; none where its consumer has no queue.
    #[serde(default)]
    source: Option<String>,
}

/// The dead-letter queues by their ARNs.
#[derive(Clone, Debug)]
pub struct DeadLetterQueues(BTreeMap<String, DeadLetterQueue>);

impl DeadLetterQueues {
    /// From JSON: `{"arn": {"consumer": "BILLING", "url": "url", "source": "url"}, …}`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map(Self).map_err(|error| error.to_string())
    }
}

/// The function.
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
        // A batch is of one queue.
        let queue = batch.records.first().and_then(|message| self.queue_of(message));
        let redelivery = queue.map(|queue| Redelivery::with_client(self.sqs.clone(), queue.url.clone()));
        let reconcile = async |message: SqsMessage| self.reconcile(&message, &context).await;
        drive_sqs(batch, PARALLEL_MESSAGES, redelivery.as_ref(), reconcile).await
    }
}

impl DlqReconciler {
    /// Over these; a letter goes back to its queue at most `max_replays` times.
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

    /// Sends a letter back to its queue. A crash before the dead-letter queue has forgotten it sends it twice, which
    /// its consumer is used to.
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
            .map_err(|error| Failure::unavailable(aws_sdk_sqs::error::DisplayErrorContext(error)))?;
        tracing::warn!(queue = source, replays = replays + 1, "a dead letter went back to its queue");
        metrics::counter!("DeadLettersReplayed").increment(1);
        Ok(())
    }

    /// Keeps poison in quarantine and, where a session cannot be billed because of it, says so.
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
            // A second letter about the same session.
            Err(error) if error.is_stale() => Ok(()),
            written => Ok(written?),
        }
    }
}

/// How often the message has gone back to its queue already.
fn replays(message: &SqsMessage) -> u32 {
    let attribute = message.message_attributes.get(REPLAYS_ATTRIBUTE);
    attribute.and_then(|count| count.string_value.as_deref()?.parse().ok()).unwrap_or_default()
}
