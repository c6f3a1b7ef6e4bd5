//! Runs over the dead-letter queues: messages go back to their queue or into quarantine, or are dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use dlq_reconciler::{DeadLetterQueues, DlqReconciler, Quarantine, RESERVE, Reconciled};
use domain::charging::station::StationStatus;
use domain::charging::station::StationStatusChanged;
use domain::dead_letter::{Consumer, QuarantinedLetter};
use domain::event::{Event, seal};
use domain::id::StationId;
use lambda_kit::{Clock, Context, Door, RemoteFunction};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, EmbeddedS3, FakeAws, RecordedCall, invoke, resources, sdk_config};

const BUCKET: &str = "quarantine";
/// The visibility timeout of the queues, s.
const VISIBILITY: u64 = 290;
/// The consumers that read no queue to which a letter could go back.
const WITHOUT_QUEUE: [Consumer; 3] = [Consumer::Relay, Consumer::Schedule, Consumer::Deletion];
/// The consumers whose queues no event source mapping reads.
const WITHOUT_MAPPING: [Consumer; 2] = [Consumer::Telemetry, Consumer::LivePublisher];

/// Returns the name of a consumer's queue in these tests.
fn queue(consumer: Consumer) -> String {
    serde_json::to_value(consumer).unwrap().as_str().unwrap().to_lowercase()
}

/// Returns the name of a consumer's dead-letter queue.
fn dead_letter_queue(consumer: Consumer) -> String {
    format!("ev-{}-dlq-dev", queue(consumer))
}

fn url(queue: &str) -> String {
    format!("http://sqs/{queue}")
}

/// A message in a queue.
struct Stored {
    /// The URL of the queue.
    queue: String,
    id: String,
    message: Value,
    /// How often it was received.
    receives: u32,
    /// The time from which it can be received, s.
    visible_at: u64,
}

impl Stored {
    /// Returns the receipt handle. Each receive makes a new one.
    fn handle(&self) -> String {
        format!("handle {} of {}", self.receives, self.id)
    }

    /// Returns the message as a receive does. For some time, it is not received again.
    fn receive(&mut self, now: u64) -> Value {
        self.receives += 1;
        self.visible_at = now + VISIBILITY;
        let mut message = self.message.clone();
        message["ReceiptHandle"] = json!(self.handle());
        message["Attributes"]["ApproximateReceiveCount"] = json!(self.receives.to_string());
        message
    }
}

/// SQS as far as `dlq_reconciler` uses it, and a function that it invokes.
struct FakeSqs {
    stored: Vec<Stored>,
    /// The time, s. Only tests advance it.
    now: u64,
    /// Whether queues accept messages.
    accepts: bool,
    /// The URLs of the queues that cannot be read.
    broken: BTreeSet<String>,
    /// The ids of the messages that cannot be deleted.
    undeletable: Vec<&'static str>,
    /// The status with which Lambda answers an invocation.
    status: u16,
    /// How long an invocation takes.
    takes: Duration,
    /// The ids of messages that the invoked function reports as failed.
    refused: Vec<&'static str>,
    /// Whether the invoked function reports all messages as failed.
    refuses_all: bool,
    /// The number of concurrent invocations above which Lambda throttles.
    concurrency: usize,
    /// The number of invocations in progress.
    running: usize,
    /// The number of invocations that Lambda throttled.
    throttled: usize,
}

impl FakeSqs {
    fn new() -> Self {
        Self {
            stored: vec![],
            now: 0,
            accepts: true,
            broken: BTreeSet::new(),
            undeletable: vec![],
            status: 200,
            takes: Duration::ZERO,
            refused: vec![],
            refuses_all: false,
            concurrency: usize::MAX,
            running: 0,
            throttled: 0,
        }
    }

    /// Begins an invocation. Returns whether it was not throttled.
    fn begin(&mut self) -> bool {
        let begins = self.running < self.concurrency;
        if begins {
            self.running += 1;
        } else {
            self.throttled += 1;
        }
        begins
    }

