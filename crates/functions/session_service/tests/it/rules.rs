//! The rules of the charging context through the real handlers and the real wire protocol.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::invoke;

use crate::common::{World, admin, error_type, id, minutes_after};

#[tokio::test]
async fn an_invalid_start_is_refused_and_writes_nothing() {
    let world = World::new().await;
    world.station("active", 1).await;
    world.station("drained", 1).await;
    world.transition("drained", "MAINTENANCE").await.unwrap();
    world.dynamodb.block_user("blocked").await;
    let before = world.dynamodb.items("ev-stations").await.len();
    for (station, port, user, more, kind, says) in [
        ("none", "port-1", "u-1", json!({}), "NotFoundError", "none"),
        ("active", "port-9", "u-1", json!({}), "NotFoundError", "port-9"),
        ("drained", "port-1", "u-1", json!({}), "ConflictError", "MAINTENANCE"),
        ("active", "port-1", "blocked", json!({}), "ForbiddenError", "blocked"),
        ("active", "port-1", "u-1", json!({ "userId": "u-2" }), "ForbiddenError", "u-2"),
        (
            "active",
            "port-1",
            "u-1",
            json!({ "chargePercent": 80, "targetPercent": 80 }),
            "ValidationError",
            "targetPercent",
        ),
        ("active", "port-1", "u-1", json!({ "chargePercent": 100 }), "ValidationError", "targetPercent"),
        ("active", "port-1", "u-1", json!({ "limits": { "maxCost": 0 } }), "ValidationError", "limits.maxCost"),
    ] {
        let outcome = world.start(station, port, user, more.clone()).await;
        assert_eq!(error_type(&outcome), kind, "{station} {port} {user} {more}");
        assert!(outcome.unwrap_err().1.contains(says), "{more}");
    }
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
    assert_eq!(world.dynamodb.items("ev-stations").await.len(), before);
    assert_eq!(world.get_station("active").await["chargingPorts"], 0);
}

