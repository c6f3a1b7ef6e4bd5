//! The announcements of a battery-swap station: when it changed, at most once a minute, and without a read. A failed
//! announcement fails no message.

use std::cell::Cell;

use chrono::{TimeDelta, TimeZone, Utc};
use domain::Instant;
use domain::id::SwapStationId;
use domain::live::Announcement;
use lambda_kit::{Clock, Door, RemoteFunction};
use serde_json::{Value, json};
use store::{Archive, TelemetryStore};
use telemetry_handler::TelemetryHandler;
use testkit::{
    EmbeddedDynamoDb, EmbeddedS3, FakeAws, RecordedCall, invoke, no_redelivery, reading, sdk_config, sqs_event,
};

const BUCKET: &str = "telemetry";
const FUNCTION: &str = "ev-live-publisher-dev";

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// The clock of this thread.
const CLOCK: Clock = Clock(|| at(NOW.get()));

/// Returns the time this number of seconds after noon.
fn at(seconds: i64) -> Instant {
    Utc.with_ymd_and_hms(2026, 3, 3, 12, 0, 0).unwrap() + TimeDelta::seconds(seconds)
}

pub fn publisher(lambda: &FakeAws) -> RemoteFunction {
    RemoteFunction::new(&sdk_config(&lambda.endpoint()), FUNCTION.to_owned())
}

/// Returns the updates of an invocation, which must be an asynchronous one of the action `publish`.
fn updates(call: &RecordedCall) -> Vec<Value> {
    assert_eq!(call.path, format!("/2015-03-31/functions/{FUNCTION}/invocations"));
    assert_eq!(call.headers["x-amz-invocation-type"], "Event");
    let payload: Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!((&payload["action"], &payload["actor"]["role"]), (&json!("publish"), &json!("SYSTEM")));
    serde_json::from_value::<Vec<Announcement>>(payload["updates"].clone()).unwrap();
    payload["updates"].as_array().unwrap().clone()
}

/// Returns all updates so far, in their order.
pub fn told(lambda: &FakeAws) -> Vec<Value> {
    lambda.calls().iter().flat_map(updates).collect()
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    s3: EmbeddedS3,
    lambda: FakeAws,
    states: TelemetryStore,
    door: Door<TelemetryHandler>,
}

impl World {
    async fn new() -> Self {
        Self::with(|_, _| (202, String::new())).await
    }

    /// Creates a handler with this Lambda.
    async fn with(answer: impl Fn(&RecordedCall, usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start(BUCKET).await);
        let (lambda, states) = (FakeAws::start(answer).await, dynamodb.telemetry());
        let archive = Archive::new(s3.client(), BUCKET);
        let handler = TelemetryHandler::new(states.clone(), archive, no_redelivery(), 10);
        let door = Door::new(handler.telling(Some(publisher(&lambda))), CLOCK);
        Self { dynamodb, s3, lambda, states, door }
    }

    /// Delivers a message that was sent and received this number of seconds after noon.
    async fn send(&self, seconds: i64, available: u32) {
        NOW.set(seconds);
        invoke(&self.door, reading("swap-1", at(seconds), available)).await.unwrap();
    }

