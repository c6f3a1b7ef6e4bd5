//! The charging context in one process: stations, sessions and the simulator with one embedded `DynamoDB`.

use std::cell::Cell;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use billing::Billing;
use charging_simulator::ChargingSimulator;
use domain::Instant;
use lambda_kit::{Clock, Door, RemoteFunction};
use serde_json::{Value, json};
use session_service::{Inbox, SessionService};
use station_service::StationService;
use store::ChargingStore;
use testkit::{EmbeddedDynamoDb, FakeLambda, NOWHERE, Outcome, invoke, no_redelivery, sdk_config};

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The clock of this thread: the system clock, until a test sets the time with [`set_now`].
pub const CLOCK: Clock = Clock(|| NOW.get().unwrap_or_else(Clock::SYSTEM.0));

/// Sets the time for everything that this thread invokes.
pub fn set_now(now: Instant) {
    NOW.set(Some(now));
}

pub struct World {
    pub dynamodb: EmbeddedDynamoDb,
    pub billing: Arc<Door<Billing>>,
    _lambda: FakeLambda,
    pub stations: Door<StationService>,
    pub sessions: Door<SessionService>,
    pub simulator: Door<ChargingSimulator>,
    /// The store of `sessions`, whose capacity is counted.
    pub session_store: ChargingStore,
    /// The store of `simulator`.
    pub simulator_store: ChargingStore,
}

impl World {
    pub async fn new() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let (session_store, simulator_store) = (dynamodb.charging(), dynamodb.charging());
        let billing = Billing::new(dynamodb.billing(), dynamodb.users(), "EUR".parse().unwrap(), no_redelivery());
        let billing = Arc::new(Door::new(billing, CLOCK));
        let lambda = FakeLambda::start(billing.clone()).await;
        let peer = RemoteFunction::new(&sdk_config(&lambda.endpoint()), "billing".to_owned());
        let sessions = SessionService::new(session_store.clone(), dynamodb.users(), peer, no_inbox());
        Self {
            billing,
            _lambda: lambda,
            stations: Door::new(StationService::new(dynamodb.charging()), CLOCK),
            sessions: Door::new(sessions, CLOCK),
            simulator: Door::new(ChargingSimulator::new(simulator_store.clone(), None, 100_000), CLOCK),
            session_store,
            simulator_store,
            dynamodb,
        }
    }

    /// Creates an ACTIVE station of 100 kW with this number of ports of 100 kW, starting with `port-1`.
    pub async fn station(&self, id: &str, ports: u32) {
        let ports: Vec<Value> = (1..=ports)
            .map(|number| json!({ "portNumber": number, "connectorType": "CCS2", "maxPowerKw": 100 }))
            .collect();
        let created = invoke(
            &self.stations,
            json!({
                "action": "createStation", "actor": admin(), "stationId": id, "name": "Test", "address": "Road 1",
                "latitude": 52.5, "longitude": 13.4, "timeZone": "Europe/Berlin", "powerKw": 100,
                "pricePerKwh": "0.49", "currency": "EUR", "ports": ports
            }),
        );
        created.await.unwrap();
        self.transition(id, "ACTIVE").await.unwrap();
    }

    pub async fn transition(&self, station: &str, to: &str) -> Outcome {
        let command = json!({ "action": "transitionStation", "actor": admin(), "stationId": station, "to": to });
        invoke(&self.stations, command).await
    }

    pub async fn get_station(&self, id: &str) -> Value {
        invoke(&self.stations, json!({ "action": "getStation", "stationId": id })).await.unwrap()
    }

    pub async fn start(&self, station: &str, port: &str, user: &str, more: Value) -> Outcome {
        let mut command = json!({
            "action": "startSession", "actor": { "userId": user, "role": "USER" }, "stationId": station,
            "portId": port, "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
        });
        command.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        invoke(&self.sessions, command).await
    }

    pub async fn stop(&self, session: &str, user: &str) -> Outcome {
        let actor = json!({ "userId": user, "role": "USER" });
        invoke(&self.sessions, json!({ "action": "stopSession", "actor": actor, "sessionId": session })).await
    }

    pub async fn get(&self, session: &str) -> Value {
        let command = json!({ "action": "getSession", "actor": admin(), "sessionId": session });
        invoke(&self.sessions, command).await.unwrap()
    }

    pub async fn tick(&self, at: Instant) -> Outcome {
        invoke(&self.simulator, json!({ "tickAt": at })).await
    }

    /// Makes the terms of a session unreadable.
    pub async fn damage_terms(&self, session: &str) {
        self.damage(session, "DETAILS", "tariff").await;
    }

    /// Makes a session itself unreadable.
    pub async fn damage_session(&self, session: &str) {
        self.damage(session, "METADATA", "meter").await;
    }

    async fn damage(&self, session: &str, item: &str, attribute: &str) {
        let update = self.dynamodb.client().update_item().table_name("ev-sessions");
        let update = update.key("PK", AttributeValue::S(format!("SESSION#{session}")));
        let update = update.key("SK", AttributeValue::S(item.to_owned()));
        let update = update.update_expression("SET #a = :none").expression_attribute_names("#a", attribute);
        update.expression_attribute_values(":none", AttributeValue::S("none".to_owned())).send().await.unwrap();
    }

    /// Returns the events in the outboxes of a table.
    pub async fn events(&self, table: &str) -> Vec<Value> {
        let items = self.dynamodb.items(table).await;
        items
            .iter()
            .filter_map(|item| item.get("outbox").and_then(|outbox| outbox.as_s().ok()))
            .flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).unwrap())
            .collect()
    }
}

/// An inbox that cannot be reached.
pub fn no_inbox() -> Inbox {
    Inbox::new(&sdk_config(NOWHERE), "inbox".to_owned())
}

pub fn admin() -> Value {
    json!({ "userId": "admin", "role": "ADMIN" })
}

pub fn minutes_after(session: &Value, minutes: i64) -> Instant {
    let started: Instant = session["startedAt"].as_str().unwrap().parse().unwrap();
    started + chrono::Duration::minutes(minutes)
}

pub fn id(session: &Value) -> &str {
    session["sessionId"].as_str().unwrap()
}

/// Returns the type of an error. Panics if the outcome is not an error.
pub fn error_type(outcome: &Outcome) -> &str {
    match outcome {
        Err((kind, _)) => kind,
        Ok(answer) => panic!("not refused: {answer}"),
    }
}
