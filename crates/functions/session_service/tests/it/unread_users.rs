//! Starts while the users table cannot be reached: those of users who were read a short time ago go on, and are checked
//! later.

use std::collections::BTreeSet;
use std::time::{Duration, Instant as Stopwatch};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use domain::id::UserId;
use futures::future::join_all;
use serde_json::{Value, json};
use session_service::Inbox;
use testkit::{Fault, vehicle};

use crate::common::{error_type, id, set_now};
use crate::network::{Network, at, blocked, interrupted, started};

fn none() -> BTreeSet<String> {
    BTreeSet::new()
}

/// Starts a session of a user at `s-<user>`, port-1, and five minutes later another one at port-2, at which time the
/// users table cannot be reached. Returns both sessions, and the message with the check of the user.
async fn start_unread(network: &Network, user: &str) -> (Value, Value, String) {
    let station = format!("s-{user}");
    network.users_up();
    set_now(at("10:00:00"));
    network.world.station(&station, 2).await;
    let read = network.start(user, &station, "port-1", json!({})).await.unwrap();
    network.users_down();
    set_now(at("10:05:00"));
    let sent = network.sent().len();
    let unread = network.start(user, &station, "port-2", json!({})).await.unwrap();
    let messages = network.sent();
    assert_eq!(messages.len(), sent + 1);
    (read, unread, messages[sent]["MessageBody"].as_str().unwrap().to_owned())
}

/// Returns why a session has ended; null if it has not.
async fn end_reason(network: &Network, session: &Value) -> Value {
    network.world.get(id(session)).await["endReason"].clone()
}

#[tokio::test]
async fn a_user_who_was_read_less_than_15_minutes_ago_starts_and_is_checked_later() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 4).await;
    network.start("u-1", "s-1", "port-1", json!({})).await.unwrap();
    assert_eq!(network.sent().len(), 0, "the user was read");
    network.users_down();
    set_now(at("10:14:59"));
    let session = network.start("u-1", "s-1", "port-2", json!({})).await.unwrap();
    let sent = network.sent();
    assert_eq!((sent.len(), &sent[0]["QueueUrl"]), (1, &json!("http://queue")));
    let delay = TimeDelta::seconds(sent[0]["DelaySeconds"].as_i64().unwrap());
    assert!(delay > Inbox::LONGEST_START && delay <= TimeDelta::minutes(15), "{delay}");
    let body: Value = serde_json::from_str(sent[0]["MessageBody"].as_str().unwrap()).unwrap();
    let check = &body["userCheck"];
    assert_eq!((&check["userId"], &check["sessionId"]), (&json!("u-1"), &session["sessionId"]));
    assert_eq!((&check["startedAt"], &session["startedAt"]), (&session["startedAt"], &json!("2026-03-03T10:14:59Z")));

    // A start on a remembered row is no read of the row.
    set_now(at("10:15:00"));
    assert_eq!(error_type(&network.start("u-1", "s-1", "port-3", json!({})).await), "UnavailableError");
    assert_eq!(error_type(&network.start("u-9", "s-1", "port-3", json!({})).await), "UnavailableError", "never read");
    assert_eq!((network.sent().len(), network.running("u-1").await, network.running("u-9").await), (1, 2, 0));
    assert_eq!(network.world.get_station("s-1").await["chargingPorts"], 2, "nothing was written");
    network.users_up();
    network.start("u-1", "s-1", "port-3", json!({})).await.unwrap();
    assert_eq!(network.sent().len(), 1);
}

#[tokio::test]
async fn a_start_waits_for_a_remembered_user_only_shortly() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 2).await;
    network.start("u-1", "s-1", "port-1", json!({})).await.unwrap();
    // The table accepts the call and never answers.
    network.users.plan([(0, Fault::Hold)].into());
    let watch = Stopwatch::now();
    network.start("u-1", "s-1", "port-2", json!({})).await.unwrap();
    let waited = watch.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
    assert_eq!(network.sent().len(), 1);
}

