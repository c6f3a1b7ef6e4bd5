//! Deletions of users: their events end the sessions whose starts passed the deletion unseen.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use serde_json::{Value, json};
use testkit::{Fault, invoke};

use crate::common::{error_type, id, set_now};
use crate::network::{Network, at, deleted, interrupted, start_of, started};

#[tokio::test]
async fn a_deletion_ends_every_running_session_of_the_user_once_and_no_other() {
    let network = Network::new().await;
    let world = &network.world;
    set_now(at("10:00:00"));
    world.station("s-1", 3).await;
    let mut theirs = Vec::new();
    for port in ["port-1", "port-2"] {
        theirs.push(world.start("s-1", port, "u-1", json!({})).await.unwrap());
    }
    let neighbour = world.start("s-1", "port-3", "u-2", json!({})).await.unwrap();
    network.set_status("u-1", "DELETED").await;
    set_now(at("10:05:01"));
    let deletion = deleted("u-1", at("10:05:00"));
    for _ in 0..2 {
        assert_eq!(network.deliver(&[deletion.clone(), deletion.clone()]).await, BTreeSet::new());
    }
    for session in &theirs {
        assert_eq!(network.end_of(session).await, interrupted("USER_DELETED"));
    }
    assert_eq!(world.get(id(&neighbour)).await["endReason"], Value::Null);
    let events = world.events("ev-sessions").await;
    let ends: Vec<&Value> = events.iter().filter(|event| event["eventType"] == "SESSION_ENDED").collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    for end in ends {
        assert_eq!((&end["reason"], &end["correlationId"]), (&json!("USER_DELETED"), &json!("cause-1")));
    }
    assert_eq!(error_type(&world.start("s-1", "port-1", "u-1", json!({})).await), "ForbiddenError");
}

/// The start read the user before the deletion began. The deletion finds no session, and is complete before the start
/// is written.
#[tokio::test]
async fn a_start_that_is_written_after_the_deletion_ends_at_the_second_look() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 1).await;
    let (http, slow) = network.faulty();
    // Hold the third call: two reads, then the transaction.
    http.plan(BTreeMap::from([(2, Fault::Hold)]));
    let meanwhile = http.while_held(async {
        set_now(at("10:00:05"));
        network.set_status("u-1", "DELETING").await;
        assert_eq!(network.running("u-1").await, 0, "nothing speaks against the deletion");
        network.set_status("u-1", "DELETED").await;
        assert_eq!(network.deliver(&[deleted("u-1", at("10:00:05"))]).await, BTreeSet::new());
    });
    let start = invoke(&slow, start_of("u-1", "s-1", "port-1"));
    let (session, ()) = Box::pin(futures::future::join(start, meanwhile)).await;
    let session = session.unwrap();
    assert_eq!(network.end_of(&session).await, started(), "the first look came too early");
    let again = network.sent();
    assert_eq!(again.len(), 1);
    set_now(at("10:00:05") + TimeDelta::seconds(again[0]["DelaySeconds"].as_i64().unwrap()));
    let body = again[0]["MessageBody"].as_str().unwrap().to_owned();
    assert_eq!(network.deliver(&[body]).await, BTreeSet::new());
    assert_eq!(network.end_of(&session).await, interrupted("USER_DELETED"));
    assert_eq!(network.sent().len(), 1, "the second look is the last one");
}

/// The time of the deletion is taken before the row is written, so that a session may start between the two. The event
/// may be late, too: a deleted user never comes back.
#[tokio::test]
async fn a_session_that_started_after_the_time_of_the_deletion_ends_however_late_the_event_is() {
    let network = Network::new().await;
    let world = &network.world;
    world.station("s-1", 2).await;
    set_now(at("10:05:01"));
    let session = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    let other = world.start("s-1", "port-2", "u-2", json!({})).await.unwrap();
    network.set_status("u-1", "DELETED").await;
    set_now(at("10:35:00"));
    assert_eq!(network.deliver(&[deleted("u-1", at("10:05:00"))]).await, BTreeSet::new());
    assert_eq!(network.end_of(&session).await, interrupted("USER_DELETED"));
    assert_eq!(world.get(id(&other)).await["endReason"], Value::Null);
    assert_eq!(network.sent().len(), 0, "no start is under way any more");
}