    /// Returns the numbers of available batteries that were announced so far.
    fn available(&self) -> Vec<u64> {
        told(&self.lambda).iter().map(|update| update["batteryAvailable"].as_u64().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_change_of_a_station_is_announced_once() {
    let world = World::new().await;
    world.send(0, 12).await;
    let expected = json!({
        "kind": "swapStation", "stationId": "swap-1", "status": "operational", "batteryAvailable": 12,
        "batteryCharging": 4, "occurredAt": at(0), "receivedAt": at(0)
    });
    assert_eq!(told(&world.lambda), [expected]);
    // The same values, a second delivery and a late message tell nothing.
    world.send(100, 12).await;
    NOW.set(200);
    for (seconds, available) in [(100, 12), (100, 12), (90, 3)] {
        invoke(&world.door, reading("swap-1", at(seconds), available)).await.unwrap();
    }
    assert_eq!(world.available(), [12]);
    world.send(201, 11).await;
    assert_eq!(world.available(), [12, 11]);
    let mut degraded = reading("swap-1", at(300), 11);
    degraded["status"] = json!("degraded");
    NOW.set(300);
    invoke(&world.door, degraded).await.unwrap();
    assert_eq!(told(&world.lambda)[2]["status"], "degraded");
}

/// The change is not lost: the first message after the minute announces the state of that time.
#[tokio::test]
async fn a_station_that_changes_often_is_announced_once_a_minute() {
    let world = World::new().await;
    for second in (0..=185).step_by(5) {
        world.send(second, u32::try_from(second).unwrap()).await;
    }
    assert_eq!(world.available(), [0, 60, 120, 180]);
    world.send(190, 7).await;
    world.send(239, 7).await;
    assert_eq!(world.available().len(), 4);
    world.send(240, 7).await;
    assert_eq!(world.available(), [0, 60, 120, 180, 7]);
}

/// A batch of many stations needs one invocation.
#[tokio::test]
async fn a_batch_is_announced_by_one_invocation() {
    let world = World::new().await;
    let messages = |seconds: i64| -> Vec<String> {
        let of = |n: u32| [reading(&format!("s-{n}"), at(seconds), n), reading(&format!("s-{n}"), at(seconds - 1), 99)];
        (0..20).flat_map(of).map(|message| message.to_string()).collect()
    };
    for seconds in [0, 61] {
        NOW.set(seconds);
        for _ in 0..2 {
            let report = invoke(&world.door, sqs_event(&messages(seconds))).await.unwrap();
            assert_eq!(report["batchItemFailures"], json!([]));
        }
    }
    assert_eq!(world.lambda.calls().len(), 1, "the second batch has the same values, and repetitions tell nothing");
    let mut available = world.available();
    available.sort_unstable();
    assert_eq!(available, (0..20).collect::<Vec<u64>>(), "the latest message of each station");
}

/// If an announcement fails, the next message is announced, even within the minute.
#[tokio::test]
async fn a_failed_announcement_fails_no_message_and_is_repeated_by_the_next() {
    let world = World::with(|_, before| (if before < 2 { 500 } else { 202 }, String::new())).await;
    world.send(0, 12).await;
    NOW.set(5);
    let report = invoke(&world.door, sqs_event(&[reading("swap-1", at(5), 12).to_string()])).await.unwrap();
    assert_eq!(report["batchItemFailures"], json!([]));
    assert_eq!(world.lambda.calls().len(), 2);
    world.send(10, 12).await;
    world.send(15, 11).await;
    assert_eq!(world.available(), [12, 12, 12], "three attempts, of which the last one was told");
    assert_eq!(world.s3.objects(BUCKET).await.len(), 4, "each message is archived");
    let state = world.states.load(&SwapStationId::new("swap-1").unwrap()).await.unwrap().unwrap();
    assert_eq!(state.reading.battery_available, 11);
}

/// An announcement costs one write and no read. A message without an announcement costs no more than before.
#[tokio::test]
async fn telling_reads_nothing() {
    let world = World::new().await;
    let units = world.states.table().db().capacity().clone();
    world.send(0, 12).await;
    for (second, available, writes) in [(10, 12, 1.0), (20, 11, 1.0), (60, 11, 2.0), (70, 10, 1.0)] {
        let before = units.units();
        world.send(second, available).await;
        let after = units.units();
        let cost = (after.table_write - before.table_write, after.index_write - before.index_write);
        assert!(cost == (writes, 0.0), "{cost:?} at {second} s");
    }
    assert!(units.units().read < 0.5, "{:?}", units.units());
    assert_eq!(world.available(), [12, 11]);
}

/// A handler without announcements keeps the record of the last one. A later handler with announcements continues from
/// this record.
#[tokio::test]
async fn announcements_can_be_switched_off_and_on() {
    let world = World::new().await;
    world.send(0, 12).await;
    let archive = Archive::new(world.s3.client(), BUCKET);
    let silent = TelemetryHandler::new(world.dynamodb.telemetry(), archive, no_redelivery(), 10).telling(None);
    let silent = Door::new(silent, CLOCK);
    NOW.set(100);
    invoke(&silent, reading("swap-1", at(100), 11)).await.unwrap();
    assert_eq!(world.available(), [12]);
    world.send(200, 12).await;
    assert_eq!(world.available(), [12], "subscribers know this already");
    world.send(300, 11).await;
    assert_eq!(world.available(), [12, 11]);
}