/// All starts are decided on the same version of the station, so that most of them are decided again.
#[tokio::test]
async fn a_start_that_is_decided_again_waits_once_and_is_checked_once() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 6).await;
    network.start("u-1", "s-1", "port-6", json!({})).await.unwrap();
    network.users_down();
    let watch = Stopwatch::now();
    let ports: Vec<String> = (1..=5).map(|port| format!("port-{port}")).collect();
    let starts = join_all(ports.iter().map(|port| network.start("u-1", "s-1", port, json!({})))).await;
    let waited = watch.elapsed();
    let sessions: BTreeSet<String> = starts.iter().map(|start| id(start.as_ref().unwrap()).to_owned()).collect();
    let checked: Vec<String> = network
        .sent()
        .iter()
        .map(|message| serde_json::from_str::<Value>(message["MessageBody"].as_str().unwrap()).unwrap())
        .map(|body| body["userCheck"]["sessionId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((checked.len(), checked.into_iter().collect::<BTreeSet<_>>()), (5, sessions));
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

#[tokio::test]
async fn the_check_ends_the_session_of_a_user_who_may_not_charge_and_no_other() {
    let network = Network::new().await;
    let cases = [("BLOCKED", "USER_BLOCKED"), ("DELETING", "USER_DELETED"), ("DELETED", "USER_DELETED")];
    for (status, reason) in cases {
        let (read, unread, check) = start_unread(&network, status).await;
        network.set_status(status, status).await;
        network.users_up();
        set_now(at("10:05:21"));
        // The queue may deliver a message twice.
        for _ in 0..2 {
            assert_eq!(network.deliver(&[check.clone(), check.clone()]).await, none(), "{status}");
            assert_eq!(network.end_of(&unread).await, interrupted(reason), "{status}");
        }
        assert_eq!(end_reason(&network, &read).await, Value::Null, "{status}");
    }
    let events = network.world.events("ev-sessions").await;
    let ends = events.iter().filter(|event| event["eventType"] == "SESSION_ENDED").count();
    assert_eq!((ends, network.sent().len()), (cases.len(), cases.len()), "{events:?}");
}

#[tokio::test]
async fn a_check_of_a_user_who_may_charge_changes_nothing() {
    let network = Network::new().await;
    let (_, unread, check) = start_unread(&network, "u-1").await;
    network.users_up();
    assert_eq!(network.deliver(std::slice::from_ref(&check)).await, none());
    assert_eq!(network.end_of(&unread).await, started());
    // A block that was lifted before the check came is no reason any more.
    network.set_blocked("u-1", true).await;
    network.set_blocked("u-1", false).await;
    set_now(at("11:00:00"));
    assert_eq!(network.deliver(&[check]).await, none());
    assert_eq!((end_reason(&network, &unread).await, network.sent().len()), (Value::Null, 1));
}

#[tokio::test]
async fn a_check_comes_again_until_the_user_can_be_read() {
    let network = Network::new().await;
    let (_, unread, check) = start_unread(&network, "u-1").await;
    network.set_blocked("u-1", true).await;
    set_now(at("10:05:21"));
    let other = blocked("u-2", at("10:05:00"), true);
    assert_eq!(network.deliver(&[check.clone(), other]).await, BTreeSet::from(["m-0".to_owned()]));
    assert_eq!(network.end_of(&unread).await, started());
    network.users_up();
    set_now(at("10:05:40"));
    assert_eq!(network.deliver(&[check]).await, none());
    assert_eq!(network.end_of(&unread).await, interrupted("USER_BLOCKED"));
}

/// The queue keeps no order: the event of the block is handled before the check, or after it.
#[tokio::test]
async fn a_check_and_the_event_of_a_block_end_a_session_once_in_any_order() {
    for check_first in [true, false] {
        let network = Network::new().await;
        let (read, unread, check) = start_unread(&network, "u-1").await;
        network.users_up();
        network.set_blocked("u-1", true).await;
        set_now(at("10:05:30"));
        let mut messages = [check, blocked("u-1", at("10:05:10"), true)];
        if !check_first {
            messages.reverse();
        }
        for message in messages {
            assert_eq!(network.deliver(&[message]).await, none());
        }
        for session in [&read, &unread] {
            assert_eq!(network.end_of(session).await, interrupted("USER_BLOCKED"), "{check_first}");
        }
        let events = network.world.events("ev-sessions").await;
        assert_eq!(events.iter().filter(|event| event["eventType"] == "SESSION_ENDED").count(), 2, "{events:?}");
    }
}

#[tokio::test]
async fn a_check_without_its_session_ends_nothing() {
    let network = Network::new().await;
    let (_, unread, check) = start_unread(&network, "u-1").await;
    network.users_up();
    network.set_blocked("u-1", true).await;
    set_now(at("10:05:21"));
    let change = |field: &str, value: Value| {
        let mut check: Value = serde_json::from_str(&check).unwrap();
        check["userCheck"][field] = value;
        check.to_string()
    };
    // A start that failed after its check was queued; and one that a request with the same key made at another time.
    let checks = [change("sessionId", json!("x-9")), change("startedAt", json!("2026-03-03T10:04:00Z"))];
    assert_eq!(network.deliver(&checks).await, none());
    assert_eq!(network.end_of(&unread).await, started());
    let invalid = change("userId", json!("a#b"));
    assert_eq!(network.deliver(&[invalid]).await, BTreeSet::from(["m-0".to_owned()]));
    // A session that its user has stopped stays stopped.
    set_now(at("10:06:00"));
    network.world.stop(id(&unread), "u-1").await.unwrap();
    assert_eq!(network.deliver(&[check]).await, none());
    assert_eq!(network.end_of(&unread).await, interrupted("STOPPED_BY_USER"));
}

#[tokio::test]
async fn no_session_starts_if_the_check_cannot_be_queued() {
    let network = Network::with_queue(500).await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 2).await;
    network.start("u-1", "s-1", "port-1", json!({})).await.unwrap();
    network.users_down();
    let refused = network.start("u-1", "s-1", "port-2", json!({ "idempotencyKey": "key-1" })).await;
    assert_eq!(error_type(&refused), "UnavailableError");
    assert_eq!((network.running("u-1").await, network.sent().len()), (1, 1));
    assert_eq!(network.world.get_station("s-1").await["chargingPorts"], 1, "nothing was written");
    network.users_up();
    network.start("u-1", "s-1", "port-2", json!({ "idempotencyKey": "key-1" })).await.unwrap();
}

#[tokio::test]
async fn a_refused_start_queues_no_check() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 1).await;
    network.start("u-1", "s-1", "port-1", json!({})).await.unwrap();
    network.users_down();
    assert_eq!(error_type(&network.start("u-1", "s-1", "port-1", json!({})).await), "ConflictError");
    assert_eq!(error_type(&network.start("u-1", "s-9", "port-1", json!({})).await), "NotFoundError");
    assert_eq!(network.sent().len(), 0);
}

