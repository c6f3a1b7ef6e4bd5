//! A short story through the HTTP door of every function. What it asked and what was answered are the examples of the
//! document. Time and ids are fixed, so that the document changes only when the API does.

use std::cell::Cell;
use std::collections::BTreeMap;

use billing::Billing;
use charging_simulator::ChargingSimulator;
use domain::Instant;
use domain::geo::Location;
use domain::notifications::{Level, LogEntry, LogStatus};
use domain::poi::{Poi, PoiDetails, PoiSummary};
use domain::telemetry::Silence;
use health_check::HealthCheck;
use lambda_kit::{Clock, Door, Function, RemoteFunction};
use notification_service::{NotificationService, Topics};
use poi_service::PoiService;
use serde_json::{Value, json};
use session_service::SessionService;
use station_service::StationService;
use store::Archive;
use telemetry_api::TelemetryApi;
use telemetry_handler::TelemetryHandler;
use testkit::{
    EmbeddedDynamoDb, EmbeddedS3, NOWHERE, http_event, invoke, no_redelivery, reading, sdk_config, sqs_event,
};

thread_local! {
    static NOW: Cell<Instant> = const { Cell::new(Instant::MIN_UTC) };
}

const CLOCK: Clock = Clock(|| NOW.get());
const BUCKET: &str = "telemetry";

/// A request and its answer.
#[derive(Clone, Debug, Default)]
pub struct Example {
    pub parameters: BTreeMap<String, Value>,
    pub body: Option<Value>,
    pub status: u64,
    pub answer: Value,
}

impl Example {
    /// The value of a parameter of the path or the query.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.parameters.get(name)
    }
}

fn set_time(time: &str) {
    NOW.set(format!("2026-03-03T{time}Z").parse().expect("a time"));
}

/// Records what is asked and answered.
#[derive(Default)]
struct Recorder {
    examples: BTreeMap<String, Example>,
}

/// Who asks: a user's id and groups.
type Caller = (&'static str, &'static str);
const ADMIN: Caller = ("admin-1", "[ADMIN]");
const DRIVER: Caller = ("driver-1", "");

impl Recorder {
    /// Asks over HTTP as `caller`, and keeps it as the example of the operation `id`.
    async fn ask<F: Function>(
        &mut self,
        door: &Door<F>,
        (id, route, caller): (&str, &str, Caller),
        path: &[(&str, &str)],
        query: &[(&str, &str)],
        body: Value,
    ) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = invoke(door, http_event(route, path, query, caller.0, caller.1, &text)).await.expect("an answer");
        let status = answer["statusCode"].as_u64().expect("a status");
        assert!(status < 300, "{id}: {answer}");
        let answer: Value = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");
        let parameters = path.iter().chain(query).map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        let body = Some(body).filter(|body| !body.is_null());
        self.examples.insert(id.to_owned(), Example { parameters, body, status, answer: answer.clone() });
        answer
    }
}

/// A parameter as its schema types it.
fn value(text: &str) -> Value {
    text.parse::<f64>().ok().filter(|_| !text.contains(':')).map_or_else(
        || json!(text),
        |number| {
            if number.fract() == 0.0 { serde_json::from_str(text).unwrap_or(json!(number)) } else { json!(number) }
        },
    )
}

/// An example of every routed action, by the operation's id.
pub async fn record() -> BTreeMap<String, Example> {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let mut recorder = Recorder::default();
    charging(&mut recorder, &dynamodb).await;
    billing(&mut recorder, &dynamodb).await;
    error_logs(&mut recorder, &dynamodb).await;
    telemetry(&mut recorder, &dynamodb).await;
    pois(&mut recorder, &dynamodb).await;
    health(&mut recorder, &dynamodb).await;
    recorder.examples
}

