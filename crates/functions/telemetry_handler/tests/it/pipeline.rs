//! The pipeline with the embedded `DynamoDB` and a real S3 API. Accepted messages are archived, the latest is the state
//! of the station, and rejected messages are kept with the reason: by both paths, late, duplicated, out of order and
//! with every call failing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, TimeZone, Utc};
use domain::Instant;
use domain::id::SwapStationId;
use domain::telemetry::{PAYLOAD, RejectedMessage, TOPIC_STATION, passed_on};
use lambda_kit::{Clock, Door};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use store::{Archive, Client, Db, S3Client, TelemetryStore};
use telemetry_handler::TelemetryHandler;
use testkit::{
    EmbeddedDynamoDb, EmbeddedS3, FakeAws, Fault, FaultyHttp, NOWHERE, archived, invoke, no_redelivery, reading,
    resources, sdk_config, seeded, sqs_event,
};

use crate::live::{publisher, told};

const BUCKET: &str = "telemetry";
const LIMIT: usize = 3;

/// The clock of the test: noon of a day.
const CLOCK: Clock = Clock(now);

fn now() -> Instant {
    Utc.with_ymd_and_hms(2026, 3, 3, 12, 0, 0).unwrap()
}

fn ago(seconds: i64) -> Instant {
    now() - TimeDelta::seconds(seconds)
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    s3: EmbeddedS3,
    /// Takes what subscribers are told.
    lambda: FakeAws,
}

impl World {
    async fn new() -> Self {
        let lambda = FakeAws::start(|_, _| (202, String::new())).await;
        Self { dynamodb: EmbeddedDynamoDb::start().await, s3: EmbeddedS3::start(BUCKET).await, lambda }
    }

    fn door(&self) -> Door<TelemetryHandler> {
        let archive = Archive::new(self.s3.client(), BUCKET);
        Door::new(TelemetryHandler::new(self.dynamodb.telemetry(), archive, no_redelivery(), LIMIT), CLOCK)
    }

    /// Creates a separate process whose calls may fail. It tells subscribers, too.
    fn process(&self) -> (FaultyHttp, Door<TelemetryHandler>) {
        let http = FaultyHttp::default();
        let config = |endpoint: &str| sdk_config(endpoint).into_builder().http_client(http.clone()).build();
        let db = Db::new(Client::new(&config(&self.dynamodb.endpoint())));
        let archive = Archive::new(S3Client::new(&config(&self.s3.endpoint())), BUCKET);
        let handler = TelemetryHandler::new(TelemetryStore::new(db, "ev-telemetry"), archive, no_redelivery(), LIMIT);
        (http, Door::new(handler.telling(Some(publisher(&self.lambda))), CLOCK))
    }

    async fn keys(&self) -> Vec<String> {
        self.s3.objects(BUCKET).await.into_iter().map(|(key, _)| key).collect()
    }

    async fn rejected(&self) -> Vec<(String, RejectedMessage)> {
        let objects = self.s3.objects(BUCKET).await.into_iter();
        let rejected = objects.filter(|(key, _)| key.starts_with("rejected/"));
        rejected.map(|(key, bytes)| (key, serde_json::from_slice(&bytes).unwrap())).collect()
    }

    /// Returns the number of available batteries in the latest state of a station.
    async fn available(&self, station: &str) -> Option<u32> {
        let state = self.dynamodb.telemetry().load(&SwapStationId::new(station).unwrap()).await.unwrap();
        state.map(|state| state.reading.battery_available)
    }

    /// Returns the events in the outboxes of the telemetry table.
    async fn events(&self) -> Vec<Value> {
        let items = self.dynamodb.items("ev-telemetry").await;
        let outboxes = items.iter().filter_map(|item| item.get("outbox")?.as_s().ok());
        outboxes.flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).unwrap()).collect()
    }
}

/// Returns a message as it is archived.
fn line(message: &Value) -> String {
    let mut message = message.clone();
    message.as_object_mut().unwrap().remove("topic_station_id");
    message.to_string()
}

