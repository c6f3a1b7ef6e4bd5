//! The cost of a session in `DynamoDB` units. The consumed capacity must be what the design specifies.
#![allow(clippy::float_cmp)] // units are whole numbers and halves

use serde_json::json;
use store::Units;

use crate::common::{self, World, id, minutes_after};

fn since(before: Units, after: Units) -> Units {
    Units {
        read: after.read - before.read,
        table_write: after.table_write - before.table_write,
        index_write: after.index_write - before.index_write,
    }
}

#[tokio::test]
async fn start_tick_and_end_consume_the_designed_capacity() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let units = |store: &store::ChargingStore| store.sessions.table().db().capacity().units();

    let before = units(&world.session_store);
    let session = world.start("s-1", "port-1", "u-1", json!({})).await.unwrap();
    let start = since(before, units(&world.session_store));
    // One transaction of four items (session, its details, port, station), each of at most 1 KB, at two units each.
    assert_eq!(start.table_write, 8.0, "{start:?}");
    // Four keys-only index entries for the new session. Transactional writes double these as well.
    assert!(start.index_write > 0.0 && start.index_write <= 8.0, "{start:?}");

    // The first tick changes the status and therefore its index. Each later tick is a single write unit.
    world.tick(minutes_after(&session, 1)).await.unwrap();
    for minute in 2..10 {
        let before = units(&world.simulator_store);
        world.tick(minutes_after(&session, minute)).await.unwrap();
        let tick = since(before, units(&world.simulator_store));
        assert_eq!((tick.table_write, tick.index_write), (1.0, 0.0), "minute {minute}: {tick:?}");
        // 16 shards of the index (half a unit each, even if empty) and the item of the session.
        assert!(tick.read <= 16.0 * 0.5 + 0.5, "{tick:?}");
    }

    let before = units(&world.session_store);
    world.stop(id(&session), "u-1").await.unwrap();
    let end = since(before, units(&world.session_store));
    // One transaction of three items (session with its event, port, station).
    assert!(end.table_write >= 6.0 && end.table_write <= 10.0, "{end:?}");
    println!("start {start:?}\nend {end:?}");
}

#[tokio::test]
async fn the_item_of_a_tick_stays_under_one_kilobyte() {
    let world = World::new().await;
    let long = |prefix: &str| format!("{prefix}{}", "x".repeat(48 - prefix.len()));
    let points: Vec<_> =
        (0..16).map(|n| json!({ "percent": f64::from(n) * 6.25, "powerKw": 123.5 - f64::from(n) })).collect();
    let station = json!({
        "action": "createStation", "actor": common::admin(), "stationId": long("station-"), "name": "N", "address": "A",
        "latitude": 1, "longitude": 1, "powerKw": 312.5, "pricePerKwh": "0.49", "currency": "EUR",
        "chargingModel": { "type": "MEASURED_CURVE", "points": points },
        "ports": [{ "portId": long("port-"), "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 312.5 }]
    });
    testkit::invoke(&world.stations, station).await.unwrap();
    world.transition(&long("station-"), "ACTIVE").await.unwrap();
    let more = json!({
        "vehicle": { "batteryCapacityKwh": 1234.5, "maxPowerKw": 312.5 }, "chargePercent": 1.23,
        "limits": { "maxCost": "1234.56", "maxEnergyKwh": 1999.5 }
    });
    let session = world.start(&long("station-"), &long("port-"), &long("user-"), more).await.unwrap();
    for minute in 1..60 {
        let before = world.simulator_store.sessions.table().db().capacity().units();
        let ticked = world.tick(minutes_after(&session, minute * 7)).await.unwrap();
        let tick = since(before, world.simulator_store.sessions.table().db().capacity().units());
        if ticked["interrupted"] == 1 || ticked["completed"] == 1 {
            return;
        }
        // The first tick removes the event of the start from the item and moves the item in the status index.
        let most = if minute == 1 { (2.0, 2.0) } else { (1.0, 0.0) };
        assert!(tick.table_write <= most.0 && tick.index_write <= most.1, "minute {minute}: {tick:?}");
    }
}