async fn charging(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    set_time("10:00:00");
    let stations = Door::new(StationService::new(dynamodb.charging()), CLOCK);
    let create = json!({
        "stationId": "station-1", "name": "Main Square", "address": "Main Square 1, Berlin", "latitude": 52.5208,
        "longitude": 13.4095, "timeZone": "Europe/Berlin", "powerKw": 150, "pricePerKwh": "0.49", "currency": "EUR",
        "ports": [
            { "portId": "port-1", "portNumber": 1, "connectorType": "IEC_62196_T2_COMBO", "maxPowerKw": 150 },
            { "portId": "port-2", "portNumber": 2, "connectorType": "IEC_62196_T2_COMBO", "maxPowerKw": 150 }
        ]
    });
    let mut another = create.clone();
    another["stationId"] = json!("station-2");
    recorder.ask(&stations, ("createStation", "POST /stations", ADMIN), &[], &[], another).await;
    let station_2: &[(&str, &str)] = &[("stationId", "station-2")];
    let route = ("deleteStation", "DELETE /stations/{stationId}", ADMIN);
    recorder.ask(&stations, route, station_2, &[], Value::Null).await;
    recorder.ask(&stations, ("createStation", "POST /stations", ADMIN), &[], &[], create).await;
    let station: &[(&str, &str)] = &[("stationId", "station-1")];
    let route = ("updateStation", "PATCH /stations/{stationId}", ADMIN);
    recorder.ask(&stations, route, station, &[], json!({ "name": "Main Square North" })).await;
    let route = ("addPort", "POST /stations/{stationId}/ports", ADMIN);
    let port = json!({ "portId": "port-3", "portNumber": 3, "connectorType": "IEC_62196_T2", "maxPowerKw": 22 });
    recorder.ask(&stations, route, station, &[], port).await;
    let route = ("transitionStation", "POST /stations/{stationId}/transitions", ADMIN);
    recorder.ask(&stations, route, station, &[], json!({ "to": "ACTIVE" })).await;
    let near: &[(&str, &str)] = &[("latitude", "52.52"), ("longitude", "13.41"), ("radiusKm", "5")];
    recorder.ask(&stations, ("station_service.listStations", "GET /stations", DRIVER), &[], near, Value::Null).await;

    let billing = RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned());
    let sessions = Door::new(SessionService::new(dynamodb.charging(), dynamodb.users(), billing), CLOCK);
    let quote = json!({ "stationId": "station-1", "energyKwh": 30, "minutes": 24, "startAt": "2026-03-03T10:00:00Z" });
    recorder.ask(&sessions, ("quote", "POST /quotes", DRIVER), &[], &[], quote).await;
    let start = |port: &str, key: &str| {
        json!({
            "stationId": "station-1", "portId": port, "vehicle": { "batteryCapacityKwh": 60, "maxPowerKw": 100 },
            "chargePercent": 20, "targetPercent": 80, "limits": { "maxCost": "25.00" }, "idempotencyKey": key
        })
    };
    let route = ("startSession", "POST /sessions", DRIVER);
    recorder.ask(&sessions, route, &[], &[], start("port-2", "key-2")).await;
    let route = "POST /stations/{stationId}/ports/{portId}/transitions";
    let port_2: &[(&str, &str)] = &[("stationId", "station-1"), ("portId", "port-2")];
    let fail = json!({ "to": "ERROR", "reason": "the cable is damaged" });
    recorder.ask(&stations, ("failPort", route, ADMIN), port_2, &[], fail).await;
    recorder.ask(&stations, ("resetPort", route, ADMIN), port_2, &[], json!({ "to": "FREE" })).await;
    let session =
        recorder.ask(&sessions, ("startSession", "POST /sessions", DRIVER), &[], &[], start("port-1", "key-1")).await;
    let id = session["sessionId"].as_str().expect("an id").to_owned();
    set_time("10:06:00");
    let simulator = Door::new(ChargingSimulator::new(dynamodb.charging(), None, 1000), CLOCK);
    invoke(&simulator, json!({})).await.expect("a tick");
    let of_session: &[(&str, &str)] = &[("sessionId", &id)];
    let route = ("getSession", "GET /sessions/{sessionId}", DRIVER);
    recorder.ask(&sessions, route, of_session, &[], Value::Null).await;
    let running: &[(&str, &str)] = &[("status", "IN_PROGRESS"), ("limit", "10")];
    recorder.ask(&sessions, ("listSessions", "GET /sessions", DRIVER), &[], running, Value::Null).await;
    let route = ("station_service.getStation", "GET /stations/{stationId}", DRIVER);
    recorder.ask(&stations, route, station, &[], Value::Null).await;
    set_time("10:12:30");
    let route = ("stopSession", "PATCH /sessions/{sessionId}/stop", DRIVER);
    recorder.ask(&sessions, route, of_session, &[], Value::Null).await;
}

