//! The `dlq_reconciler` Lambda: every five minutes, processes the messages of all dead-letter queues.
//!
//! A message that is valid goes back to its queue, a bounded number of times and with a growing delay. An invalid
//! message is stored in the quarantine bucket with the reason. If a session cannot be billed because of it, the
//! function also reports `BILLING_FAILED`. A message that cannot be processed stays in its queue.
//!
//! A run takes nearly as long as the time between two runs, if there is that much to do. All queues are read
//! concurrently, and each queue that has messages is read in several loops.

mod config;
mod quarantine;
mod sqs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Stopwatch};

use aws_config::SdkConfig;
use aws_sdk_sqs::types::Message;
use domain::billing::BillingFailed;
use domain::dead_letter::{Consumer, QuarantinedLetter, Verdict, judge};
use domain::event::Event;
use domain::id::SessionId;
use futures::FutureExt;
use futures::future::join_all;
use lambda_kit::events::SqsBatchResponse;
use lambda_kit::{Action, Answer, Code, Context, Failure, Function, RemoteFunction, Request, Trigger, action, attempt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::BillingStore;

pub use config::Config;
pub use quarantine::Quarantine;
use sqs::Sqs;

/// The part of a run's time that is reserved for the messages in progress. A batch takes longest if it is passed on: a
/// receive (10 s), an invocation and the deletions (10 s).
pub const RESERVE: Duration = RemoteFunction::LONGEST_TRIGGER.saturating_add(Duration::from_secs(20));
/// The number of loops that read a queue at the same time. Each has at most ten messages in progress.
const LOOPS: usize = 8;
/// The maximum number of characters of a dropped message in the log.
const EXCERPT: usize = 1000;

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
    /// The name of the function that handles the messages of `source`, if no event source mapping reads that queue.
    #[serde(default)]
    function: Option<String>,
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

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reconciled {
    /// The number of messages that went back to their queue.
    pub replayed: usize,
    /// The number of messages that were put into quarantine.
    pub quarantined: usize,
    /// The number of failed runs of schedules and failed reports of progress. The next run makes up for each of them.
    pub dropped: usize,
    /// The number of messages that could not be processed. They stay in their queue.
    pub failed: usize,
    /// The number of messages that were passed to their function, because nothing else reads their queue.
    pub passed_on: usize,
    /// The number of queues that could not be read.
    pub unreadable: usize,
    /// Whether all queues were emptied. Otherwise the next run continues.
    pub emptied: bool,
}

/// The result of a batch of messages.
struct Batch {
    done: Reconciled,
    next: Next,
}

/// What a batch means for the further messages of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// They are read.
    Continue,
    /// Fewer loops can read them at the same time: the loop of this batch ends.
    EndLoop,
    /// They cannot be processed at present: all loops of the queue end.
    EndQueue,
}

impl Reconciled {
    fn add(&mut self, other: &Self) {
        self.replayed += other.replayed;
        self.quarantined += other.quarantined;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.passed_on += other.passed_on;
        self.unreadable += other.unreadable;
        self.emptied &= other.emptied;
    }
}

/// What happened to a message.
enum Settled {
    Replayed,
    Quarantined,
    Dropped,
}

/// The time of a run.
struct Time {
    watch: Stopwatch,
    left: Duration,
}

impl Time {
    /// Returns whether no further messages may be received.
    fn is_up(&self) -> bool {
        self.watch.elapsed() + RESERVE >= self.left
    }
}

/// The arguments of a run. There are none.
#[derive(Debug, Deserialize, JsonSchema)]
struct Reconcile {}

/// The `dlq_reconciler` function.
#[derive(Debug)]
pub struct DlqReconciler {
    billing: BillingStore,
    quarantine: Quarantine,
    sqs: Sqs,
    queues: DeadLetterQueues,
    /// The queues that no event source mapping reads: the URL of each and the function that handles its messages.
    unread: Vec<(String, RemoteFunction)>,
    max_replays: u32,
}

impl Function for DlqReconciler {
    const NAME: &'static str = "dlq_reconciler";
    const ACTIONS: &'static [Action<Self>] = &[action!("reconcile", Reconcile => Reconciled, Self::handle_reconcile)
        .by("whoever may invoke dlq_reconciler")
        .about("Processes the messages of all dead-letter queues.")];
    const DEFAULT_ACTION: Option<&'static str> = Some("reconcile");

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Event(_) = trigger else {
            return Err(Failure::invalid("payload", "must be a scheduled event"));
        };
        Ok(Answer::ok(self.reconcile(&context).await?)?.body)
    }
}

