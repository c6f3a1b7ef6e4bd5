//! Sends invalid input of every kind to every action of every function. The answer must be a `ValidationError` that
//! names the fields; nothing may be written, nothing may panic, and the answer may contain nothing internal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use billing::Billing;
use billing_audit::BillingAudit;
use charging_simulator::ChargingSimulator;
use dlq_reconciler::{DeadLetterQueues, DlqReconciler, Quarantine};
use domain::telemetry::Silence;
use event_relay::EventRelay;
use health_check::HealthCheck;
use lambda_kit::{Clock, Door, Function, RemoteFunction};
use notification_service::{NotificationService, Topics};
use ocm_sync::{ApiKey, OcmSync, Source};
use poi_service::PoiService;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use session_service::SessionService;
use station_service::StationService;
use telemetry_api::TelemetryApi;
use telemetry_handler::TelemetryHandler;
use telemetry_monitor::TelemetryMonitor;
use testkit::{
    EmbeddedDynamoDb, FakeAws, NOWHERE, Outcome, http_event, invoke, invoke_raw, no_redelivery, sdk_config, sqs_event,
    tables,
};

/// The values that a field accepts, which determine the values that it must refuse.
#[derive(Clone, Copy)]
enum Kind {
    Id,
    /// A text with at most this many characters.
    Text(usize),
    /// A number in this range.
    Number(f64, f64),
    Integer(i64, i64),
    /// A name of an enumeration.
    Enum,
    Time,
    Object,
    Array,
    Decimal,
}

use Kind::{Array, Decimal, Enum, Id, Integer, Number, Object, Text, Time};

impl Kind {
    /// Returns values of the wrong type, out of range, too long or unknown.
    fn wrong(self) -> Vec<Value> {
        let long = |n: usize| Value::String("x".repeat(n));
        match self {
            Id => {
                vec![json!(1), json!([]), json!(""), json!("a#b"), json!("a b"), json!("\u{0}"), json!("ß"), long(49)]
            }
            Text(most) => vec![json!(1), json!({}), json!(""), long(most + 1)],
            Number(low, high) => {
                let mut wrong = vec![json!("1"), json!(true), json!(low - 1.0), json!(high + 1.0), json!(1e300)];
                if low > 0.0 {
                    wrong.extend([json!(0), json!(1e-200), json!(low / 2.0)]);
                }
                wrong
            }
            Integer(low, high) => vec![json!("1"), json!(1.5), json!(low - 1), json!(high + 1), json!(1e300)],
            Enum => vec![json!(1), json!("BANANA"), json!(""), long(100_000)],
            Time => vec![json!(1), json!("yesterday"), json!("2026-02-30T00:00:00Z"), json!("")],
            Object => vec![json!(1), json!("x"), json!([])],
            Array => vec![json!(1), json!("x"), json!({})],
            Decimal => vec![json!("abc"), json!("-1"), json!(-1), json!(""), json!("1e5"), json!("NaN"), long(100)],
        }
    }
}