    fn answer(&mut self, call: &RecordedCall) -> (u16, String) {
        let request: Value = serde_json::from_str(&call.body).unwrap();
        let queue = request["QueueUrl"].as_str().unwrap_or_default();
        match call.target.as_str() {
            "AmazonSQS.ReceiveMessage" if self.broken.contains(queue) => (500, "{}".to_owned()),
            "AmazonSQS.ReceiveMessage" => {
                let (most, now) =
                    (usize::try_from(request["MaxNumberOfMessages"].as_u64().unwrap()).unwrap(), self.now);
                let visible = self.stored.iter_mut().filter(|stored| stored.queue == queue && stored.visible_at <= now);
                let messages: Vec<Value> = visible.take(most).map(|stored| stored.receive(now)).collect();
                (200, json!({ "Messages": messages }).to_string())
            }
            "AmazonSQS.DeleteMessage" => {
                let is_it = |stored: &Stored| stored.queue == queue && request["ReceiptHandle"] == stored.handle();
                let found = self.stored.iter().position(is_it).expect("the message is deleted as it was received last");
                if self.undeletable.contains(&self.stored[found].id.as_str()) {
                    return (500, "{}".to_owned());
                }
                self.stored.remove(found);
                (200, "{}".to_owned())
            }
            "AmazonSQS.SendMessage" if self.accepts => (200, json!({ "MessageId": "m" }).to_string()),
            "AmazonSQS.SendMessage" => (500, "{}".to_owned()),
            "" if self.status != 200 => (self.status, "{}".to_owned()),
            "" => {
                let records = request["Records"].as_array().unwrap().iter();
                let ids = records.map(|record| record["messageId"].as_str().unwrap());
                let refused = ids.filter(|id| self.refuses_all || self.refused.contains(id));
                let failures: Vec<Value> = refused.map(|id| json!({ "itemIdentifier": id })).collect();
                (200, json!({ "batchItemFailures": failures }).to_string())
            }
            other => panic!("an unexpected call of {other}"),
        }
    }

    /// Returns the ids of the messages that are still in their queues.
    fn ids(&self) -> Vec<&str> {
        self.stored.iter().map(|stored| stored.id.as_str()).collect()
    }

    /// Returns how often each message that is still in its queue was received.
    fn receives(&self) -> Vec<u32> {
        self.stored.iter().map(|stored| stored.receives).collect()
    }
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    s3: EmbeddedS3,
    aws: FakeAws,
    sqs: Arc<Mutex<FakeSqs>>,
    door: Door<DlqReconciler>,
}

impl World {
    async fn new() -> Self {
        Self::with(|sdk| sdk).await
    }

    /// Creates a world with settings of the SDK.
    async fn with(settings: impl FnOnce(SdkConfig) -> SdkConfig) -> Self {
        let sqs = Arc::new(Mutex::new(FakeSqs::new()));
        let fake = sqs.clone();
        let aws = FakeAws::start(move |call, _| {
            if !call.target.is_empty() {
                return fake.lock().unwrap().answer(call);
            }
            if !fake.lock().unwrap().begin() {
                return (429, "{}".to_owned());
            }
            let takes = fake.lock().unwrap().takes;
            if !takes.is_zero() {
                tokio::task::block_in_place(|| std::thread::sleep(takes));
            }
            let mut sqs = fake.lock().unwrap();
            sqs.running -= 1;
            sqs.answer(call)
        })
        .await;
        let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start(BUCKET).await);
        let queues = Consumer::ALL.map(|consumer| {
            let name = dead_letter_queue(consumer);
            let mut entry = json!({ "consumer": consumer, "url": url(&name) });
            if !WITHOUT_QUEUE.contains(&consumer) {
                entry["source"] = json!(url(&queue(consumer)));
            }
            if WITHOUT_MAPPING.contains(&consumer) {
                entry["function"] = json!(format!("ev-{}-dev", queue(consumer)));
            }
            (format!("arn:aws:sqs:eu-central-1:123456789012:{name}"), entry)
        });
        let queues: Value = queues.into_iter().collect();
        let reconciler = DlqReconciler::new(
            dynamodb.billing(),
            Quarantine::new(s3.client(), BUCKET.to_owned()),
            &settings(sdk_config(&aws.endpoint())),
            DeadLetterQueues::parse(&queues.to_string()).unwrap(),
            3,
        );
        Self { dynamodb, s3, aws, sqs, door: Door::new(reconciler, Clock::SYSTEM) }
    }

    /// Puts a message into a queue, to which it has gone back `replays` times.
    fn put(&self, queue: &str, id: &str, body: &str, replays: u32) {
        let attributes = json!({ "SentTimestamp": "1767225600000" });
        let mut message = json!({ "MessageId": id, "Body": body, "Attributes": attributes });
        if replays > 0 {
            message["MessageAttributes"] =
                json!({ "replays": { "DataType": "Number", "StringValue": replays.to_string() } });
        }
        let stored = Stored { queue: url(queue), id: id.to_owned(), message, receives: 0, visible_at: 0 };
        self.sqs.lock().unwrap().stored.push(stored);
    }

    /// Runs the function with this much time, s.
    async fn reconcile(&self, seconds: i64) -> Reconciled {
        let now = (Clock::SYSTEM.0)();
        let deadline = now + chrono::TimeDelta::seconds(seconds);
        let context = Context { now, deadline, request_id: "r".to_owned(), correlation_id: "c".to_owned() };
        self.door.function().reconcile(&context).await.unwrap()
    }

    /// Returns the invocations of the other function.
    fn invocations(&self) -> Vec<Value> {
        let calls = self.aws.calls().into_iter().filter(|call| call.target.is_empty());
        calls.map(|call| serde_json::from_str(&call.body).unwrap()).collect()
    }

    /// Delivers a message from the dead-letter queue of a consumer, to whose queue it has gone back `replays` times.
    /// Returns whether it stayed there. It is then taken away.
    async fn deliver(&self, consumer: Consumer, id: &str, body: &str, replays: u32) -> bool {
        self.put(&dead_letter_queue(consumer), id, body, replays);
        let answer = invoke(&self.door, json!({})).await.unwrap();
        assert_eq!(answer["emptied"], json!(true), "{answer}");
        let left = std::mem::take(&mut self.sqs.lock().unwrap().stored);
        assert_eq!(answer["failed"], json!(left.len()), "{answer}");
        !left.is_empty()
    }

    /// Returns the messages that were sent.
    fn sent(&self) -> Vec<Value> {
        let calls = self.aws.calls().into_iter().filter(|call| call.target == "AmazonSQS.SendMessage");
        calls.map(|call| serde_json::from_str(&call.body).unwrap()).collect()
    }

    async fn letters(&self) -> Vec<QuarantinedLetter> {
        let objects = self.s3.objects(BUCKET).await;
        objects.iter().map(|(_, content)| serde_json::from_slice(content).unwrap()).collect()
    }
}