impl DlqReconciler {
    /// Creates the function. A message goes back to its queue at most `max_replays` times.
    #[must_use]
    pub fn new(
        billing: BillingStore,
        quarantine: Quarantine,
        sdk: &SdkConfig,
        queues: DeadLetterQueues,
        max_replays: u32,
    ) -> Self {
        let unread = queues.0.values().filter_map(|queue| {
            let function = RemoteFunction::new(sdk, queue.function.clone()?);
            Some((queue.source.clone()?, function))
        });
        let unread = unread.collect();
        Self { billing, quarantine, sqs: Sqs(aws_sdk_sqs::Client::new(sdk)), queues, unread, max_replays }
    }

    async fn handle_reconcile(&self, Reconcile {}: Reconcile, request: &Request) -> Result<Answer, Failure> {
        Answer::ok(self.reconcile(&request.context).await?)
    }

    /// Processes the messages of all dead-letter queues, as far as time allows.
    ///
    /// Runs may overlap: a message that one of them has received is invisible to the others.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when none of the queues can be read. If only some of them
    /// cannot be read, the others are processed all the same.
    pub async fn reconcile(&self, context: &Context) -> Result<Reconciled, Failure> {
        let time = &Time { watch: Stopwatch::now(), left: context.time_left() };
        let settle = self.queues.0.iter().map(|(arn, queue)| {
            let settle = move |letters| self.settle_all(arn, queue, letters, context);
            self.empty(&queue.url, time, settle).boxed()
        });
        let pass_on = self.unread.iter().map(|(queue, reader)| {
            let pass_on = move |messages| self.pass_on(queue, reader, messages);
            self.empty(queue, time, pass_on).boxed()
        });
        let mut all = Reconciled { emptied: true, ..Reconciled::default() };
        for part in join_all(settle.chain(pass_on)).await {
            all.add(&part);
        }
        if all.unreadable > 0 && all.unreadable == self.queues.0.len() + self.unread.len() {
            return Err(Failure::unavailable("no queue could be read"));
        }
        if !all.emptied {
            tracing::warn!(run = ?all, "messages are left; the next run continues");
        }
        Ok(all)
    }

    /// Passes the messages of a queue to `work` in batches, until the queue is empty, the time is up or `work` ends
    /// the reading.
    ///
    /// The first batch is processed alone. If all goes well with it, several loops then read the queue at the same time.
    async fn empty<W: Future<Output = Batch>>(
        &self,
        queue: &str,
        time: &Time,
        work: impl Fn(Vec<Message>) -> W,
    ) -> Reconciled {
        let Some(first) = self.receive(queue).await else {
            return Reconciled { unreadable: 1, ..Reconciled::default() };
        };
        if first.is_empty() {
            return Reconciled { emptied: true, ..Reconciled::default() };
        }
        let Batch { done: first, next } = work(first).await;
        if next == Next::EndLoop {
            metrics::counter!("InternalFailures").increment(1); // not even one loop can read the queue
        }
        if next != Next::Continue || time.is_up() {
            return first;
        }
        let stopped = AtomicBool::new(false);
        let loops = (0..LOOPS).map(|_| self.read(queue, time, &work, &stopped));
        let mut all = Reconciled { emptied: true, ..first };
        for part in join_all(loops).await {
            all.add(&part);
        }
        all
    }

    /// Runs one loop over a queue. `stopped` is shared by the loops of a queue: with [`Next::EndQueue`], all of them
    /// end.
    async fn read<W: Future<Output = Batch>>(
        &self,
        queue: &str,
        time: &Time,
        work: &impl Fn(Vec<Message>) -> W,
        stopped: &AtomicBool,
    ) -> Reconciled {
        let mut done = Reconciled::default();
        while !stopped.load(Ordering::Relaxed) && !time.is_up() {
            let Some(messages) = self.receive(queue).await else { break };
            if messages.is_empty() {
                return Reconciled { emptied: true, ..done };
            }
            let batch = work(messages).await;
            done.add(&batch.done);
            match batch.next {
                Next::Continue => {}
                Next::EndLoop => break,
                Next::EndQueue => stopped.store(true, Ordering::Relaxed),
            }
        }
        done
    }

    /// Receives up to ten messages. Returns `None` if the queue cannot be read.
    async fn receive(&self, queue: &str) -> Option<Vec<Message>> {
        let received = self.sqs.receive(queue).await;
        received.inspect_err(|failure| note(queue, failure, "a queue could not be read")).ok()
    }

    /// Decides on each of the letters of a dead-letter queue.
    async fn settle_all(&self, arn: &str, queue: &DeadLetterQueue, letters: Vec<Message>, context: &Context) -> Batch {
        metrics::counter!("DeadLetters").increment(letters.len() as u64);
        let work = letters
            .iter()
            .map(|letter| attempt(letter.message_id().unwrap_or_default(), self.settle(arn, queue, letter, context)));
        let mut done = Reconciled::default();
        for outcome in join_all(work).await {
            match outcome {
                Ok(Settled::Replayed) => done.replayed += 1,
                Ok(Settled::Quarantined) => done.quarantined += 1,
                Ok(Settled::Dropped) => done.dropped += 1,
                Err(_) => done.failed += 1,
            }
        }
        Batch { done, next: Next::Continue }
    }

