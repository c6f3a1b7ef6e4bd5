//! A fleet that is too large for one invocation: it is divided among messages over the real SQS protocol, and advanced
//! from these messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use charging_simulator::{ChargingSimulator, ShardQueue};
use chrono::TimeDelta;
use domain::Instant;
use lambda_kit::Door;
use serde_json::{Value, json};
use testkit::{FakeAws, RecordedCall, invoke, sdk_config, sqs_event};

use crate::common::{World, door};

const STATIONS: u32 = 24;
const SESSIONS: u64 = 48;

/// Creates 24 stations with two sessions each.
async fn fleet() -> World {
    let world = World::new().await;
    for number in 0..STATIONS {
        world.station(&format!("station-{number}"), 2).await;
    }
    world
}

/// Creates a simulator that advances up to `inline` sessions itself, and divides more of them among `shards` messages.
fn simulator(world: &World, sqs: &FakeAws, inline: usize, shards: u32) -> Door<ChargingSimulator> {
    let client = aws_sdk_sqs::Client::new(&sdk_config(&sqs.endpoint()));
    let queue = ShardQueue::new(client, format!("{}/queue", sqs.endpoint()), shards);
    door(ChargingSimulator::new(world.dynamodb.charging(), Some(queue), inline))
}

/// Returns the entries of a `SendMessageBatch`: id and body.
fn entries(call: &RecordedCall) -> Vec<(String, String)> {
    assert_eq!(call.target, "AmazonSQS.SendMessageBatch");
    let body: Value = serde_json::from_str(&call.body).unwrap();
    let entries = body["Entries"].as_array().unwrap().iter();
    entries
        .map(|entry| (entry["Id"].as_str().unwrap().to_owned(), entry["MessageBody"].as_str().unwrap().to_owned()))
        .collect()
}

/// Builds the answer of SQS: the entries for which `refuse` returns a reason are refused, the others are accepted.
fn taken(call: &RecordedCall, refuse: impl Fn(&str) -> Option<(&'static str, bool)>) -> (u16, String) {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, _) in entries(call) {
        if let Some((code, ours)) = refuse(&id) {
            failed.push(json!({ "Id": id, "Code": code, "SenderFault": ours }));
        } else {
            let digest = "0".repeat(32); // the SDK does not check it
            successful.push(json!({ "Id": id, "MessageId": format!("m-{id}"), "MD5OfMessageBody": digest }));
        }
    }
    (200, json!({ "Successful": successful, "Failed": failed }).to_string())
}

/// Starts a queue that accepts everything.
async fn queue() -> FakeAws {
    FakeAws::start(|call, _| taken(call, |_| None)).await
}

#[tokio::test]
async fn a_large_fleet_is_divided_and_each_message_advances_its_part() {
    let world = fleet().await;
    let sqs = queue().await;
    let (start, starts) = (world.started().await, first_starts(&world).await);
    // The number of shards may change at any time: fewer than the index has, more, and numbers that do not divide it.
    for (minute, shards) in [(1, 16_u32), (2, 1), (3, 5), (4, 24), (5, 64), (6, 16)] {
        let simulator = simulator(&world, &sqs, 10, shards);
        let at = start + TimeDelta::minutes(minute);
        let before = sqs.calls().len();
        let answer = invoke(&simulator, json!({ "tickAt": at })).await.unwrap();
        assert_eq!(answer["dispatchedShards"], shards, "{answer}");
        assert_eq!(answer["sessions"], 0, "nothing is advanced inline: {answer}");
        let calls = sqs.calls().split_off(before);
        assert_eq!(calls.len(), shards.div_ceil(10) as usize, "SendMessageBatch takes ten entries");
        let bodies: Vec<String> =
            calls.iter().flat_map(|call| entries(call).into_iter().map(|(_, body)| body)).collect();
        let messages: BTreeSet<&String> = bodies.iter().collect();
        assert_eq!(messages.len(), shards as usize);
        assert!(world.metered().await.values().all(|(_, metered_at, _)| *metered_at < at));

        // Each station is in exactly one message, and together the messages are the whole fleet.
        let (mut sessions, mut stations) = (0, 0);
        for body in &bodies {
            let answer = invoke(&simulator, serde_json::from_str(body).unwrap()).await.unwrap();
            assert_eq!(answer["skipped"], 0, "{body}: {answer}");
            assert_eq!(answer["dispatchedShards"], Value::Null);
            sessions += answer["sessions"].as_u64().unwrap();
            stations += answer["stations"].as_u64().unwrap();
        }
        assert_eq!((stations, sessions), (u64::from(STATIONS), SESSIONS), "{shards} shards");
        assert!(world.metered().await.values().all(|(_, metered_at, _)| *metered_at == at), "{shards} shards");
    }
    assert_eq!(world.metered().await.len() as u64, SESSIONS);
    for (station, watt_hours) in stations_energy(&world).await {
        assert_all_of_the_power(&station, watt_hours, starts[&station], start + TimeDelta::minutes(6));
    }
}