fn batch(messages: &[Value]) -> Value {
    sqs_event(&messages.iter().map(Value::to_string).collect::<Vec<_>>())
}

/// Works like [`batch`] for the messages with these numbers. All deliveries of a queue message have the same id.
fn numbered_batch(numbers: &[usize], sent: &[Sent]) -> Value {
    let messages: Vec<Value> = numbers.iter().map(|number| message(&sent[*number])).collect();
    let mut batch = batch(&messages);
    for (record, number) in batch["Records"].as_array_mut().unwrap().iter_mut().zip(numbers) {
        record["messageId"] = json!(format!("m-{number}"));
    }
    batch
}

fn failed(report: &Value) -> Vec<&str> {
    let items = report["batchItemFailures"].as_array().unwrap();
    items.iter().map(|item| item["itemIdentifier"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_archived_and_becomes_the_state_of_its_station() {
    let world = World::new().await;
    let mut message = reading("station-01", "2024-01-15T14:23:45Z".parse().unwrap(), 12);
    message["timestamp"] = json!("2024-01-15T15:23:45+01:00");
    message["firmware"] = json!({ "version": "1.2" });
    let answer = invoke(&world.door(), message.clone()).await.unwrap();
    assert_eq!((&answer["accepted"], &answer["latest"]), (&json!(true), &json!(true)));
    let keys = world.keys().await;
    let id = answer["messageId"].as_str().unwrap();
    let key = format!("telemetry/year=2024/month=01/day=15/station-01_2024-01-15T14:23:45Z_{id}.json");
    assert_eq!(keys, [key]);
    assert_eq!(archived(&world.s3, BUCKET).await, BTreeMap::from([(line(&message), 1)]));
    let again = invoke(&world.door(), message).await.unwrap();
    assert_eq!((&again["messageId"], &again["latest"]), (&json!(id), &json!(false)), "a second delivery");
    assert_eq!(world.keys().await, keys, "it is archived in the same object");
    assert_eq!(world.available("station-01").await, Some(12));
}

#[tokio::test]
async fn late_messages_are_archived_and_never_overwrite_the_state() {
    let world = World::new().await;
    let door = world.door();
    for (seconds, available) in [(10, 1), (5, 2), (20, 3), (5, 2), (7, 4)] {
        invoke(&door, reading("s", ago(seconds), available)).await.unwrap();
    }
    assert_eq!(world.available("s").await, Some(2));
    assert_eq!(archived(&world.s3, BUCKET).await.len(), 4);
    // Two messages of the same instant: in any order, the same one stays.
    let (one, two) = (reading("t", ago(1), 1), reading("t", ago(1), 2));
    let mut stay = BTreeSet::new();
    for order in [[&one, &two], [&two, &one]] {
        let world = World::new().await;
        for message in order {
            invoke(&world.door(), message.clone()).await.unwrap();
        }
        stay.insert(world.available("t").await.unwrap());
    }
    assert_eq!(stay.len(), 1, "{stay:?}");
}

#[tokio::test]
async fn a_batch_writes_one_object_per_day_and_one_state_per_station() {
    let world = World::new().await;
    let midnight = ago(12 * 3600);
    let messages: Vec<Value> = (0..500)
        .map(|n: u32| reading(&format!("s-{}", n % 20), midnight + TimeDelta::seconds(i64::from(n) - 250), n))
        .collect();
    let states = world.dynamodb.telemetry();
    let (archive, units) = (Archive::new(world.s3.client(), BUCKET), states.table().db().capacity().clone());
    let handler = TelemetryHandler::new(states, archive.clone(), no_redelivery(), LIMIT);
    let door = Door::new(handler, CLOCK);
    let report = invoke(&door, batch(&messages)).await.unwrap();
    assert_eq!(failed(&report), [""; 0]);
    let keys = world.keys().await;
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(
        keys[0].starts_with("telemetry/year=2026/month=03/day=02/batch_2026-03-02T23:55:50Z_2026-03-02T23:59:59Z_")
    );
    assert!(
        keys[1].starts_with("telemetry/year=2026/month=03/day=03/batch_2026-03-03T00:00:00Z_2026-03-03T00:04:09Z_")
    );
    assert!(keys.iter().all(|key| key.ends_with(".ndjson.gz")));
    let expected: BTreeMap<String, usize> = messages.iter().map(|message| (line(message), 1)).collect();
    assert_eq!(archived(&world.s3, BUCKET).await, expected);
    for n in 480..500 {
        assert_eq!(world.available(&format!("s-{}", n % 20)).await, Some(n));
    }
    assert_eq!((archive.requests().puts, units.units().table_write), (2, 20.0));
    // Delivered again, in another order and some of them twice, the messages write the same objects.
    let again: Vec<Value> = messages.iter().rev().chain(&messages[..7]).cloned().collect();
    assert_eq!(failed(&invoke(&door, batch(&again)).await.unwrap()), [""; 0]);
    assert_eq!(world.keys().await, keys);
}

#[tokio::test]
async fn only_the_first_write_of_a_station_changes_an_index() {
    let world = World::new().await;
    let states = world.dynamodb.telemetry();
    let units = states.table().db().capacity().clone();
    let archive = Archive::new(world.s3.client(), BUCKET);
    let door = Door::new(TelemetryHandler::new(states, archive, no_redelivery(), LIMIT), CLOCK);
    invoke(&door, reading("s", ago(9), 1)).await.unwrap();
    let first = units.units();
    invoke(&door, reading("s", ago(8), 2)).await.unwrap();
    invoke(&door, reading("s", ago(7), 3)).await.unwrap();
    let after = units.units();
    let units = (after.table_write - first.table_write, after.index_write - first.index_write, after.read);
    assert_eq!(units, (2.0, 0.0, 0.0), "one table write each, and nothing is read");
}

/// Returns the ways in which a message can be invalid, and the fields that the rejection must name.
fn invalid() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let with = |field: &str, value: Value| {
        let mut message = reading("s", ago(1), 1);
        message[field] = value;
        message
    };
    let without = |field: &str| {
        let mut message = reading("s", ago(1), 1);
        message.as_object_mut().unwrap().remove(field);
        message
    };
    let mut cases = Vec::new();
    for field in
        ["station_id", "battery_available", "battery_charging", "temperature", "humidity", "status", "timestamp"]
    {
        cases.push(("missing", without(field), vec![field]));
        cases.push(("null", with(field, Value::Null), vec![field]));
        cases.push(("an object", with(field, json!({})), vec![field]));
    }
    cases.extend([
        ("negative", with("battery_available", json!(-1)), vec!["battery_available"]),
        ("a fraction", with("battery_available", json!(1.5)), vec!["battery_available"]),
        ("too many", with("battery_charging", json!(10_001)), vec!["battery_charging"]),
        ("text", with("temperature", json!("28.5")), vec!["temperature"]),
        ("too hot", with("temperature", json!(150.1)), vec!["temperature"]),
        ("too cold", with("temperature", json!(-60.1)), vec!["temperature"]),
        ("huge", with("temperature", json!(1e300)), vec!["temperature"]),
        ("above 100 %", with("humidity", json!(100.1)), vec!["humidity"]),
        ("below 0 %", with("humidity", json!(-0.1)), vec!["humidity"]),
        ("unknown", with("status", json!("banana")), vec!["status"]),
        ("in capitals", with("status", json!("OPERATIONAL")), vec!["status"]),
        ("no time", with("timestamp", json!("yesterday")), vec!["timestamp"]),
        ("no zone", with("timestamp", json!("2026-03-03T11:00:00")), vec!["timestamp"]),
        ("a number", with("timestamp", json!(1_700_000_000)), vec!["timestamp"]),
        ("five minutes and a second ahead", with("timestamp", json!(ago(-301).to_rfc3339())), vec!["timestamp"]),
        ("a clock never set", with("timestamp", json!("1970-01-01T00:00:10Z")), vec!["timestamp"]),
        ("the year 10000", with("timestamp", json!("+10000-01-01T00:00:00Z")), vec!["timestamp"]),
        ("another station's", with("topic_station_id", json!("t")), vec!["station_id"]),
        ("another's topic", with("station_id", json!("t")), vec!["station_id"]),
        ("no id", with("station_id", json!("a b")), vec!["station_id"]),
        ("nothing but the topic", json!({ "topic_station_id": "s" }), vec!["station_id", "timestamp", "humidity"]),
    ]);
    let mut twice = with("humidity", json!(101));
    twice["status"] = json!("banana");
    cases.push(("two fields", twice, vec!["humidity", "status"]));
    cases
}

#[tokio::test]
async fn an_invalid_message_is_kept_with_the_reason_and_not_retried() {
    for by_queue in [false, true] {
        for (what, message, fields) in invalid() {
            let world = World::new().await;
            if by_queue {
                let good = reading("good", ago(1), 1);
                let report = invoke(&world.door(), batch(&[message.clone(), good])).await.unwrap();
                assert_eq!(failed(&report), [""; 0], "{what} {message}");
                assert_eq!(archived(&world.s3, BUCKET).await.len(), 1, "its neighbour is accepted: {what} {message}");
                assert_eq!(world.available("good").await, Some(1));
            } else {
                let answer = invoke(&world.door(), message.clone()).await.unwrap();
                assert_eq!(answer["accepted"], json!(false), "{what} {message}");
                assert_eq!(archived(&world.s3, BUCKET).await.len(), 0, "{what} {message}");
            }
            let rejected = world.rejected().await;
            assert_eq!(rejected.len(), 1, "{what} {message}");
            let (key, kept) = &rejected[0];
            assert!(key.starts_with("rejected/year=2026/month=03/day=03/"), "{key}");
            assert_eq!(kept.message, message);
            for field in fields {
                assert!(kept.errors.iter().any(|error| error.field == field), "{what} {message}: {kept:?}");
            }
            assert_eq!(world.available("s").await, None, "{what} {message}");
        }
    }
}

#[tokio::test]
async fn a_queue_message_that_is_not_json_is_rejected() {
    let world = World::new().await;
    let bodies = ["{", "", "[1]", "null", "\"x\"", "\u{0}"].map(str::to_owned);
    let report = invoke(&world.door(), sqs_event(&bodies)).await.unwrap();
    assert_eq!(failed(&report), [""; 0]);
    let rejected = world.rejected().await;
    assert_eq!(rejected.len(), bodies.len());
    assert!(rejected.iter().all(|(key, message)| key.contains("/unknown_") && message.errors[0].field == "message"));
}

#[test]
fn the_rule_of_the_template_passes_on_what_is_read_here() {
    let expected =
        format!("SELECT encode(*, 'base64') AS {PAYLOAD}, topic(3) AS {TOPIC_STATION} FROM 'ev/station/+/telemetry'");
    let rules = resources("AWS::IoT::TopicRule");
    let sql: Vec<&str> = rules.iter().map(|(_, rule)| rule["TopicRulePayload"]["Sql"].as_str().unwrap()).collect();
    assert_eq!(sql, [expected]);
}

#[tokio::test]
async fn a_message_that_the_rule_passed_on_is_the_same_message() {
    let message = reading("s", ago(1), 1);
    let mut published = message.clone();
    published.as_object_mut().unwrap().remove("topic_station_id");
    let passed = passed_on("s", &serde_json::to_vec_pretty(&published).unwrap());
    let world = World::new().await;
    let plain = invoke(&world.door(), message.clone()).await.unwrap();
    let keys = world.keys().await;
    let again = invoke(&world.door(), passed.clone()).await.unwrap();
    assert_eq!((&again["messageId"], &again["accepted"]), (&plain["messageId"], &json!(true)));
    assert_eq!(world.keys().await, keys, "it is archived in the same object");
    let world = World::new().await;
    assert_eq!(failed(&invoke(&world.door(), batch(&[passed])).await.unwrap()), [""; 0]);
    assert_eq!(archived(&world.s3, BUCKET).await, BTreeMap::from([(line(&message), 1)]));
    assert_eq!(world.available("s").await, Some(1));
}

#[tokio::test]
async fn bytes_that_are_no_message_are_kept_exactly() {
    let bytes: [&[u8]; 6] = [b"{\"station_id\": \"s", b"", b"[1]", b"null", b"\xff\x00", b"{ \"humidity\": 1 }"];
    let passed = bytes.map(|bytes| passed_on("s", bytes));
    let expected: BTreeSet<&str> = passed.iter().map(|passed| passed[PAYLOAD].as_str().unwrap()).collect();
    for by_queue in [false, true] {
        let world = World::new().await;
        if by_queue {
            assert_eq!(failed(&invoke(&world.door(), batch(&passed)).await.unwrap()), [""; 0]);
        } else {
            for passed in &passed {
                let answer = invoke(&world.door(), passed.clone()).await.unwrap();
                assert_eq!(answer["accepted"], json!(false), "{passed}");
            }
        }
        let rejected = world.rejected().await;
        let kept: BTreeSet<&str> = rejected.iter().map(|(_, kept)| kept.payload.as_deref().unwrap()).collect();
        assert_eq!(kept, expected);
        assert!(rejected.iter().all(|(key, kept)| key.contains("/s_") && !kept.errors.is_empty()), "{rejected:?}");
        assert_eq!(archived(&world.s3, BUCKET).await.len(), 0);
    }
}

/// A device can write anything into its message. The message must not be mistaken for a queue's batch, a request or a
/// schedule.
#[tokio::test]
async fn a_message_is_never_mistaken_for_another_kind_of_event() {
    let forged = reading("victim", ago(1), 9);
    let mut without_topic = forged.clone();
    without_topic.as_object_mut().unwrap().remove("topic_station_id");
    let records = sqs_event(&[without_topic.to_string()])["Records"].clone();
    for (field, value) in [
        ("Records", records),
        ("requestContext", json!({ "http": { "method": "GET" } })),
        ("action", json!("ingest")),
        ("actor", json!({ "userId": "x", "role": "ADMIN" })),
        ("detail-type", json!("Scheduled Event")),
        ("payload", json!("e30=")),
        ("topic_station_id", json!("me")),
        ("topic_station_id", json!("victim")),
    ] {
        let world = World::new().await;
        // As the IoT rule passes it on, and as it did before.
        let both = |mut message: Value| {
            message[field] = value.clone();
            let passed = passed_on("me", message.to_string().as_bytes());
            message["topic_station_id"] = json!("me");
            [passed, message]
        };
        for message in both(without_topic.clone()) {
            let answer = invoke(&world.door(), message).await.unwrap();
            assert_eq!(answer["accepted"], json!(false), "{field} {answer}");
            assert_eq!(world.available("victim").await, None, "{field}");
        }
        for message in both(reading("me", ago(1), 9)) {
            let answer = invoke(&world.door(), message).await.unwrap();
            assert_eq!(answer["accepted"], json!(true), "a field of its own does no harm: {field} {answer}");
        }
    }
}

#[tokio::test]
async fn too_many_rejected_messages_are_reported_once() {
    let world = World::new().await;
    let bad = json!({ "topic_station_id": "bad", "humidity": 1 });
    for _ in 0..LIMIT {
        invoke(&world.door(), bad.clone()).await.unwrap();
    }
    assert_eq!(world.events().await.len(), 0, "{LIMIT} are not too many");
    // A second delivery of a queue message is the same message.
    let other = json!({ "topic_station_id": "other" });
    for _ in 0..=LIMIT {
        invoke(&world.door(), batch(std::slice::from_ref(&other))).await.unwrap();
    }
    assert_eq!(world.events().await.len(), 0);
    let doors: Vec<_> = (0..8).map(|_| world.door()).collect();
    futures::future::join_all(doors.iter().map(|door| invoke(door, bad.clone()))).await;
    let events = world.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!((&event["eventType"], &event["stationId"]), (&json!("TELEMETRY_REJECTED"), &json!("bad")));
    assert_eq!((&event["count"], &event["windowSeconds"]), (&json!(LIMIT + 1), &json!(300)));
    assert!(event["reason"].as_str().unwrap().contains("timestamp: is required"), "{event}");
    assert!(world.keys().await.contains(&event["rejectedKey"].as_str().unwrap().to_owned()));
    assert_eq!(world.rejected().await.len(), LIMIT + 8 + 1, "each rejected message is kept");
}

#[tokio::test]
async fn only_messages_that_cannot_be_written_are_reported_as_failed() {
    let world = World::new().await;
    let archive = || Archive::new(world.s3.client(), BUCKET);
    let nowhere = Archive::new(S3Client::new(&sdk_config(NOWHERE)), BUCKET);
    let messages = [reading("a", ago(3), 1), reading("b", ago(1), 2), reading("a", ago(2), 3)];
    let no_bucket = TelemetryHandler::new(world.dynamodb.telemetry(), nowhere, no_redelivery(), LIMIT);
    let no_bucket = Door::new(no_bucket, CLOCK);
    let report = invoke(&no_bucket, batch(&messages)).await.unwrap();
    assert_eq!(failed(&report), ["m-0", "m-1", "m-2"]);
    assert_eq!(invoke(&no_bucket, messages[0].clone()).await.unwrap_err().0, "UnavailableError");
    assert_eq!(invoke(&no_bucket, json!({ "topic_station_id": "a" })).await.unwrap_err().0, "UnavailableError");
    let missing = TelemetryStore::new(Db::new(world.dynamodb.client()), "ev-no-such-table");
    let no_table = Door::new(TelemetryHandler::new(missing, archive(), no_redelivery(), LIMIT), CLOCK);
    let report = invoke(&no_table, batch(&messages)).await.unwrap();
    assert_eq!(failed(&report), ["m-1", "m-2"], "the older message is archived and needs nothing else");
    assert_eq!(invoke(&no_table, messages[0].clone()).await.unwrap_err().0, "InternalError");
}

/// A message of a history: its station, its time (in steps of half a second, so that times repeat), and whether it is
/// valid.
#[derive(Clone, Debug)]
struct Sent {
    station: u8,
    half_seconds: i64,
    available: u32,
    valid: bool,
}

/// A delivery of these messages, by the queue or one by one, with faults at these calls.
#[derive(Clone, Debug)]
struct Delivered {
    messages: Vec<prop::sample::Index>,
    by_queue: bool,
    faults: BTreeMap<u32, u8>,
}

fn message(sent: &Sent) -> Value {
    let at = ago(0) - TimeDelta::milliseconds(500 * sent.half_seconds);
    let mut message = reading(&format!("s-{}", sent.station), at, sent.available);
    if !sent.valid {
        message["humidity"] = json!(101);
    }
    message
}

/// Random histories with crashes, throttling and lost answers at any call. Messages that were not processed are
/// delivered again. Whether subscribers are told makes no difference.
#[test]
fn accepted_messages_are_archived_and_the_latest_is_the_state_after_any_history() {
    let sent = (0..3u8, 0..200_000i64, 0..5u32, prop::bool::weighted(0.85)).prop_map(
        |(station, half_seconds, available, valid)| Sent {
            station,
            half_seconds: half_seconds % 40 * 2500,
            available,
            valid,
        },
    );
    let faults = prop::collection::btree_map(0..6u32, 0..4u8, 0..4);
    let delivered = (prop::collection::vec(any::<prop::sample::Index>(), 1..8), any::<bool>(), faults)
        .prop_map(|(messages, by_queue, faults)| Delivered { messages, by_queue, faults });
    let history = (prop::collection::vec(sent, 1..12), prop::collection::vec(delivered, 0..6));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(seeded(150));
    runner
        .run(&history, |(sent, deliveries)| {
            runtime.block_on(async { run(&sent, &deliveries).await });
            Ok(())
        })
        .unwrap();
}

async fn run(sent: &[Sent], deliveries: &[Delivered]) {
    let world = World::new().await;
    let mut pending: BTreeSet<usize> = (0..sent.len()).collect();
    for delivery in deliveries {
        let numbers: Vec<usize> = delivery.messages.iter().map(|index| index.index(sent.len())).collect();
        let (http, door) = world.process();
        let fault =
            |kind: u8| [Fault::CrashBefore, Fault::CrashAfter, Fault::Throttle, Fault::LostAnswer][usize::from(kind)];
        http.plan(delivery.faults.iter().map(|(call, kind)| (*call, fault(*kind))).collect());
        if delivery.by_queue {
            let Some(report) = http.survive(invoke(&door, numbered_batch(&numbers, sent))).await else { continue };
            let report = report.unwrap();
            let failed = failed(&report);
            let handled =
                |number: &usize| numbers.contains(number) && !failed.contains(&format!("m-{number}").as_str());
            pending.retain(|number| !handled(number));
        } else {
            for number in numbers {
                match http.survive(invoke(&door, message(&sent[number]))).await {
                    None => break,
                    Some(Ok(_)) => drop(pending.remove(&number)),
                    Some(Err(_)) => {}
                }
            }
        }
    }
    let left: Vec<usize> = pending.into_iter().collect();
    if !left.is_empty() {
        assert_eq!(failed(&invoke(&world.door(), numbered_batch(&left, sent)).await.unwrap()), [""; 0]);
    }
    check(&world, sent).await;
    check_told(&told(&world.lambda), sent);
}

/// Checks what subscribers were told in no time: of each station at most one state, which a message had.
fn check_told(told: &[Value], sent: &[Sent]) {
    let stations: BTreeSet<&str> = told.iter().map(|update| update["stationId"].as_str().unwrap()).collect();
    assert_eq!(stations.len(), told.len(), "no station is told of twice within a minute: {told:?}");
    for update in told {
        let at: Instant = update["occurredAt"].as_str().unwrap().parse().unwrap();
        let is_source = |message: &Value| {
            let sent_at: Instant = message["timestamp"].as_str().unwrap().parse().unwrap();
            let what = (&message["station_id"], &message["battery_available"], sent_at);
            what == (&update["stationId"], &update["batteryAvailable"], at)
        };
        assert!(sent.iter().filter(|sent| sent.valid).map(message).any(|message| is_source(&message)), "{update}");
    }
}

async fn check(world: &World, sent: &[Sent]) {
    let valid: Vec<Value> = sent.iter().filter(|sent| sent.valid).map(message).collect();
    let expected: BTreeSet<String> = valid.iter().map(line).collect();
    let archived: BTreeSet<String> = archived(&world.s3, BUCKET).await.into_keys().collect();
    assert_eq!(archived, expected, "every valid message is archived");
    for station in 0..3 {
        let station = format!("s-{station}");
        let own = valid.iter().filter(|message| message["station_id"] == station.as_str());
        let order = |message: &Value| {
            let at: Instant = message["timestamp"].as_str().unwrap().parse().unwrap();
            (at, domain::id::derive(&["telemetry", &line(message)]))
        };
        let latest = own.max_by_key(|message| order(message)).map(|message| message["battery_available"].clone());
        assert_eq!(world.available(&station).await.map(|available| json!(available)), latest, "{station}");
    }
    let rejected = world.rejected().await;
    let kept: BTreeSet<String> = rejected.iter().map(|(_, rejected)| rejected.message.to_string()).collect();
    let invalid: BTreeSet<String> =
        sent.iter().filter(|sent| !sent.valid).map(|sent| message(sent).to_string()).collect();
    assert_eq!(kept, invalid, "every invalid message is kept");
}
