//! Commands on a site at which sessions are due to end, and their effect on the neighbours.

use domain::Instant;
use domain::id::StationId;
use serde_json::{Value, json};
use testkit::invoke;

use crate::common::{World, admin, error_type, id, set_now};

fn at(time: &str) -> Instant {
    format!("2026-03-03T{time}Z").parse().unwrap()
}

/// A vehicle whose battery takes more than an hour at any power in these tests.
fn large() -> Value {
    json!({ "vehicle": { "batteryCapacityKwh": 1000 } })
}

/// A vehicle whose battery reaches its target after `seconds` at `power_kw`.
fn due_after(seconds: f64, power_kw: f64) -> Value {
    json!({
        "vehicle": { "batteryCapacityKwh": 100 }, "chargePercent": 10, "targetPercent": 10.0 + power_kw * seconds / 3600.0
    })
}

async fn fail_port(world: &World, port: &str) -> testkit::Outcome {
    let command = json!({ "action": "failPort", "actor": admin(), "stationId": "s-1", "portId": port });
    invoke(&world.stations, command).await
}

async fn fail_session(world: &World, session: &Value) -> testkit::Outcome {
    let command = json!({ "action": "failSession", "actor": admin(), "sessionId": id(session) });
    invoke(&world.sessions, command).await
}

async fn ends(world: &World) -> Vec<Value> {
    world.events("ev-sessions").await.into_iter().filter(|event| event["eventType"] == "SESSION_ENDED").collect()
}

fn port(station: &Value, index: usize) -> (&str, Option<&str>) {
    let port = &station["ports"][index];
    (port["status"].as_str().unwrap(), port["sessionId"].as_str())
}

/// Creates the station s-1 of 100 kW at 10:00:00.
async fn station_with_ports(ports: u32) -> World {
    let world = World::new().await;
    set_now(at("10:00:00"));
    world.station("s-1", ports).await;
    world
}

/// Starts a session at port-1 and a neighbour at port-2 whose battery stays far from full.
async fn start_two(world: &World, first: Value) -> (Value, Value) {
    let first = world.start("s-1", "port-1", "u-1", first).await.unwrap();
    (first, world.start("s-1", "port-2", "u-2", large()).await.unwrap())
}

#[tokio::test]
async fn out_of_order_completes_the_sessions_that_are_due_and_fails_the_others() {
    let world = station_with_ports(2).await;
    let (due, other) = start_two(&world, due_after(30.0, 50.0)).await;
    set_now(at("10:01:00"));
    let station = world.transition("s-1", "OUT_OF_ORDER").await.unwrap();
    assert_eq!((&station["status"], &station["chargingPorts"]), (&json!("OUT_OF_ORDER"), &json!(0)));
    assert_eq!((port(&station, 0), port(&station, 1)), (("FREE", None), ("ERROR", None)), "in the answer");
    let stored = world.get_station("s-1").await;
    assert_eq!((port(&stored, 0), port(&stored, 1)), (("FREE", None), ("ERROR", None)), "in the table");
    let due = world.get(id(&due)).await;
    assert_eq!((&due["status"], &due["endReason"]), (&json!("COMPLETED"), &json!("TARGET_REACHED")));
    assert_eq!(due["endedAt"], json!("2026-03-03T10:00:30Z"), "at its end, not at the command");
    let other = world.get(id(&other)).await;
    assert_eq!((&other["status"], &other["endReason"]), (&json!("FAILED"), &json!("STATION_OUT_OF_ORDER")));
    // 30 s at half of the station's 100 kW, then 30 s at all of it.
    assert_eq!(other["energyKwh"], json!(1.25));
    let mut ends: Vec<Value> = ends(&world).await.into_iter().map(|event| event["status"].clone()).collect();
    ends.sort_by_key(ToString::to_string);
    assert_eq!(ends, [json!("COMPLETED"), json!("FAILED")], "billing is told of the one that it bills");
}