/// Returns the energy that the sessions of each station drew, Wh.
async fn stations_energy(world: &World) -> BTreeMap<String, u64> {
    let mut energy = BTreeMap::new();
    for (station, _, watt_hours) in world.metered().await.into_values() {
        *energy.entry(station).or_default() += watt_hours;
    }
    energy
}

/// Returns the start of the first session of each station, before any tick.
async fn first_starts(world: &World) -> BTreeMap<String, Instant> {
    let mut starts = BTreeMap::new();
    for (station, at, _) in world.metered().await.into_values() {
        let first = starts.entry(station).or_insert(at);
        *first = at.min(*first);
    }
    starts
}

/// Asserts that the 100 kW of the station were drawn exactly once since the start of its first session. Two registers
/// are rounded down to whole Wh.
fn assert_all_of_the_power(station: &str, watt_hours: u64, from: Instant, to: Instant) {
    let drawn = 100_000 * (to - from).num_milliseconds() as u64 / 3_600_000;
    assert!((drawn - 2..=drawn).contains(&watt_hours), "{station}: {watt_hours} Wh of {drawn}");
}

/// The number of shards changes with a deployment. The power of a station must still not be given twice.
#[tokio::test]
async fn sessions_of_a_station_are_advanced_together_for_any_number_of_shards() {
    let world = World::new().await;
    world.station("station-1", 2).await;
    let sqs = queue().await;
    let (start, starts) = (world.started().await, first_starts(&world).await);
    let numbers = [4_u32, 16, 3, 128, 1, 7, 16, 32];
    let hour = |number: usize| start + TimeDelta::hours(number as i64);
    for (number, shards) in (1..).zip(numbers) {
        let simulator = simulator(&world, &sqs, 0, shards);
        let before = sqs.calls().len();
        invoke(&simulator, json!({ "tickAt": hour(number) })).await.unwrap();
        for (_, body) in sqs.calls().split_off(before).iter().flat_map(entries) {
            invoke(&simulator, serde_json::from_str(&body).unwrap()).await.unwrap();
        }
    }
    let end = hour(numbers.len());
    assert!(world.metered().await.values().all(|(_, at, _)| *at == end));
    assert_all_of_the_power("station-1", stations_energy(&world).await["station-1"], starts["station-1"], end);
}

#[tokio::test]
async fn a_small_fleet_is_advanced_in_one_invocation() {
    let world = fleet().await;
    let sqs = queue().await;
    let simulator = simulator(&world, &sqs, SESSIONS as usize, 16);
    let at = world.started().await + TimeDelta::minutes(1);
    let answer = invoke(&simulator, json!({ "tickAt": at })).await.unwrap();
    assert_eq!((&answer["sessions"], &answer["dispatchedShards"]), (&json!(SESSIONS), &Value::Null));
    assert!(sqs.calls().is_empty());
    // Neither a tick of named stations nor one of a shard is sent to the queue.
    let few = json!({ "tickAt": at + TimeDelta::minutes(1), "stationIds": ["station-1", "station-2"] });
    assert_eq!(invoke(&simulator, few).await.unwrap()["sessions"], 4);
    let mut sessions = 0;
    for shard in 0..16 {
        let tick = json!({ "tickAt": at + TimeDelta::minutes(2), "shard": shard });
        sessions += invoke(&simulator, tick).await.unwrap()["sessions"].as_u64().unwrap();
    }
    assert_eq!(sessions, SESSIONS);
    assert!(sqs.calls().is_empty());
    let (kind, message) = invoke(&simulator, json!({ "shard": 16 })).await.unwrap_err();
    assert_eq!(kind, "ValidationError");
    assert!(message.contains("shard") && message.contains("below 16"), "{message}");
    let (kind, _) = invoke(&simulator, json!({ "shard": 3, "shards": 3 })).await.unwrap_err();
    assert_eq!(kind, "ValidationError");
    assert!(invoke(&simulator, json!({ "shard": 3, "shards": 4 })).await.is_ok());
}