/// Returns the example of the contract, as the rule of the event bus delivers it.
fn session_ended() -> Value {
    let detail = include_str!("../../../../events/contracts/SESSION_ENDED.v1.example.json");
    json!({ "detail-type": "SESSION_ENDED", "source": "evoke.sessions", "detail": serde_json::from_str::<Value>(detail).unwrap() })
}

/// Returns the examples of all contracts, each as a rule of the event bus delivers it.
fn contract_examples() -> Vec<String> {
    let contracts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../events/contracts");
    let files = std::fs::read_dir(contracts).unwrap().map(|file| file.unwrap().path());
    let examples = files.filter(|file| file.to_str().unwrap().ends_with(".example.json"));
    let message = |file: std::path::PathBuf| {
        let detail: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        json!({ "detail-type": detail["eventType"], "detail": detail }).to_string()
    };
    examples.map(message).collect()
}

/// This holds for every consumer, whatever it accepts.
#[tokio::test]
async fn a_letter_goes_back_to_the_queue_of_its_consumer_or_nowhere() {
    let examples = contract_examples();
    assert!(examples.len() > 10, "{}", examples.len());
    for consumer in Consumer::ALL {
        let world = World::new().await;
        for (number, example) in examples.iter().enumerate() {
            assert!(!world.deliver(consumer, &format!("m-{number}"), example, 0).await, "{consumer:?}: {example}");
        }
        let messages = world.sent();
        if WITHOUT_QUEUE.contains(&consumer) {
            assert!(messages.is_empty(), "{consumer:?}: {messages:?}");
            continue;
        }
        for message in &messages {
            assert_eq!(message["QueueUrl"], url(&queue(consumer)), "{consumer:?}");
            assert!(examples.iter().any(|example| message["MessageBody"] == *example), "{consumer:?}: {message}");
        }
        let refused = world.letters().await.len();
        assert_eq!(messages.len() + refused, examples.len(), "{consumer:?}");
        // What is no message goes into quarantine, and so does a valid message that went back often enough.
        let valid = messages.first().unwrap_or_else(|| panic!("{consumer:?} accepts no event"));
        let valid = valid["MessageBody"].as_str().unwrap();
        for (id, body, replays) in [("p-1", "not JSON", 0), ("p-2", "[1]", 0), ("p-3", valid, 3)] {
            assert!(!world.deliver(consumer, id, body, replays).await, "{consumer:?}: {id}");
        }
        assert_eq!(world.sent().len(), messages.len(), "{consumer:?}");
        let letters = world.letters().await;
        assert_eq!(letters.len(), refused + 3, "{consumer:?}");
        for letter in letters {
            assert_eq!((letter.consumer, letter.queue), (consumer, dead_letter_queue(consumer)));
            assert!(!letter.reason.is_empty(), "{consumer:?}");
        }
    }
}

