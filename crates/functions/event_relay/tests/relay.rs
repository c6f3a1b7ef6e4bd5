//! No event is lost and no event gets a second id: with refused entries, a batch that is delivered again, and a relay
//! that is killed in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::charging::station::StationStatus;
use domain::charging::station::{PortFailed, StationStatusChanged};
use domain::dead_letter::UnpublishedEvents;
use domain::event::{Event, seal};
use domain::id::{PortId, StationId};
use event_relay::EventRelay;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use testkit::{FakeAws, NOWHERE, RecordedCall, RuntimeApi, invoke, sdk_config, stream_event};

/// Builds a batch of `count` records with two events each.
fn batch(count: usize) -> (Value, BTreeSet<String>) {
    let mut ids = BTreeSet::new();
    let records: Vec<(String, String)> = (0..count)
        .map(|n| {
            let event = || {
                Event::StationStatusChanged(StationStatusChanged {
                    station_id: StationId::new(format!("s-{n}")).unwrap(),
                    from: StationStatus::New,
                    to: StationStatus::Active,
                    version: Some(2),
                    station_version: Some(2),
                    counts: None,
                })
            };
            let at = "2026-02-22T10:00:00Z".parse().unwrap();
            let envelopes = seal(&format!("STATION#s-{n}/METADATA"), 2, at, "correlation-1", [event(), event()]);
            ids.extend(envelopes.iter().map(|envelope| envelope.event_id.to_string()));
            (format!("{n:05}"), serde_json::to_string(&envelopes).unwrap())
        })
        .collect();
    (stream_event(&records), ids)
}

fn entries(call: &RecordedCall) -> Vec<Value> {
    let body: Value = serde_json::from_str(&call.body).unwrap();
    body["Entries"].as_array().unwrap().clone()
}

fn accept(call: &RecordedCall) -> (u16, String) {
    let accepted: Vec<Value> = entries(call).iter().map(|_| json!({ "EventId": "e" })).collect();
    (200, json!({ "FailedEntryCount": 0, "Entries": accepted }).to_string())
}

/// Returns the details under which each event id was accepted.
fn taken(calls: &[RecordedCall]) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in calls.iter().flat_map(entries) {
        let detail = entry["Detail"].as_str().unwrap();
        let json: Value = serde_json::from_str(detail).unwrap();
        assert_eq!(entry["DetailType"], json["eventType"]);
        assert_eq!((&entry["Source"], &entry["EventBusName"]), (&json!("evoke.stations"), &json!("bus")));
        all.entry(json["eventId"].as_str().unwrap().to_owned()).or_default().insert(detail.to_owned());
    }
    all
}

fn door(aws: &FakeAws) -> Door<EventRelay> {
    door_with_queue(aws, NOWHERE)
}

fn door_with_queue(aws: &FakeAws, queue: &str) -> Door<EventRelay> {
    let client = aws_sdk_eventbridge::Client::new(&sdk_config(&aws.endpoint()));
    let sqs = aws_sdk_sqs::Client::new(&sdk_config(queue));
    Door::new(EventRelay::new(client, "bus".to_owned(), sqs, "http://queue/aside".to_owned()), Clock::SYSTEM)
}

/// Starts a queue that accepts the events that are set aside.
async fn queue() -> FakeAws {
    FakeAws::start(|_, _| (200, json!({ "MessageId": "m", "MD5OfMessageBody": "" }).to_string())).await
}

/// Returns the events that were set aside.
fn aside(queue: &FakeAws) -> Vec<UnpublishedEvents> {
    let bodies = queue.calls().into_iter().map(|call| serde_json::from_str::<Value>(&call.body).unwrap());
    bodies.map(|body| serde_json::from_str(body["MessageBody"].as_str().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn a_batch_is_published_in_order_ten_at_a_time() {
    let aws = FakeAws::start(|call, _| accept(call)).await;
    let (batch, ids) = batch(13);
    let answer = invoke(&door(&aws), batch).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    assert_eq!(aws.calls().iter().map(|call| entries(call).len()).collect::<Vec<_>>(), [10, 10, 6]);
    assert_eq!(taken(&aws.calls()).into_keys().collect::<BTreeSet<_>>(), ids);
}

#[tokio::test]
async fn refused_entries_are_sent_again_in_order() {
    // The first call accepts three entries and refuses the fourth. Later calls accept everything.
    let aws = FakeAws::start(|call, before| {
        if before > 0 {
            return accept(call);
        }
        let answers: Vec<Value> = (0..entries(call).len())
            .map(|n| if n == 3 { json!({ "ErrorCode": "ThrottlingException" }) } else { json!({ "EventId": "e" }) })
            .collect();
        (200, json!({ "FailedEntryCount": 1, "Entries": answers }).to_string())
    })
    .await;
    let (batch, ids) = batch(5);
    let answer = invoke(&door(&aws), batch).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    let taken = taken(&aws.calls());
    assert_eq!(taken.keys().cloned().collect::<BTreeSet<_>>(), ids);
    assert!(taken.values().all(|details| details.len() == 1), "duplicates are the same event");
}

#[tokio::test]
async fn a_bus_that_fails_midway_fails_the_batch_from_there() {
    let aws = FakeAws::start(|call, before| if before == 0 { accept(call) } else { (500, "{}".to_owned()) }).await;
    let (batch, _) = batch(13);
    let answer = invoke(&door(&aws), batch).await.unwrap();
    // The first call accepted the events of the records 0 to 4.
    assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "00005" }]));
}