#[tokio::test]
async fn staff_start_sessions_for_users_and_users_see_only_their_own() {
    let world = World::new().await;
    world.station("s-1", 3).await;
    let start = json!({
        "action": "startSession", "actor": { "userId": "t-1", "role": "TECH_SUPPORT" }, "userId": "u-2", "stationId": "s-1",
        "portId": "port-1", "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
    });
    let theirs = invoke(&world.sessions, start).await.unwrap();
    assert_eq!(theirs["userId"], "u-2");
    world.start("s-1", "port-2", "u-1", json!({})).await.unwrap();
    world.start("s-1", "port-3", "u-1", json!({})).await.unwrap();
    let list = async |role: &str, more: Value| {
        let mut list = json!({ "action": "listSessions", "actor": { "userId": "u-1", "role": role } });
        list.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        invoke(&world.sessions, list).await
    };
    assert_eq!(list("USER", json!({})).await.unwrap()["count"], 2);
    assert_eq!(list("USER", json!({ "stationId": "s-1", "status": "STARTED" })).await.unwrap()["count"], 2);
    assert_eq!(error_type(&list("USER", json!({ "userId": "u-2" })).await), "ForbiddenError");
    assert_eq!(error_type(&list("ADMIN", json!({})).await), "ValidationError");
    assert_eq!(list("ADMIN", json!({ "userId": "u-2" })).await.unwrap()["count"], 1);
    assert_eq!(list("ADMIN", json!({ "status": "STARTED" })).await.unwrap()["count"], 3);
    assert_eq!(list("ADMIN", json!({ "status": "COMPLETED" })).await.unwrap()["count"], 0);
    let stop = world.stop(id(&theirs), "u-1").await;
    assert_eq!(error_type(&stop), "ForbiddenError");

    // Page by page, each session once. A token is valid only for its own list.
    let mut seen = BTreeSet::new();
    let mut token = Value::Null;
    loop {
        let page = list("ADMIN", json!({ "stationId": "s-1", "limit": 1, "nextToken": token })).await.unwrap();
        seen.extend(page["items"].as_array().unwrap().iter().map(|session| id(session).to_owned()));
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
        let elsewhere = list("ADMIN", json!({ "userId": "u-1", "nextToken": token })).await;
        assert_eq!(error_type(&elsewhere), "ValidationError");
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(error_type(&list("USER", json!({ "nextToken": "garbage" })).await), "ValidationError");
}

#[tokio::test]
async fn a_stop_meters_the_neighbours_up_to_its_instant() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    let large = json!({ "vehicle": { "batteryCapacityKwh": 1000 } });
    let first = world.start("s-1", "port-1", "u-1", large.clone()).await.unwrap();
    let second = world.start("s-1", "port-2", "u-2", large).await.unwrap();
    // A tick in the simulated future. The stop happens at the later of now and the last tick, for both sessions.
    let at = minutes_after(&first, 60);
    world.tick(at).await.unwrap();
    let stopped = world.stop(id(&first), "u-1").await.unwrap();
    assert_eq!((&stopped["status"], &stopped["endReason"]), (&json!("INTERRUPTED"), &json!("STOPPED_BY_USER")));
    let ended: domain::Instant = stopped["endedAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(ended, at);
    world.tick(at + chrono::Duration::minutes(60)).await.unwrap();
    let alone = world.get(id(&second)).await["energyKwh"].as_f64().unwrap();
    // An hour at half of the station's power, then an hour at all of it.
    assert!((alone - 150.0).abs() < 0.1, "{alone}");
    // A stop between ticks, in real time. The neighbour is metered up to that instant as well.
    let third = world.start("s-1", "port-1", "u-3", json!({})).await.unwrap();
    world.stop(id(&third), "u-3").await.unwrap();
    assert_eq!(world.get_station("s-1").await["chargingPorts"], 1);
}

#[tokio::test]
async fn limits_end_a_session_exactly() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    let by_energy = world.start("s-1", "port-1", "u-1", json!({ "limits": { "maxEnergyKwh": 12.5 } })).await.unwrap();
    let by_cost = world.start("s-1", "port-2", "u-2", json!({ "limits": { "maxCost": "4.90" } })).await.unwrap();
    let tick = world.tick(minutes_after(&by_cost, 60)).await.unwrap();
    assert_eq!((&tick["interrupted"], &tick["completed"]), (&json!(2), &json!(0)));
    let by_energy = world.get(id(&by_energy)).await;
    assert_eq!((&by_energy["energyKwh"], &by_energy["endReason"]), (&json!(12.5), &json!("ENERGY_LIMIT")));
    let by_cost = world.get(id(&by_cost)).await;
    assert_eq!((&by_cost["cost"], &by_cost["endReason"]), (&json!("4.90"), &json!("COST_LIMIT")));
    // At 0.49 per kWh, 4.90 are 10 kWh; up to 10.010 kWh round to the same amount.
    let energy = by_cost["energyKwh"].as_f64().unwrap();
    assert!((10.0..=10.011).contains(&energy), "{energy}");
}

#[tokio::test]
async fn limits_below_the_least_price_of_the_tariff_are_refused() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let energy = json!({ "type": "ENERGY", "price": "1.00", "vat": "19", "step_size": 1 });
    let tariff = json!({ "currency": "EUR", "elements": [{ "price_components": [energy] }], "min_price": { "excl_vat": "5.00" } });
    let update = json!({ "action": "updateStation", "actor": admin(), "stationId": "s-1", "tariff": tariff });
    invoke(&world.stations, update).await.unwrap();
    let limited = |limits: Value| world.start("s-1", "port-1", "u-1", json!({ "limits": limits }));
    let top_up = async |amount: &str, key: &str| {
        let top_up = json!({ "action": "topUpWallet", "actor": admin(), "userId": "u-1", "amount": amount,
            "currency": "EUR", "idempotencyKey": key });
        invoke(&world.billing, top_up).await.unwrap();
    };
    let outcome = limited(json!({ "maxCost": "5.94" })).await;
    assert_eq!(error_type(&outcome), "ValidationError");
    let message = outcome.unwrap_err().1;
    assert!(message.contains("limits.maxCost") && message.contains("5.95 EUR"), "{message}");
    top_up("5.00", "k-1").await;
    let outcome = limited(json!({ "prepaid": true })).await;
    assert_eq!(error_type(&outcome), "ConflictError");
    let message = outcome.unwrap_err().1;
    assert!(message.contains("holds 5.00 EUR") && message.contains("at least 5.95 EUR"), "{message}");
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
    top_up("0.95", "k-2").await;
    let session = limited(json!({ "prepaid": true })).await.unwrap();
    assert_eq!(session["limits"]["maxCost"], "5.95");
}

