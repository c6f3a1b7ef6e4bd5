//! Charging: `station_service`, `session_service` and `charging_simulator`.

use charging_simulator::ChargingSimulator;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use session_service::{Inbox, SessionService};
use station_service::StationService;
use testkit::{EmbeddedDynamoDb, invoke, sqs_event};

use crate::bad_input::Kind::{Array, Decimal, Enum, Id, Integer, Number, Object, Text, Time};
use crate::bad_input::{Case, TINY, assert_refused, attack, edit, tiny_numbers};
use crate::openapi::{ADMIN, CLOCK, DRIVER, Recorder, set_time};
use crate::{no_function, nowhere};

/// Creates `session_service` without billing and without its queue.
pub fn session_service(dynamodb: &EmbeddedDynamoDb) -> SessionService {
    let inbox = Inbox::new(&nowhere(), "inbox".to_owned());
    SessionService::new(dynamodb.charging(), dynamodb.users(), no_function(), inbox)
}

pub fn station_cases() -> Vec<Case> {
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
        Case(
            "startSession",
            &[
                ("stationId", true, Id),
                ("portId", true, Id),
                ("vehicleId", true, Id),
                ("chargePercent", true, Number(0.0, 100.0)),
            ],
            json!({ "stationId": "none", "portId": "none", "vehicleId": "none", "chargePercent": 20 }),
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
                ("tariff", true, Object),
                ("tariff.currency", true, Enum),
                ("tariff.elements", true, Array),
                ("tariff.elements[0].price_components[0].price", true, Decimal),
                ("tariff.elements[0].price_components[0].step_size", true, Integer(1, 1_000_000)),
                ("timeZone", false, Text(64)),
                ("energyKwh", true, Number(0.0, 2000.0)),
                ("minutes", true, Number(0.0, 44640.0)),
                ("startAt", false, Time),
            ],
            json!({
                "tariff": {
                    "currency": "EUR",
                    "elements": [{ "price_components": [{ "type": "ENERGY", "price": "0.5", "step_size": 1 }] }]
                },
                "timeZone": "Europe/Berlin", "energyKwh": 1, "minutes": 1
            }),
        ),
        Case(
            "quote",
            &[
                ("stationId", true, Id),
                ("timeZone", false, Text(64)),
                ("energyKwh", true, Number(0.0, 2000.0)),
                ("minutes", true, Number(0.0, 44640.0)),
                ("startAt", false, Time),
            ],
            json!({ "stationId": "none", "energyKwh": 1, "minutes": 1 }),
        ),
    ]
}

fn simulator_cases() -> Vec<Case> {
    let fields: &[_] = &[("tickAt", false, Time), ("stationIds", false, Array), ("shard", false, Integer(0, 1023))];
    vec![Case("tick", fields, json!({ "tickAt": "2026-01-01T00:00:00Z" }))]
}

#[tokio::test]
async fn station_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let tried = attack(&door, station_cases(), &["getStation", "listStations"], &dynamodb).await;
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
        (
            "tariff",
            element(energy.clone(), json!({ "min_current": 6 })),
            "restrictions.min_current: cannot be evaluated: ports of this network meter power; use min_power",
        ),
        (
            "tariff",
            element(energy.clone(), json!({ "max_current": 32 })),
            "restrictions.max_current: cannot be evaluated: ports of this network meter power; use max_power",
        ),
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
    let sessions = session_service(&dynamodb);
    let door = Door::new(sessions, Clock::SYSTEM);
    let tried = attack(&door, session_cases(), &["quote"], &dynamodb).await;
    assert!(tried > 100, "{tried}");
}

#[tokio::test]
async fn a_start_with_two_vehicles_is_refused() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(session_service(&dynamodb), Clock::SYSTEM);
    let mut start = session_cases().remove(0).2;
    start["action"] = json!("startSession");
    start["actor"] = json!({ "userId": "u-1", "role": "USER" });
    start["vehicleId"] = json!("v-1");
    let named = "vehicleId: is given together with vehicle";
    assert_refused(&invoke(&door, start).await, named, "startSession with two vehicles");
    let answer = invoke(&door, sqs_event(&["{}".to_owned(), "not JSON".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test]
async fn quotes_that_only_the_domain_rules_reject_are_refused() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sessions = session_service(&dynamodb);
    let door = Door::new(sessions, Clock::SYSTEM);
    let tariff = |restrictions: Value| {
        let energy = json!({ "type": "ENERGY", "price": "1", "step_size": 1 });
        json!({ "currency": "EUR", "elements": [{ "price_components": [energy], "restrictions": restrictions }] })
    };
    let valid = || tariff(json!({}));
    let mut contradictory = valid();
    contradictory["min_price"] = json!({ "excl_vat": "5" });
    contradictory["max_price"] = json!({ "excl_vat": "4" });
    let current = tariff(json!({ "min_current": 6 }));
    for (more, named) in [
        (json!({}), "stationId: one of stationId and tariff is required"),
        (json!({ "timeZone": "Europe/Berlin" }), "stationId: one of stationId and tariff is required"),
        (json!({ "stationId": "s-1", "tariff": valid() }), "tariff: is given together with stationId"),
        (json!({ "stationId": "s-1", "timeZone": "Europe/Berlin" }), "timeZone: is for tariff only"),
        (json!({ "tariff": valid(), "timeZone": "Mars/Olympus" }), "is no IANA time zone such as Europe/Berlin"),
        (json!({ "tariff": { "currency": "EUR", "elements": [] } }), "tariff.elements"),
        (json!({ "tariff": contradictory }), "tariff.min_price.excl_vat: must be at most max_price.excl_vat (4)"),
        (json!({ "tariff": current }), "tariff.elements[0].restrictions.min_current: cannot be evaluated"),
        (json!({ "tariff": current, "timeZone": "Mars/Olympus" }), "timeZone: "),
        (json!({ "tariff": current, "timeZone": "Mars/Olympus" }), "tariff.elements[0].restrictions.min_current"),
    ] {
        let mut quote = more.clone();
        quote["action"] = json!("quote");
        quote["energyKwh"] = json!(1);
        quote["minutes"] = json!(1);
        assert_refused(&invoke(&door, quote).await, named, &format!("quote with {more}"));
    }
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
    let shards = sqs_event(&["{\"shard\": \"x\"}".to_owned(), "{}}".to_owned()]);
    assert_eq!(invoke(&door, shards).await.unwrap()["batchItemFailures"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn numbers_too_small_to_store_are_refused_or_taken_as_zero() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let admin = json!({ "userId": "a", "role": "ADMIN" });
    let stations = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let sessions = session_service(&dynamodb);
    let sessions = Door::new(sessions, Clock::SYSTEM);
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
}

/// Records the examples of an hour of charging.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
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

    let sessions = Door::new(session_service(dynamodb), CLOCK);
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