#[tokio::test]
async fn a_bus_that_accepts_nothing_fails_the_whole_batch() {
    let aws = FakeAws::start(|_, _| (500, "{}".to_owned())).await;
    let (kind, message) = invoke(&door(&aws), batch(2).0).await.unwrap_err();
    assert_eq!(kind, "UnavailableError");
    assert!(!message.contains("127.0.0.1"), "{message}");
}

#[tokio::test]
async fn a_relay_that_is_killed_mid_batch_loses_no_event_and_duplicates_keep_their_ids() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    // The bus accepts the first two calls, then hangs until the relay is dead.
    let aws = FakeAws::start(move |call, before| {
        if before >= 2 && !gate.load(Ordering::SeqCst) {
            return (503, "{}".to_owned());
        }
        accept(call)
    })
    .await;
    let (batch, ids) = batch(30);
    let endpoint = aws.endpoint();
    let environment = [("EVENT_BUS", "bus"), ("SET_ASIDE_QUEUE_URL", "queue"), ("AWS_ENDPOINT_URL", endpoint.as_str())];
    let binary = Path::new(env!("CARGO_BIN_EXE_event_relay"));
    let runtime = RuntimeApi::start().await;

    let mut first = runtime.spawn(binary, &environment);
    runtime.push(batch.to_string());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while aws.calls().len() < 3 {
        assert!(tokio::time::Instant::now() < deadline, "the relay made {} calls", aws.calls().len());
        tokio::task::yield_now().await;
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let before: BTreeSet<String> = taken(&aws.calls()[..2]).into_keys().collect();
    assert_eq!(before.len(), 20, "a third of the batch was published when the relay died");

    // The stream delivers the batch again, to a new execution environment.
    open.store(true, Ordering::SeqCst);
    let mut second = runtime.spawn(binary, &environment);
    runtime.push(batch.to_string());
    let answer = runtime.answer(0).await.unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    let taken = taken(&aws.calls());
    assert_eq!(taken.keys().cloned().collect::<BTreeSet<_>>(), ids, "nothing is lost");
    assert!(taken.values().all(|details| details.len() == 1), "duplicates have the same id and content");
}

/// A deployment may update the writer of a new event before the relay. Therefore an outbox that cannot be parsed is
/// retried for some minutes.
#[tokio::test]
async fn a_new_unreadable_outbox_stops_the_batch_at_its_record() {
    let aws = FakeAws::start(|call, _| accept(call)).await;
    let (mut batch, ids) = batch(3);
    batch["Records"][2]["dynamodb"]["NewImage"]["outbox"]["S"] = json!("not JSON");
    batch["Records"][2]["dynamodb"]["ApproximateCreationDateTime"] = json!((Clock::SYSTEM.0)().timestamp());
    let answer = invoke(&door(&aws), batch).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "00002" }]));
    assert_eq!(taken(&aws.calls()).len(), ids.len() - 2);
}

/// An outbox that can never be parsed does not block its shard for a day.
#[tokio::test]
async fn an_old_unreadable_outbox_is_set_aside_and_the_rest_is_published() {
    let (aws, queue) = (FakeAws::start(|call, _| accept(call)).await, queue().await);
    let (mut batch, ids) = batch(3);
    batch["Records"][0]["dynamodb"]["NewImage"]["outbox"]["S"] = json!("not JSON");
    let answer = invoke(&door_with_queue(&aws, &queue.endpoint()), batch).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    assert_eq!(taken(&aws.calls()).len(), ids.len() - 2);
    let aside = aside(&queue);
    assert_eq!(aside.len(), 1);
    assert_eq!((aside[0].item.as_str(), aside[0].sequence_number.as_str()), ("00000/METADATA", "00000"));
    assert_eq!(aside[0].outbox, "not JSON");
}