#[tokio::test]
async fn a_failure_changes_session_port_and_station_together() {
    let world = World::new().await;
    world.station("s-1", 4).await;
    let mut sessions = Vec::new();
    for port in 1..=4 {
        sessions.push(world.start("s-1", &format!("port-{port}"), "u-1", json!({})).await.unwrap());
    }
    let tech = json!({ "userId": "t-1", "role": "TECH_SUPPORT" });
    let fail_port =
        json!({ "action": "failPort", "actor": tech, "stationId": "s-1", "portId": "port-1", "reason": "smoke" });
    let failed = invoke(&world.stations, fail_port.clone()).await.unwrap();
    assert_eq!(failed["status"], "ERROR");
    assert_eq!(error_type(&invoke(&world.stations, fail_port).await), "ConflictError");
    let fail_session = json!({ "action": "failSession", "actor": tech, "sessionId": id(&sessions[1]) });
    assert_eq!(invoke(&world.sessions, fail_session).await.unwrap()["status"], "FAILED");
    assert_eq!(world.get_station("s-1").await["chargingPorts"], 2);
    world.transition("s-1", "OUT_OF_ORDER").await.unwrap();
    let station = world.get_station("s-1").await;
    assert_eq!((&station["chargingPorts"], &station["status"]), (&json!(0), &json!("OUT_OF_ORDER")));
    assert!(station["ports"].as_array().unwrap().iter().all(|port| port["status"] == "ERROR"), "{station}");
    for (session, reason) in
        sessions.iter().zip(["PORT_FAILED", "ERROR", "STATION_OUT_OF_ORDER", "STATION_OUT_OF_ORDER"])
    {
        let session = world.get(id(session)).await;
        assert_eq!((&session["status"], &session["endReason"]), (&json!("FAILED"), &json!(reason)));
        assert_eq!(session["cost"], "0.00");
        assert_eq!(error_type(&world.stop(id(&session), "u-1").await), "ConflictError");
    }
    let ends = world.events("ev-sessions").await.iter().filter(|event| event["eventType"] == "SESSION_ENDED").count();
    let ports = world.events("ev-stations").await.iter().filter(|event| event["eventType"] == "PORT_FAILED").count();
    assert_eq!((ends, ports), (4, 4));
    // A tick finds no session, and resets bring the ports back one by one.
    assert_eq!(world.tick(minutes_after(&sessions[0], 5)).await.unwrap()["sessions"], 0);
    world.transition("s-1", "ACTIVE").await.unwrap();
    assert_eq!(error_type(&world.start("s-1", "port-1", "u-1", json!({})).await), "ConflictError");
    let reset = json!({ "action": "resetPort", "actor": tech, "stationId": "s-1", "portId": "port-1" });
    assert_eq!(invoke(&world.stations, reset.clone()).await.unwrap()["status"], "FREE");
    assert_eq!(error_type(&invoke(&world.stations, reset).await), "ConflictError");
    world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
}

#[tokio::test]
async fn maintenance_lets_running_sessions_finish_and_refuses_new_ones() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    let session = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    world.transition("s-1", "MAINTENANCE").await.unwrap();
    assert_eq!(error_type(&world.start("s-1", "port-2", "u-2", json!({})).await), "ConflictError");
    assert_eq!(world.tick(minutes_after(&session, 5)).await.unwrap()["started"], 1, "the running session continues");
    let act = async |action: &str, more: Value| {
        let mut command = json!({ "action": action, "actor": admin(), "stationId": "s-1" });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        invoke(&world.stations, command).await
    };
    assert_eq!(error_type(&act("updateStation", json!({ "powerKw": 50 })).await), "ConflictError");
    assert_eq!(error_type(&act("deleteStation", json!({})).await), "ConflictError");
    assert_eq!(error_type(&act("removePort", json!({ "portId": "port-1" })).await), "ConflictError");
    assert_eq!(act("updateStation", json!({ "name": "New name" })).await.unwrap()["name"], "New name");
    world.stop(id(&session), "u-1").await.unwrap();
    assert_eq!(act("updateStation", json!({ "powerKw": 50 })).await.unwrap()["powerKw"], 50.0);
    assert_eq!(
        act("addPort", json!({ "portNumber": 3, "connectorType": "CCS2", "maxPowerKw": 50 })).await.unwrap()["portId"],
        "port-3"
    );
    let twice = act("addPort", json!({ "portNumber": 3, "connectorType": "CCS2", "maxPowerKw": 50 })).await;
    assert_eq!(error_type(&twice), "ValidationError");
    act("removePort", json!({ "portId": "port-1" })).await.unwrap();
    act("deleteStation", json!({})).await.unwrap();
    let left = world.dynamodb.items("ev-stations").await;
    assert_eq!(left.len(), 1, "the record of the deletion");
    assert_eq!(left[0]["PK"].as_s().unwrap(), "DELETED#s-1");
}