/// If the queue accepts only a part of a batch, only the refused messages are sent again.
#[tokio::test]
async fn refused_messages_are_sent_again() {
    let world = fleet().await;
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen = tries.clone();
    let sqs = FakeAws::start(move |call, before| {
        seen.lock().unwrap().push(entries(call).into_iter().map(|(id, _)| id).collect::<Vec<_>>());
        match before {
            // First a batch in which two messages are refused, one of them once more, then a throttled call.
            0 => taken(call, |id| ["3", "7"].contains(&id).then_some(("InternalError", false))),
            1 => taken(call, |id| (id == "7").then_some(("ServiceUnavailable", false))),
            3 => (400, json!({ "__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow" }).to_string()),
            _ => taken(call, |_| None),
        }
    })
    .await;
    let simulator = simulator(&world, &sqs, 10, 12);
    let at = world.started().await + TimeDelta::minutes(1);
    let answer = invoke(&simulator, json!({ "tickAt": at })).await.unwrap();
    assert_eq!(answer["dispatchedShards"], 12);
    let first: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    let (some, rest) = (["3", "7"].map(str::to_owned).to_vec(), ["10", "11"].map(str::to_owned).to_vec());
    let expected = [first, some, vec!["7".to_owned()], rest.clone(), rest];
    assert_eq!(*tries.lock().unwrap(), expected);
}

/// If the queue never accepts a message, the tick fails and is repeated. The accepted messages are processed anyway.
#[tokio::test]
async fn a_message_that_is_never_accepted_fails_the_tick() {
    let world = fleet().await;
    let at = world.started().await + TimeDelta::minutes(1);
    for (code, ours, kind, tries) in
        [("InternalError", false, "UnavailableError", 5), ("InvalidMessageContents", true, "InternalError", 1)]
    {
        let refuse = move |id: &str| (id == "2").then_some((code, ours));
        let sqs = FakeAws::start(move |call, _| taken(call, refuse)).await;
        let simulator = simulator(&world, &sqs, 10, 4);
        let error = invoke(&simulator, json!({ "tickAt": at })).await.unwrap_err();
        assert_eq!(error.0, kind, "{error:?}");
        assert_eq!(sqs.calls().len(), tries, "{code}");
    }
    let sqs = queue().await;
    let answer = invoke(&simulator(&world, &sqs, 10, 4), json!({ "tickAt": at })).await.unwrap();
    assert_eq!(answer["dispatchedShards"], 4, "the same tick can be repeated");
}

/// A batch of the queue as Lambda passes it on. An invalid message fails alone.
#[tokio::test]
async fn messages_of_the_queue_are_processed_one_by_one() {
    let world = fleet().await;
    let sqs = FakeAws::start(|call, _| match call.target.as_str() {
        "AmazonSQS.ChangeMessageVisibility" => (200, "{}".to_owned()),
        _ => taken(call, |_| None),
    })
    .await;
    let simulator = simulator(&world, &sqs, 10, 3);
    let at = world.started().await + TimeDelta::minutes(1);
    invoke(&simulator, json!({ "tickAt": at })).await.unwrap();
    let mut bodies: Vec<String> = sqs.calls().iter().flat_map(entries).map(|(_, body)| body).collect();
    bodies.insert(1, json!({ "tickAt": at, "shard": 3, "shards": 3 }).to_string());
    bodies.insert(2, "not JSON".to_owned());
    let report = invoke(&simulator, sqs_event(&bodies)).await.unwrap();
    assert_eq!(report["batchItemFailures"], json!([{ "itemIdentifier": "m-1" }, { "itemIdentifier": "m-2" }]));
    assert!(world.metered().await.values().all(|(_, metered_at, _)| *metered_at == at));
}