#[tokio::test]
async fn a_valid_message_goes_back_with_growing_delays_and_not_forever() {
    let world = World::new().await;
    let body = session_ended().to_string();
    for replays in 0..3 {
        assert!(!world.deliver(Consumer::Billing, "m-1", &body, replays).await);
    }
    let calls = world.sent();
    let delays: Vec<_> = calls.iter().map(|call| call["DelaySeconds"].as_i64().unwrap()).collect();
    assert_eq!(delays, [15, 60, 240]);
    for (call, replays) in calls.iter().zip(["1", "2", "3"]) {
        assert_eq!((&call["QueueUrl"], &call["MessageBody"]), (&json!(url("billing")), &json!(body)));
        assert_eq!(call["MessageAttributes"]["replays"]["StringValue"], replays);
    }
    assert!(world.letters().await.is_empty());
    assert!(!world.deliver(Consumer::Billing, "m-1", &body, 3).await);
    assert_eq!(world.sent().len(), 3, "enough");
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].replays, letters[0].body.as_str()), (1, 3, body.as_str()));
    assert!(letters[0].reason.contains("3 times"), "{}", letters[0].reason);
    assert_eq!(
        letters[0].unbilled.as_ref().unwrap().as_str(),
        session_ended()["detail"]["sessionId"].as_str().unwrap()
    );
    // The end of a FAILED session only ends its hold, so that no invoice is missing.
    let mut failed = session_ended();
    failed["detail"]["status"] = json!("FAILED");
    assert!(!world.deliver(Consumer::Billing, "m-2", &failed.to_string(), 3).await);
    let letters = world.letters().await;
    assert_eq!(letters.iter().find(|letter| letter.message_id == "m-2").unwrap().unbilled, None);
}

#[tokio::test]
async fn an_invalid_message_is_quarantined_and_an_unbillable_session_is_reported_once() {
    let world = World::new().await;
    let mut unbillable = session_ended();
    unbillable["detail"]["energyKwh"] = json!(31);
    let mut misrouted = session_ended();
    misrouted["detail"]["eventType"] = json!("SESSION_STARTED");
    for _ in 0..3 {
        assert!(!world.deliver(Consumer::Billing, "m-1", &unbillable.to_string(), 0).await);
    }
    assert!(
        !world.deliver(Consumer::Billing, "m-2", &unbillable.to_string(), 0).await,
        "another message about the same session"
    );
    assert!(!world.deliver(Consumer::Billing, "m-3", "not JSON", 0).await);
    assert!(!world.deliver(Consumer::Billing, "m-4", &misrouted.to_string(), 0).await);
    assert!(!world.deliver(Consumer::Notification, "m-5", "{\"detail\": 1}", 0).await);
    assert!(!world.deliver(Consumer::Relay, "m-6", "{\"DDBStreamBatchInfo\": {}}", 0).await);
    // Messages that the relay set aside, one of them an end that billing will never get.
    let mut lost = session_ended()["detail"].clone();
    lost["sessionId"] = json!("s-lost");
    let aside = |outbox: String| {
        let (item, sequence) = ("SESSION#s-lost/METADATA", "1");
        json!({ "unpublished": "MalformedDetail", "item": item, "sequenceNumber": sequence, "outbox": outbox })
            .to_string()
    };
    assert!(!world.deliver(Consumer::Relay, "m-7", &aside(json!([lost]).to_string()), 0).await);
    assert!(!world.deliver(Consumer::Relay, "m-8", &aside("not JSON".to_owned()), 0).await);
    assert_eq!(world.sent(), [Value::Null; 0], "nothing goes back");
    let letters = world.letters().await;
    let reasons: Vec<(&str, &str)> = letters.iter().map(|l| (l.message_id.as_str(), l.reason.as_str())).collect();
    assert_eq!(letters.len(), 8, "{reasons:?}");
    for (id, reason) in [
        ("m-1", "add up to energyKwh"),
        ("m-3", "no event of ours"),
        ("m-5", "no event of ours"),
        ("m-6", "was not relayed"),
        ("m-7", "MalformedDetail"),
        ("m-8", "MalformedDetail"),
    ] {
        assert!(reasons.iter().any(|(of, text)| *of == id && text.contains(reason)), "{id}: {reasons:?}");
    }
    // One record with its event for the session of m-1, m-2 and m-4, and one for that of m-7.
    let mut items = world.dynamodb.items("ev-billing").await;
    items.sort_by_key(|item| item["PK"].as_s().unwrap() == "FAILURE#s-lost");
    assert_eq!((items.len(), items[1]["PK"].as_s().unwrap().as_str()), (2, "FAILURE#s-lost"));
    let outbox: Value = serde_json::from_str(items[0]["outbox"].as_s().unwrap()).unwrap();
    assert_eq!(outbox[0]["eventType"], "BILLING_FAILED");
    assert_eq!(outbox[0]["quarantineKey"], "dead-letters/ev-billing-dlq-dev/m-1.json");
    assert!(world.s3.objects(BUCKET).await.iter().any(|(key, _)| outbox[0]["quarantineKey"] == json!(key)));
}

