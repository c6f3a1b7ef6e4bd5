//! Stations and sessions in one embedded `DynamoDB`, for use with several simulators.

use std::collections::BTreeMap;

use charging_simulator::ChargingSimulator;
use domain::Instant;
use lambda_kit::{Clock, Context, Door, RemoteFunction};
use serde_json::{Value, json};
use session_service::{Inbox, SessionService};
use station_service::StationService;
use testkit::{EmbeddedDynamoDb, NOWHERE, invoke, sdk_config};

pub struct World {
    pub dynamodb: EmbeddedDynamoDb,
    stations: Door<StationService>,
    sessions: Door<SessionService>,
}

impl World {
    pub async fn new() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        // No session is prepaid here, so billing is never called.
        let peer = RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned());
        let inbox = Inbox::new(&sdk_config(NOWHERE), "inbox".to_owned());
        let sessions = SessionService::new(dynamodb.charging(), dynamodb.users(), peer, inbox);
        Self {
            stations: Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM),
            sessions: Door::new(sessions, Clock::SYSTEM),
            dynamodb,
        }
    }

    /// Creates an ACTIVE station of 100 kW with this number of sessions. The batteries take all day to charge.
    pub async fn station(&self, id: &str, sessions: u32) {
        self.station_with(id, sessions, sessions).await;
    }

    /// Creates an ACTIVE station of 100 kW with this number of ports, of which the first ones have sessions.
    pub async fn station_with(&self, id: &str, ports: u32, sessions: u32) {
        let admin = json!({ "userId": "admin", "role": "ADMIN" });
        let ports: Vec<Value> = (1..=ports)
            .map(|number| json!({ "portNumber": number, "connectorType": "CCS2", "maxPowerKw": 100 }))
            .collect();
        let create = json!({
            "action": "createStation", "actor": admin, "stationId": id, "name": "Test", "address": "Road 1",
            "latitude": 52.5, "longitude": 13.4, "powerKw": 100, "pricePerKwh": "0.49", "currency": "EUR", "ports": ports
        });
        invoke(&self.stations, create).await.unwrap();
        let commission = json!({ "action": "transitionStation", "actor": admin, "stationId": id, "to": "ACTIVE" });
        invoke(&self.stations, commission).await.unwrap();
        for port in 1..=sessions {
            self.start(id, port, json!({})).await;
        }
    }

    /// Starts a session at port `port` of a station.
    pub async fn start(&self, station: &str, port: u32, more: Value) {
        let mut start = json!({
            "action": "startSession", "actor": { "userId": "u-1", "role": "USER" }, "stationId": station,
            "portId": format!("port-{port}"), "vehicle": { "batteryCapacityKwh": 1000 }, "chargePercent": 5
        });
        start.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        invoke(&self.sessions, start).await.unwrap();
    }

    /// Returns for each session its station, the time up to which it is metered, and its energy (Wh).
    pub async fn metered(&self) -> BTreeMap<String, (String, Instant, u64)> {
        let mut metered = BTreeMap::new();
        for item in self.dynamodb.items("ev-sessions").await {
            let text = |name: &str| item[name].as_s().unwrap().clone();
            if text("SK") != "METADATA" {
                continue;
            }
            // Each reading is `ms:Wh:W`. The last one is the register; before the first tick there is none.
            let meter = text("meter");
            let register = meter.split(' ').next_back().and_then(|reading| reading.split(':').nth(1));
            let register = register.map_or(0, |register| register.parse().unwrap());
            metered.insert(text("PK"), (text("stationId"), text("meteredAt").parse().unwrap(), register));
        }
        metered
    }

    /// Returns the latest start of a session, from which minutes are counted.
    pub async fn started(&self) -> Instant {
        self.metered().await.into_values().map(|(_, at, _)| at).max().unwrap()
    }
}

/// Returns the context of an invocation at `now` that Lambda aborts `seconds` later.
pub fn context(now: Instant, seconds: i64) -> Context {
    Context {
        now,
        deadline: now + chrono::TimeDelta::seconds(seconds),
        correlation_id: "test".to_owned(),
        request_id: "test".to_owned(),
    }
}

pub fn door(simulator: ChargingSimulator) -> Door<ChargingSimulator> {
    Door::new(simulator, Clock::SYSTEM)
}