#[tokio::test]
async fn a_failed_port_leaves_its_neighbour_the_power_it_had() {
    let world = station_with_ports(2).await;
    let (failed, neighbour) = start_two(&world, large()).await;
    set_now(at("10:00:59"));
    assert_eq!(fail_port(&world, "port-1").await.unwrap()["status"], "ERROR");
    world.tick(at("10:01:00")).await.unwrap();
    // 59 s at 50 kW and 1 s at 100 kW.
    assert_eq!(world.get(id(&neighbour)).await["energyKwh"], json!(0.847));
    let failed = world.get(id(&failed)).await;
    assert_eq!((&failed["status"], &failed["energyKwh"]), (&json!("FAILED"), &json!(0.819)));
}

#[tokio::test]
async fn a_failed_session_leaves_its_neighbour_the_power_it_had() {
    let world = station_with_ports(2).await;
    let (failed, neighbour) = start_two(&world, large()).await;
    set_now(at("10:00:59"));
    let failed = fail_session(&world, &failed).await.unwrap();
    assert_eq!(
        (&failed["status"], &failed["energyKwh"], &failed["cost"]),
        (&json!("FAILED"), &json!(0.819), &json!("0.00"))
    );
    assert_eq!(failed["endedAt"], json!("2026-03-03T10:00:59Z"));
    world.tick(at("10:01:00")).await.unwrap();
    assert_eq!(world.get(id(&neighbour)).await["energyKwh"], json!(0.847));
    assert_eq!(port(&world.get_station("s-1").await, 0), ("ERROR", None));
}

#[tokio::test]
async fn a_session_that_completed_before_its_port_failed_is_billed() {
    let world = station_with_ports(2).await;
    let due = world.start("s-1", "port-1", "u-1", due_after(30.0, 100.0)).await.unwrap();
    set_now(at("10:00:45"));
    assert_eq!(fail_port(&world, "port-1").await.unwrap()["status"], "ERROR");
    let session = world.get(id(&due)).await;
    assert_eq!((&session["status"], &session["endedAt"]), (&json!("COMPLETED"), &json!("2026-03-03T10:00:30Z")));
    assert_eq!(port(&world.get_station("s-1").await, 0), ("ERROR", None));
    let failures: Vec<Value> =
        world.events("ev-stations").await.into_iter().filter(|event| event["eventType"] == "PORT_FAILED").collect();
    assert_eq!((failures.len(), failures[0].get("sessionId")), (1, None), "the event names no failed session");
}

#[tokio::test]
async fn failing_a_completed_session_returns_the_completed_session() {
    let world = station_with_ports(2).await;
    let (due, neighbour) = start_two(&world, due_after(30.0, 50.0)).await;
    set_now(at("10:00:45"));
    let session = fail_session(&world, &due).await.unwrap();
    assert_eq!((&session["status"], &session["endReason"]), (&json!("COMPLETED"), &json!("TARGET_REACHED")));
    assert_eq!(port(&world.get_station("s-1").await, 0), ("FREE", None), "its port has not failed either");
    // 30 s at 50 kW and 15 s at 100 kW.
    assert_eq!(world.get(id(&neighbour)).await["energyKwh"], json!(0.833));
    assert_eq!(error_type(&fail_session(&world, &due).await), "ConflictError");
}

#[tokio::test]
async fn a_port_whose_session_has_reached_its_end_is_free_for_the_next_one() {
    let world = station_with_ports(2).await;
    let (first, neighbour) = start_two(&world, due_after(30.0, 50.0)).await;
    set_now(at("10:00:20"));
    assert_eq!(
        error_type(&world.start("s-1", "port-1", "u-3", large()).await),
        "ConflictError",
        "the port is not free yet"
    );
    set_now(at("10:00:40"));
    let second = world.start("s-1", "port-1", "u-3", large()).await.unwrap();
    assert_eq!(world.get(id(&first)).await["status"], "COMPLETED");
    let station = world.get_station("s-1").await;
    assert_eq!((port(&station, 0), &station["chargingPorts"]), (("CHARGING", Some(id(&second))), &json!(2)));
    world.tick(at("10:01:00")).await.unwrap();
    // 30 s at 50 kW, 10 s at 100 kW, 20 s at 50 kW.
    assert_eq!(world.get(id(&neighbour)).await["energyKwh"], json!(0.972));
    assert_eq!(world.get(id(&second)).await["energyKwh"], json!(0.277));
}