/// An action, its fields (name, required, kind), and a valid request.
struct Case(&'static str, &'static [(&'static str, bool, Kind)], Value);

fn station_cases() -> Vec<Case> {
    let port = json!({ "stationId": "none", "portId": "none" });
    vec![
        Case(
            "createStation",
            &[
                ("timeZone", false, Text(64)),
                ("currency", false, Enum),
                ("stationId", false, Id),
                ("name", true, Text(200)),
                ("address", true, Text(500)),
                ("latitude", true, Number(-90.0, 90.0)),
                ("longitude", true, Number(-180.0, 180.0)),
                ("powerKw", true, Number(0.001, 5000.0)),
                ("tariff", false, Object),
                ("pricePerKwh", false, Decimal),
                ("chargingModel", false, Object),
                ("chargingModel.points[0].percent", true, Number(0.0, 100.0)),
                ("chargingModel.points[0].powerKw", true, Number(0.001, 5000.0)),
                ("ports", false, Array),
                ("ports[0].portId", false, Id),
                ("ports[0].portNumber", true, Integer(1, 9999)),
                ("ports[0].connectorType", true, Enum),
                ("ports[0].maxPowerKw", true, Number(0.001, 5000.0)),
            ],
            json!({
                "name": "N", "address": "A", "latitude": 1, "longitude": 1, "powerKw": 50, "pricePerKwh": "0.5",
                "currency": "EUR", "ports": [{ "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 50 }],
                "chargingModel": { "type": "MEASURED_CURVE", "points": [{ "percent": 10, "powerKw": 50 }] }
            }),
        ),
        Case("getStation", &[("stationId", true, Id)], port.clone()),
        Case(
            "listStations",
            &[
                ("status", false, Enum),
                ("latitude", false, Number(-90.0, 90.0)),
                ("longitude", false, Number(-180.0, 180.0)),
                ("radiusKm", false, Number(0.0, 100.0)),
                ("limit", false, Integer(1, 100)),
                ("nextToken", false, Text(2048)),
            ],
            json!({ "latitude": 1, "longitude": 1, "radiusKm": 1 }),
        ),
        Case(
            "updateStation",
            &[
                ("address", false, Text(500)),
                ("timeZone", false, Text(64)),
                ("currency", false, Enum),
                ("stationId", true, Id),
                ("name", false, Text(200)),
                ("latitude", false, Number(-90.0, 90.0)),
                ("longitude", false, Number(-180.0, 180.0)),
                ("powerKw", false, Number(0.001, 5000.0)),
                ("tariff", false, Object),
                ("pricePerKwh", false, Decimal),
                ("chargingModel", false, Object),
            ],
            port.clone(),
        ),
        Case("deleteStation", &[("stationId", true, Id)], port.clone()),
        Case(
            "transitionStation",
            &[("stationId", true, Id), ("to", true, Enum)],
            json!({ "stationId": "none", "to": "ACTIVE" }),
        ),
        Case(
            "addPort",
            &[
                ("portId", false, Id),
                ("stationId", true, Id),
                ("portNumber", true, Integer(1, 9999)),
                ("connectorType", true, Enum),
                ("maxPowerKw", true, Number(0.001, 5000.0)),
            ],
            json!({ "stationId": "none", "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 50 }),
        ),
        Case("removePort", &[("stationId", true, Id), ("portId", true, Id)], port.clone()),
        Case("failPort", &[("stationId", true, Id), ("portId", true, Id), ("reason", false, Text(500))], port.clone()),
        Case("resetPort", &[("stationId", true, Id), ("portId", true, Id)], port),
    ]
}

fn session_cases() -> Vec<Case> {
    let session = json!({ "sessionId": "none" });
    vec![
        Case(
            "startSession",
            &[
                ("stationId", true, Id),
                ("portId", true, Id),
                ("userId", false, Id),
                ("vehicle", true, Object),
                ("vehicle.batteryCapacityKwh", true, Number(0.001, 2000.0)),
                ("vehicle.maxPowerKw", false, Number(0.001, 5000.0)),
                ("chargePercent", true, Number(0.0, 100.0)),
                ("targetPercent", false, Number(0.0, 100.0)),
                ("limits", false, Object),
                ("limits.maxCost", false, Decimal),
                ("limits.maxEnergyKwh", false, Number(0.001, 2000.0)),
                ("idempotencyKey", false, Text(255)),
            ],
            json!({
                "stationId": "none", "portId": "none", "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20,
                "limits": { "maxCost": "10" }
            }),
        ),
        Case("stopSession", &[("sessionId", true, Id)], session.clone()),
        Case("failSession", &[("sessionId", true, Id), ("reason", false, Text(500))], session.clone()),
        Case("republishEnd", &[("sessionId", true, Id)], session.clone()),
        Case("getSession", &[("sessionId", true, Id)], session),
        Case(
            "listSessions",
            &[
                ("nextToken", false, Text(2048)),
                ("userId", false, Id),
                ("stationId", false, Id),
                ("status", false, Enum),
                ("changedFrom", false, Time),
                ("changedTo", false, Time),
                ("limit", false, Integer(1, 100)),
            ],
            json!({ "userId": "u-1" }),
        ),
        Case(
            "quote",
            &[
                ("stationId", true, Id),
                ("energyKwh", true, Number(0.0, 2000.0)),
                ("minutes", true, Number(0.0, 44640.0)),
                ("startAt", false, Time),
            ],
            json!({ "stationId": "none", "energyKwh": 1, "minutes": 1 }),
        ),
    ]
}

fn notification_cases() -> Vec<Case> {
    vec![
        Case(
            "notify",
            &[
                ("userId", false, Id),
                ("level", true, Enum),
                ("service", true, Text(64)),
                ("message", true, Text(2000)),
                ("audience", false, Enum),
                ("deduplicationKey", false, Text(255)),
            ],
            json!({ "level": "ERROR", "service": "test", "message": "m" }),
        ),
        Case(
            "listLogs",
            &[
                ("nextToken", false, Text(2048)),
                ("level", false, Enum),
                ("service", false, Text(64)),
                ("status", false, Enum),
                ("limit", false, Integer(1, 100)),
            ],
            json!({ "status": "OPEN" }),
        ),
        Case("acknowledgeLog", &[("id", true, Id)], json!({ "id": "none" })),
        Case("resolveLog", &[("id", true, Id)], json!({ "id": "none" })),
    ]
}

fn simulator_cases() -> Vec<Case> {
    let fields: &[_] = &[("tickAt", false, Time), ("stationIds", false, Array), ("shard", false, Integer(0, 1023))];
    vec![Case("tick", fields, json!({ "tickAt": "2026-01-01T00:00:00Z" }))]
}

/// Reads that anyone may do, and actions that only IAM protects.
const WITHOUT_ACTOR: [&str; 8] =
    ["getStation", "listStations", "quote", "tick", "getHistory", "findPois", "getPoi", "getReferenceData"];

/// Sets or removes a field such as `ports[0].maxPowerKw`.
fn edit(request: &mut Value, field: &str, value: Option<Value>) {
    let pointer = format!("/{}", field.replace("[0].", "/0/").replace('.', "/"));
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = request.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
}

fn assert_refused(outcome: &Outcome, field: &str, what: &str) {
    let Err((kind, message)) = outcome else { panic!("{what} was taken: {outcome:?}") };
    assert_eq!(kind, "ValidationError", "{what}: {message}");
    assert!(message.contains(field), "{what} does not name {field}: {message}");
    assert!(message.len() < 4000, "{what}: {} characters", message.len());
    for internal in ["panicked", "ev-stations", "ev-sessions", "aws", "src/", "127.0.0.1", "xxxxxxxxxx"] {
        assert!(!message.contains(internal), "{what} tells {internal}: {message}");
    }
}

/// Returns payloads that are not JSON, not UTF-8, not an object, nested too deeply, or contain numbers that JSON does
/// not have.
fn malformed() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "{",
        "[1]",
        "1",
        "\"text\"",
        "{\"powerKw\": NaN}",
        "{\"powerKw\": -Infinity}",
        "{'a': 1}",
        "{\"powerKw\": 1e999}",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(b"{\"name\": \"\xff\xfe\"}".to_vec());
    all.push(format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes());
    all.push(format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000)).into_bytes());
    all
}

/// Every action of the function has a case, and every argument of the action is a field of that case.
fn assert_complete<F: Function>(cases: &[Case]) {
    let mut missing = Vec::new();
    for operation in F::ACTIONS.iter().map(|action| action.operation) {
        let fields: Vec<&str> = cases
            .iter()
            .filter(|case| case.0 == operation.name)
            .flat_map(|Case(_, fields, _)| fields.iter().map(|(field, ..)| *field))
            .collect();
        if fields.is_empty() {
            missing.push(operation.name.to_owned());
        }
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let schema = (operation.arguments)(&mut generator).to_value();
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let schema = name.map_or(schema.clone(), |name| generator.definitions()[name].clone());
        let arguments = schema["properties"].as_object().cloned().unwrap_or_default();
        let tried = |argument: &str| fields.iter().any(|field| field.split(['.', '[']).next() == Some(argument));
        missing.extend(arguments.keys().filter(|name| !tried(name)).map(|name| format!("{}.{name}", operation.name)));
    }
    assert!(missing.is_empty(), "{} has no bad input for {missing:?}", F::NAME);
}

/// Sends all invalid requests. Returns the number of refused requests.
async fn attack<F: Function>(door: &Door<F>, cases: Vec<Case>, dynamodb: &EmbeddedDynamoDb) -> usize {
    assert_complete::<F>(&cases);
    let mut tried = 0;
    for Case(action, fields, arguments) in cases {
        let mut valid = arguments;
        valid["action"] = json!(action);
        valid["actor"] = json!({ "userId": "a", "role": "ADMIN" });
        for (field, required, kind) in fields {
            let removed = required.then_some(None);
            for wrong in kind.wrong().into_iter().map(Some).chain(removed) {
                let what: String = format!("{action} with {field} = {wrong:?}").chars().take(120).collect();
                let mut request = valid.clone();
                edit(&mut request, field, wrong);
                assert_refused(&invoke(door, request).await, field, &what);
                tried += 1;
            }
        }
        // With all fields invalid at once, all of them are named and not just the first.
        let mut request = valid.clone();
        let top: Vec<_> = fields.iter().filter(|(field, ..)| !field.contains(['.', '['])).collect();
        for (field, _, kind) in &top {
            edit(&mut request, field, Some(kind.wrong().remove(0)));
        }
        let outcome = invoke(door, request).await;
        for (field, ..) in &top {
            assert_refused(&outcome, field, &format!("{action} with everything wrong"));
        }
        let wrong_actors = [
            json!("admin"),
            json!({}),
            json!({ "userId": "a", "role": "ROOT" }),
            json!({ "userId": "", "role": "ADMIN" }),
        ];
        let missing = (!WITHOUT_ACTOR.contains(&action)).then_some(Value::Null);
        for actor in wrong_actors.into_iter().chain(missing) {
            let mut request = valid.clone();
            request["actor"] = actor;
            assert_refused(&invoke(door, request).await, "actor", &format!("{action} by a wrong actor"));
            tried += 1;
        }
    }
    for payload in malformed() {
        let outcome = invoke_raw(door, &payload).await;
        let text = String::from_utf8_lossy(&payload[..payload.len().min(40)]).into_owned();
        assert_refused(&outcome, "payload", &format!("{} with {text}", F::NAME));
        tried += 1;
    }
    for action in [json!("dropTables"), json!(1), json!(null), json!("x".repeat(100_000))] {
        let (kind, message) = invoke(door, json!({ "action": action })).await.unwrap_err();
        assert_eq!(kind, "ValidationError", "{message}");
        assert!(message.contains("action") && message.len() < 1000, "{message}");
        tried += 1;
    }
    for table in tables() {
        assert_eq!(dynamodb.items(&table.name).await.len(), 0, "{} wrote to {}", F::NAME, table.name);
    }
    tried
}

#[tokio::test]
async fn station_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let tried = attack(&door, station_cases(), &dynamodb).await;
    assert!(tried > 200, "{tried}");
}

#[tokio::test]
async fn station_service_refuses_input_that_only_the_domain_rules_reject() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let port = || json!({ "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 1 });
    let element = |component: Value, restrictions: Value| json!({ "currency": "EUR", "elements": [{ "price_components": [component], "restrictions": restrictions }] });
    let energy = json!({ "type": "ENERGY", "price": "1", "step_size": 1 });
    for (field, value, named) in [
        ("timeZone", json!("Mars/Olympus"), "timeZone"),
        ("currency", json!("XYZ"), "currency"),
        ("tariff", json!({ "currency": "EUR", "elements": [] }), "tariff.elements"),
        (
            "tariff",
            element(json!({ "type": "ENERGY", "price": "-1", "step_size": 1 }), json!({})),
            "price_components[0].price",
        ),
        (
            "tariff",
            element(json!({ "type": "ENERGY", "price": "1", "step_size": 0 }), json!({})),
            "price_components[0].step_size",
        ),
        ("tariff", element(energy.clone(), json!({ "max_current": 32 })), "restrictions.max_current"),
        ("tariff", element(energy.clone(), json!({ "start_time": "25:00" })), "restrictions.start_time"),
        ("tariff", element(energy, json!({ "min_kwh": 5, "max_kwh": 5 })), "restrictions.max_kwh"),
        ("chargingModel", json!({ "type": "MAGIC" }), "chargingModel"),
        (
            "chargingModel",
            json!({ "type": "MEASURED_CURVE", "points": [{ "percent": 50, "powerKw": 1 }, { "percent": 10, "powerKw": 1 }] }),
            "chargingModel.points",
        ),
        (
            "chargingModel",
            json!({ "type": "MEASURED_CURVE", "points": [{ "percent": 50, "powerKw": 0 }] }),
            "chargingModel.points[0].powerKw",
        ),
        ("ports", json!([port(), port()]), "ports[1].portNumber"),
        ("ports", Value::Array(vec![port(); 41]), "ports"),
    ] {
        let mut request = station_cases().remove(0).2;
        request["action"] = json!("createStation");
        request["actor"] = json!({ "userId": "a", "role": "ADMIN" });
        if field == "tariff" {
            edit(&mut request, "pricePerKwh", None);
            edit(&mut request, "currency", None);
        }
        request[field] = value.clone();
        assert_refused(&invoke(&door, request).await, named, &format!("createStation with {field} {value}"));
    }
    assert_eq!(dynamodb.items("ev-stations").await.len(), 0);
}

#[tokio::test]
async fn session_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(
        SessionService::new(
            dynamodb.charging(),
            dynamodb.users(),
            RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned()),
        ),
        Clock::SYSTEM,
    );
    let tried = attack(&door, session_cases(), &dynamodb).await;
    assert!(tried > 100, "{tried}");
}

fn billing_cases() -> Vec<Case> {
    let invoice = json!({ "invoiceId": "none" });
    let page = &[("userId", false, Id), ("limit", false, Integer(1, 100)), ("nextToken", false, Text(2048))];
    vec![
        Case("getInvoice", &[("invoiceId", true, Id)], invoice.clone()),
        Case("payInvoice", &[("invoiceId", true, Id)], invoice),
        Case("listInvoices", &[("userId", false, Id), ("status", false, Enum)], json!({})),
        Case("listInvoices", page, json!({ "status": "OPEN" })),
        Case("listLedger", page, json!({})),
        Case("getWallet", &[("userId", false, Id)], json!({})),
        Case(
            "topUpWallet",
            &[
                ("userId", false, Id),
                ("amount", true, Decimal),
                ("currency", true, Enum),
                ("idempotencyKey", true, Text(255)),
            ],
            json!({ "amount": "5.00", "currency": "EUR", "idempotencyKey": "k" }),
        ),
        Case(
            "holdFunds",
            &[
                ("userId", true, Id),
                ("sessionId", true, Id),
                ("currency", true, Enum),
                ("maxCost", false, Decimal),
                ("attempt", false, Text(64)),
            ],
            json!({ "userId": "u-1", "sessionId": "s-1", "currency": "EUR", "maxCost": "5.00" }),
        ),
        Case(
            "releaseFunds",
            &[("userId", true, Id), ("sessionId", true, Id), ("attempt", false, Text(64))],
            json!({ "userId": "u-1", "sessionId": "s-1" }),
        ),
        Case(
            "createCreditNote",
            &[
                ("invoiceId", true, Id),
                ("reason", true, Text(500)),
                ("lines", false, Array),
                ("lines[0].line", true, Integer(1, 100)),
                ("idempotencyKey", false, Text(255)),
            ],
            json!({ "invoiceId": "none", "reason": "r", "lines": [{ "line": 1, "netAmount": "1.00" }] }),
        ),
    ]
}

#[tokio::test]
async fn billing_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(Billing::new(dynamodb.billing(), "EUR".parse().unwrap(), no_redelivery()), Clock::SYSTEM);
    let tried = attack(&door, billing_cases(), &dynamodb).await;
    assert!(tried > 100, "{tried}");
    for (amount, currency, field) in [("0", "EUR", "amount"), ("0.001", "EUR", "amount"), ("1.5", "JPY", "amount")] {
        let top_up = json!({
            "action": "topUpWallet", "actor": { "userId": "admin", "role": "ADMIN" }, "userId": "u-1",
            "amount": amount, "currency": currency, "idempotencyKey": "k"
        });
        assert_refused(&invoke(&door, top_up).await, field, &format!("{amount} {currency}"));
    }
    let answer = invoke(&door, sqs_event(&["{}".to_owned(), "not JSON".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(dynamodb.items("ev-billing").await.len(), 0);
}

#[tokio::test]
async fn billing_audit_and_dlq_reconciler_refuse_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let nobody = || RemoteFunction::new(&sdk_config(NOWHERE), "nobody".to_owned());
    let audit = BillingAudit::new(dynamodb.charging().sessions, dynamodb.billing(), nobody(), nobody());
    let audit = Door::new(audit, Clock::SYSTEM);
    for (field, kind) in [("from", Time), ("to", Time), ("nextToken", Text(2048))] {
        for wrong in kind.wrong() {
            let outcome = invoke(&audit, json!({ field: wrong })).await;
            assert_refused(&outcome, field, &format!("audit with {field} = {wrong}"));
        }
    }
    let reconciler = DlqReconciler::new(
        dynamodb.billing(),
        Quarantine::new(aws_sdk_s3::Client::new(&sdk_config(NOWHERE)), "quarantine".to_owned()),
        aws_sdk_sqs::Client::new(&sdk_config(NOWHERE)),
        DeadLetterQueues::parse("{}").unwrap(),
        3,
    );
    let reconciler = Door::new(reconciler, Clock::SYSTEM);
    for payload in malformed() {
        assert_eq!(invoke_raw(&audit, &payload).await.unwrap_err().0, "ValidationError");
        assert_eq!(invoke_raw(&reconciler, &payload).await.unwrap_err().0, "ValidationError");
    }
    // A message of an unknown queue stays where it is.
    let answer = invoke(&reconciler, sqs_event(&["{}".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(dynamodb.items("ev-billing").await.len(), 0);
}

fn telemetry_cases() -> Vec<Case> {
    vec![
        Case("listStations", &[("limit", false, Integer(1, 100)), ("nextToken", false, Text(2048))], json!({})),
        Case("getStation", &[("stationId", true, Id)], json!({ "stationId": "none" })),
        Case(
            "getHistory",
            &[
                ("stationId", true, Id),
                ("date", true, Time),
                ("limit", false, Integer(1, 100)),
                ("nextToken", false, Text(2048)),
            ],
            json!({ "stationId": "none", "date": "2026-03-03" }),
        ),
    ]
}

/// Numbers closer to 0 than a database can store.
const TINY: [f64; 4] = [1e-200, -1e-200, f64::MIN_POSITIVE, 1e-131];

/// Sends `request` with every tiny number in `field`. Each is accepted, or refused by name; none causes an internal
/// error.
async fn tiny_numbers<F: Function>(door: &Door<F>, request: &Value, field: &str) -> Vec<Value> {
    let mut taken = Vec::new();
    for (index, tiny) in TINY.into_iter().enumerate() {
        let mut request = request.clone();
        edit(&mut request, field, Some(json!(tiny)));
        if request["stationId"] == "new" {
            request["stationId"] = json!(format!("{}-{index}", field.replace(['[', ']'], "-")));
        }
        match invoke(door, request).await {
            Ok(answer) => taken.push(answer),
            outcome => assert_refused(&outcome, field, &format!("{field} = {tiny}")),
        }
    }
    taken
}

#[tokio::test]
async fn numbers_too_small_to_store_are_refused_or_taken_as_zero() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let admin = json!({ "userId": "a", "role": "ADMIN" });
    let stations = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let billing = RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned());
    let sessions = Door::new(SessionService::new(dynamodb.charging(), dynamodb.users(), billing), Clock::SYSTEM);
    let mut create = station_cases().remove(0).2;
    create["action"] = json!("createStation");
    create["actor"] = admin.clone();
    create["stationId"] = json!("new");
    for (field, zero) in [
        ("latitude", true),
        ("longitude", true),
        ("powerKw", false),
        ("ports[0].maxPowerKw", false),
        ("chargingModel.points[0].percent", true),
        ("chargingModel.points[0].powerKw", false),
    ] {
        let taken = tiny_numbers(&stations, &create, field).await;
        assert_eq!(!taken.is_empty(), zero, "{field}: {taken:?}");
    }
    create["chargingModel"] = json!({ "type": "TWO_STAGE_LINEAR", "transitionPercent": 80, "cutoffKw": 0.1 });
    assert!(!tiny_numbers(&stations, &create, "chargingModel.transitionPercent").await.is_empty());
    assert!(!tiny_numbers(&stations, &create, "chargingModel.cutoffKw").await.is_empty());
    create["stationId"] = json!("s-1");
    invoke(&stations, create).await.unwrap();
    let update = json!({ "action": "updateStation", "actor": admin, "stationId": "s-1", "chargingModel": { "type": "STEP_TAPER" } });
    for (field, zero) in [("latitude", true), ("longitude", true), ("powerKw", false)] {
        assert_eq!(!tiny_numbers(&stations, &update, field).await.is_empty(), zero, "{field}");
    }
    invoke(&stations, json!({ "action": "transitionStation", "actor": admin, "stationId": "s-1", "to": "ACTIVE" }))
        .await
        .unwrap();
    let mut start = session_cases().remove(0).2;
    start["action"] = json!("startSession");
    start["actor"] = json!({ "userId": "u-1", "role": "USER" });
    start["stationId"] = json!("s-1");
    start["portId"] = json!("port-1");
    start["targetPercent"] = json!(90);
    for field in
        ["vehicle.batteryCapacityKwh", "vehicle.maxPowerKw", "limits.maxEnergyKwh", "targetPercent", "chargePercent"]
    {
        for tiny in TINY {
            let mut request = start.clone();
            edit(&mut request, field, Some(json!(tiny)));
            match invoke(&sessions, request).await {
                Ok(session) => {
                    assert_eq!((field, &session["chargePercent"]), ("chargePercent", &json!(0.0)), "{session}");
                    let stop = json!({ "action": "stopSession", "actor": admin, "sessionId": session["sessionId"] });
                    invoke(&sessions, stop).await.unwrap();
                }
                outcome => assert_refused(&outcome, field, &format!("{field} = {tiny}")),
            }
        }
    }
    let mut quote = session_cases().pop().unwrap().2;
    quote["action"] = json!("quote");
    quote["stationId"] = json!("s-1");
    for field in ["energyKwh", "minutes"] {
        tiny_numbers(&sessions, &quote, field).await;
    }
    let pois = Door::new(PoiService::new(dynamodb.pois()), Clock::SYSTEM);
    let find = json!({ "action": "findPois", "latitude": 1, "longitude": 1, "minPowerKw": 1, "radiusKm": 1 });
    for field in ["latitude", "longitude", "minPowerKw", "radiusKm"] {
        tiny_numbers(&pois, &find, field).await;
    }
}

#[tokio::test]
async fn a_device_may_report_a_number_too_small_to_store() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let s3 = testkit::EmbeddedS3::start("telemetry").await;
    let archive = store::Archive::new(s3.client(), "telemetry");
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive, no_redelivery(), 10);
    let handler = Door::new(handler, Clock::SYSTEM);
    for (station, field) in [("t", "temperature"), ("h", "humidity")] {
        let mut message = testkit::reading(station, "2026-03-03T12:00:00Z".parse().unwrap(), 1);
        message[field] = json!(1e-200);
        message["topic_station_id"] = json!(station);
        invoke(&handler, message).await.unwrap();
    }
    let states = dynamodb.items("ev-telemetry").await;
    assert_eq!(states.len(), 2);
}

#[tokio::test]
async fn telemetry_functions_refuse_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let archive = || store::Archive::new(store::S3Client::new(&sdk_config(NOWHERE)), "telemetry");
    let silence = Silence::of_interval(std::time::Duration::from_secs(5));
    let api = Door::new(TelemetryApi::new(dynamodb.telemetry(), archive(), silence), Clock::SYSTEM);
    let tried = attack(&api, telemetry_cases(), &dynamodb).await;
    assert!(tried > 40, "{tried}");
    let monitor = Door::new(TelemetryMonitor::new(dynamodb.telemetry(), silence), Clock::SYSTEM);
    // Invalid messages of devices are stored in the bucket with the reason. A payload that no device sent is refused.
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive(), no_redelivery(), 10);
    let handler = Door::new(handler, Clock::SYSTEM);
    for payload in malformed() {
        assert_eq!(invoke_raw(&monitor, &payload).await.unwrap_err().0, "ValidationError");
        assert_eq!(invoke_raw(&handler, &payload).await.unwrap_err().0, "ValidationError");
    }
    assert_refused(&invoke(&monitor, json!({ "action": "x" })).await, "action", "telemetry_monitor");
    assert_refused(&invoke(&handler, json!({ "action": "x" })).await, "action", "telemetry_handler");
    assert_eq!(dynamodb.items("ev-telemetry").await.len(), 0);
}

