//! The events of stations, ports and sessions: each is written with the change that it reports, and has the versions of
//! what changed.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use testkit::invoke;

use crate::common::{World, admin, error_type, id, minutes_after};

/// Returns the only event in the outboxes of the stations and ports.
async fn only_event(world: &World) -> Value {
    let events = world.events("ev-stations").await;
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next().unwrap()
}

/// Returns the version of an item of the station `s-1`; 0 if there is no such item.
async fn version(world: &World, sort: &str) -> u64 {
    let items = world.dynamodb.items("ev-stations").await;
    let key = |item: &std::collections::HashMap<String, AttributeValue>| {
        (item["PK"].as_s().unwrap().clone(), item["SK"].as_s().unwrap().clone())
    };
    let item = items.iter().find(|item| key(item) == ("STATION#s-1".to_owned(), sort.to_owned()));
    item.map_or(0, |item| item["version"].as_n().unwrap().parse().unwrap())
}

async fn on_station(world: &World, action: &str, more: Value) -> Value {
    let mut command = json!({ "action": action, "actor": admin(), "stationId": "s-1" });
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    invoke(&world.stations, command).await.unwrap()
}

fn new_station() -> Value {
    let port = |number: u32| json!({ "portNumber": number, "connectorType": "CCS2", "maxPowerKw": 100 });
    json!({
        "name": "Test", "address": "Road 1", "latitude": 52.5, "longitude": 13.4, "powerKw": 100,
        "pricePerKwh": "0.49", "currency": "EUR", "ports": [port(1), port(2)]
    })
}

/// Checks the event of the last change of the station.
async fn assert_told(world: &World, event_type: &str, counts: [u32; 4], more: Value) {
    let event = only_event(world).await;
    assert_eq!(event["eventType"], event_type, "{event}");
    let told = ["ports", "freePorts", "chargingPorts", "failedPorts"].map(|name| event[name].clone());
    assert_eq!(told, counts.map(|count| json!(count)), "{event}");
    assert_eq!(event["stationVersion"], version(world, "METADATA").await, "{event}");
    for (name, value) in more.as_object().unwrap() {
        assert_eq!(event[name], *value, "{event}");
    }
}

#[tokio::test]
async fn each_change_of_a_station_and_its_ports_is_told_with_versions_and_counts() {
    let world = World::new().await;
    on_station(&world, "createStation", new_station()).await;
    let created = json!({ "version": 1, "stationVersion": 1, "status": "NEW", "name": "Test", "stationId": "s-1" });
    assert_told(&world, "STATION_CREATED", [2, 2, 0, 0], created).await;
    on_station(&world, "transitionStation", json!({ "to": "ACTIVE" })).await;
    let changed = json!({ "version": 2, "from": "NEW", "to": "ACTIVE" });
    assert_told(&world, "STATION_STATUS_CHANGED", [2, 2, 0, 0], changed).await;
    on_station(&world, "updateStation", json!({ "name": "Renamed" })).await;
    let updated = json!({ "version": 3, "name": "Renamed", "status": "ACTIVE" });
    assert_told(&world, "STATION_UPDATED", [2, 2, 0, 0], updated).await;
    let port = json!({ "portNumber": 3, "connectorType": "CCS2", "maxPowerKw": 100 });
    on_station(&world, "addPort", port).await;
    let added = json!({ "version": 1, "stationVersion": 4, "portId": "port-3" });
    assert_told(&world, "PORT_ADDED", [3, 3, 0, 0], added).await;

    let session = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    world.start("s-1", "port-3", "u-2", json!({})).await.unwrap();
    on_station(&world, "failPort", json!({ "portId": "port-3", "reason": "ground fault" })).await;
    let failed = json!({ "version": 3, "stationVersion": 7, "portId": "port-3", "reason": "ground fault" });
    assert_told(&world, "PORT_FAILED", [3, 1, 1, 1], failed).await;
    on_station(&world, "resetPort", json!({ "portId": "port-3" })).await;
    assert_told(&world, "PORT_RESET", [3, 2, 1, 0], json!({ "version": 4, "stationVersion": 8 })).await;
    assert_eq!(version(&world, "PORT#port-3").await, 4);
    on_station(&world, "removePort", json!({ "portId": "port-3" })).await;
    let removed = json!({ "version": 5, "stationVersion": 9, "portId": "port-3" });
    assert_told(&world, "PORT_REMOVED", [2, 1, 1, 0], removed).await;
    world.stop(id(&session), "u-1").await.unwrap();
    assert!(world.events("ev-stations").await.is_empty(), "the end of a session is an event of the session");
    assert_eq!(version(&world, "METADATA").await, 10);
}