    /// Decides on a message, and deletes it afterwards.
    ///
    /// A crash before the message is deleted processes it twice. Every consumer tolerates this.
    async fn settle(
        &self,
        arn: &str,
        queue: &DeadLetterQueue,
        letter: &Message,
        context: &Context,
    ) -> Result<Settled, Failure> {
        let (body, replays) = (letter.body().unwrap_or_default(), sqs::replays(letter));
        let settled = match (judge(queue.consumer, body, replays, self.max_replays), &queue.source) {
            (Verdict::Retry { message }, Some(source)) => {
                self.sqs.send_back(source, &message, replays).await?;
                Settled::Replayed
            }
            (Verdict::Retry { .. }, None) => {
                let reason = "its consumer has no queue to which it could go back".to_owned();
                self.isolate(arn, queue.consumer, letter, (reason, None), context).await?
            }
            (Verdict::Poison { reason, unbilled }, _) => {
                self.isolate(arn, queue.consumer, letter, (reason, unbilled), context).await?
            }
            (Verdict::Superseded, _) => {
                let letter: String = body.chars().take(EXCERPT).collect();
                tracing::warn!(queue = arn, letter, "a run failed; the next one makes up for it");
                Settled::Dropped
            }
        };
        self.sqs.delete(&queue.url, letter).await?;
        Ok(settled)
    }

    /// Stores an invalid message in the quarantine bucket, and reports the session that cannot be billed because of it.
    async fn isolate(
        &self,
        arn: &str,
        consumer: Consumer,
        message: &Message,
        (reason, unbilled): (String, Option<SessionId>),
        context: &Context,
    ) -> Result<Settled, Failure> {
        let letter = QuarantinedLetter {
            message_id: message.message_id().unwrap_or_default().to_owned(),
            consumer,
            queue: arn.rsplit(':').next().unwrap_or_default().to_owned(),
            reason,
            replays: sqs::replays(message),
            unbilled,
            quarantined_at: context.now,
            body: message.body().unwrap_or_default().to_owned(),
        };
        self.quarantine.keep(&letter).await?;
        if let Some(session) = &letter.unbilled {
            self.report_unbilled(session, &letter, context).await?;
        }
        tracing::error!(message.id = letter.message_id, queue = letter.queue, reason = letter.reason, "quarantined");
        metrics::counter!("DeadLettersQuarantined").increment(1);
        Ok(Settled::Quarantined)
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

    /// Passes messages of a queue to the function that handles them, as an event source mapping would.
    ///
    /// Each receive brings a message closer to its dead-letter queue. So if the invocation fails, or the function refuses
    /// all messages, e.g. because it cannot write at present, no further messages of the queue are received. If Lambda
    /// throttles the invocation, fewer loops go on.
    async fn pass_on(&self, queue: &str, reader: &RemoteFunction, messages: Vec<Message>) -> Batch {
        let refused = match invoke(reader, &messages).await {
            Ok(refused) => refused,
            Err(failure) => {
                let throttled = failure.code() == Code::TooManyRequests;
                if throttled {
                    tracing::warn!(queue, cause = failure.message(), "messages could not be passed on at present");
                } else {
                    note(queue, &failure, "messages could not be passed on");
                }
                let next = if throttled { Next::EndLoop } else { Next::EndQueue };
                return Batch { done: Reconciled { failed: messages.len(), ..Reconciled::default() }, next };
            }
        };
        let is_refused = |message: &Message| refused.contains(message.message_id().unwrap_or_default());
        let next = if messages.iter().all(is_refused) { Next::EndQueue } else { Next::Continue };
        let handled = messages.iter().filter(|message| !is_refused(message)).map(|message| {
            // A message that is handled and not deleted will be handled again, which changes nothing.
            attempt(message.message_id().unwrap_or_default(), self.sqs.delete(queue, message))
        });
        let passed_on = join_all(handled).await.iter().filter(|deleted| deleted.is_ok()).count();
        Batch { done: Reconciled { passed_on, failed: messages.len() - passed_on, ..Reconciled::default() }, next }
    }
}

/// Invokes a function with a batch of messages. Returns the ids of the messages that it could not handle.
async fn invoke(reader: &RemoteFunction, messages: &[Message]) -> Result<BTreeSet<String>, Failure> {
    let records: Vec<Value> = messages.iter().map(sqs::record).collect();
    let answer = reader.trigger(&json!({ "Records": records })).await?;
    let answer: SqsBatchResponse = serde_json::from_value(answer).map_err(Failure::internal)?;
    Ok(answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect())
}

/// Logs and counts a failure that concerns a whole queue.
fn note(queue: &str, failure: &Failure, what: &str) {
    tracing::error!(queue, error = %failure, cause = failure.cause(), "{what}");
    metrics::counter!("InternalFailures").increment(1);
}