fn poi_cases() -> Vec<Case> {
    const ID: Kind = Integer(0, 2_147_483_647);
    vec![
        Case(
            "findPois",
            &[
                ("nextToken", false, Text(2048)),
                ("latitude", true, Number(-90.0, 90.0)),
                ("longitude", true, Number(-180.0, 180.0)),
                ("radiusKm", false, Number(0.0, 100.0)),
                ("minPowerKw", false, Number(0.0, 10_000.0)),
                ("connectionTypeId", false, ID),
                ("operatorId", false, ID),
                ("countryId", false, ID),
                ("limit", false, Integer(1, 100)),
            ],
            json!({ "latitude": 52.5, "longitude": 13.4 }),
        ),
        Case("getPoi", &[("ocmId", true, Integer(1, 2_147_483_647))], json!({ "ocmId": 1 })),
        Case("getReferenceData", &[("kind", true, Enum)], json!({ "kind": "Operators" })),
    ]
}

#[tokio::test]
async fn poi_service_and_ocm_sync_refuse_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let pois = Door::new(PoiService::new(dynamodb.pois()), Clock::SYSTEM);
    let tried = attack(&pois, poi_cases(), &dynamodb).await;
    assert!(tried > 60, "{tried}");
    let source = Source::new(NOWHERE, ApiKey::parameter(&sdk_config(NOWHERE), "/key"), 100).unwrap();
    let sync = Door::new(OcmSync::new(dynamodb.pois(), source), Clock::SYSTEM);
    for payload in malformed() {
        assert_eq!(invoke_raw(&sync, &payload).await.unwrap_err().0, "ValidationError");
    }
    for (request, field) in [
        (json!({ "action": "x" }), "action"),
        (json!({ "full": 1 }), "full"),
        (json!({ "full": true, "allowRemovals": "yes" }), "allowRemovals"),
        (json!({ "full": [], "allowRemovals": {} }), "full"),
    ] {
        assert_refused(&invoke(&sync, request).await, field, "ocm_sync");
    }
    assert_eq!(dynamodb.items("ev-ocm-pois").await.len(), 0);
}

