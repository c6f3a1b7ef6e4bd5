//! Blocks of users: which sessions their events end, however often and however late they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::Instant;
use serde_json::{Value, json};
use session_service::Inbox;
use testkit::{Fault, invoke, resources};

use crate::common::{CLOCK, error_type, id, set_now};
use crate::network::{Network, at, blocked, interrupted, message, start_of, started};

#[tokio::test]
async fn a_block_ends_every_running_session_of_the_user_once_and_no_other() {
    let network = Network::new().await;
    let world = &network.world;
    set_now(at("10:00:00"));
    world.station("s-1", 3).await;
    world.station("s-2", 1).await;
    let mut theirs = Vec::new();
    for (station, port) in [("s-1", "port-1"), ("s-1", "port-2"), ("s-2", "port-1")] {
        theirs.push(world.start(station, port, "u-1", json!({})).await.unwrap());
    }
    let neighbour = world.start("s-1", "port-3", "u-2", json!({})).await.unwrap();
    set_now(at("10:05:00"));
    network.set_blocked("u-1", true).await;
    set_now(at("10:05:01"));
    let block = blocked("u-1", at("10:05:00"), true);
    for _ in 0..2 {
        assert_eq!(network.deliver(&[block.clone(), block.clone()]).await, BTreeSet::new());
    }
    for session in &theirs {
        assert_eq!(network.end_of(session).await, interrupted("USER_BLOCKED"));
        let ended: Instant = world.get(id(session)).await["endedAt"].as_str().unwrap().parse().unwrap();
        assert_eq!(ended, at("10:05:01"));
    }
    assert_eq!((network.running("u-1").await, network.running("u-2").await), (0, 1));
    assert_eq!(world.get(id(&neighbour)).await["endReason"], Value::Null);
    let events = world.events("ev-sessions").await;
    let ends: Vec<&Value> = events.iter().filter(|event| event["eventType"] == "SESSION_ENDED").collect();
    assert_eq!(ends.len(), 3, "{ends:?}");
    for end in ends {
        assert_eq!((&end["reason"], &end["correlationId"]), (&json!("USER_BLOCKED"), &json!("cause-1")));
    }
    assert_eq!(world.get_station("s-1").await["chargingPorts"], 1);
    assert_eq!(world.get_station("s-2").await["chargingPorts"], 0);
}

#[tokio::test]
async fn a_block_may_let_the_sessions_go_on() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 1).await;
    network.world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    network.set_blocked("u-1", true).await;
    assert_eq!(network.deliver(&[blocked("u-1", at("10:00:00"), false)]).await, BTreeSet::new());
    assert_eq!((network.running("u-1").await, network.sent().len()), (1, 0));
}

/// The event arrives when the block has been lifted, and the user has started another session since.
#[tokio::test]
async fn a_late_event_ends_only_the_sessions_from_before_the_block() {
    let network = Network::new().await;
    let world = &network.world;
    set_now(at("10:00:00"));
    world.station("s-1", 2).await;
    let before = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    network.set_blocked("u-1", true).await;
    set_now(at("10:07:00"));
    network.set_blocked("u-1", false).await;
    let after = world.start("s-1", "port-2", "u-1", json!({})).await.unwrap();
    set_now(at("10:08:00"));
    for _ in 0..2 {
        assert_eq!(network.deliver(&[blocked("u-1", at("10:05:00"), true)]).await, BTreeSet::new());
        assert_eq!(network.end_of(&before).await, interrupted("USER_BLOCKED"));
        assert_eq!(world.get(id(&after)).await["endReason"], Value::Null);
    }
    assert_eq!((network.running("u-1").await, network.sent().len()), (1, 0), "no start is under way any more");
}