/// The bus refuses one entry because of its content, and another because it is busy. The first is set aside, the second
/// is sent again.
#[tokio::test]
async fn a_permanently_refused_entry_is_set_aside_and_the_rest_is_published() {
    for code in ["MalformedDetail", "InvalidArgument", "RedactionFailure"] {
        let bad = |entry: &Value| entry["Detail"].as_str().unwrap().contains("\"s-1\"");
        let aws = FakeAws::start(move |call, before| {
            let refuse = |code: &str| json!({ "ErrorCode": code, "ErrorMessage": "no" });
            let answer = |(number, entry): (usize, &Value)| match () {
                () if bad(entry) => refuse(code),
                () if before == 0 && number == 4 => refuse("ThrottlingException"),
                () => json!({ "EventId": "e" }),
            };
            let answers: Vec<Value> = entries(call).iter().enumerate().map(answer).collect();
            (200, json!({ "FailedEntryCount": 1, "Entries": answers }).to_string())
        })
        .await;
        let queue = queue().await;
        let (batch, ids) = batch(4);
        let answer = invoke(&door_with_queue(&aws, &queue.endpoint()), batch).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]), "{code}");
        assert_eq!(taken(&aws.calls()).into_keys().collect::<BTreeSet<_>>(), ids, "all events were sent");
        let last = entries(aws.calls().last().unwrap());
        assert!(last.iter().all(|entry| !bad(entry)), "events that were set aside are not sent again");
        let aside = aside(&queue);
        assert_eq!(aside.iter().map(|events| events.sequence_number.as_str()).collect::<Vec<_>>(), ["00001", "00001"]);
        assert!(aside[0].unpublished.contains(code), "{}", aside[0].unpublished);
        let kept: Vec<Value> = serde_json::from_str(&aside[0].outbox).unwrap();
        assert_eq!((kept.len(), &kept[0]["stationId"]), (1, &json!("s-1")));
    }
}

/// A problem of the bus or of a permission is not caused by the event. Somebody repairs it, and the stream keeps
/// retrying.
#[tokio::test]
async fn a_temporary_refusal_sets_no_event_aside() {
    for code in ["InternalFailure", "ThrottlingException", "AccessDeniedException", "NotAuthorizedForSourceException"] {
        let aws = FakeAws::start(move |call, _| {
            let answers: Vec<Value> = entries(call).iter().map(|_| json!({ "ErrorCode": code })).collect();
            (200, json!({ "FailedEntryCount": 1, "Entries": answers }).to_string())
        })
        .await;
        let queue = queue().await;
        let (kind, _) = invoke(&door_with_queue(&aws, &queue.endpoint()), batch(2).0).await.unwrap_err();
        assert_eq!((kind.as_str(), queue.calls().len()), ("UnavailableError", 0), "{code}");
    }
}

/// An event that is larger than the bus accepts.
#[tokio::test]
async fn an_event_that_is_too_large_is_set_aside() {
    let aws = FakeAws::start(|call, _| {
        if call.body.len() > 256 * 1024 {
            return (400, json!({ "__type": "ValidationException", "message": "over the limit" }).to_string());
        }
        accept(call)
    })
    .await;
    let queue = queue().await;
    let reason = "x".repeat(300_000);
    let failed = Event::PortFailed(PortFailed {
        station_id: StationId::new("s-1").unwrap(),
        port_id: PortId::new("port-1").unwrap(),
        session_id: None,
        reason,
        version: Some(2),
        station_version: Some(2),
        counts: None,
    });
    let at = "2026-02-22T10:00:00Z".parse().unwrap();
    let outbox = serde_json::to_string(&seal("STATION#s-1/PORT#port-1", 2, at, "c", [failed])).unwrap();
    let (mut batch, ids) = batch(3);
    batch["Records"][1]["dynamodb"]["NewImage"]["outbox"]["S"] = json!(outbox);
    let answer = invoke(&door_with_queue(&aws, &queue.endpoint()), batch.clone()).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    let small: Vec<RecordedCall> = aws.calls().into_iter().filter(|call| call.body.len() < 256 * 1024).collect();
    assert_eq!(taken(&small).len(), ids.len() - 2);
    assert_eq!(aside(&queue).iter().map(|events| events.outbox.len()).collect::<Vec<_>>(), [outbox.len()]);

    // If the event cannot be set aside, it stops its batch, so that nothing is lost.
    let stuck = invoke(&door(&aws), batch).await.unwrap();
    assert_eq!(stuck["batchItemFailures"], json!([{ "itemIdentifier": "00001" }]));
}