#[tokio::test]
async fn a_failed_scheduled_run_is_dropped_and_a_letter_that_cannot_be_processed_stays() {
    let world = World::new().await;
    assert!(!world.deliver(Consumer::Schedule, "m-1", "{\"requestPayload\": {}}", 0).await);
    assert!(world.letters().await.is_empty());
    world.sqs.lock().unwrap().accepts = false;
    let changed = Event::StationStatusChanged(StationStatusChanged {
        station_id: StationId::new("s-1").unwrap(),
        from: StationStatus::New,
        to: StationStatus::Active,
        version: Some(2),
        station_version: Some(2),
        counts: None,
    });
    let envelope = seal("STATION#s-1/METADATA", 1, "2026-02-22T10:00:00Z".parse().unwrap(), "c", [changed]).remove(0);
    let body = json!({ "detail": envelope }).to_string();
    assert!(world.deliver(Consumer::Notification, "m-2", &body, 0).await, "its queue refuses it");
    world.sqs.lock().unwrap().accepts = true;
    assert!(!world.deliver(Consumer::Notification, "m-2", &body, 0).await, "the next run sends it back");
    assert!(world.letters().await.is_empty());
}

#[tokio::test]
async fn a_run_empties_all_queues() {
    let world = World::new().await;
    for number in 0..25 {
        world.put(&dead_letter_queue(Consumer::Billing), &format!("b-{number}"), &session_ended().to_string(), 0);
        world.put(&dead_letter_queue(Consumer::Schedule), &format!("s-{number}"), "{}", 0);
    }
    world.put(&dead_letter_queue(Consumer::Relay), "r", "{}", 0);
    // Without time, a run takes one batch of each queue.
    let first = Reconciled { replayed: 10, quarantined: 1, dropped: 10, ..Reconciled::default() };
    assert_eq!(world.reconcile(1).await, first);
    let second = Reconciled { replayed: 15, dropped: 15, emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, second);
    assert_eq!(world.sqs.lock().unwrap().ids(), [""; 0]);
    let nothing = Reconciled { emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, nothing);
    assert_eq!((world.sent().len(), world.letters().await.len()), (25, 1));
}

#[tokio::test]
async fn two_runs_at_once_process_each_letter_once() {
    let world = World::new().await;
    for number in 0..250 {
        world.put(&dead_letter_queue(Consumer::Billing), &format!("b-{number}"), &session_ended().to_string(), 0);
    }
    let (one, other) = tokio::join!(world.reconcile(600), world.reconcile(600));
    assert!(one.emptied && other.emptied, "{one:?} {other:?}");
    assert!(one.replayed > 0 && other.replayed > 0, "{one:?} {other:?}");
    assert_eq!((one.replayed + other.replayed, one.failed + other.failed), (250, 0));
    assert_eq!((world.sent().len(), world.sqs.lock().unwrap().ids().len()), (250, 0));
}

#[tokio::test]
async fn a_letter_that_failed_is_received_again_by_a_later_run_and_not_by_the_same() {
    let world = World::new().await;
    world.sqs.lock().unwrap().accepts = false;
    world.put(&dead_letter_queue(Consumer::Billing), "b", &session_ended().to_string(), 0);
    let failed = Reconciled { failed: 1, emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, failed);
    let nothing = Reconciled { emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, nothing, "an overlapping run");
    assert_eq!(world.sqs.lock().unwrap().receives(), [1]);
    world.sqs.lock().unwrap().now += VISIBILITY;
    assert_eq!(world.reconcile(600).await, failed);
    assert_eq!(world.sqs.lock().unwrap().receives(), [2]);
    world.sqs.lock().unwrap().now += VISIBILITY;
    world.sqs.lock().unwrap().accepts = true;
    assert_eq!(world.reconcile(600).await, Reconciled { replayed: 1, ..nothing });
    assert!(world.letters().await.is_empty());
}

