//! The verdicts on dead letters: they go back to their queue or into quarantine, or are dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use dlq_reconciler::{DeadLetterQueues, DlqReconciler, Quarantine};
use domain::charging::station::StationStatus;
use domain::charging::station::StationStatusChanged;
use domain::dead_letter::{Consumer, QuarantinedLetter};
use domain::event::{Event, seal};
use domain::id::StationId;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, EmbeddedS3, FakeAws, RecordedCall, invoke, sdk_config};

const BUCKET: &str = "quarantine";
/// The consumers that read no queue to which a letter could go back.
const WITHOUT_QUEUE: [Consumer; 2] = [Consumer::Relay, Consumer::Schedule];

/// Returns the name of a consumer's queue in these tests.
fn queue(consumer: Consumer) -> String {
    serde_json::to_value(consumer).unwrap().as_str().unwrap().to_lowercase()
}

/// Returns the name of a consumer's dead-letter queue.
fn dead_letter_queue(consumer: Consumer) -> String {
    format!("ev-{}-dlq-dev", queue(consumer))
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:eu-central-1:123456789012:{queue}")
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    s3: EmbeddedS3,
    sqs: FakeAws,
    door: Door<DlqReconciler>,
}

fn sent(call: &RecordedCall) -> (u16, String) {
    assert_eq!(call.target, "AmazonSQS.SendMessage");
    (200, json!({ "MessageId": "m" }).to_string())
}

