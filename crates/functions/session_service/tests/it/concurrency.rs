//! Concurrent commands: fifty callers at once, stops that race with ticks and completions, and repeated ticks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{Outcome, invoke};

use crate::common::{World, error_type, id, minutes_after};

async fn fifty<F>(world: &Arc<World>, call: impl Fn(Arc<World>, usize) -> F) -> Vec<Outcome>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let tasks: Vec<_> = (0..50).map(|n| tokio::spawn(call(world.clone(), n))).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_starts_on_one_free_port_give_one_session() {
    let world = Arc::new(World::new().await);
    world.station("s-1", 1).await;
    let outcomes =
        fifty(&world, |world, n| async move { world.start("s-1", "port-1", &format!("u-{n}"), json!({})).await }).await;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in &outcomes {
        *kinds.entry(outcome.as_ref().map_or_else(|(kind, _)| kind.as_str(), |_| "started")).or_default() += 1;
    }
    assert_eq!(kinds, BTreeMap::from([("ConflictError", 49), ("started", 1)]), "{outcomes:?}");
    let station = world.get_station("s-1").await;
    assert_eq!(station["chargingPorts"], 1);
    assert_eq!(station["ports"][0]["status"], "CHARGING");
    assert_eq!(world.dynamodb.items("ev-sessions").await.len(), 2, "one session: its two items and nothing else");
    assert_eq!(world.events("ev-sessions").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_starts_with_one_key_give_one_session_fifty_times() {
    let world = Arc::new(World::new().await);
    world.station("s-1", 2).await;
    let outcomes = fifty(&world, |world, _| async move {
        world.start("s-1", "port-1", "u-1", json!({ "idempotencyKey": "key-1" })).await
    })
    .await;
    let ids: Vec<String> = outcomes.iter().map(|outcome| id(outcome.as_ref().unwrap()).to_owned()).collect();
    assert!(ids.iter().all(|other| *other == ids[0]), "{ids:?}");
    assert_eq!(world.get_station("s-1").await["chargingPorts"], 1);

    // The key is for this request of this user. With another body it is refused, and the same key of another user is
    // another key.
    let other = world.start("s-1", "port-2", "u-1", json!({ "idempotencyKey": "key-1" })).await;
    assert_eq!(error_type(&other), "ConflictError");
    let elsewhere = world.start("s-1", "port-2", "u-2", json!({ "idempotencyKey": "key-1" })).await.unwrap();
    assert_ne!(id(&elsewhere), ids[0]);

    // After the session has ended, the key still returns the same session.
    world.stop(&ids[0], "u-1").await.unwrap();
    let again = world.start("s-1", "port-1", "u-1", json!({ "idempotencyKey": "key-1" })).await.unwrap();
    assert_eq!((id(&again), &again["status"]), (ids[0].as_str(), &json!("INTERRUPTED")));
    assert_eq!(world.get_station("s-1").await["ports"][0]["status"], "FREE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_a_stop_and_ticks_try_to_end_at_once_ends_once() {
    for round in 0..10 {
        let world = Arc::new(World::new().await);
        world.station("s-1", 2).await;
        let session = world.start("s-1", "port-1", "u-1", json!({ "targetPercent": 30 })).await.unwrap();
        let large = json!({ "vehicle": { "batteryCapacityKwh": 1000 } });
        let other = world.start("s-1", "port-2", "u-2", large).await.unwrap();
        world.tick(minutes_after(&session, 1)).await.unwrap();
        let session_id = id(&session).to_owned();
        let finish = minutes_after(&session, 60);
        let stops = (0..4).map(|_| {
            let (world, id) = (world.clone(), session_id.clone());
            tokio::spawn(async move { world.stop(&id, "u-1").await.map(|_| ()) })
        });
        let ticks = (0..4).map(|n| {
            let (world, at) = (world.clone(), finish + chrono::Duration::seconds(n % 2));
            tokio::spawn(async move { world.tick(at).await.map(|_| ()) })
        });
        let mut stopped = 0;
        for (index, task) in stops.chain(ticks).collect::<Vec<_>>().into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(()) if index < 4 => stopped += 1,
                Ok(()) => {}
                Err((kind, message)) => assert_eq!((kind.as_str(), index < 4), ("ConflictError", true), "{message}"),
            }
        }
        let ended: Vec<Value> = world
            .events("ev-sessions")
            .await
            .into_iter()
            .filter(|event| event["eventType"] == "SESSION_ENDED" && event["sessionId"] == session_id.as_str())
            .collect();
        assert_eq!(ended.len(), 1, "round {round}: {ended:?}");
        let session = world.get(&session_id).await;
        // A stop that finds the session at its target returns it as completed.
        let ends = [("COMPLETED", "TARGET_REACHED"), ("INTERRUPTED", "STOPPED_BY_USER")];
        let ends = if stopped == 0 { &ends[..1] } else { &ends[..] };
        let end = (session["status"].as_str().unwrap(), session["endReason"].as_str().unwrap());
        assert!(ends.contains(&end), "round {round}: {stopped} stops, {end:?}");
        assert_eq!(ended[0]["status"], session["status"], "the event equals the row");
        assert!(stopped <= 1, "round {round}: ended {stopped} times by a stop");
        assert_eq!(ended[0]["energyKwh"], session["energyKwh"], "the event equals the row");
        let station = world.get_station("s-1").await;
        assert_eq!(station["chargingPorts"], 1, "round {round}: the other session is still charging");
        assert_eq!(station["ports"][0]["status"], "FREE");
        assert_eq!(station["ports"][1]["sessionId"], other["sessionId"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeated_late_and_concurrent_ticks_meter_once() {
    let world = Arc::new(World::new().await);
    for station in ["s-1", "s-2", "s-3"] {
        world.station(station, 4).await;
        for port in 1..=4 {
            world.start(station, &format!("port-{port}"), "u-1", json!({})).await.unwrap();
        }
    }
    let first = world.start("s-1", "port-1", "u-1", json!({})).await;
    assert_eq!(error_type(&first), "ConflictError");
    let now: domain::Instant =
        invoke(&world.simulator, json!({})).await.unwrap()["tickAt"].as_str().unwrap().parse().unwrap();
    let at = now + chrono::Duration::minutes(10);
    let outcomes = fifty(&world, |world, _| async move { world.tick(at).await }).await;
    let sum = |key: &str| -> f64 { outcomes.iter().map(|o| o.as_ref().unwrap()[key].as_f64().unwrap()).sum() };
    // Fifty overlapping ticks meter the energy of one: 3 stations of 100 kW for 10 minutes, minus the part of the last
    // watt-hour in each of the 12 registers.
    let energy = sum("energyKwh");
    assert!((49.9..=50.0 + 0.1).contains(&energy), "{energy}");
    let state = |items: Vec<std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>>| {
        let mut text: Vec<String> =
            items.iter().map(|item| format!("{:?}", item.iter().collect::<BTreeMap<_, _>>())).collect();
        text.sort();
        text
    };
    let once = state(world.dynamodb.items("ev-sessions").await);
    for late in [at, at - chrono::Duration::minutes(5), at - chrono::Duration::days(1)] {
        let again = world.tick(late).await.unwrap();
        assert_eq!((&again["sessions"], &again["skipped"], &again["energyKwh"]), (&json!(12), &json!(12), &json!(0.0)));
    }
    assert_eq!(state(world.dynamodb.items("ev-sessions").await), once);
}