#[tokio::test]
async fn a_station_without_a_tariff_cannot_be_commissioned() {
    let world = World::new().await;
    let create = json!({
        "action": "createStation", "actor": admin(), "stationId": "s-1", "name": "N", "address": "A", "latitude": 1,
        "longitude": 1, "powerKw": 50
    });
    invoke(&world.stations, create.clone()).await.unwrap();
    assert_eq!(error_type(&invoke(&world.stations, create).await), "ConflictError", "the id is taken");
    let refused = world.transition("s-1", "ACTIVE").await;
    assert!(refused.as_ref().unwrap_err().1.contains("tariff"), "{refused:?}");
    let quote = json!({ "action": "quote", "stationId": "s-1", "energyKwh": 1, "minutes": 1 });
    assert_eq!(error_type(&invoke(&world.sessions, quote).await), "ConflictError", "never a price of zero");
    let update = json!({ "action": "updateStation", "actor": admin(), "stationId": "s-1", "pricePerKwh": 0.5, "currency": "EUR" });
    invoke(&world.stations, update).await.unwrap();
    assert_eq!(world.transition("s-1", "ACTIVE").await.unwrap()["status"], "ACTIVE");
}

#[tokio::test]
async fn stations_near_a_place_are_listed_nearest_first_in_pages() {
    let world = World::new().await;
    for n in 0..7 {
        let create = json!({
            "action": "createStation", "actor": admin(), "stationId": format!("s-{n}"), "name": "N", "address": "A",
            "latitude": f64::from(n) * 0.05 - 0.1, "longitude": 179.99, "powerKw": 50
        });
        invoke(&world.stations, create).await.unwrap();
    }
    let near = async |token: Value| {
        // A search from the other side of the antimeridian.
        let list = json!({
            "action": "listStations", "latitude": 0, "longitude": -179.99, "radiusKm": 15, "limit": 2, "nextToken": token
        });
        invoke(&world.stations, list).await.unwrap()
    };
    let (mut found, mut token) = (Vec::new(), Value::Null);
    loop {
        let page = near(token).await;
        for item in page["items"].as_array().unwrap() {
            found.push((item["distanceKm"].as_f64().unwrap(), item["stationId"].as_str().unwrap().to_owned()));
        }
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert!(found.windows(2).all(|pair| pair[0] <= pair[1]), "{found:?}");
    let ids: BTreeSet<&str> = found.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["s-0", "s-1", "s-2", "s-3", "s-4"]), "-0.1 to 0.1 degrees are within 15 km");
    assert_eq!(found.len(), 5, "each station once");
}

#[tokio::test]
async fn republishing_the_end_of_a_session_repeats_the_same_event() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let session = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    let again = async |role: &str| {
        let actor = json!({ "userId": "u-1", "role": role });
        invoke(&world.sessions, json!({ "action": "republishEnd", "actor": actor, "sessionId": id(&session) })).await
    };
    assert_eq!(error_type(&again("ADMIN").await), "ConflictError", "the session is running");
    world.stop(id(&session), "u-1").await.unwrap();
    let before = world.dynamodb.items("ev-sessions").await;
    assert_eq!(error_type(&again("USER").await), "ForbiddenError");
    again("TECH_SUPPORT").await.unwrap();
    let after = world.dynamodb.items("ev-sessions").await;
    let main = |items: &[std::collections::HashMap<_, _>]| {
        items.iter().find(|item| item.contains_key("outbox")).cloned().unwrap()
    };
    let (before, mut after) = (main(&before), main(&after));
    assert!(after.remove("relayedAgainAt").is_some(), "a write, so that the stream invokes the relay");
    assert_eq!(before, after, "event and session are unchanged");
}