/// What could not be deleted is processed again. Every consumer tolerates this.
#[tokio::test]
async fn a_message_that_cannot_be_deleted_counts_as_failed_and_is_processed_again() {
    let world = World::new().await;
    world.put(&dead_letter_queue(Consumer::Billing), "b", &session_ended().to_string(), 0);
    for id in ["m-1", "m-2", "m-3"] {
        world.put(&queue(Consumer::Telemetry), id, "{}", 1);
    }
    world.sqs.lock().unwrap().undeletable = vec!["b", "m-2"];
    let first = Reconciled { passed_on: 2, failed: 2, emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, first);
    assert_eq!(world.sqs.lock().unwrap().ids(), ["b", "m-2"]);
    world.sqs.lock().unwrap().undeletable.clear();
    world.sqs.lock().unwrap().now += VISIBILITY;
    let second = Reconciled { replayed: 1, passed_on: 1, emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, second);
    assert_eq!((world.sent().len(), world.sqs.lock().unwrap().ids().len()), (2, 0));
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_spares_the_others() {
    let world = World::new().await;
    let broken = dead_letter_queue(Consumer::Billing);
    world.sqs.lock().unwrap().broken.insert(url(&broken));
    world.put(&broken, "b", &session_ended().to_string(), 0);
    world.put(&dead_letter_queue(Consumer::Schedule), "s", "{}", 0);
    let rest = Reconciled { dropped: 1, unreadable: 1, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, rest);
    assert_eq!(world.sqs.lock().unwrap().ids(), ["b"]);
}

#[tokio::test]
async fn a_run_that_can_read_no_queue_fails() {
    let world = World::new().await;
    let all = Consumer::ALL.map(|consumer| url(&dead_letter_queue(consumer)));
    world.sqs.lock().unwrap().broken = all.into();
    // The queues without mappings can still be read.
    for consumer in WITHOUT_MAPPING {
        assert!(!world.reconcile(600).await.emptied);
        world.sqs.lock().unwrap().broken.insert(url(&queue(consumer)));
    }
    let (kind, _) = invoke(&world.door, json!({})).await.unwrap_err();
    assert_eq!(kind, "UnavailableError");
}

/// Otherwise each message of a long backlog would use up its receives while the function cannot take them.
#[tokio::test]
async fn an_invocation_that_fails_is_not_repeated_and_ends_the_loops_of_its_queue() {
    let retrying = |sdk: SdkConfig| sdk.into_builder().retry_config(RetryConfig::standard()).build();
    for status in [429, 500] {
        let world = World::with(retrying).await;
        for number in 0..200 {
            world.put(&queue(Consumer::Telemetry), &format!("m-{number}"), "{}", 1);
        }
        world.put(&dead_letter_queue(Consumer::Schedule), "s", "{}", 0);
        world.sqs.lock().unwrap().status = status;
        let first = Reconciled { dropped: 1, failed: 10, ..Reconciled::default() };
        assert_eq!(world.reconcile(600).await, first, "{status}");
        assert_eq!(world.invocations().len(), 1, "{status}");
        assert_eq!(world.sqs.lock().unwrap().receives().iter().sum::<u32>(), 10, "{status}");
        world.sqs.lock().unwrap().status = 200;
        world.sqs.lock().unwrap().now += VISIBILITY;
        let second = Reconciled { passed_on: 200, emptied: true, ..Reconciled::default() };
        assert_eq!(world.reconcile(600).await, second, "{status}");
        assert_eq!((world.invocations().len(), world.sqs.lock().unwrap().ids().len()), (21, 0), "{status}");
    }
}

/// Otherwise an outage of S3 or DynamoDB would use up the receives of a long backlog, and quarantine valid messages.
#[tokio::test]
async fn a_batch_that_is_refused_whole_ends_the_loops_of_its_queue() {
    let world = World::new().await;
    for number in 0..200 {
        world.put(&queue(Consumer::Telemetry), &format!("m-{number}"), "{}", 1);
    }
    world.put(&dead_letter_queue(Consumer::Schedule), "s", "{}", 0);
    world.sqs.lock().unwrap().refuses_all = true;
    let first = Reconciled { dropped: 1, failed: 10, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, first);
    assert_eq!(world.invocations().len(), 1);
    assert_eq!(world.sqs.lock().unwrap().receives().iter().sum::<u32>(), 10);
    world.sqs.lock().unwrap().refuses_all = false;
    world.sqs.lock().unwrap().now += VISIBILITY;
    let second = Reconciled { passed_on: 200, emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, second);
    assert_eq!(world.sqs.lock().unwrap().ids(), [""; 0]);
}

/// With `TelemetryConcurrency` below the number of loops, Lambda throttles some of them. The others empty the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_lambda_throttles_ends_and_the_others_go_on() {
    for concurrency in [1, 3] {
        let world = World::new().await;
        for number in 0..300 {
            world.put(&queue(Consumer::Telemetry), &format!("m-{number}"), "{}", 1);
        }
        world.sqs.lock().unwrap().concurrency = concurrency;
        world.sqs.lock().unwrap().takes = Duration::from_millis(100);
        let first = world.reconcile(600).await;
        let throttled = world.sqs.lock().unwrap().throttled;
        // At most one batch of each loop but one is throttled. How many are, depends on when they begin.
        assert!((1..8).contains(&throttled), "{throttled} of {concurrency}");
        let expected = Reconciled { passed_on: 300 - 10 * throttled, failed: 10 * throttled, ..Reconciled::default() };
        assert_eq!(first, expected, "{concurrency}");
        let received_once = vec![1; 10 * throttled];
        assert_eq!(world.sqs.lock().unwrap().receives(), received_once, "{concurrency}");
        world.sqs.lock().unwrap().now += VISIBILITY;
        world.sqs.lock().unwrap().concurrency = usize::MAX;
        let second = Reconciled { passed_on: 10 * throttled, emptied: true, ..Reconciled::default() };
        assert_eq!(world.reconcile(600).await, second, "{concurrency}");
    }
}