/// The time of the block is taken before its row is written, so that a session may start between the two.
#[tokio::test]
async fn a_session_that_started_before_the_block_took_effect_ends() {
    let network = Network::new().await;
    set_now(at("10:05:01"));
    network.world.station("s-1", 1).await;
    let session = network.world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    network.set_blocked("u-1", true).await;
    set_now(at("10:05:02"));
    assert_eq!(network.deliver(&[blocked("u-1", at("10:05:00"), true)]).await, BTreeSet::new());
    assert_eq!(network.end_of(&session).await, interrupted("USER_BLOCKED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_fifty_starts_that_race_with_a_block_no_session_runs() {
    let network = Arc::new(Network::new().await);
    for station in 0..5 {
        network.world.station(&format!("s-{station}"), 10).await;
    }
    let starts: Vec<_> = (0..50)
        .map(|n| {
            let network = network.clone();
            let (station, port) = (format!("s-{}", n % 5), format!("port-{}", n / 5 + 1));
            tokio::spawn(async move { network.world.start(&station, &port, "u-1", json!({})).await })
        })
        .collect();
    let now = (CLOCK.0)();
    network.set_blocked("u-1", true).await;
    let mut started = 0;
    for start in starts {
        let outcome = start.await.unwrap();
        match &outcome {
            Ok(_) => started += 1,
            Err(_) => assert_eq!(error_type(&outcome), "ForbiddenError"),
        }
    }
    assert_eq!(network.running("u-1").await, started);
    assert_eq!(network.deliver(&[blocked("u-1", now, true)]).await, BTreeSet::new());
    assert_eq!(network.running("u-1").await, 0, "{started} sessions had started");
    for station in 0..5 {
        assert_eq!(network.world.get_station(&format!("s-{station}")).await["chargingPorts"], 0);
    }
    let refused = network.world.start("s-0", "port-1", "u-1", json!({})).await;
    assert_eq!(error_type(&refused), "ForbiddenError");
}

/// A start that read the user before the block is still under way while the event is handled. The event is handled once
/// more when no such start can be left.
#[tokio::test]
async fn a_start_that_is_written_after_its_event_ends_at_the_second_look() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 1).await;
    let (http, slow) = network.faulty();
    let start = start_of("u-1", "s-1", "port-1");
    // Hold the third call: two reads, then the transaction.
    http.plan(BTreeMap::from([(2, Fault::Hold)]));
    let meanwhile = http.while_held(async {
        set_now(at("10:00:05"));
        network.set_blocked("u-1", true).await;
        assert_eq!(network.deliver(&[blocked("u-1", at("10:00:05"), true)]).await, BTreeSet::new());
    });
    let (started, ()) = Box::pin(futures::future::join(invoke(&slow, start), meanwhile)).await;
    let session = started.unwrap();
    assert_eq!(network.running("u-1").await, 1, "the first look came too early");
    let again = network.sent();
    assert_eq!((again.len(), &again[0]["QueueUrl"]), (1, &json!("http://queue")));
    let delay = again[0]["DelaySeconds"].as_i64().unwrap();
    set_now(at("10:00:05") + chrono::Duration::seconds(delay));
    let body = again[0]["MessageBody"].as_str().unwrap().to_owned();
    assert_eq!(network.deliver(&[body]).await, BTreeSet::new());
    assert_eq!(network.end_of(&session).await, interrupted("USER_BLOCKED"));
    assert_eq!(network.sent().len(), 1, "the second look is the last one");
}

#[test]
fn the_second_look_comes_after_the_timeout_of_every_start() {
    let functions = resources("AWS::Serverless::Function");
    let (_, function) = functions.into_iter().find(|(name, _)| *name == "SessionServiceFunction").unwrap();
    let timeout = function["Timeout"].as_i64().unwrap();
    assert!(Inbox::LONGEST_START.num_seconds() > timeout, "{timeout}");
}

#[tokio::test]
async fn an_event_is_delivered_again_if_its_second_look_cannot_be_queued() {
    let network = Network::with_queue(500).await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 1).await;
    network.world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    network.set_blocked("u-1", true).await;
    let block = blocked("u-1", at("10:00:00"), true);
    set_now(at("10:00:10"));
    assert_eq!(network.deliver(std::slice::from_ref(&block)).await, BTreeSet::from(["m-0".to_owned()]));
    assert_eq!(network.running("u-1").await, 0, "the session ended nevertheless");
    set_now(at("10:00:25"));
    assert_eq!(network.deliver(&[block]).await, BTreeSet::new());
}

/// The session of another user at the station cannot be read, so that nobody can say what it draws.
#[tokio::test]
async fn a_session_that_cannot_be_ended_does_not_keep_the_others_running() {
    let network = Network::new().await;
    let world = &network.world;
    set_now(at("10:00:00"));
    world.station("s-1", 2).await;
    world.station("s-2", 1).await;
    let stuck = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    let neighbour = world.start("s-1", "port-2", "u-2", json!({})).await.unwrap();
    let other = world.start("s-2", "port-1", "u-1", json!({})).await.unwrap();
    world.damage_session(id(&neighbour)).await;
    network.set_blocked("u-1", true).await;
    set_now(at("10:05:00"));
    let block = blocked("u-1", at("10:00:01"), true);
    assert_eq!(network.deliver(&[block]).await, BTreeSet::from(["m-0".to_owned()]));
    assert_eq!(network.end_of(&other).await, interrupted("USER_BLOCKED"));
    assert_eq!(network.end_of(&stuck).await, started());
}

#[tokio::test]
async fn a_bad_message_fails_alone() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 1).await;
    network.world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    set_now(at("10:01:00"));
    let failed_port = json!({ "eventType": "PORT_FAILED", "stationId": "s-1", "portId": "port-1", "reason": "r" });
    let bodies = [
        "not JSON".to_owned(),
        "{\"detail\": 1}".to_owned(),
        message(&failed_port),
        message(&json!({ "eventType": "USER_BLOCKED", "userId": "u-1", "blockedAt": at("10:00:30") })),
        message(&json!({ "eventType": "USER_BLOCKED", "userId": "a#b", "blockedAt": "now", "endSessions": true })),
        blocked("u-1", at("10:00:30"), true),
        blocked("u-9", at("10:00:30"), true),
    ];
    let failed: BTreeSet<String> = (0..5).map(|number| format!("m-{number}")).collect();
    assert_eq!(network.deliver(&bodies).await, failed);
    assert_eq!(network.running("u-1").await, 0);
    // An event that does not come through the queue.
    let direct: Value = serde_json::from_str(&blocked("u-1", at("10:00:30"), true)).unwrap();
    assert_eq!(error_type(&invoke(&network.sessions, direct).await), "ValidationError");
}