/// The `SESSION_ENDED` events of billable sessions, as a rule of the bus puts them into billing's queue.
async fn ends(dynamodb: &EmbeddedDynamoDb) -> Vec<String> {
    let items = dynamodb.items("ev-sessions").await;
    let outboxes = items.iter().filter_map(|item| item.get("outbox").and_then(|outbox| outbox.as_s().ok()));
    let events = outboxes.flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).expect("events"));
    let ended = events.filter(|event| event["eventType"] == "SESSION_ENDED" && event["status"] != "FAILED");
    ended.map(|event| json!({ "detail-type": "SESSION_ENDED", "detail": event }).to_string()).collect()
}

async fn billing(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let billing = Billing::new(dynamodb.billing(), "EUR".parse().expect("a currency"), no_redelivery());
    let billing = Door::new(billing, CLOCK);
    invoke(&billing, sqs_event(&ends(dynamodb).await)).await.expect("a worked batch");
    set_time("10:15:00");
    let top_up = json!({ "userId": "driver-1", "amount": "50.00", "currency": "EUR", "idempotencyKey": "receipt-1" });
    recorder.ask(&billing, ("topUpWallet", "POST /wallet/top-ups", ADMIN), &[], &[], top_up).await;
    let open: &[(&str, &str)] = &[("status", "PAID")];
    let list = recorder.ask(&billing, ("listInvoices", "GET /invoices", DRIVER), &[], open, Value::Null).await;
    let id = list["items"][0]["invoiceId"].as_str().expect("an invoice").to_owned();
    let invoice: &[(&str, &str)] = &[("invoiceId", &id)];
    let route = ("payInvoice", "POST /invoices/{invoiceId}/payments", DRIVER);
    recorder.ask(&billing, route, invoice, &[], Value::Null).await;
    let route = ("createCreditNote", "POST /invoices/{invoiceId}/credit-notes", ADMIN);
    let credit = json!({
        "reason": "the display was broken", "lines": [{ "line": 1, "netAmount": "1.00" }], "idempotencyKey": "credit-1"
    });
    recorder.ask(&billing, route, invoice, &[], credit).await;
    let route = ("getInvoice", "GET /invoices/{invoiceId}", DRIVER);
    recorder.ask(&billing, route, invoice, &[], Value::Null).await;
    recorder.ask(&billing, ("getWallet", "GET /wallet", DRIVER), &[], &[], Value::Null).await;
    let page: &[(&str, &str)] = &[("limit", "3")];
    recorder.ask(&billing, ("listLedger", "GET /wallet/ledger", DRIVER), &[], page, Value::Null).await;
}

async fn error_logs(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let sns = aws_sdk_sns::Client::new(&sdk_config(NOWHERE));
    let topics = Topics::new(sns, "operators".to_owned(), "users".to_owned());
    let logs = Door::new(NotificationService::new(dynamodb.error_logs(), topics, no_redelivery()), CLOCK);
    let id = "5f0c3b8e-54a6-5d0e-9a44-0c1f7f4f5b11";
    let entry = LogEntry {
        id: id.parse().map(|id: uuid::Uuid| id.into()).expect("an id"),
        occurred_at: NOW.get(),
        level: Level::Error,
        service: "station_service".to_owned(),
        message: "Port port-2 of station station-1 failed: the cable is damaged".to_owned(),
        status: LogStatus::Open,
        correlation_id: Some("correlation-1".to_owned()),
        handled_by: None,
        handled_at: None,
        published: true,
        version: 1,
    };
    dynamodb.error_logs().insert(&entry, NOW.get()).await.expect("a written entry");
    let open: &[(&str, &str)] = &[("status", "OPEN")];
    recorder.ask(&logs, ("listLogs", "GET /error-logs", ADMIN), &[], open, Value::Null).await;
    let route = "POST /error-logs/{id}/transitions";
    let of_entry: &[(&str, &str)] = &[("id", id)];
    let to = |state: &str| json!({ "to": state });
    recorder.ask(&logs, ("acknowledgeLog", route, ADMIN), of_entry, &[], to("ACKNOWLEDGED")).await;
    recorder.ask(&logs, ("resolveLog", route, ADMIN), of_entry, &[], to("RESOLVED")).await;
}

