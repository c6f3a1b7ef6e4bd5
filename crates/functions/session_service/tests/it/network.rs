//! `session_service` with its inbox and with faults of the users table, beside the charging context.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use lambda_kit::{Door, RemoteFunction};
use serde_json::{Value, json};
use session_service::{Inbox, SessionService};
use store::{ChargingStore, Client, Db, UserStore};
use testkit::{EmbeddedDynamoDb, FakeAws, Fault, FaultyHttp, NOWHERE, Outcome, invoke, sdk_config, sqs_event};

use crate::common::{CLOCK, World, admin, id, no_inbox};

pub fn at(time: &str) -> Instant {
    format!("2026-03-03T{time}Z").parse().unwrap()
}

fn nobody() -> RemoteFunction {
    RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned())
}

fn faulty_client(dynamodb: &EmbeddedDynamoDb) -> (FaultyHttp, Client) {
    let http = FaultyHttp::default();
    let sdk = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
    (http, Client::new(&sdk))
}

/// Builds the message that the rule of the event bus sends for an event.
pub fn message(event: &Value) -> String {
    let mut detail = json!({
        "eventId": "0198f3a0-0000-7000-8000-000000000000", "schemaVersion": 1, "occurredAt": "2026-03-03T10:00:00Z",
        "correlationId": "cause-1"
    });
    detail.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
    json!({
        "version": "0", "id": "b", "detail-type": event["eventType"], "source": "evoke.accounts",
        "account": "123456789012", "time": "2026-03-03T10:00:00Z", "region": "eu-central-1", "resources": [],
        "detail": detail
    })
    .to_string()
}

pub fn blocked(user: &str, at: Instant, end_sessions: bool) -> String {
    message(&json!({ "eventType": "USER_BLOCKED", "userId": user, "blockedAt": at, "endSessions": end_sessions }))
}

pub fn deleted(user: &str, at: Instant) -> String {
    message(&json!({ "eventType": "USER_DELETED", "userId": user, "deletedAt": at }))
}

/// Returns the status and the reason of a session that was interrupted for `reason`.
pub fn interrupted(reason: &str) -> (Value, Value) {
    (json!("INTERRUPTED"), json!(reason))
}

/// Returns the status and the reason of a session that nothing has ended or advanced.
pub fn started() -> (Value, Value) {
    (json!("STARTED"), Value::Null)
}

/// Builds the request of a user to start a session.
pub fn start_of(user: &str, station: &str, port: &str) -> Value {
    json!({
        "action": "startSession", "actor": { "userId": user, "role": "USER" }, "stationId": station, "portId": port,
        "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
    })
}

/// The charging context, and a `session_service` that has an inbox and remembers users.
pub struct Network {
    pub world: World,
    pub sessions: Door<SessionService>,
    sqs: FakeAws,
    /// The faults of the users table. Only `sessions` sees them.
    pub users: FaultyHttp,
}

impl Network {
    pub async fn new() -> Self {
        Self::with_queue(200).await
    }

    /// Creates the network with a queue that answers messages with this status.
    pub async fn with_queue(status: u16) -> Self {
        let world = World::new().await;
        let sqs = FakeAws::start(move |call, _| match call.target.as_str() {
            "AmazonSQS.SendMessage" => (status, json!({ "MessageId": "m" }).to_string()),
            _ => (200, "{}".to_owned()),
        })
        .await;
        let inbox = Inbox::new(&sdk_config(&sqs.endpoint()), "http://queue".to_owned());
        let (users, client) = faulty_client(&world.dynamodb);
        let store = UserStore::new(Db::new(client), "ev-users");
        let sessions = SessionService::new(world.dynamodb.charging(), store, nobody(), inbox);
        Self { sessions: Door::new(sessions, CLOCK), world, sqs, users }
    }

    /// Returns a `session_service` on whose calls faults can happen, with the object that plans them.
    pub fn faulty(&self) -> (FaultyHttp, Door<SessionService>) {
        let (http, client) = faulty_client(&self.world.dynamodb);
        let charging = ChargingStore::new(client.clone(), "ev-stations", "ev-sessions");
        let users = UserStore::new(Db::new(client), "ev-users");
        (http, Door::new(SessionService::new(charging, users, nobody(), no_inbox()), CLOCK))
    }

    /// Makes the users table refuse every call of `sessions`, until [`Self::users_up`].
    pub fn users_down(&self) {
        self.users.plan((0..10_000).map(|call| (call, Fault::Throttle)).collect());
    }

    /// Ends all faults of the users table.
    pub fn users_up(&self) {
        self.users.plan([].into());
    }

    /// Starts a session with the service that has the inbox and remembers users.
    pub async fn start(&self, user: &str, station: &str, port: &str, more: Value) -> Outcome {
        let mut command = start_of(user, station, port);
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        invoke(&self.sessions, command).await
    }

    /// Delivers messages as the queue does. Returns the ids of those that are reported as failed.
    pub async fn deliver(&self, bodies: &[String]) -> BTreeSet<String> {
        let answer = invoke(&self.sessions, sqs_event(bodies)).await.unwrap();
        let failed = answer["batchItemFailures"].as_array().unwrap().iter();
        failed.map(|item| item["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the messages that were sent to the queue.
    pub fn sent(&self) -> Vec<Value> {
        let calls = self.sqs.calls().into_iter().filter(|call| call.target == "AmazonSQS.SendMessage");
        calls.map(|call| serde_json::from_str(&call.body).unwrap()).collect()
    }

    pub async fn set_blocked(&self, user: &str, blocked: bool) {
        self.put_user(user, "blocked", AttributeValue::Bool(blocked)).await;
    }

    pub async fn set_status(&self, user: &str, status: &str) {
        self.put_user(user, "status", AttributeValue::S(status.to_owned())).await;
    }

    async fn put_user(&self, user: &str, attribute: &str, value: AttributeValue) {
        let put = self.world.dynamodb.client().put_item().table_name("ev-users");
        let put = put.item("PK", AttributeValue::S(format!("USER#{user}")));
        let put = put.item("SK", AttributeValue::S("METADATA".to_owned()));
        put.item(attribute, value).send().await.unwrap();
    }

    /// Returns how many sessions of a user are running.
    pub async fn running(&self, user: &str) -> usize {
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
    pub async fn end_of(&self, session: &Value) -> (Value, Value) {
        let session = self.world.get(id(session)).await;
        (session["status"].clone(), session["endReason"].clone())
    }
}