#[tokio::test]
async fn the_power_of_a_station_can_change_when_its_last_session_is_due() {
    let world = station_with_ports(1).await;
    let due = world.start("s-1", "port-1", "u-1", due_after(30.0, 100.0)).await.unwrap();
    let update = json!({ "action": "updateStation", "actor": admin(), "stationId": "s-1", "powerKw": 50 });
    set_now(at("10:00:20"));
    assert_eq!(error_type(&invoke(&world.stations, update.clone()).await), "ConflictError", "the session is running");
    set_now(at("10:00:40"));
    assert_eq!(invoke(&world.stations, update).await.unwrap()["powerKw"], 50.0);
    assert_eq!(world.get(id(&due)).await["status"], "COMPLETED");
    assert_eq!(world.get_station("s-1").await["chargingPorts"], 0);
}

#[tokio::test]
async fn a_tick_that_missed_a_new_session_does_not_end_its_neighbour() {
    let world = station_with_ports(2).await;
    let due = world.start("s-1", "port-1", "u-1", due_after(30.0, 50.0)).await.unwrap();
    let keys = world.simulator_store.sessions.active_at_station(&StationId::new("s-1").unwrap()).await.unwrap();
    let seen = world.simulator_store.sessions.read_active(&keys).await.unwrap();
    let newcomer = world.start("s-1", "port-2", "u-2", large()).await.unwrap();
    // Decided without the new session, the other one would have had the whole power and ended after 15 s.
    let changes = domain::charging::site::tick(
        &StationId::new("s-1").unwrap(),
        seen,
        std::collections::HashMap::default(),
        at("10:01:00"),
    );
    let context = store::EventContext { correlation_id: "test".to_owned(), now: at("10:01:00") };
    let refused = world.simulator_store.commit(&changes, &context).await;
    assert!(refused.as_ref().is_err_and(store::StoreError::is_stale), "{refused:?}");
    world.tick(at("10:01:00")).await.unwrap();
    assert_eq!(world.get(id(&due)).await["endedAt"], json!("2026-03-03T10:00:30Z"));
    // 30 s at half of the power, 30 s at all of it.
    assert_eq!(world.get(id(&newcomer)).await["energyKwh"], json!(1.25));
}

#[tokio::test]
async fn a_session_with_damaged_terms_does_not_stop_its_neighbours() {
    let world = station_with_ports(2).await;
    let limited = json!({ "vehicle": { "batteryCapacityKwh": 1000 }, "limits": { "maxCost": "100.00" } });
    let (damaged, neighbour) = start_two(&world, limited).await;
    world.damage_terms(id(&damaged)).await;
    world.tick(at("10:00:30")).await.unwrap();
    set_now(at("10:01:00"));
    let stopped = world.stop(id(&neighbour), "u-2").await.unwrap();
    assert_eq!((&stopped["status"], &stopped["energyKwh"]), (&json!("INTERRUPTED"), &json!(0.833)));
}

#[tokio::test]
async fn ticks_end_sessions_beside_one_that_cannot_be_read_and_commands_are_refused() {
    let world = station_with_ports(3).await;
    let (damaged, neighbour) = start_two(&world, large()).await;
    let due = world.start("s-1", "port-3", "u-3", due_after(15.0, 50.0)).await.unwrap();
    world.damage_session(id(&damaged)).await;
    let tick = world.tick(at("10:00:30")).await.unwrap();
    assert_eq!((&tick["completed"], &tick["failed"]), (&json!(1), &json!(0)));
    assert_eq!(world.get(id(&due)).await["status"], "COMPLETED");
    assert_eq!(port(&world.get_station("s-1").await, 2), ("FREE", None));
    set_now(at("10:01:00"));
    let refused = world.stop(id(&neighbour), "u-2").await;
    assert_eq!(error_type(&refused), "ConflictError", "it would be metered as if the other drew nothing");
    assert!(refused.unwrap_err().1.contains(id(&damaged)), "the message names the session");
    assert_eq!(error_type(&world.transition("s-1", "OUT_OF_ORDER").await), "ConflictError");
    assert_eq!(world.transition("s-1", "MAINTENANCE").await.unwrap()["status"], "MAINTENANCE");
}