#[tokio::test]
async fn notification_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (500, String::new())).await;
    let topics =
        Topics::new(aws_sdk_sns::Client::new(&sdk_config(&sns.endpoint())), "operators".to_owned(), "users".to_owned());
    let door = Door::new(NotificationService::new(dynamodb.error_logs(), topics, no_redelivery()), Clock::SYSTEM);
    let tried = attack(&door, notification_cases(), &dynamodb).await;
    assert!(tried > 50, "{tried}");
    assert!(sns.calls().is_empty(), "nothing was published");
    // A message that is not one of Evoke's events is reported as failed, so that its queue keeps it for the dead-letter
    // queue.
    let answer = invoke(&door, sqs_event(&["{}".to_owned(), "not JSON".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test]
async fn charging_simulator_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(ChargingSimulator::new(dynamodb.charging(), None, 100), Clock::SYSTEM);
    for Case(action, fields, _) in simulator_cases() {
        for (field, _, kind) in fields {
            for wrong in kind.wrong() {
                let outcome = invoke(&door, json!({ "action": action, *field: wrong })).await;
                assert_refused(&outcome, field, &format!("{action} with {field} = {wrong}"));
            }
        }
    }
    for payload in malformed() {
        assert_eq!(invoke_raw(&door, &payload).await.unwrap_err().0, "ValidationError");
    }
    let shards = sqs_event(&["{\"shard\": \"x\"}".to_owned(), "{}}".to_owned()]);
    assert_eq!(invoke(&door, shards).await.unwrap()["batchItemFailures"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn event_relay_and_health_check_refuse_invalid_input() {
    let aws = FakeAws::start(|_, _| (500, "{}".to_owned())).await;
    let sdk = sdk_config(&aws.endpoint());
    let (bus, sqs) = (aws_sdk_eventbridge::Client::new(&sdk), aws_sdk_sqs::Client::new(&sdk));
    let relay = Door::new(EventRelay::new(bus, "bus".to_owned(), sqs, "queue".to_owned()), Clock::SYSTEM);
    let dynamodb = EmbeddedDynamoDb::start().await;
    let health = HealthCheck::new(
        vec![],
        None,
        dynamodb.client(),
        aws_sdk_eventbridge::Client::new(&sdk_config(&aws.endpoint())),
    );
    let health = Door::new(health, Clock::SYSTEM);
    for payload in malformed() {
        assert_eq!(invoke_raw(&relay, &payload).await.unwrap_err().0, "ValidationError");
        assert_eq!(invoke_raw(&health, &payload).await.unwrap_err().0, "ValidationError");
    }
    assert_refused(&invoke(&relay, json!({ "action": "x" })).await, "action", "event_relay");
    assert_refused(&invoke(&health, json!({ "action": "x" })).await, "action", "health_check");
    assert_eq!(invoke(&health, json!({ "source": "cli-test" })).await.unwrap()["status"], "healthy");
}

#[tokio::test]
async fn health_check_degrades_instead_of_failing() {
    let aws = FakeAws::start(|_, _| (400, json!({ "__type": "ResourceNotFoundException" }).to_string())).await;
    let dynamodb = EmbeddedDynamoDb::start().await;
    for (tables, bus, status, http) in [
        (vec!["ev-stations"], None, "healthy", 200),
        (vec!["ev-stations", "gone"], None, "degraded", 200),
        (vec!["ev-stations"], Some("bus"), "degraded", 200),
        (vec!["gone", "gone-too"], None, "unhealthy", 503),
    ] {
        let tables = tables.into_iter().map(str::to_owned).collect();
        let health = HealthCheck::new(
            tables,
            bus.map(str::to_owned),
            dynamodb.client(),
            aws_sdk_eventbridge::Client::new(&sdk_config(&aws.endpoint())),
        );
        let door = Door::new(health, Clock::SYSTEM);
        let answer = invoke(&door, http_event("GET /health", &[], &[], "", "", "")).await.unwrap();
        assert_eq!(answer["statusCode"], http, "{answer}");
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["status"], status, "{body}");
    }
}

#[tokio::test]
async fn http_requests_get_problem_documents() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let post = |body: &str| http_event("POST /stations", &[], &[], "u-1", "[ADMIN]", body);
    let mut events: Vec<Value> =
        ["", "{", "[1]", "{\"powerKw\": NaN}", "nonsense"].iter().map(|body| post(body)).collect();
    events.push(post(&format!("{}1{}", "[".repeat(1000), "]".repeat(1000))));
    for base64 in ["//79", "%%%"] {
        let mut event = post(base64); // bytes that are not UTF-8; not base64 at all
        event["isBase64Encoded"] = json!(true);
        events.push(event);
    }
    for event in events {
        let response = invoke(&door, event).await.unwrap();
        assert_eq!(response["statusCode"], 400, "{response}");
        assert_eq!(response["headers"]["content-type"], "application/problem+json");
        assert_eq!(response["headers"]["x-correlation-id"], "correlation-1");
        let problem: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!((&problem["code"], &problem["correlationId"]), (&json!("ValidationError"), &json!("correlation-1")));
        assert!(!problem["errors"].as_array().unwrap().is_empty());
    }
    // The list contains every invalid field of an empty request.
    let response = invoke(&door, post("{}")).await.unwrap();
    let problem: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    for field in ["name", "address", "latitude", "longitude", "powerKw"] {
        assert!(fields.contains(&field), "{fields:?}");
    }
    // The actor comes from the token, whatever the body says.
    let mut body = station_cases().remove(0).2;
    body["actor"] = json!({ "userId": "boss", "role": "ADMIN" });
    let event = http_event("POST /stations", &[], &[], "u-1", "", &body.to_string());
    assert_eq!(invoke(&door, event).await.unwrap()["statusCode"], 403);
    // A number in a query string is parsed as a number; anything else is refused.
    let list = |limit: &str| http_event("GET /stations", &[], &[("limit", limit)], "u-1", "", "");
    assert_eq!(invoke(&door, list("5")).await.unwrap()["statusCode"], 200);
    for limit in ["0", "101", "five", "1.5", "-1", ""] {
        assert_eq!(invoke(&door, list(limit)).await.unwrap()["statusCode"], 400, "limit {limit}");
    }
    assert_eq!(dynamodb.items("ev-stations").await.len(), 0);
}