/// The times of the template fit to each other and to the code.
#[test]
fn a_run_outlives_an_invocation_and_a_letter_stays_invisible_for_a_run() {
    let functions = resources("AWS::Serverless::Function");
    let timeout = |id: &str| {
        let (_, function) = functions.iter().find(|(name, _)| *name == id).unwrap();
        function["Timeout"].as_u64().unwrap()
    };
    let longest = RemoteFunction::LONGEST_TRIGGER.as_secs();
    for function in ["TelemetryHandlerFunction", "LivePublisherFunction"] {
        assert!(longest > timeout(function), "{function}");
    }
    let run = timeout("DlqReconcilerFunction");
    assert!((longest + 1..VISIBILITY).contains(&run), "{run}");
    // Most of a run is left for the messages.
    assert!(run - RESERVE.as_secs() >= 200, "{run}");
    let (_, reconciler) = functions.iter().find(|(name, _)| *name == "DlqReconcilerFunction").unwrap();
    let schedule = reconciler["Events"]["EveryFiveMinutes"]["Properties"]["Schedule"].as_str().unwrap();
    let minutes: u64 = schedule.strip_prefix("rate(").unwrap().strip_suffix(" minutes)").unwrap().parse().unwrap();
    assert!(VISIBILITY < minutes * 60, "{schedule}");
    let mut read = 0;
    for (id, queue) in resources("AWS::SQS::Queue") {
        assert_eq!(queue["MessageRetentionPeriod"], 14 * 24 * 60 * 60, "{id}");
        if id.ends_with("DeadLetterQueue") && id != "ReconcilerDeadLetterQueue" {
            assert_eq!(queue["VisibilityTimeout"], VISIBILITY, "{id}");
            read += 1;
        }
    }
    assert!(read > 8, "{read}");
}

/// The timeouts and retries of short calls do not apply to an invocation, which would otherwise be made twice at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_takes_long_is_awaited() {
    let short = |sdk: SdkConfig| {
        let (attempt, operation) = (Duration::from_secs(1), Duration::from_secs(2));
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(attempt).operation_timeout(operation);
        sdk.into_builder().timeout_config(timeouts.build()).retry_config(RetryConfig::standard()).build()
    };
    let world = World::with(short).await;
    world.sqs.lock().unwrap().takes = Duration::from_millis(2_500);
    world.put(&queue(Consumer::Telemetry), "m-1", "{}", 1);
    let passed_on = Reconciled { passed_on: 1, emptied: true, ..Reconciled::default() };
    assert_eq!(world.reconcile(600).await, passed_on);
    assert_eq!((world.invocations().len(), world.sqs.lock().unwrap().ids().len()), (1, 0));
}

