//! Nothing is lost and nothing gets a second identity: refused entries, a batch delivered again, a relay killed midway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::event::{Event, StationStatusChanged, seal};
use domain::id::StationId;
use domain::station::StationStatus;
use event_relay::EventRelay;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use testkit::{FakeAws, RecordedCall, RuntimeApi, invoke, sdk_config, stream_event};

/// A batch of `count` records with two events each.
fn batch(count: usize) -> (Value, BTreeSet<String>) {
    let mut ids = BTreeSet::new();
    let records: Vec<(String, String)> = (0..count)
        .map(|n| {
            let event = || {
                Event::StationStatusChanged(StationStatusChanged {
                    station_id: StationId::new(format!("s-{n}")).unwrap(),
                    from: StationStatus::New,
                    to: StationStatus::Active,
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

/// Event id to the details under which it was taken.
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
    let client = aws_sdk_eventbridge::Client::new(&sdk_config(&aws.endpoint()));
    Door::new(EventRelay::new(client, "bus".to_owned()), Clock::SYSTEM)
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
async fn refused_entries_are_sent_again_and_the_rest_follows() {
    // The first call takes three entries and refuses the fourth; everything after is taken.
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
    assert!(taken.values().all(|details| details.len() == 1), "a duplicate is the same event");
}

#[tokio::test]
async fn a_bus_that_fails_midway_fails_the_batch_from_there() {
    let aws = FakeAws::start(|call, before| if before == 0 { accept(call) } else { (500, "{}".to_owned()) }).await;
    let (batch, _) = batch(13);
    let answer = invoke(&door(&aws), batch).await.unwrap();
    // The first call took the events of records 0 to 4.
    assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "00005" }]));
}

#[tokio::test]
async fn a_bus_that_takes_nothing_fails_the_whole_batch() {
    let aws = FakeAws::start(|_, _| (500, "{}".to_owned())).await;
    let (kind, message) = invoke(&door(&aws), batch(2).0).await.unwrap_err();
    assert_eq!(kind, "UnavailableError");
    assert!(!message.contains("127.0.0.1"), "{message}");
}

#[tokio::test]
async fn a_relay_killed_mid_batch_loses_nothing_and_duplicates_keep_their_ids() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    // The bus takes the first two calls, then hangs until the relay is dead.
    let aws = FakeAws::start(move |call, before| {
        if before >= 2 && !gate.load(Ordering::SeqCst) {
            return (503, "{}".to_owned());
        }
        accept(call)
    })
    .await;
    let (batch, ids) = batch(30);
    let endpoint = aws.endpoint();
    let environment = [("EVENT_BUS", "bus"), ("AWS_ENDPOINT_URL", endpoint.as_str())];
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
    assert_eq!(before.len(), 20, "a third of the batch was out when the relay died");

    // The stream delivers the batch again, to a new environment.
    open.store(true, Ordering::SeqCst);
    let mut second = runtime.spawn(binary, &environment);
    runtime.push(batch.to_string());
    let answer = runtime.answer(0).await.unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    let taken = taken(&aws.calls());
    assert_eq!(taken.keys().cloned().collect::<BTreeSet<_>>(), ids, "nothing is lost");
    assert!(taken.values().all(|details| details.len() == 1), "a duplicate carries the same id and the same content");
}

#[tokio::test]
async fn an_outbox_that_cannot_be_read_stops_there_and_not_before() {
    let aws = FakeAws::start(|call, _| accept(call)).await;
    let (mut batch, ids) = batch(3);
    batch["Records"][2]["dynamodb"]["NewImage"]["outbox"]["S"] = json!("not JSON");
    let answer = invoke(&door(&aws), batch).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "00002" }]));
    assert_eq!(taken(&aws.calls()).len(), ids.len() - 2);
}