impl World {
    async fn new(sqs: FakeAws) -> Self {
        let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start(BUCKET).await);
        let queues = Consumer::ALL.map(|consumer| {
            let name = queue(consumer);
            let mut entry = json!({ "consumer": consumer, "url": format!("http://sqs/{name}-dlq") });
            if !WITHOUT_QUEUE.contains(&consumer) {
                entry["source"] = json!(format!("http://sqs/{name}"));
            }
            (arn(&dead_letter_queue(consumer)), entry)
        });
        let queues: Value = queues.into_iter().collect();
        let reconciler = DlqReconciler::new(
            dynamodb.billing(),
            Quarantine::new(s3.client(), BUCKET.to_owned()),
            aws_sdk_sqs::Client::new(&sdk_config(&sqs.endpoint())),
            DeadLetterQueues::parse(&queues.to_string()).unwrap(),
            3,
        );
        Self { dynamodb, s3, sqs, door: Door::new(reconciler, Clock::SYSTEM) }
    }

    /// Delivers a message from the dead-letter queue of a consumer, to whose queue it has gone back `replays` times.
    /// Returns whether it was reported as failed.
    async fn deliver(&self, consumer: Consumer, id: &str, body: &str, replays: u32) -> bool {
        self.deliver_from(&dead_letter_queue(consumer), id, body, replays).await
    }

    async fn deliver_from(&self, queue: &str, id: &str, body: &str, replays: u32) -> bool {
        let attributes = match replays {
            0 => json!({}),
            _ => json!({ "replays": { "dataType": "Number", "stringValue": replays.to_string() } }),
        };
        let event = json!({ "Records": [{
            "messageId": id, "receiptHandle": "r", "body": body, "attributes": {}, "messageAttributes": attributes,
            "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": arn(queue), "awsRegion": "eu-central-1"
        }] });
        let answer = invoke(&self.door, event).await.unwrap();
        !answer["batchItemFailures"].as_array().unwrap().is_empty()
    }

    /// Returns the messages that were sent.
    fn sent(&self) -> Vec<Value> {
        self.sqs.calls().iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect()
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
        let world = World::new(FakeAws::start(|call, _| sent(call)).await).await;
        for (number, example) in examples.iter().enumerate() {
            assert!(!world.deliver(consumer, &format!("m-{number}"), example, 0).await, "{consumer:?}: {example}");
        }
        let messages = world.sent();
        if WITHOUT_QUEUE.contains(&consumer) {
            assert!(messages.is_empty(), "{consumer:?}: {messages:?}");
            continue;
        }
        for message in &messages {
            assert_eq!(message["QueueUrl"], format!("http://sqs/{}", queue(consumer)), "{consumer:?}");
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
    let world = World::new(FakeAws::start(|call, _| sent(call)).await).await;
    let body = session_ended().to_string();
    for replays in 0..3 {
        assert!(!world.deliver(Consumer::Billing, "m-1", &body, replays).await);
    }
    let calls = world.sent();
    let delays: Vec<_> = calls.iter().map(|call| call["DelaySeconds"].as_i64().unwrap()).collect();
    assert_eq!(delays, [15, 60, 240]);
    for (call, replays) in calls.iter().zip(["1", "2", "3"]) {
        assert_eq!((&call["QueueUrl"], &call["MessageBody"]), (&json!("http://sqs/billing"), &json!(body)));
        assert_eq!(call["MessageAttributes"]["replays"]["StringValue"], replays);
    }
    assert!(world.letters().await.is_empty());
    assert!(!world.deliver(Consumer::Billing, "m-1", &body, 3).await);
    assert_eq!(world.sqs.calls().len(), 3, "enough");
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
    let world = World::new(FakeAws::start(|call, _| sent(call)).await).await;
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
    assert!(world.sqs.calls().is_empty(), "nothing goes back");
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
async fn a_failed_scheduled_run_is_dropped_and_an_unplaceable_message_is_kept() {
    let world = World::new(FakeAws::start(|_, _| (500, "{}".to_owned())).await).await;
    assert!(!world.deliver(Consumer::Schedule, "m-1", "{\"requestPayload\": {}}", 0).await);
    assert!(world.letters().await.is_empty());
    // If the queue refuses a message, or the dead-letter queue is unknown, the message stays where it is.
    let changed = Event::StationStatusChanged(StationStatusChanged {
        station_id: StationId::new("s-1").unwrap(),
        from: StationStatus::New,
        to: StationStatus::Active,
    });
    let envelope = seal("STATION#s-1/METADATA", 1, "2026-02-22T10:00:00Z".parse().unwrap(), "c", [changed]).remove(0);
    assert!(world.deliver(Consumer::Notification, "m-2", &json!({ "detail": envelope }).to_string(), 0).await);
    let postponed = world.sqs.calls().last().unwrap().clone();
    let call: Value = serde_json::from_str(&postponed.body).unwrap();
    assert_eq!(postponed.target, "AmazonSQS.ChangeMessageVisibility");
    assert_eq!((&call["QueueUrl"], &call["VisibilityTimeout"]), (&json!("http://sqs/notification-dlq"), &json!(15)));
    assert!(world.deliver_from("another", "m-3", "{}", 0).await);
    assert!(world.letters().await.is_empty());
}

/// A station's message arrives in its dead-letter queue in one of three shapes. Only the message itself goes back.
#[tokio::test]
async fn a_stations_message_goes_back_without_its_envelope() {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let world = World::new(FakeAws::start(|call, _| sent(call)).await).await;
    let message = json!({ "station_id": "s-1", "humidity": 1, "topic_station_id": "s-1" });
    let published = json!({ "station_id": "s-1", "humidity": 1 });
    let topic = "ev/station/s-1/telemetry";
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
        ("m-3", failed_rule(topic, &base64(&published.to_string())), &message),
        ("m-4", forged.to_string(), &forged),
        ("m-5", json!({ "station_id": "s-1" }).to_string(), &json!({ "station_id": "s-1" })),
    ] {
        assert!(!world.deliver(Consumer::Telemetry, id, &letter, 0).await);
        let call: Value = serde_json::from_str(&world.sqs.calls().last().unwrap().body).unwrap();
        assert_eq!(call["QueueUrl"], json!("http://sqs/telemetry"), "{id}");
        let body: Value = serde_json::from_str(call["MessageBody"].as_str().unwrap()).unwrap();
        assert_eq!(body, *expected, "{id}");
    }
    let poison = [
        "not JSON".to_owned(),
        "[1]".to_owned(),
        failed_rule(topic, "!"),
        failed_rule(topic, &base64("{")),
        failed_rule(topic, &base64("[1]")),
        failed_rule("ev", &base64("{}")),
    ];
    for (number, letter) in poison.iter().enumerate() {
        assert!(!world.deliver(Consumer::Telemetry, &format!("p-{number}"), letter, 0).await);
    }
    assert!(!world.deliver(Consumer::Telemetry, "p-9", &message.to_string(), 3).await, "it went back often enough");
    assert_eq!(world.sqs.calls().len(), 5);
    let letters = world.letters().await;
    assert_eq!(letters.len(), poison.len() + 1);
    assert!(letters.iter().all(|letter| letter.unbilled.is_none() && !letter.reason.is_empty()), "{letters:?}");
}