/// The messages of a queue that no event source mapping reads reach their function as those of a mapping do.
#[tokio::test]
async fn the_messages_of_an_unread_queue_are_passed_to_their_function() {
    let world = World::new().await;
    for id in ["m-1", "m-2", "m-3"] {
        world.put(&queue(Consumer::Telemetry), id, "{\"station_id\": \"s\"}", 1);
    }
    world.sqs.lock().unwrap().refused = vec!["m-2"];
    let answer = invoke(&world.door, json!({})).await.unwrap();
    assert_eq!((&answer["passedOn"], &answer["failed"]), (&json!(2), &json!(1)), "{answer}");
    assert_eq!(world.sqs.lock().unwrap().ids(), ["m-2"]);
    let batch = world.invocations().remove(0);
    assert_eq!(batch["Records"].as_array().map(Vec::len), Some(3));
    let record = &batch["Records"][0];
    assert_eq!((&record["messageId"], &record["eventSource"]), (&json!("m-1"), &json!("aws:sqs")));
    assert_eq!(
        (&record["body"], &record["receiptHandle"]),
        (&json!("{\"station_id\": \"s\"}"), &json!("handle 1 of m-1"))
    );
    assert_eq!(record["attributes"]["SentTimestamp"], json!("1767225600000"));
}

/// A station's message arrives in its dead-letter queue in one of three shapes. Only the message itself goes back.
#[tokio::test]
async fn a_stations_message_goes_back_without_its_envelope() {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let world = World::new().await;
    let message = json!({ "station_id": "s-1", "humidity": 1, "topic_station_id": "s-1" });
    let published = json!({ "station_id": "s-1", "humidity": 1 });
    let topic = "ev/station/s-1/telemetry";
    let passed_on = |payload: &str| json!({ "payload": base64(payload), "topic_station_id": "s-1" });
    let passed_on = [passed_on(&published.to_string()), passed_on("{"), passed_on("[1]")];
    let failed_rule =
        |topic: &str, payload: &str| json!({ "topic": topic, "base64OriginalPayload": payload }).to_string();
    // The fields that a device writes into its message have no effect on the envelope.
    let forged = json!({
        "station_id": "s-1", "topic_station_id": "s-1", "requestContext": {}, "requestPayload": { "topic_station_id": "victim" },
        "topic": "ev/station/victim/telemetry", "base64OriginalPayload": base64("{}")
    });
    for (id, letter, expected) in [
        ("m-1", message.to_string(), &message),
        ("m-2", json!({ "requestContext": {}, "requestPayload": message }).to_string(), &message),
        ("m-3", failed_rule(topic, &base64(&published.to_string())), &passed_on[0]),
        ("m-4", forged.to_string(), &forged),
        ("m-5", json!({ "station_id": "s-1" }).to_string(), &json!({ "station_id": "s-1" })),
        // telemetry_handler keeps what is no message as rejected.
        ("m-6", failed_rule(topic, &base64("{")), &passed_on[1]),
        ("m-7", failed_rule(topic, &base64("[1]")), &passed_on[2]),
        ("m-8", passed_on[1].to_string(), &passed_on[1]),
    ] {
        assert!(!world.deliver(Consumer::Telemetry, id, &letter, 0).await);
        let call = world.sent().pop().unwrap();
        assert_eq!(call["QueueUrl"], json!(url("telemetry")), "{id}");
        let body: Value = serde_json::from_str(call["MessageBody"].as_str().unwrap()).unwrap();
        assert_eq!(body, *expected, "{id}");
    }
    let poison = ["not JSON".to_owned(), "[1]".to_owned(), failed_rule(topic, "!"), failed_rule("ev", &base64("{}"))];
    for (number, letter) in poison.iter().enumerate() {
        assert!(!world.deliver(Consumer::Telemetry, &format!("p-{number}"), letter, 0).await);
    }
    assert!(!world.deliver(Consumer::Telemetry, "p-9", &message.to_string(), 3).await, "it went back often enough");
    assert_eq!(world.sent().len(), 8);
    let letters = world.letters().await;
    assert_eq!(letters.len(), poison.len() + 1);
    assert!(letters.iter().all(|letter| letter.unbilled.is_none() && !letter.reason.is_empty()), "{letters:?}");
}
