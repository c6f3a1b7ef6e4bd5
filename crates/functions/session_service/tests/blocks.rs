//! Blocks of users: which sessions their events end, however often and however late they arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use common::{CLOCK, World, admin, error_type, id, no_inbox, set_now};
use domain::Instant;
use lambda_kit::{Door, RemoteFunction};
use serde_json::{Value, json};
use session_service::{Inbox, SessionService};
use store::{ChargingStore, Client, Db, UserStore};
use testkit::{FakeAws, Fault, FaultyHttp, NOWHERE, invoke, resources, sdk_config, sqs_event};

fn at(time: &str) -> Instant {
    format!("2026-03-03T{time}Z").parse().unwrap()
}

fn nobody() -> RemoteFunction {
    RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned())
}

/// Builds the message that the rule of the event bus sends for an event.
fn message(event: &Value) -> String {
    let mut detail = json!({
        "eventId": "0198f3a0-0000-7000-8000-000000000000", "schemaVersion": 1, "occurredAt": "2026-03-03T10:00:00Z",
        "correlationId": "block-1"
    });
    detail.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
    json!({
        "version": "0", "id": "b", "detail-type": event["eventType"], "source": "evoke.accounts",
        "account": "123456789012", "time": "2026-03-03T10:00:00Z", "region": "eu-central-1", "resources": [],
        "detail": detail
    })
    .to_string()
}

fn blocked(user: &str, at: Instant, end_sessions: bool) -> String {
    message(&json!({ "eventType": "USER_BLOCKED", "userId": user, "blockedAt": at, "endSessions": end_sessions }))
}

/// The charging context, and `session_service` with its inbox.
struct Network {
    world: World,
    sessions: Door<SessionService>,
    sqs: FakeAws,
}

impl Network {
    async fn new() -> Self {
        Self::with_queue(200).await
    }

    /// Creates the network with a queue that answers messages with this status.
    async fn with_queue(status: u16) -> Self {
        let world = World::new().await;
        let sqs = FakeAws::start(move |call, _| match call.target.as_str() {
            "AmazonSQS.SendMessage" => (status, json!({ "MessageId": "m" }).to_string()),
            _ => (200, "{}".to_owned()),
        })
        .await;
        let inbox = Inbox::new(&sdk_config(&sqs.endpoint()), "http://queue".to_owned());
        let sessions = SessionService::new(world.dynamodb.charging(), world.dynamodb.users(), nobody(), inbox);
        Self { sessions: Door::new(sessions, CLOCK), world, sqs }
    }

    /// Delivers messages as the queue does. Returns the ids of those that are reported as failed.
    async fn deliver(&self, bodies: &[String]) -> BTreeSet<String> {
        let answer = invoke(&self.sessions, sqs_event(bodies)).await.unwrap();
        let failed = answer["batchItemFailures"].as_array().unwrap().iter();
        failed.map(|item| item["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the messages that were sent to the queue once more.
    fn sent_again(&self) -> Vec<Value> {
        let calls = self.sqs.calls().into_iter().filter(|call| call.target == "AmazonSQS.SendMessage");
        calls.map(|call| serde_json::from_str(&call.body).unwrap()).collect()
    }

    async fn set_blocked(&self, user: &str, blocked: bool) {
        let put = self.world.dynamodb.client().put_item().table_name("ev-users");
        let put = put.item("PK", AttributeValue::S(format!("USER#{user}")));
        let put = put.item("SK", AttributeValue::S("METADATA".to_owned()));
        put.item("blocked", AttributeValue::Bool(blocked)).send().await.unwrap();
    }

    /// Returns how many sessions of a user are running.
    async fn running(&self, user: &str) -> usize {
        let mut running = 0;
        for status in ["STARTED", "IN_PROGRESS"] {
            let list = json!({
                "action": "listSessions", "actor": admin(), "userId": user, "status": status, "limit": 100
            });
            running += invoke(&self.sessions, list).await.unwrap()["items"].as_array().unwrap().len();
        }
        running
    }

    /// Returns status and reason of the end of a session.
    async fn end_of(&self, session: &Value) -> (Value, Value) {
        let session = self.world.get(id(session)).await;
        (session["status"].clone(), session["endReason"].clone())
    }
}

fn interrupted() -> (Value, Value) {
    (json!("INTERRUPTED"), json!("USER_BLOCKED"))
}

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
        assert_eq!(network.end_of(session).await, interrupted());
        let ended: Instant = world.get(id(session)).await["endedAt"].as_str().unwrap().parse().unwrap();
        assert_eq!(ended, at("10:05:01"));
    }
    assert_eq!((network.running("u-1").await, network.running("u-2").await), (0, 1));
    assert_eq!(world.get(id(&neighbour)).await["endReason"], Value::Null);
    let events = world.events("ev-sessions").await;
    let ends: Vec<&Value> = events.iter().filter(|event| event["eventType"] == "SESSION_ENDED").collect();
    assert_eq!(ends.len(), 3, "{ends:?}");
    for end in ends {
        assert_eq!((&end["reason"], &end["correlationId"]), (&json!("USER_BLOCKED"), &json!("block-1")));
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
    assert_eq!((network.running("u-1").await, network.sent_again().len()), (1, 0));
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
        assert_eq!(network.end_of(&before).await, interrupted());
        assert_eq!(world.get(id(&after)).await["endReason"], Value::Null);
    }
    assert_eq!((network.running("u-1").await, network.sent_again().len()), (1, 0), "no start is under way any more");
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
    assert_eq!(network.end_of(&session).await, interrupted());
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
    let http = FaultyHttp::default();
    let sdk = sdk_config(&network.world.dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
    let client = Client::new(&sdk);
    let charging = ChargingStore::new(client.clone(), "ev-stations", "ev-sessions");
    let users = UserStore::new(Db::new(client), "ev-users");
    let slow = Door::new(SessionService::new(charging, users, nobody(), no_inbox()), CLOCK);
    let start = json!({
        "action": "startSession", "actor": { "userId": "u-1", "role": "USER" }, "stationId": "s-1", "portId": "port-1",
        "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
    });
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
    let again = network.sent_again();
    assert_eq!((again.len(), &again[0]["QueueUrl"]), (1, &json!("http://queue")));
    let delay = again[0]["DelaySeconds"].as_i64().unwrap();
    set_now(at("10:00:05") + chrono::Duration::seconds(delay));
    let body = again[0]["MessageBody"].as_str().unwrap().to_owned();
    assert_eq!(network.deliver(&[body]).await, BTreeSet::new());
    assert_eq!(network.end_of(&session).await, interrupted());
    assert_eq!(network.sent_again().len(), 1, "the second look is the last one");
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
    assert_eq!(network.deliver(&[block.clone()]).await, BTreeSet::from(["m-0".to_owned()]));
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
    assert_eq!(network.end_of(&other).await, interrupted());
    assert_eq!(network.end_of(&stuck).await, (json!("STARTED"), Value::Null));
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