async fn telemetry(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let s3 = EmbeddedS3::start(BUCKET).await;
    let archive = || Archive::new(s3.client(), BUCKET);
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive(), no_redelivery(), 10);
    let handler = Door::new(handler, CLOCK);
    invoke(&handler, reading("swap-1", NOW.get(), 12)).await.expect("a taken message");
    let silence = Silence::of_interval(std::time::Duration::from_mins(1));
    let api = Door::new(TelemetryApi::new(dynamodb.telemetry(), archive(), silence), CLOCK);
    let route = ("telemetry_api.listStations", "GET /telemetry/stations", DRIVER);
    recorder.ask(&api, route, &[], &[], Value::Null).await;
    let station: &[(&str, &str)] = &[("stationId", "swap-1")];
    let route = ("telemetry_api.getStation", "GET /telemetry/stations/{stationId}", DRIVER);
    recorder.ask(&api, route, station, &[], Value::Null).await;
    let route = ("getHistory", "GET /telemetry/stations/{stationId}/history", DRIVER);
    recorder.ask(&api, route, station, &[("date", "2026-03-03")], Value::Null).await;
}

async fn pois(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let summary = PoiSummary {
        ocm_id: 123_456,
        title: Some("Museum Garage".to_owned()),
        address: Some("Museum Street 3".to_owned()),
        town: Some("Berlin".to_owned()),
        postcode: Some("10117".to_owned()),
        country_id: Some(87),
        location: Some(Location::new(52.5192, 13.3989).expect("a place")),
        operator_id: Some(3),
        usage_type_id: Some(1),
        status_type_id: Some(50),
        number_of_points: Some(2),
        max_power_kw: Some(50.0),
        connection_type_ids: vec![33],
        data_provider_id: Some(1),
    };
    let store = dynamodb.pois();
    store.put(&Poi { summary, details: PoiDetails::default() }).await.expect("a written POI");
    let provider = json!({ "id": 1, "title": "Open Charge Map Contributors", "license": "CC BY 4.0" });
    store.put_reference("DataProviders", &[provider]).await.expect("written reference data");
    let pois = Door::new(PoiService::new(dynamodb.pois()), CLOCK);
    let near: &[(&str, &str)] =
        &[("latitude", "52.52"), ("longitude", "13.41"), ("radiusKm", "2"), ("minPowerKw", "50")];
    recorder.ask(&pois, ("findPois", "GET /pois", DRIVER), &[], near, Value::Null).await;
    recorder.ask(&pois, ("getPoi", "GET /pois/{ocmId}", DRIVER), &[("ocmId", "123456")], &[], Value::Null).await;
    let route = ("getReferenceData", "GET /pois/reference-data/{kind}", DRIVER);
    recorder.ask(&pois, route, &[("kind", "DataProviders")], &[], Value::Null).await;
}

async fn health(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let bus = aws_sdk_eventbridge::Client::new(&sdk_config(NOWHERE));
    let health = HealthCheck::new(vec!["ev-stations".to_owned()], None, dynamodb.client(), bus);
    let health = Door::new(health, CLOCK);
    recorder.ask(&health, ("health", "GET /health", ("", "")), &[], &[], Value::Null).await;
    // The one figure that is measured.
    let example = recorder.examples.get_mut("health").expect("it was asked");
    example.answer["tables"][0]["latencyMs"] = json!(1.5);
}