#[tokio::test]
async fn a_saved_vehicle_has_to_be_read() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 2).await;
    let user = UserId::new("u-1").unwrap();
    network.world.dynamodb.users().add_vehicle(&user, &vehicle("v-1", None)).await.unwrap();
    let saved = json!({ "vehicle": null, "vehicleId": "v-1" });
    network.start("u-1", "s-1", "port-1", saved.clone()).await.unwrap();
    network.users_down();
    assert_eq!(error_type(&network.start("u-1", "s-1", "port-2", saved).await), "UnavailableError");
    assert_eq!((network.running("u-1").await, network.sent().len()), (1, 0));
    network.start("u-1", "s-1", "port-2", json!({})).await.unwrap();
}

/// What was seen last counts: a block that this environment has seen is not forgotten over an earlier read.
#[tokio::test]
async fn a_user_who_was_seen_to_be_blocked_does_not_start() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 4).await;
    for (user, port) in [("u-1", "port-1"), ("u-2", "port-2")] {
        network.start(user, "s-1", port, json!({})).await.unwrap();
    }
    set_now(at("10:01:00"));
    network.set_blocked("u-1", true).await;
    assert_eq!(error_type(&network.start("u-1", "s-1", "port-3", json!({})).await), "ForbiddenError");
    // The event of the other block arrives; the sessions of the user go on.
    assert_eq!(network.deliver(&[blocked("u-2", at("10:00:30"), false)]).await, none());
    network.users_down();
    for user in ["u-1", "u-2"] {
        assert_eq!(error_type(&network.start(user, "s-1", "port-3", json!({})).await), "UnavailableError", "{user}");
    }
    assert_eq!(network.sent().len(), 0);
}

/// An error that is no outage is not bridged.
#[tokio::test]
async fn a_row_that_cannot_be_decoded_is_an_error() {
    let network = Network::new().await;
    set_now(at("10:00:00"));
    network.world.station("s-1", 2).await;
    network.start("u-1", "s-1", "port-1", json!({})).await.unwrap();
    let put = network.world.dynamodb.client().put_item().table_name("ev-users");
    let put = put.item("PK", AttributeValue::S("USER#u-1".to_owned()));
    let put = put.item("SK", AttributeValue::S("METADATA".to_owned()));
    put.item("status", AttributeValue::Bool(true)).send().await.unwrap();
    assert_eq!(error_type(&network.start("u-1", "s-1", "port-2", json!({})).await), "InternalError");
    assert_eq!(network.sent().len(), 0);
}