/// Otherwise a subscriber who knows the deleted station would take the updates of the new one for old ones.
#[tokio::test]
async fn a_station_with_the_id_of_a_deleted_one_continues_its_versions() {
    let world = World::new().await;
    let mut versions = Vec::new();
    for _ in 0..3 {
        on_station(&world, "createStation", new_station()).await;
        versions.push(only_event(&world).await["version"].as_u64().unwrap());
        assert_eq!(world.dynamodb.items("ev-stations").await.len(), 3, "station and ports; the record is gone");
        on_station(&world, "updateStation", json!({ "name": "Renamed" })).await;
        versions.push(only_event(&world).await["version"].as_u64().unwrap());
        on_station(&world, "deleteStation", json!({})).await;
        let deleted = only_event(&world).await;
        assert_eq!((&deleted["eventType"], &deleted["stationId"]), (&json!("STATION_DELETED"), &json!("s-1")));
        assert_eq!((&deleted["ports"], &deleted["stationVersion"]), (&json!(0), &deleted["version"]));
        versions.push(deleted["version"].as_u64().unwrap());

        // A second deletion finds nothing, and reports nothing.
        let again = json!({ "action": "deleteStation", "actor": admin(), "stationId": "s-1" });
        assert_eq!(error_type(&invoke(&world.stations, again).await), "NotFoundError");
        assert_eq!(only_event(&world).await, deleted);
        assert_eq!(world.dynamodb.items("ev-stations").await.len(), 1, "the record of the deletion");
        let listed = invoke(&world.stations, json!({ "action": "listStations" })).await.unwrap();
        assert_eq!(listed["items"], json!([]));
    }
    assert_eq!(versions, (1..=9).collect::<Vec<u64>>());
}

/// Two requests create a station with the id of a deleted one. One of them succeeds, and continues the versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creations_after_a_deletion_continue_its_versions() {
    let world = World::new().await;
    on_station(&world, "createStation", new_station()).await;
    on_station(&world, "deleteStation", json!({})).await;
    let mut create = new_station();
    for (name, value) in [("action", json!("createStation")), ("actor", admin()), ("stationId", json!("s-1"))] {
        create[name] = value;
    }
    let outcomes = futures::future::join_all((0..8).map(|_| invoke(&world.stations, create.clone()))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let refused = outcomes.iter().filter(|outcome| outcome.is_err());
    assert!(refused.map(error_type).all(|kind| kind == "ConflictError"), "{outcomes:?}");
    assert_eq!(version(&world, "METADATA").await, 3);
}

/// Returns the event of a session.
async fn of_session(world: &World, session: &Value) -> Value {
    let events = world.events("ev-sessions").await;
    let mut events = events.into_iter().filter(|event| event["sessionId"] == *id(session));
    let event = events.next().unwrap();
    assert_eq!(events.next(), None);
    event
}

#[tokio::test]
async fn the_events_of_a_session_have_its_version_and_that_of_the_station() {
    let world = World::new().await;
    world.station("s-1", 3).await;
    let start = async |port: &str, more: Value| world.start("s-1", port, "u-1", more).await.unwrap();
    let stopped = start("port-1", json!({})).await;
    let started = of_session(&world, &stopped).await;
    assert_eq!((&started["eventType"], &started["version"]), (&json!("SESSION_STARTED"), &json!(1)));
    assert_eq!(started["stationVersion"], version(&world, "METADATA").await, "{started}");
    let failed = start("port-2", json!({})).await;
    let limited = start("port-3", json!({ "limits": { "maxEnergyKwh": 0.5 } })).await;
    assert_eq!(of_session(&world, &limited).await["stationVersion"], version(&world, "METADATA").await);

    world.stop(id(&stopped), "u-1").await.unwrap();
    let ended = of_session(&world, &stopped).await;
    assert_eq!((&ended["eventType"], &ended["portStatus"]), (&json!("SESSION_ENDED"), &json!("FREE")));
    assert_eq!(ended["stationVersion"], version(&world, "METADATA").await, "{ended}");

    // The session ends together with its port.
    on_station(&world, "failPort", json!({ "portId": "port-2" })).await;
    let ended = of_session(&world, &failed).await;
    assert_eq!((&ended["status"], &ended["portStatus"]), (&json!("FAILED"), &json!("ERROR")));
    assert_eq!(ended["stationVersion"], version(&world, "METADATA").await, "{ended}");
    assert_eq!(only_event(&world).await["stationVersion"], ended["stationVersion"]);

    // A tick ends the last one without reading the station as a whole.
    world.tick(minutes_after(&limited, 5)).await.unwrap();
    let ended = of_session(&world, &limited).await;
    assert_eq!((&ended["reason"], &ended["portStatus"]), (&json!("ENERGY_LIMIT"), &json!("FREE")));
    assert_eq!(ended["stationVersion"], version(&world, "METADATA").await, "{ended}");
    for session in [&stopped, &failed, &limited] {
        let ended = of_session(&world, session).await;
        assert!(ended["version"].as_u64().unwrap() > 1, "the version rises from that of the start: {ended}");
    }
}
